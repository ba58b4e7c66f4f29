"""What a statement reads: data files of one snapshot, rows that no file has yet, and what of them may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef
from k2.query.rows.adjusted import SymbolSteps
from k2.query.rows.visibility import EVERYTHING, Sight

OffsetRange = tuple[str, int, int, int]
"""(topic id, partition, start, stop): offsets [start, stop)."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """What a relation has of one table at one snapshot.

    Attributes:
        table: the table's identifier.
        columns: the table's columns at that snapshot.
        roots: directories that its files lie in, each with a slash at the end.
        of_files: how many data files the snapshot has.
        hidden: columns that the table no longer has and that rows of the files were deleted by.
        paths: which files of the relation are this table's, where it has those of several.
        tail_rows: how many rows of the relation's tail are this table's.
        left_out: rows of its files that count as another table's (`plan/overlaps.py`).
    """

    table: str
    columns: tuple[ColumnInfo, ...]
    roots: tuple[str, ...]
    of_files: int
    hidden: tuple[ColumnInfo, ...] = ()
    paths: frozenset[str] = frozenset()
    tail_rows: int = 0
    left_out: tuple[OffsetRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Relation:
    """The rows of a data type that a question is about, before its own conditions: of one table most often, or of several.

    Attributes:
        tables: those that may hold such rows, the main one first.
        columns: of the rows: each as wide as the widest of the tables has it (`widest.py`).
        files: the data files that may hold such rows, of all the tables, oldest first.
        sight: what of them may be seen: a condition of every statement.
        tail: rows beyond the snapshots, with columns of the same names; None when there are none.
        series: factors that their amounts are multiplied by (`adjusted.py`).
    """

    tables: tuple[TableRows, ...]
    columns: tuple[ColumnInfo, ...]
    files: tuple[DataFileRef, ...]
    sight: Sight = EVERYTHING
    tail: pa.Table | None = None
    series: tuple[SymbolSteps, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.files) or (self.tail is not None and self.tail.num_rows > 0)

    @property
    def most_rows(self) -> int:
        """No more than so many rows are in it."""
        return sum(file.rows for file in self.files) + (0 if self.tail is None else self.tail.num_rows)

    @property
    def parts(self) -> tuple[tuple[TableRows, tuple[DataFileRef, ...]], ...]:
        """Each table with the files that are its own."""
        if len(self.tables) == 1:
            return ((self.tables[0], self.files),)
        return tuple((each, tuple(file for file in self.files if file.path in each.paths)) for each in self.tables)

    @property
    def roots(self) -> tuple[str, ...]:
        """Directories that the files lie in, each with a slash at the end."""
        if len(self.tables) == 1:
            return self.tables[0].roots
        return tuple(sorted({root for each in self.tables for root in each.roots}))

    @property
    def lies_in_order(self) -> bool:
        """Whether rows of one symbol lie by time and source sequence, file after file, as their writers say."""
        return self._lies_sorted and all(earlier.end_us < later.start_us for earlier, later in pairwise(self.files))

    @property
    def lies_by_time(self) -> bool:
        """Whether they lie at least by time: a file may begin at the instant at which the one before it ends."""
        return self._lies_sorted and all(earlier.end_us <= later.start_us for earlier, later in pairwise(self.files))

    @property
    def _lies_sorted(self) -> bool:
        if sum(bool(files) for _, files in self.parts) > 1:
            return False  # they are read table after table
        return self.tail is None and not any(file.deletes or not file.in_order for file in self.files)

    @property
    def is_numbered(self) -> bool:
        """Whether each row has a source sequence: rows of one symbol hardly tie then, and lineage need not be read."""
        if self.tail is not None and self.tail.column("source_sequence").null_count:
            return False
        return all(file.is_numbered for file in self.files)

    def of(self, files: Sequence[DataFileRef]) -> Relation:
        """Some of the files alone, without the tail."""
        return replace(self, files=tuple(files), tail=None)

    def leaving(self, offsets: tuple[OffsetRange, ...]) -> Relation:
        """The same, of one table, without the rows of its files that count as another's."""
        return replace(self, tables=(replace(self.tables[0], left_out=offsets),)) if offsets else self

    def having(self, columns: Sequence[ColumnInfo], names: Sequence[str]) -> Relation:
        """The same with those of the columns that are named: what none of its tables has is null."""
        known = {column.name for column in self.columns}
        more = tuple(column for column in columns if column.name in names and column.name not in known)
        return replace(self, columns=(*self.columns, *more)) if more else self
