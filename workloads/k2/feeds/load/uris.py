"""Files of a feed by URI: `file:` below the source volume as they are, `https://` and `s3://` brought to a local folder.

A remote file is brought whole before it is read: its hash must be known, and it must not change, while it is loaded.
"""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from urllib.parse import urlsplit

import stamina

from k2.feeds.load.objects import bring
from k2.model.errors import UserError, WorldError

SILENCE_SECONDS = 60
_COPY_BYTES = 1024 * 1024
_NO_STORE: Mapping[str, str] = MappingProxyType({})


def local_files(
    uris: Sequence[str], source_dir: Path | None, folder: Path, store: Mapping[str, str] = _NO_STORE
) -> list[Path]:
    """A local path for each URI, in order: a directory where it stands for several files.

    Args:
        uris: `file:relative/path`, `https://…`, or `s3://…` (see `objects.bring`).
        source_dir: what `file:` is relative to.
        folder: where remote files are put.
        store: properties of the platform's S3 store; none: it has none.

    Raises:
        UserError: a URI of another kind, one that leaves the volume, or one that the server does not have.
        WorldError: the server did not answer, after some tries.
    """
    return [_local(uri, source_dir, folder / f"{number:04}", store) for number, uri in enumerate(uris)]


def _local(uri: str, source_dir: Path | None, folder: Path, store: Mapping[str, str]) -> Path:
    if uri.startswith("file:"):
        relative = PurePosixPath(uri.removeprefix("file:"))
        if source_dir is None or relative.is_absolute() or ".." in relative.parts:
            raise UserError(
                "A file: URI cannot be used", found=uri, expected="a path below the feed's volume (K2_SOURCE_DIR)"
            )
        return source_dir / relative
    folder.mkdir(parents=True, exist_ok=True)
    if uri.startswith("s3://"):
        return bring(uri, folder, store)
    if not uri.startswith("https://"):
        raise UserError("A source's URI cannot be used", found=uri, expected="file:, https:// or s3://")
    path = folder / (PurePosixPath(urlsplit(uri).path).name or "file.csv")
    _download(uri, path)
    return path


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
