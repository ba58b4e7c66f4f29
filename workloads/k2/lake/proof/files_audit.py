"""Whether the files of a snapshot are there, each with the size that its manifest says: by a listing, never by a read.

A listing sees a file that is gone or was cut. It does not see a changed byte: `k2.lake.proof.deep` reads. Paths are told as names
below the table's location, so that what a client is told says nothing of the server.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table

from k2.lake.scan import DataFileRef, plan_files
from k2.model.errors import StoreError

FEW = 16
"""Files in a folder outside of the table's own that are asked for by name: a listing could bring any number of others."""


class FileProblem(StrEnum):
    """What is wrong with a file."""

    MISSING = "missing"
    SIZE = "size"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class FileFinding:
    """A file that is not as its manifest says; sizes in bytes.

    Attributes:
        name: below the table's location; of a file elsewhere the last part of its path.
        problem: what is wrong.
        expected: its size by the manifest.
        found: its size now; None: it is not there.
    """

    name: str
    problem: FileProblem
    expected: int
    found: int | None


@dataclass(frozen=True, slots=True)
class FilesAudit:
    """The files of a snapshot: how many there are by its manifests, and those that are not as these say."""

    checked: int = 0
    findings: Sequence[FileFinding] = ()

    @property
    def ok(self) -> bool:
        """Whether every file is there with its size."""
        return not self.findings


def audit_files(table: Table, snapshot_id: int | None) -> FilesAudit:
    """Compare a snapshot's files (delete files too) with a listing of where they lie.

    Raises:
        StoreError: the store did not answer.
    """
    return compare_sizes(table, sizes_of(plan_files(table, snapshot_id)))


def live_sizes(table: Table) -> dict[str, int]:
    """Path → bytes of all files of the current snapshot; reads its manifests and remembers nothing of them."""
    snapshot = table.current_snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(table.io)
    return {
        entry.data_file.file_path: entry.data_file.file_size_in_bytes
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    }


def sizes_of(files: Iterable[DataFileRef]) -> dict[str, int]:
    """Path → bytes of data files and of the delete files that apply to them."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes[file.path] = file.bytes
        sizes.update((delete.path, delete.bytes) for delete in file.deletes)
    return sizes


def compare_sizes(table: Table, sizes: Mapping[str, int]) -> FilesAudit:
    """Compare path → bytes with what is there; raises as `audit_files` does."""
    try:
        found = _found(table.io, sizes, _roots(table))
    except OSError as error:
        raise StoreError(f"The files of {'.'.join(table.name())} could not be listed: {error}") from error
    findings = [
        FileFinding(
            name_below(table, path),
            FileProblem.MISSING if found.get(path) is None else FileProblem.SIZE,
            expected,
            found.get(path),
        )
        for path, expected in sorted(sizes.items())
        if found.get(path) != expected
    ]
    return FilesAudit(len(sizes), tuple(findings))


def name_below(table: Table, path: str) -> str:
    """A file's name below the table's location or its `write.data.path`; elsewhere the last part alone."""
    for root in _roots(table)[::-1]:  # the location itself first, so that names begin with `data/`
        if path.startswith(root):
            return path[len(root) :]
    return path.rsplit("/", 1)[-1]


def _roots(table: Table) -> list[str]:
    """Folders under which the table's files may lie, the narrowest first."""
    location = table.location().rstrip("/")
    data = table.properties.get("write.data.path", f"{location}/data").rstrip("/")
    return [f"{data}/", f"{location}/"]


def _found(io: FileIO, paths: Iterable[str], roots: Sequence[str]) -> dict[str, int]:
    """Path → bytes of those that are there."""
    if not isinstance(io, PyArrowFileIO):
        return {path: len(file) for path in paths if (file := io.new_input(path)).exists()}
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder = next((root for root in roots if path.startswith(root)), path.rsplit("/", 1)[0] + "/")
        folders.setdefault(folder, []).append(path)
    found: dict[str, int] = {}
    for folder, wanted in folders.items():
        found |= _found_in(io, folder, wanted, whole=folder in roots)
    return found


def _found_in(io: PyArrowFileIO, folder: str, wanted: Sequence[str], *, whole: bool) -> dict[str, int]:
    scheme, host, base = PyArrowFileIO.parse_location(folder, io.properties)
    system = io.fs_by_scheme(scheme, host)
    keys = {path: _key(PyArrowFileIO.parse_location(path, io.properties)[2], scheme) for path in wanted}
    there: dict[str, int] = {}
    if whole or len(wanted) > FEW:
        # Of an object store a recursive listing is a request a thousand files.
        selector = FileSelector(base.rstrip("/"), recursive=whole, allow_not_found=True)
        there = _sizes(system.get_file_info(selector), scheme)
    # What a listing does not show is asked for by name before it is said to be gone.
    there |= _asked(system, [key for key in keys.values() if key not in there], scheme)
    return {path: there[key] for path, key in keys.items() if key in there}


def _asked(system: FileSystem, keys: Sequence[str], scheme: str) -> dict[str, int]:
    return _sizes(system.get_file_info(list(keys)), scheme) if keys else {}


def _sizes(infos: Iterable[FileInfo], scheme: str) -> dict[str, int]:
    return {_key(info.path, scheme): info.size for info in infos if info.type is FileType.File}


def _key(path: str, scheme: str) -> str:
    # On a disk `a//b` and `a/b` are one file; in an object store they are two.
    return posixpath.normpath(path) if scheme == "file" else path
