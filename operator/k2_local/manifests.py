"""Resources from files: every document of every YAML file, with errors that name the file and the line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from k2.model.errors import UserError

SAMPLES = Path("manifests") / "samples"
_SUFFIXES = (".yaml", ".yml")


def sample_paths() -> list[Path]:
    """`manifests/samples` of the working directory, or of the source tree that this package is installed from."""
    for root in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (root / SAMPLES).is_dir():
            return [root / SAMPLES]
    raise UserError(
        "No resources to start",
        found=f"no folder {SAMPLES} here",
        expected="files or folders with MarketFeed and IcebergTable resources",
        remedy="Name them: `k2 up FILES…`, or change to the project's folder",
    )


def read(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Every document of the files, and of the YAML files directly in the folders, in the order of their names.

    Raises:
        UserError: a path that is not there, that is not YAML, or that holds something else than objects.
    """
    documents: list[dict[str, Any]] = []
    for path in paths:
        for file in _files(path):
            documents += _documents(file)
    if not documents:
        raise UserError(
            "No resources to start",
            found=", ".join(str(path) for path in paths) + " without a document",
            expected="MarketFeed and IcebergTable resources",
        )
    return documents


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)
    if not path.exists():
        raise UserError(f"There is no {path}", expected="a YAML file or a folder of them")
    return [path]


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        loaded = list(yaml.safe_load_all(file.read_text()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read", found=str(error), expected="a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise UserError(
            f"{file} is not YAML{where}", found=str(getattr(error, "problem", error)), expected="YAML"
        ) from error
    documents = [each for each in loaded if each is not None]
    for each in documents:
        if not isinstance(each, dict):
            raise UserError(
                f"{file} holds something that is no resource",
                found=str(each)[:60],
                expected="a mapping with apiVersion, kind, metadata and spec",
            )
    return documents
