"""SQL that is ready to run, and what runs it, as the rest of the questions know it. Knows no engine."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

TAIL = "k2_tail"
"""Name under which a statement reads rows that no file has."""


@dataclass(frozen=True, slots=True)
class FilesRead:
    """The data files of one table that a statement reads: location → bytes; and how many others its snapshot has."""

    table: str
    files: Mapping[str, int]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL that was built from constants alone.

    Attributes:
        sql: the text.
        params: the values of its `$names`.
        roots: directories that its files lie in, each with a slash at the end.
        tail: the rows that the text reads as `TAIL`.
        tails: further rows, by the names under which the text reads them.
        reads: its data files, by table.
    """

    sql: str
    params: Mapping[str, Any]
    roots: tuple[str, ...] = ()
    tail: pa.Table | None = None
    tails: Mapping[str, pa.Table] = field(default_factory=dict[str, pa.Table])
    reads: tuple[FilesRead, ...] = ()

    @property
    def planned_bytes(self) -> int:
        """Size of its files."""
        return sum(sum(each.files.values()) for each in self.reads)


class RowSource(Protocol):
    """What runs statements (`k2.query.engine.engine.Engine`). Questions know it by this alone."""

    @property
    def timeout_seconds(self) -> float:
        """How long a statement may run."""
        ...

    def fetch(self, label: str, statement: Statement) -> pa.Table:
        """All rows of a statement; `label` is the kind of question.

        Raises:
            QueryTimeoutError: it ran over its deadline.
            EngineBusyError: others ran until its deadline.
            TooLargeError: it needs more memory than a query may take.
            WorldError: a file could not be read.
        """
        ...

    def stream(self, label: str, statement: Statement, *, batch_rows: int) -> Generator[pa.RecordBatch]:
        """The rows of a statement in batches, each with the deadline anew. Raises as `fetch` does."""
        ...

    def ahead(self, readings: Iterator[Generator[pa.RecordBatch]]) -> Generator[pa.RecordBatch]:
        """What the streams give, one after the other, the next one begun while one is taken."""
        ...
