"""Which files a table refers to: by any of its snapshots, by its statistics, by its metadata's own log. Nothing else may go.

Paths are compared as people and engines write them: with a scheme or without, with a double slash, percent-encoded or not. Whatever
might be the same file is the same file here: what is not sure stays.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2.model.errors import StoreError, UserError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a listing. `modified_us`: microseconds since 1970 UTC; None: the store does not say."""

    path: str
    bytes: int
    modified_us: int | None


@dataclass(frozen=True, slots=True)
class Folder:
    """A table's folder in its store.

    Attributes:
        system: the store.
        base: the folder as the store has it.
    """

    system: FileSystem
    base: str

    @classmethod
    def of(cls, table: Table) -> Folder:
        """The folder of a table. A `UserError` where its store cannot be listed here."""
        io = table.io
        if not isinstance(io, PyArrowFileIO):
            raise UserError(
                f"The files of {'.'.join(table.name())} cannot be listed",
                found=type(io).__name__,
                expected="PyArrowFileIO (the catalog's property py-io-impl)",
            )
        scheme, host, base = PyArrowFileIO.parse_location(table.location().rstrip("/"), io.properties)
        return cls(io.fs_by_scheme(scheme, host), base.rstrip("/"))

    def files(self, below: str = "") -> list[StoredFile]:
        """All files of the folder, or of a folder in it. Raises a `StoreError` when the store does not answer."""
        base = f"{self.base}/{below}".rstrip("/")
        try:
            found = self.system.get_file_info(FileSelector(base, recursive=True, allow_not_found=True))
        except OSError as error:
            raise StoreError(f"The files in {base} could not be listed: {error}") from error
        return [
            StoredFile(info.path, info.size, None if info.mtime is None else info.mtime_ns // 1000)
            for info in found
            if info.type is FileType.File
        ]

    def delete(self, path: str) -> None:
        """Delete a file; one that is not there is deleted. Raises a `StoreError` when the store does not do it."""
        try:
            self.system.delete_file(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{path} could not be deleted: {error}") from error


def keys_of(path: str) -> tuple[str, str]:
    """What a path is known by: without scheme, double slashes and dots; and the same, decoded."""
    _, separator, rest = path.partition("://")
    # A path of a listing has no scheme; of one with a scheme what follows it is bucket and key, or the path.
    plain = posixpath.normpath("/" + (rest if separator else path.removeprefix("file:")).lstrip("/"))
    return plain, posixpath.normpath("/" + unquote(plain).lstrip("/"))


class Referred:
    """The files that a table refers to, by all that is in its metadata now."""

    def __init__(self, paths: Iterable[str]) -> None:
        both = [keys_of(path) for path in paths]
        self._plain = {plain for plain, _ in both}
        self._keys = self._plain | {decoded for _, decoded in both}

    def __contains__(self, path: str) -> bool:
        return any(key in self._keys for key in keys_of(path))

    def __len__(self) -> int:
        return len(self._plain)

    def missing_in(self, other: Referred) -> set[str]:
        """Files of these that the other does not have, by what `keys_of` gives first."""
        return {key for key in self._plain if key not in other}

    def outside(self, base: str) -> str | None:
        """One of the files that does not lie below the folder; None where all do."""
        root = keys_of(base)[0].rstrip("/") + "/"
        return next((key for key in sorted(self._plain) if not key.startswith(root)), None)


def referred_files(table: Table) -> Referred:
    """Read the manifests of all snapshots, each once.

    Raises:
        StoreError: one of them cannot be read: then nobody knows what is referred to.
    """
    metadata = table.metadata
    paths = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    paths |= {each.statistics_path for each in (*metadata.statistics, *metadata.partition_statistics)}
    read: dict[str, None] = {}
    try:
        for snapshot in metadata.snapshots:
            paths.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path in read:
                    continue
                read[manifest.manifest_path] = None
                # Those that are marked as deleted, a snapshot before has, as long as it is there.
                paths.update(
                    entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                )
    except Exception as error:
        # Whatever a reader of Avro makes of broken bytes.
        raise StoreError(f"A manifest of {'.'.join(table.name())} cannot be read: {error}") from error
    return Referred([*paths, *read])


def others_in(folder: Folder, files: Iterable[StoredFile]) -> str | None:
    """The metadata file of another table that lies in the folder; None where there is none."""
    own = keys_of(f"{folder.base}/metadata")[0]
    for file in files:
        key = keys_of(file.path)[0]
        if key.endswith(".metadata.json") and posixpath.dirname(key) != own:
            return file.path
    return None
