"""What an answer was read from, and up to when it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k2.lake.reader import SnapshotInfo
from k2.model.prints import EVERY_PRINT, Prints
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.requests import TableSnapshots
from k2.query.rows.tail_view import Tail


@dataclass(frozen=True, slots=True)
class SourceTable:
    """What of one table an answer was read from.

    Attributes:
        table: its identifier.
        snapshot: None: it had none.
        tail: what was read beyond the snapshot, of the topics that may hold what the answer is of; None: nothing was asked for
            beyond it.
        exchanges: those that the answer is of, where the files and rows that it is made of prove them; None: any.
    """

    table: str
    snapshot: SnapshotInfo | None
    files_scanned: int = 0
    files_skipped: int = 0
    tail: Tail | None = None
    exchanges: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class FactorSource:
    """What the factors of an adjusted answer were made of.

    Attributes:
        how: what it is adjusted for, with the tables that say by what.
        events: how many records changed it.
        reference: what of the reference data they were read from.
        venues: symbol → exchange, of those that there are rows of.
        calendars: (exchange, name and version of a calendar) by which ex-dates begin and closes were found.
    """

    how: Adjusting
    events: int
    reference: Provenance
    venues: Mapping[str, str]
    calendars: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer was read from, and up to when it is complete.

    Attributes:
        sources: the tables that have what was asked for, the main one first; all of the data type, where none has.
        complete_until_us: time of the newest event in their snapshots and tails (µs since 1970 UTC), of the exchanges that the
            answer is of where files prove them, and never later than now; None where there is none.
        tail_rows: rows of the tails that are about the question, before its filters and its limit; None: not counted.
        is_partial: whether the one who asks sees a part of the tables.
        unconfirmed: why the catalog did not say that the snapshots are still those that were asked for; None: it did.
        pinned: all tables of the data type, each at its snapshot, whether they have what was asked for or not.
        ends: (topic id, partition, offset) up to which the tails of all of them reach.
        prints: the trades that these let through count, and no others.
        calendars: (exchange, name and version of a calendar) by which its trading dates and sessions were found.
        factors: what it was adjusted by; None: it is as it was traded.
    """

    sources: tuple[SourceTable, ...]
    complete_until_us: int | None
    tail_rows: int | None = None
    is_partial: bool = False
    unconfirmed: str | None = None
    pinned: TableSnapshots = ()
    ends: tuple[tuple[str, int, int], ...] = ()
    prints: Prints = EVERY_PRINT
    calendars: tuple[tuple[str, str], ...] = ()
    factors: FactorSource | None = None

    @property
    def followed(self) -> tuple[tuple[str, str], ...]:
        """All calendars that the answer depends on: those of its dates, and of the factors that it was adjusted by."""
        of_factors = () if self.factors is None else self.factors.calendars
        return tuple(sorted({*self.calendars, *of_factors}))

    @property
    def table(self) -> str:
        """The first of the tables."""
        return self.sources[0].table

    @property
    def snapshot(self) -> SnapshotInfo | None:
        """The snapshot of the one table that answered; None where it has none, or several answered."""
        return self.sources[0].snapshot if len(self.sources) == 1 else None

    @property
    def tails(self) -> tuple[Tail, ...]:
        """What was read beyond the snapshots."""
        return tuple(each.tail for each in self.sources if each.tail is not None)

    @property
    def is_hybrid(self) -> bool:
        """Whether it was asked for what the topics hold beyond the snapshots."""
        return bool(self.tails)
