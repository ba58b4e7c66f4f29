"""What an answer was read from, and up to when it is complete."""

from __future__ import annotations

from dataclasses import dataclass

from k2.lake.reader import SnapshotInfo
from k2.query.rows.tail_view import Tail


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer was read from, and up to when it is complete.

    Attributes:
        complete_until_us: time of the newest event in the snapshot and the tail (µs since 1970 UTC), of the exchanges that the answer is
            of where files prove them, and never later than now; None where there is none.
        tail: what was read beyond the snapshot; None: nothing was asked for beyond it.
        tail_rows: rows of the tail that are about the question, before its limit; None: not counted.
        is_partial: whether the one who asks sees a part of the table.
        unconfirmed: why the catalog did not say that the snapshot is still the one that was asked for; None: it did.
    """

    table: str
    snapshot: SnapshotInfo | None
    complete_until_us: int | None
    files_scanned: int = 0
    files_skipped: int = 0
    tail: Tail | None = None
    tail_rows: int | None = None
    is_partial: bool = False
    unconfirmed: str | None = None
