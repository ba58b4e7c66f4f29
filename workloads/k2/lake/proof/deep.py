"""The deep audit: every byte of a table's files is read and compared with the digest that was taken when it was written.

Without a digest (another engine's files, or those of before there were any) the checksums of pages are verified where the
file has them, and every value decoded: that finds most damage, and no file that was swapped for another. How far it came is kept in a
file, so that an audit of years can be stopped and goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table

from k2.lake.digest import digest_of
from k2.lake.proof.files_audit import FileProblem, compare_sizes, name_below
from k2.lake.proof.lineage import Progress, check_readable
from k2.model.errors import StoreError, UserError

_BLOCK = 1 << 20


class Proof(StrEnum):
    """What a file was compared with, or what is wrong with it."""

    DIGEST = "digest"
    PAGES = "pages"
    CHANGED = "changed"
    DAMAGED = "damaged"
    ROWS = "rows"
    MISSING = "missing"
    SIZE = "size"


GOOD = (Proof.DIGEST, Proof.PAGES)


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What a file should be: its name below the table's location, where it lies, and what its manifest says. Can be pickled.

    `digest` and `rows` are None where nothing says them.
    """

    name: str
    path: str
    bytes: int
    digest: bytes | None
    rows: int | None

    @classmethod
    def of(cls, name: str, file: DataFile) -> Self:
        """As a manifest says it."""
        rows = file.record_count if file.content is DataFileContent.DATA else None
        return cls(name, file.file_path, file.file_size_in_bytes, digest_of(file), rows)


BytesRead = Callable[[int], None]
"""Told of bytes once they are read: it may wait."""


@dataclass(frozen=True, slots=True)
class DeepFinding:
    """A file that is not what was written: its name below the table's location, and where in it, as far as that can be told."""

    name: str
    problem: Proof
    where: str = ""


@dataclass(frozen=True, slots=True)
class DeepAudit:
    """What reading every byte has shown.

    Attributes:
        by_digest, by_pages: files that are as they were written, by their digest, or as far as their pages tell.
        bytes: that were read, this time and before.
    """

    table: str
    snapshot_id: int | None
    files: int
    by_digest: int
    by_pages: int
    bytes: int
    findings: Sequence[DeepFinding]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def audit_deep(table: Table, progress_file: Path | None = None, progress: Progress | None = None) -> DeepAudit:
    """Read all files of a table's current snapshot.

    Args:
        table: as it was loaded.
        progress_file: what was found of each file is written there, and those that were well are not read again when an
            audit that was stopped goes on. One that came to its end removes it. None: nothing is written.
        progress: told after each file.

    Raises:
        UserError: the progress file is no such file, or another table's.
        StoreError: the store did not give a file.
    """
    snapshot = table.current_snapshot()
    manifests = [] if snapshot is None else snapshot.manifests(table.io)
    files = {
        entry.data_file.file_path: entry.data_file
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    }
    listed = compare_sizes(table, {path: file.file_size_in_bytes for path, file in files.items()})
    bad = {each.name: Proof.MISSING if each.problem is FileProblem.MISSING else Proof.SIZE for each in listed.findings}
    done = _read_progress(progress_file, str(table.metadata.table_uuid))
    results: dict[str, DeepFinding] = {}
    with _Log(progress_file, str(table.metadata.table_uuid)) as log:
        for number, (path, file) in enumerate(sorted(files.items()), start=1):
            name = name_below(table, path)
            if name in bad:
                results[name] = DeepFinding(name, bad[name])
            elif path in done:
                results[name] = DeepFinding(name, done[path])
            else:
                results[name] = found = verified(table.io, WantedFile.of(name, file))
                log.add(path, found)
            if progress is not None:
                progress(number, len(files))
    if progress_file is not None:
        progress_file.unlink(missing_ok=True)
    proofs = [each.problem for each in results.values()]
    return DeepAudit(
        ".".join(table.name()),
        None if snapshot is None else snapshot.snapshot_id,
        len(files),
        proofs.count(Proof.DIGEST),
        proofs.count(Proof.PAGES),
        sum(file.file_size_in_bytes for file in files.values()),
        [each for each in results.values() if each.problem not in GOOD],
    )


def verified(io: FileIO, file: WantedFile, pace: BytesRead = lambda _: None) -> DeepFinding:
    """Read every byte of a file and compare it. Decoding a damaged one may end the process.

    Raises:
        StoreError: the store did not give it.
    """
    if file.digest is not None and _digest(io, file.path, pace) == file.digest:
        return DeepFinding(file.name, Proof.DIGEST)  # byte for byte what was written: its pages and rows are too
    found = _decoded(io, file.name, file.path, file.rows)
    pace(file.bytes)
    if file.digest is None or found.problem is not Proof.PAGES:
        return found
    return DeepFinding(
        file.name, Proof.CHANGED, "each page is whole: another file under its name, or a byte between them"
    )


def _digest(io: FileIO, path: str, pace: BytesRead) -> bytes:
    found = hashlib.sha256()
    try:
        with io.new_input(path).open() as stream:
            while block := stream.read(_BLOCK):
                found.update(block)
                pace(len(block))
    except OSError as error:
        raise StoreError(f"A data file could not be read: {error}") from error
    return found.digest()


def _decoded(io: FileIO, name: str, path: str, rows: int | None) -> DeepFinding:
    """What decoding every page shows, column by column, so that the damaged one can be named."""
    try:
        with io.new_input(path).open() as stream:
            parquet = pq.ParquetFile(stream, page_checksum_verification=True)
            if rows is not None and parquet.metadata.num_rows != rows:
                return DeepFinding(name, Proof.ROWS, f"{parquet.metadata.num_rows} rows, {rows} by its manifest")
            for group in range(parquet.num_row_groups):
                for column in parquet.schema_arrow.names:
                    try:
                        parquet.read_row_group(group, columns=[column], use_threads=False)
                    except (OSError, pa.ArrowException, ValueError) as error:
                        check_readable(io, path, error)
                        return DeepFinding(name, Proof.DAMAGED, f"column {column} of row group {group}")
    except (OSError, pa.ArrowException, ValueError) as error:
        check_readable(io, path, error)
        return DeepFinding(name, Proof.DAMAGED, "its footer")
    return DeepFinding(name, Proof.PAGES)


def _read_progress(path: Path | None, table: str) -> dict[str, Proof]:
    """Path of a data file → what was found of it, where that was well."""
    if path is None or not path.exists():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        header, *rest = lines or [{"table": table}]
        if header["table"] == table:
            return {each["file"]: proof for each in rest if (proof := Proof(each["proof"])) in GOOD}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(path) from error
    raise _unusable(path)


def _unusable(path: Path) -> UserError:
    return UserError(
        "The file of an earlier deep audit cannot be used",
        found=str(path),
        expected="what a deep audit of this table wrote",
        remedy="Remove it, or give another one: --progress FILE",
    )


class _Log:
    """The progress file, a line for each file; what a crash cuts short is the last line, and that one is left out."""

    def __init__(self, path: Path | None, table: str) -> None:
        self._path = path
        self._table = table
        self._stream: Any = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                old = self._path.read_text() if self._path.exists() else ""
                whole = old[: old.rfind("\n") + 1]
                if whole != old:
                    self._path.write_text(whole)
                self._stream = self._path.open("a")
            except OSError as error:
                raise UserError("The progress file cannot be written", found=str(error)) from error
            if not whole:  # a new one
                self._write({"table": self._table})
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, path: str, found: DeepFinding) -> None:
        self._write({"file": path, "proof": found.problem.value})

    def _write(self, line: Mapping[str, str]) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(line) + "\n")
            self._stream.flush()
