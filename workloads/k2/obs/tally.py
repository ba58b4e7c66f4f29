"""What one request read and gave: filled in below by whoever knows, and written into its access line above."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from k2.obs import metrics


@dataclass(slots=True)
class Tally:
    """Sums over one request.

    Attributes:
        rows: rows in the answer.
        snapshots: table → id of the snapshot that answered (None: the table had none).
        files_scanned: data files that were read.
        files_skipped: data files that the plan left out.
        planned_bytes: bytes of the files that were read.
        plan_seconds: finding the snapshot and its files.
        scan_seconds: running statements.
        wait_seconds: waiting for a connection.
    """

    rows: int = 0
    snapshots: dict[str, int | None] = field(default_factory=dict)
    files_scanned: int = 0
    files_skipped: int = 0
    planned_bytes: int = 0
    plan_seconds: float = 0.0
    scan_seconds: float = 0.0
    wait_seconds: float = 0.0


_current: ContextVar[Tally | None] = ContextVar("k2_tally", default=None)


def begin() -> Tally:
    """A new tally for what this task (and the threads that work for it) does from now on."""
    made = Tally()
    _current.set(made)
    return made


def tally() -> Tally:
    """The tally of the request that is being answered; one that nobody reads where there is none."""
    return _current.get() or Tally()


def count_rows(query: str, rows: int) -> None:
    """Count rows that go into an answer, for the metrics, the access line and the key's rows of the day.

    Args:
        query: the kind of question, as metrics name it.
        rows: how many.
    """
    metrics.QUERY_ROWS.labels(query).inc(rows)
    tally().rows += rows
