"""What one request read and gave: filled in below by whoever knows, and written into its access line above."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from k2.obs import metrics


@dataclass(slots=True)
class TableReads:
    """Data files of one table: those that were read, each once however often (location → bytes), of how many there are."""

    files: dict[str, int] = field(default_factory=dict)
    of_files: int = 0


@dataclass(slots=True)
class Tally:
    """Sums over one request.

    Attributes:
        rows: rows in the answer.
        snapshots: table → id of the snapshot that answered (None: the table had none).
        reads: table → the data files of it that statements read.
        plan_seconds: finding the snapshot and its files.
        scan_seconds: running statements.
        wait_seconds: waiting for a connection.
    """

    rows: int = 0
    snapshots: dict[str, int | None] = field(default_factory=dict)
    reads: dict[str, TableReads] = field(default_factory=dict)
    plan_seconds: float = 0.0
    scan_seconds: float = 0.0
    wait_seconds: float = 0.0

    @property
    def files_scanned(self) -> int:
        """Data files that were read."""
        return sum(len(each.files) for each in self.reads.values())

    @property
    def files_skipped(self) -> int:
        """Data files of the same tables that were left out."""
        return sum(max(0, each.of_files - len(each.files)) for each in self.reads.values())

    @property
    def read_bytes(self) -> int:
        """Size of the data files that were read."""
        return sum(sum(each.files.values()) for each in self.reads.values())


_current: ContextVar[Tally | None] = ContextVar("k2_tally", default=None)


def begin() -> Tally:
    """A new tally for what this task (and the threads that work for it) does from now on."""
    made = Tally()
    _current.set(made)
    return made


def tally() -> Tally:
    """The tally of the request that is being answered; one that nobody reads where there is none."""
    return _current.get() or Tally()


def count_files(table: str, files: Mapping[str, int], left_out: int) -> None:
    """Count the data files of a statement that is run.

    Args:
        table: their table.
        files: location → bytes.
        left_out: how many others the table has at that snapshot.
    """
    metrics.QUERY_FILES_SCANNED.labels(table).inc(len(files))
    metrics.QUERY_FILES_SKIPPED.labels(table).inc(left_out)
    metrics.QUERY_BYTES_PLANNED.labels(table).inc(sum(files.values()))
    counted = tally().reads.setdefault(table, TableReads())
    counted.files.update(files)
    counted.of_files = max(counted.of_files, len(files) + left_out)


def count_rows(query: str, rows: int) -> None:
    """Count rows that go into an answer, for the metrics, the access line and the key's rows of the day.

    Args:
        query: the kind of question, as metrics name it.
        rows: how many.
    """
    metrics.QUERY_ROWS.labels(query).inc(rows)
    tally().rows += rows
