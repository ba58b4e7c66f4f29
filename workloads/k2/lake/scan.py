"""Which data files of a snapshot can hold the rows one asks for: planned from the manifests, before a byte of data is read.

A manifest never changes, so what was decoded from one is kept per manifest; a new snapshot costs only its new manifests.
The bounds of a snapshot's files lie in numpy arrays: choosing among thousands of files takes microseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, cast

import numpy as np
from pyiceberg.conversions import from_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder
from pyiceberg.transforms import IdentityTransform

from k2.model.errors import UserError
from k2.model.lru import Lru
from k2.model.times import DAY_US, day_number

_MIN_US, _MAX_US = -(2**63), 2**63 - 1
# Field id of the path in files of position deletes, reserved by the specification.
_TARGET = 2_147_483_546
_HIGHEST = b"\xff" * 8


@dataclass(frozen=True, slots=True)
class DeleteFileRef:
    """One delete file of any engine.

    Attributes:
        path: where it lies.
        equality_ids: ids of the fields by whose values it deletes; empty: it deletes by file and position.
        parquet: whether it is Parquet (it may be Avro, ORC, or a deletion vector of format version 3).
        bytes: its size.
    """

    path: str
    equality_ids: tuple[int, ...] = ()
    parquet: bool = True
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class DataFileRef:
    """One data file, and what its manifest says of it. Bounds are inclusive; a missing bound is as wide as can be.

    `start_us` and `end_us` are microseconds since 1970, UTC. String bounds may be cut to a prefix by the writer: they
    prove absence, not presence. `rows` counts those that a delete file took out too. `deletes`: delete files of the
    snapshot that may take rows out of this file. `in_order`: its writer says that the rows lie by symbol, time and source
    sequence. `is_numbered`: its manifest says that each row has a source sequence.
    """

    path: str
    rows: int
    bytes: int
    start_us: int
    end_us: int
    symbols: tuple[str | None, str | None]
    exchanges: tuple[str | None, str | None]
    deletes: tuple[DeleteFileRef, ...] = ()
    in_order: bool = False
    is_numbered: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What may be remembered of the file's live rows may be remembered under this: it changes with its deletes."""
        return (self.path, *(delete.path for delete in self.deletes))

    @property
    def exchange(self) -> str | None:
        """The one exchange of all its rows, where the bounds prove that there is only one."""
        lower, upper = self.exchanges
        # Writers cut bounds at 16 characters: equal ones of that length prove nothing.
        return lower if lower is not None and lower == upper and len(lower) < 16 else None

    def may_hold(self, symbol: str) -> bool:
        """Whether there may be rows of the symbol, by the bounds."""
        lower, upper = self.symbols
        return (lower is None or lower <= symbol) and (upper is None or symbol <= upper)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A live entry of a manifest: the file, and what decides which delete files apply to it.

    Attributes:
        partition: spec and values.
        sequence: the data sequence number.
        delete: the file as a delete file; None for data.
        targets: bounds of the paths that a file of position deletes names.
    """

    file: DataFileRef
    partition: tuple[int, str]
    sequence: int
    delete: DeleteFileRef | None = None
    targets: tuple[str | None, str | None] = (None, None)


class SnapshotFiles:
    """All data files of one snapshot, ready to choose from."""

    def __init__(self, files: Collection[DataFileRef]) -> None:
        self.files = tuple(sorted(files, key=lambda file: (file.start_us, file.end_us, file.path)))
        self.rows = sum(file.rows for file in self.files)
        self.bytes = sum(file.bytes for file in self.files)
        self._start = np.array([file.start_us for file in self.files], dtype=np.int64)
        self._end = np.array([file.end_us for file in self.files], dtype=np.int64)
        self._symbols = _bounds([file.symbols for file in self.files])
        self._exchanges = _bounds([file.exchanges for file in self.files])

    @property
    def newest_us(self) -> int | None:
        """Upper bound of the event times of all files; None when there is none, or a file has no bound."""
        newest = int(self._end.max()) if self.files else _MAX_US
        return None if newest == _MAX_US else newest

    def newest_of(self, exchanges: Collection[str]) -> int | None:
        """The same of the files that may hold rows of these exchanges."""
        there = self._end[_any_within(exchanges, self._exchanges)] if self.files else self._end
        newest = int(there.max()) if len(there) else _MAX_US
        return None if newest == _MAX_US else newest

    @property
    def oldest_us(self) -> int | None:
        """Lower bound of the event times of all files; None when there is none, or a file has no bound."""
        oldest = int(self._start.min()) if self.files else _MIN_US
        return None if oldest == _MIN_US else oldest

    def select(
        self,
        *,
        symbols: Collection[str] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
        exchanges: Collection[str] | None = None,
    ) -> tuple[DataFileRef, ...]:
        """The files that may hold rows of any of the symbols and exchanges within [start_us, end_us), oldest first.

        None means no condition; an empty collection matches nothing. Files without bounds are never left out.
        """
        if not self.files:
            return ()
        keep = np.ones(len(self.files), dtype=np.bool_)
        if start_us is not None:
            keep &= self._end >= start_us
        if end_us is not None:
            keep &= self._start < end_us
        if symbols is not None:
            keep &= _any_within(symbols, self._symbols)
        if exchanges is not None:
            keep &= _any_within(exchanges, self._exchanges)
        return tuple(self.files[index] for index in np.flatnonzero(keep))


_manifests: Lru[str, tuple[_Entry, ...]] = Lru(20_000)
_snapshots: Lru[tuple[str, int], SnapshotFiles] = Lru(64)


def plan_files(
    table: Table,
    snapshot_id: int | None,
    *,
    symbols: Collection[str] | None = None,
    start_us: int | None = None,
    end_us: int | None = None,
    exchanges: Collection[str] | None = None,
) -> tuple[DataFileRef, ...]:
    """The files of a snapshot that may hold the rows asked for (see `SnapshotFiles.select`), oldest first.

    Args:
        table: a loaded table; not shared with another thread.
        snapshot_id: None is a table without any snapshot: no files.
        symbols: any of these; None: all.
        start_us: microseconds since 1970 UTC, inclusive.
        end_us: microseconds since 1970 UTC, exclusive.
        exchanges: any of these; None: all.

    Raises:
        UserError: the table does not have that snapshot.
    """
    if snapshot_id is None:
        return ()
    return snapshot_files(table, snapshot_id).select(
        symbols=symbols, start_us=start_us, end_us=end_us, exchanges=exchanges
    )


def cached_files(table_uuid: str, snapshot_id: int) -> SnapshotFiles | None:
    """The files of the snapshot where they are in memory already."""
    return _snapshots.get((table_uuid, snapshot_id))


def snapshot_files(table: Table, snapshot_id: int) -> SnapshotFiles:
    """All data files of a snapshot, decoded once. Raises a `UserError` when the table does not have the snapshot."""
    key = (str(table.metadata.table_uuid), snapshot_id)
    cached = _snapshots.get(key)
    if cached is not None:
        return cached
    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise UserError(
            f"{'.'.join(table.name())} has no snapshot of that id", found=snapshot_id, expected="one that it lists"
        )
    return _snapshots.put(key, SnapshotFiles(_live_files(table, snapshot)))


def _live_files(table: Table, snapshot: Snapshot) -> list[DataFileRef]:
    data: list[_Entry] = []
    deletes: list[_Entry] = []
    decoder = _Decoder(table)
    for manifest in snapshot.manifests(table.io):
        if not _has_live(manifest):
            continue
        entries = _manifests.get(manifest.manifest_path)
        if entries is None:
            entries = _manifests.put(manifest.manifest_path, decoder.decode(manifest, table.io))
        (data if manifest.content == ManifestContent.DATA else deletes).extend(entries)
    if not deletes:
        return [entry.file for entry in data]
    return [_with_deletes(entry, deletes) for entry in data]


def _has_live(manifest: ManifestFile) -> bool:
    counts = (manifest.added_files_count, manifest.existing_files_count)
    return None in counts or any(counts)


def _with_deletes(entry: _Entry, deletes: list[_Entry]) -> DataFileRef:
    applying = tuple(other.delete for other in deletes if other.delete is not None and _applies(other, entry))
    return replace(entry.file, deletes=applying) if applying else entry.file


def _applies(other: _Entry, entry: _Entry) -> bool:
    """Whether a delete file may take rows out of a data file, by the rules of the Iceberg specification ("Scan planning")."""
    delete = other.delete
    same_partition = other.partition == entry.partition
    if delete is not None and delete.equality_ids:
        # Of strictly older data; one that is not partitioned is of the whole table.
        return entry.sequence < other.sequence and (same_partition or other.partition[1] == "()")
    lower, upper = other.targets
    path = entry.file.path
    named = (lower is None or lower <= path) and (upper is None or path <= upper)
    # Of data of the same commit too: a writer may delete what it wrote itself.
    return entry.sequence <= other.sequence and same_partition and named


class _Decoder:
    """Turns manifest entries into `_Entry`s by one table's field ids and partition specs."""

    def __init__(self, table: Table) -> None:
        self._specs = table.specs()
        schema = table.schema()
        self._time = _time_field(schema)
        self._symbol = _field_id(schema, "symbol")
        self._exchange = _field_id(schema, "exchange")
        self._schema = schema
        self._sequence = _field_id(schema, "source_sequence")
        by = (self._symbol, self._time, self._sequence)
        self._natural = {number for number, order in table.sort_orders().items() if _sorts(order, by)}

    def decode(self, manifest: ManifestFile, io: FileIO) -> tuple[_Entry, ...]:
        """All live entries of a manifest."""
        return tuple(self._entry(entry) for entry in manifest.fetch_manifest_entry(io, discard_deleted=True))

    def _entry(self, entry: ManifestEntry) -> _Entry:
        file = entry.data_file
        start, end = self._partition_day(file)
        lower, upper = self._bounds(file, self._time)
        ref = DataFileRef(
            path=file.file_path,
            rows=file.record_count,
            bytes=file.file_size_in_bytes,
            start_us=max(start, _MIN_US if lower is None else cast("int", lower)),
            end_us=min(end, _MAX_US if upper is None else cast("int", upper)),
            symbols=cast("tuple[str | None, str | None]", self._bounds(file, self._symbol)),
            exchanges=cast("tuple[str | None, str | None]", self._bounds(file, self._exchange)),
            in_order=file.sort_order_id in self._natural,
            is_numbered=self._sequence is not None and (file.null_value_counts or {}).get(self._sequence) == 0,
        )
        partition = (file.spec_id, repr(tuple(_partition_values(file))))
        sequence = entry.sequence_number or 0
        if file.content == DataFileContent.DATA:
            return _Entry(ref, partition, sequence)
        by_value = file.content == DataFileContent.EQUALITY_DELETES
        delete = DeleteFileRef(
            file.file_path,
            tuple(file.equality_ids or ()) if by_value else (),
            file.file_format == FileFormat.PARQUET,
            file.file_size_in_bytes,
        )
        targets = (_text((file.lower_bounds or {}).get(_TARGET)), _text((file.upper_bounds or {}).get(_TARGET)))
        return _Entry(ref, partition, sequence, delete, targets)

    def _bounds(self, file: DataFile, field_id: int | None) -> tuple[Any, Any]:
        if field_id is None:
            return None, None
        kind = self._schema.find_type(field_id)
        lower, upper = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
        return (
            None if lower is None else from_bytes(kind, lower),  # pyright: ignore[reportArgumentType]
            None if upper is None else from_bytes(kind, upper),  # pyright: ignore[reportArgumentType]
        )

    def _partition_day(self, file: DataFile) -> tuple[int, int]:
        """Bounds from the partition `day(timestamp)`, for files whose writer kept no statistics of columns."""
        fields = self._specs[file.spec_id].fields if file.spec_id in self._specs else ()
        for field, value in zip(fields, _partition_values(file), strict=False):
            if field.source_id == self._time and str(field.transform) == "day" and value is not None:
                day = day_number(value) if isinstance(value, date) else int(value)
                return day * DAY_US, (day + 1) * DAY_US - 1
        return _MIN_US, _MAX_US


def _sorts(order: SortOrder, by: Sequence[int | None]) -> bool:
    """Whether a sort order begins with these fields, ascending, nulls last."""
    first = order.fields[: len(by)]
    plain = all(
        isinstance(field.transform, IdentityTransform)
        and field.direction is SortDirection.ASC
        and field.null_order is NullOrder.NULLS_LAST
        for field in first
    )
    return plain and [field.source_id for field in first] == list(by)


def _text(bound: bytes | None) -> str | None:
    return None if bound is None else bound.decode()


def _partition_values(file: DataFile) -> list[Any]:
    return [file.partition[index] for index in range(len(file.partition))]


def _time_field(schema: Schema) -> int | None:
    found = (_field_id(schema, name) for name in ("timestamp", "effective_timestamp", "start"))  # the last: of bars
    return next((each for each in found if each is not None), None)


def _field_id(schema: Schema, name: str) -> int | None:
    found = [field.field_id for field in schema.fields if field.name == name]
    return found[0] if found else None


def _bounds(bounds: list[tuple[str | None, str | None]]) -> tuple[Any, Any]:
    # UTF-8 bytes compare as Iceberg compares strings; a missing bound is the lowest or the highest there can be.
    lower = np.array([b"" if low is None else low.encode() for low, _ in bounds], dtype=np.bytes_)
    upper = np.array([_HIGHEST if high is None else high.encode() for _, high in bounds], dtype=np.bytes_)
    return lower, upper


def _any_within(values: Collection[str], bounds: tuple[Any, Any]) -> Any:
    lower, upper = bounds
    ordered = np.array(sorted(value.encode() for value in values), dtype=np.bytes_)
    if not len(ordered):
        return np.zeros(len(lower), dtype=np.bool_)
    return np.searchsorted(ordered, lower, side="left") < np.searchsorted(ordered, upper, side="right")
