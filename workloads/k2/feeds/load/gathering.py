"""From the words of a command, or the URIs of a feed, to files: standard input, patterns, and directories, whose files are of one form."""

from __future__ import annotations

import glob
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from k2.feeds.formats.containers import contents
from k2.feeds.formats.looks import Look, look_at
from k2.feeds.load.objects import base_of
from k2.feeds.load.uris import local_files
from k2.model.errors import UserError
from k2.model.topics import DataType

STANDARD_INPUT = "-"
_REMOTE = ("https://", "s3://")
_PATTERN = "*?["

Named = tuple[str, Path]
"""What a file is called in messages, and where it is."""


def brought(words: Sequence[str], folder: Path, store: Mapping[str, str]) -> list[Named]:
    """A local file for each word of a command; what is far, or comes by standard input, is put into `folder` first.

    `store`: properties of the platform's S3 store, where it has one. Of a prefix or a pattern there a directory.

    Raises:
        UserError: standard input is named twice, or a URI cannot be had.
        WorldError: a server did not answer, after some tries.
    """
    if list(words).count(STANDARD_INPUT) > 1:
        raise UserError("Standard input is named twice", expected="- once")
    found: list[Named] = []
    for number, word in enumerate(words):
        if word == STANDARD_INPUT:
            # Kept whole: a load reads a file twice, for its hash and for its rows.
            path = folder / "stdin"
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
            found.append(("standard input", path))
        elif word.startswith(_REMOTE):
            found += [(base_of(word), path) for path in local_files([word], None, folder / f"from-{number}", store)]
        else:
            found.append((word, Path(word)))
    return found


def gathered(named: Sequence[Named], data_type: DataType) -> list[Named]:
    """The files that are meant: those of a directory in the order of their names, and those that a pattern finds.

    What begins with a point or an underscore is no data, by the custom of those who write such directories.

    Raises:
        UserError: a directory has no files, or files of two forms; a pattern finds nothing.
    """
    found: list[Named] = []
    for name, path in named:
        if path.is_dir():
            below = [each for each in sorted(path.rglob("*")) if each.is_file() and _is_data(each.relative_to(path))]
            if not below:
                raise UserError(f"The directory {name} has no files", expected="files of one form")
            if data_type is not DataType.REFERENCE_DATA:  # whose kinds are of several forms
                _refuse_mixture(name.rstrip("/"), path, below)
            found += [(f"{name.rstrip('/')}/{each.relative_to(path)}", each) for each in below]
        elif any(mark in path.name for mark in _PATTERN) and not path.exists():
            below = [Path(each) for each in sorted(glob.glob(str(path), recursive=True)) if Path(each).is_file()]  # noqa: PTH207 - a path may be absolute
            if not below:
                raise UserError(f"{name} finds no files", expected="a pattern that does, such as trades/*.csv")
            found += [(str(each), each) for each in below]
        else:
            found.append((name, path))
    return found


def _is_data(path: Path) -> bool:
    return not any(part.startswith((".", "_")) for part in path.parts)


def _refuse_mixture(name: str, directory: Path, files: Sequence[Path]) -> None:
    first: tuple[str, Look] | None = None
    for path in files:
        for content in contents(path):
            look = look_at(content)
            if not look.width:
                continue
            called = f"{name}/{content.name.relative_to(directory)}"
            first = first or (called, look)
            if (look.is_table, look.width, set(look.names)) != (first[1].is_table, first[1].width, set(first[1].names)):
                kinds = ["Parquet or Arrow with " if each.is_table else "text with " for each in (first[1], look)]
                raise UserError(
                    f"The directory {name} has files of two forms",
                    found=f"{first[0]} ({kinds[0]}{first[1]}) and {called} ({kinds[1]}{look})",
                    expected="files of one form",
                    remedy="Load each form by itself, for example with a pattern: 'trades/*.csv'",
                )
