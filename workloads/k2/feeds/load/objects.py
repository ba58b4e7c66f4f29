"""Objects of an S3 store: one, all below a prefix (`s3://bucket/prefix/`), or those that a pattern finds, brought to a local folder.

The store is the one that a URI's own parameters name, or AWS's variables; else the platform's, where it has one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pyarrow.fs
import stamina

from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings

MOST_OBJECTS = 10_000
"""So many objects one prefix or pattern may stand for."""

_LONGEST_NAME = 255
_COPY_BYTES = 1024 * 1024
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
# PyIceberg's catalog properties → parameters of Arrow's file system
_STORE = {
    "s3.access-key-id": "access_key",
    "s3.secret-access-key": "secret_key",
    "s3.session-token": "session_token",
    "s3.region": "region",
    "s3.endpoint": "endpoint_override",
}
_NO_BUCKET = "NO_SUCH_BUCKET"
_PARAMETERS = re.compile(r"\?[a-z_]+=")
_MARKS = "*?["


def store_for(uris: Sequence[str], settings: Settings) -> Mapping[str, str]:
    """Properties of the platform's store, where one of the URIs may need it; raises as `Settings.catalog_config` does."""
    return settings.store_config() if any(uri.startswith("s3://") for uri in uris) else {}


def is_many(uri: str) -> bool:
    """Whether an s3:// URI stands for several objects: its key is a prefix that ends with a slash, or a pattern."""
    key = _without_parameters(uri)
    return key.endswith("/") or any(mark in key for mark in _MARKS)


def base_of(uri: str) -> str:
    """What objects of a URI are named below: of a pattern what stands before its first mark, of anything else the URI itself."""
    if not uri.startswith("s3://") or not is_many(uri):
        return uri
    bucket, fixed, _ = _parts(uri)
    return "s3://" + "/".join((bucket, *fixed))


def bring(uri: str, folder: Path, store: Mapping[str, str]) -> Path:
    """The local copy of an object, below `folder`; of several the folder that has them, by the names that they have.

    Args:
        uri: `s3://bucket/key`, a prefix, or a pattern, in which `**` stands for any number of parts.
        folder: an empty one.
        store: PyIceberg's properties of the platform's store; empty: it has none.

    Raises:
        UserError: there is no such object, there are too many, or more bytes than the disk has room for.
        WorldError: the store did not answer, after some tries.
    """
    _parts(uri)
    if not is_many(uri):
        path = folder / (PurePosixPath(_without_parameters(uri)).name or "file.csv")
        _copy(uri, None, path, store)
        return path
    found = _listed(uri, store)
    needed, free = sum(each.bytes for each in found), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{uri} does not fit on the disk",
            found=f"{len(found):,} objects of {needed:,} bytes in all, and {free:,} bytes free below {folder}",
            expected="room for all: they are brought whole before they are read",
            remedy="Load them in parts, by patterns, or name a larger disk by TMPDIR",
        )
    for each in found:
        path = folder / each.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _no_file(uri, each.key) from error
        _copy(uri, each.key, path, store)
    return folder


@dataclass(frozen=True, slots=True)
class _Found:
    """An object: bucket and key, its name below what the URI begins with, its size."""

    key: str
    name: str
    bytes: int


@stamina.retry(on=WorldError, attempts=5)
def _listed(uri: str, store: Mapping[str, str]) -> list[_Found]:
    """The objects that a prefix or pattern stands for, by name."""
    bucket, fixed, pattern = _parts(uri)
    base = "/".join((bucket, *fixed))
    deep = not pattern or len(pattern) > 1
    try:
        system, _ = _system(uri, store)
        below = system.get_file_info(pyarrow.fs.FileSelector(base, recursive=deep))
    except FileNotFoundError as error:
        raise _nothing(uri, str(error)) from error
    except OSError as error:
        if _NO_BUCKET in str(error):
            raise _nothing(uri, f"no bucket {bucket}") from error
        raise WorldError(f"{uri} cannot be listed: {error}") from error
    found: list[_Found] = []
    for each in below:
        name = each.path.removeprefix(f"{base}/")
        parts = name.split("/")
        if each.type is not pyarrow.fs.FileType.File or (pattern and not _matches(parts, pattern)):
            continue
        if not all(map(_is_name, parts)):
            raise _no_file(uri, each.path)
        if not any(part.startswith((".", "_")) for part in parts):
            found.append(_Found(each.path, name, each.size))
    if not found:
        raise _nothing(uri, f"{len(below):,} objects, none of them meant" if below else "no object")
    if len(found) > MOST_OBJECTS:
        raise UserError(
            f"{uri} stands for too many objects",
            found=f"{len(found):,}",
            expected=f"at most {MOST_OBJECTS:,}",
            remedy="Load them in parts, by a longer prefix or a pattern: what was loaded is not sent again",
        )
    return sorted(found, key=lambda each: each.name)


@stamina.retry(on=WorldError, attempts=5)
def _copy(uri: str, key: str | None, path: Path, store: Mapping[str, str]) -> None:
    """Bring an object: the URI's own, or the one of that key in the same store."""
    try:
        system, own = _system(uri, store)
        with system.open_input_stream(key or own) as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file, _COPY_BYTES)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise _no_file(uri, key or uri) from error
    except FileNotFoundError as error:
        raise UserError(
            f"{uri} cannot be had",
            found=str(error),
            expected="an object",
            remedy="A prefix ends with a slash: all objects below it are meant then",
        ) from error
    except OSError as error:
        raise WorldError(f"{uri} cannot be read: {error}") from error


def _system(uri: str, store: Mapping[str, str]) -> tuple[pyarrow.fs.FileSystem, str]:
    """The store, and bucket and key there."""
    parameters = _PARAMETERS.search(uri)
    own = {name: store[key] for key, name in _STORE.items() if key in store}
    if parameters is None and own and not any(name in os.environ for name in _AWS):
        return pyarrow.fs.S3FileSystem(**own), uri.removeprefix("s3://")
    bucket, fixed, _ = _parts(uri)
    whole = "/".join((bucket, *fixed))
    asked = f"s3://{whole}" + ("" if parameters is None else uri[parameters.start() :])
    return pyarrow.fs.FileSystem.from_uri(asked)


def _parts(uri: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Bucket; the parts of the key before the first that is a pattern; the others."""
    bucket, *parts = _without_parameters(uri).removeprefix("s3://").rstrip("/").split("/")
    if not bucket or any(mark in bucket for mark in _MARKS):
        raise UserError("A source's URI cannot be used", found=uri, expected="s3://bucket/…, with a bucket's name")
    first = next((at for at, part in enumerate(parts) if any(mark in part for mark in _MARKS)), len(parts))
    return bucket, tuple(parts[:first]), tuple(parts[first:])


def _without_parameters(uri: str) -> str:
    found = _PARAMETERS.search(uri)
    return uri if found is None else uri[: found.start()]


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a key are those of the pattern."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_name(part: str) -> bool:
    """Whether a file of this machine can be called so."""
    return part not in {"", ".", ".."} and "\0" not in part and len(part.encode()) <= _LONGEST_NAME


def _nothing(uri: str, found: str) -> UserError:
    return UserError(f"{uri} finds no objects", found=found, expected="a prefix or a pattern that does")


def _no_file(uri: str, key: str) -> UserError:
    return UserError(
        f"{uri} has an object that no file can be named after",
        found=key,
        expected="names of at most 255 bytes between single slashes, none of them both an object and the beginning of others",
        remedy="Rename it, or leave it out by a pattern",
    )
