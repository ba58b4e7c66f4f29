"""Files of a feed by URI: `file:` below the source volume as they are, `https://` and `s3://` brought to a local folder.

A remote file is brought whole before it is read: its hash must be known, and it must not change, while it is loaded.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow.fs
import stamina

from k2.model.errors import UserError, WorldError

SILENCE_SECONDS = 60
_COPY_BYTES = 1024 * 1024


def local_files(uris: Sequence[str], source_dir: Path | None, folder: Path) -> list[Path]:
    """A local path for each URI, in order.

    Args:
        uris: `file:relative/path`, `https://…` or `s3://…` (credentials as the AWS tools find them).
        source_dir: what `file:` is relative to.
        folder: where remote files are put.

    Raises:
        UserError: a URI of another kind, one that leaves the volume, or one that the server does not have.
        WorldError: the server did not answer, after some tries.
    """
    return [_local(uri, source_dir, folder / f"{number:04}") for number, uri in enumerate(uris)]


def _local(uri: str, source_dir: Path | None, folder: Path) -> Path:
    if uri.startswith("file:"):
        relative = PurePosixPath(uri.removeprefix("file:"))
        if source_dir is None or relative.is_absolute() or ".." in relative.parts:
            raise UserError(
                "A file: URI cannot be used", found=uri, expected="a path below the feed's volume (K2_SOURCE_DIR)"
            )
        return source_dir / relative
    name = PurePosixPath(urlsplit(uri).path).name or "file.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if uri.startswith("https://"):
        _download(uri, folder / name)
    elif uri.startswith("s3://"):
        _copy_from_s3(uri, folder / name)
    else:
        raise UserError("A source's URI cannot be used", found=uri, expected="file:, https:// or s3://")
    return folder / name


@stamina.retry(on=WorldError, attempts=5)
def _download(uri: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(uri, timeout=SILENCE_SECONDS) as answer, path.open("wb") as file:  # noqa: S310 - https only
            shutil.copyfileobj(answer, file, _COPY_BYTES)
    except urllib.error.HTTPError as error:
        if 400 <= error.code < 500:
            raise UserError(f"{uri} cannot be had", found=f"HTTP {error.code}", expected="a file") from error
        raise WorldError(f"{uri} answered HTTP {error.code}") from error
    except (OSError, urllib.error.URLError) as error:
        raise WorldError(f"{uri} cannot be reached: {error}") from error


@stamina.retry(on=WorldError, attempts=5)
def _copy_from_s3(uri: str, path: Path) -> None:
    try:
        system, key = pyarrow.fs.FileSystem.from_uri(uri)
        with system.open_input_stream(key) as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file, _COPY_BYTES)
    except FileNotFoundError as error:
        raise UserError(f"{uri} cannot be had", found=str(error), expected="a file") from error
    except OSError as error:
        raise WorldError(f"{uri} cannot be read: {error}") from error
