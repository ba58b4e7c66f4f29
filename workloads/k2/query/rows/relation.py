"""What a statement reads: data files of one snapshot, rows that no file has yet, and what of them may be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef
from k2.query.rows.visibility import EVERYTHING, Sight


@dataclass(frozen=True, slots=True)
class Relation:
    """The rows of one table at one snapshot that a question is about, before its own conditions.

    Attributes:
        table: the table's identifier.
        columns: the table's columns at that snapshot.
        files: the data files that may hold such rows, oldest first.
        roots: directories that the files lie in, each with a slash at the end.
        of_files: how many data files the snapshot has.
        sight: what of them may be seen: a condition of every statement.
        tail: rows beyond the snapshot, with columns of the same names; None when there are none.
        hidden: columns that the table no longer has and that rows of the files were deleted by.
    """

    table: str
    columns: tuple[ColumnInfo, ...]
    files: tuple[DataFileRef, ...]
    roots: tuple[str, ...]
    of_files: int
    sight: Sight = EVERYTHING
    tail: pa.Table | None = None
    hidden: tuple[ColumnInfo, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.files) or (self.tail is not None and self.tail.num_rows > 0)

    @property
    def most_rows(self) -> int:
        """No more than so many rows are in it."""
        return sum(file.rows for file in self.files) + (0 if self.tail is None else self.tail.num_rows)

    @property
    def lies_in_order(self) -> bool:
        """Whether rows of one symbol lie by time and source sequence, file after file, as their writers say."""
        if self.tail is not None or any(file.deletes or not file.in_order for file in self.files):
            return False
        return all(earlier.end_us < later.start_us for earlier, later in pairwise(self.files))

    @property
    def is_numbered(self) -> bool:
        """Whether each row has a source sequence: rows of one symbol hardly tie then, and lineage need not be read."""
        if self.tail is not None and self.tail.column("source_sequence").null_count:
            return False
        return all(file.is_numbered for file in self.files)

    def of(self, files: Sequence[DataFileRef]) -> Relation:
        """Some of the files alone, without the tail."""
        return replace(self, files=tuple(files), tail=None)
