"""A feed's account of gaps: what came, when nothing could come, and the events that tell of it. Pure: no clock, no socket, no Kafka.

Times are arguments, in microseconds since 1970 by our clock. What a swapped pair or two connections make of the order is over within
`SETTLE_US`, and no event: a gap is told when it has stood for so long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import replace
from enum import StrEnum

import numpy as np
import pyarrow as pa

from k2.feeds.gaps.numbers import NumberChanges, Numbers
from k2.feeds.venues.venue import Heard, Hole, Numbering
from k2.model.compute import pc
from k2.model.gaps import GapAccount, GapCounts, GapEvent, GapKind
from k2.model.missing import MissingRange
from k2.model.times import HOUR_US, MINUTE_US, SECOND_US, iso
from k2.model.topics import DataType

SETTLE_US = SECOND_US // 2
PATIENCE_US = 5 * SECOND_US
"""For so long after an outage a symbol may tell by its next trade what was missed; then it is asked for."""
CHECKED_US = 5 * MINUTE_US
"""Symbols that have traded since are said to be accounted for this often: a restart reads the topic from there on."""
RETOLD_US = 6 * HOUR_US
"""All else that stands is said again this often: the topic keeps its events for a time alone."""


class Way(StrEnum):
    """How trades came."""

    STREAM = "stream"
    SNAPSHOT = "snapshot"
    """Recent ones that the exchange sent or gave at the begin; they tell what was missed before them."""
    FILL = "fill"
    """Asked for, to fill a hole."""


class Account:
    """The account of one feed. Not to be shared between threads.

    Args:
        numbering: what the exchange's numbers prove.
        known: what was told before a restart, of the account's topic.
        last_heard: when the market was last heard before it; None: nothing is known of a time before.
        settle_us: for how long a gap has to stand before it is told.
    """

    def __init__(
        self,
        numbering: Numbering,
        known: GapAccount | None = None,
        last_heard: int | None = None,
        settle_us: int = SETTLE_US,
    ) -> None:
        self._last_heard = last_heard
        self._numbered = numbering is Numbering.CONSECUTIVE
        self._settle_us = settle_us
        self._numbers = Numbers()
        self._told = known or GapAccount()
        self._events: list[GapEvent] = []
        self._now = 0
        self._settled = 0
        self._waiting: deque[tuple[int, str]] = deque()
        self._carriers: dict[str, set[int]] = {}
        self._deaf: dict[str, int] = {}
        self._outages: dict[str, tuple[int, int]] = {}
        self._unheard: dict[str, int] = {}
        self._checked: dict[str, int] = {}
        self._checked_at = self._retold_at = 0
        for symbol, event in self._told.checked.items():
            if event.last is not None:
                self._numbers.begin(symbol, event.last, event.before or 0)
                self._checked[symbol] = event.last
        for symbol, held in self._told.open.items():
            for each in held:
                self._numbers.add_missing(symbol, each)

    # --- what happened ------------------------------------------------------------------------------------------------

    def seen(self, data_type: DataType, batch: pa.RecordBatch, by: Way, at: int) -> None:
        """Events came; of others than trades the account says nothing."""
        self._pass(at)
        if data_type is not DataType.TRADES or not len(batch):
            return
        # A number says what came before it; where there are none, only the newest trades themselves do.
        if self._unheard and by is not Way.FILL and self._numbered:
            for symbol in batch.column("symbol").unique().to_pylist():
                self._unheard.pop(symbol, None)
        if not self._numbered:
            return
        stream = by is Way.STREAM
        changes = self._numbers.see(batch, self._now, only_missing=by is Way.FILL, in_order=stream)
        self._take(changes, by)
        self._found_after_all(batch, by)

    def refused(self, symbol: str, number: int, at: int, why: str) -> None:
        """A trade came and was refused: it is a dead letter, and not missing."""
        self._pass(at)
        if not self._numbered:
            return
        high = self._numbers.highest(symbol)
        missed = self._numbers.take(symbol, number, number)
        if high is not None and number > high:
            # Its time is not to be trusted, so the hole before it is bounded by that of the trade before.
            time = self._numbers.time_of_highest(symbol)
            if number > high + 1:
                missing = MissingRange(high + 1, number - 1, time, None, self._now)
                self._missed(symbol, replace(missing, why=self._why(symbol)))
            self._numbers.begin(symbol, number, time)
        elif not missed:
            return
        self._tell(GapEvent(GapKind.DEAD_LETTERED, symbol, self._now, number, number, why=why))

    def lost(self, batch: pa.RecordBatch, at: int, why: str) -> None:
        """Trades that were seen did not get into the topic: they are missing after all."""
        self._pass(at)
        if not self._numbered:
            return
        for symbol in batch.column("symbol").unique().to_pylist():
            high = self._numbers.highest(symbol)
            trades = batch.filter(pc.equal(batch.column("symbol"), symbol))
            times = trades.column("timestamp").cast(pa.int64())
            for first, last in _runs(trades):
                if high is not None and last <= high:
                    missing = MissingRange(first, last, pc.min(times).as_py(), pc.max(times).as_py(), self._now, why)
                    self._missed(symbol, missing)

    def disconnected(self, connection: int, symbols: Collection[str], at: int) -> None:
        """A connection that carried these is gone. A symbol that another one carries is heard all the same."""
        self._pass(at)
        for symbol in symbols:
            carriers = self._carriers.get(symbol, set())
            carriers.discard(connection)
            if not carriers and symbol not in self._deaf:
                self._deaf[symbol] = self._now
                if not self._numbered:
                    self._tell(
                        GapEvent(
                            GapKind.UNKNOWN, symbol, self._now, after=self._now, since=self._now, why="no connection"
                        )
                    )

    def connected(self, connection: int, symbols: Collection[str], at: int) -> None:
        """A connection has confirmed that it carries these from now on."""
        self._pass(at)
        for symbol in symbols:
            is_new = symbol not in self._carriers
            self._carriers.setdefault(symbol, set()).add(connection)
            since = self._deaf.pop(symbol, self._last_heard if is_new else None)
            if since is None:
                continue
            self._unheard[symbol] = self._now
            if self._numbered:
                self._outages[symbol] = (self._outages.get(symbol, (since, 0))[0], self._now)
            else:
                why = f"no connection from {iso(since)} to {iso(self._now)}"
                event = GapEvent(
                    GapKind.UNKNOWN, symbol, self._now, after=since, before=self._now, since=since, why=why
                )
                self._tell(event)

    def forget(self, symbols: Collection[str]) -> None:
        """These are not to be heard any more: that they are silent says nothing."""
        for symbol in symbols:
            for held in (self._carriers, self._deaf, self._outages, self._unheard):
                held.pop(symbol, None)

    def unfillable(self, hole: Hole, at: int, why: str) -> None:
        """The exchange has not got these: what is still missing of them will not come."""
        self._pass(at)
        for part in self._numbers.take(hole.symbol, hole.first, hole.last):
            self._say(GapKind.UNFILLABLE, hole.symbol, part, why=why)

    def advance(self, at: int) -> None:
        """Time has passed: what stood long enough is told."""
        self._pass(at)

    def close(self, at: int) -> None:
        """The feed ends: all that is known is told now."""
        self._pass(at)
        self._tell_open(self._now)
        self._check(everything=True)

    # --- what follows -------------------------------------------------------------------------------------------------

    def events(self) -> list[GapEvent]:
        """What there is to tell since the last call, in its order."""
        events, self._events = self._events, []
        return events

    def holes(self) -> list[Hole]:
        """What should be filled now."""
        settled = self._settled
        return [
            Hole(symbol, each.first, each.last, each.after or 0, each.before or self._now)
            for symbol, each in self._numbers.all_missing()
            if each.since <= settled
        ]

    def holes_within(self, hole: Hole) -> list[Hole]:
        """What is still missing of a hole."""
        parts = self._numbers.missing(hole.symbol).within(hole.first, hole.last)
        return [replace(hole, first=part.first, last=part.last) for part in parts]

    def unheard(self) -> list[str]:
        """Symbols that could not be heard for a time and whose newest trades are to be asked for.

        With numbers, those that have not traded in the seconds since: the newest say what was missed. Without, all: what the venue still has
        of the time makes a short cut whole, and proves nothing.
        """
        return [symbol for symbol, since in self._unheard.items() if since + PATIENCE_US <= self._now]

    def heard_newest(self, symbol: str) -> None:
        """The newest trades of a symbol were asked for, and an answer came."""
        self._unheard.pop(symbol, None)

    def only_new(self, heard: Heard) -> Heard:
        """What was heard, without the trades that came already."""
        trades = heard.events.get(DataType.TRADES)
        if trades is None or not self._numbered or not len(trades):
            return heard
        numbers = trades.column("source_sequence").fill_null(-1).to_numpy(zero_copy_only=False)
        new = numbers < 0  # what has no number nobody can say of that it came
        for symbol in trades.column("symbol").unique().to_pylist():
            its = np.asarray(pc.equal(trades.column("symbol"), symbol))
            new |= its & (numbers > (self._numbers.highest(symbol) or -1))
            for part in self._numbers.missing(symbol).within(int(numbers.min()), int(numbers.max())):
                new |= its & (numbers >= part.first) & (numbers <= part.last)
        return replace(heard, events={**heard.events, DataType.TRADES: trades.filter(pa.array(new))})

    @property
    def counts(self) -> GapCounts:
        """What the account comes to."""
        return self._told.counts

    @property
    def deaf(self) -> Collection[str]:
        """Symbols that no connection carries now."""
        return self._deaf.keys()

    # --- how ----------------------------------------------------------------------------------------------------------

    def _pass(self, at: int) -> None:
        self._now = max(self._now, at)
        self._tell_open(self._now - self._settle_us)
        if not self._checked_at:
            self._checked_at = self._retold_at = self._now
        elif self._now - self._checked_at >= CHECKED_US:
            self._check(everything=self._now - self._retold_at >= RETOLD_US)

    def _take(self, changes: NumberChanges, by: Way) -> None:
        for symbol, missing in changes.opened:
            why = self._why(symbol)
            for part in self._numbers.take(symbol, missing.first, missing.last):
                self._missed(symbol, replace(part, why=part.why or why))
        for symbol, part in changes.closed:
            if part.since <= self._settled:
                self._say(GapKind.FILLED, symbol, part, how=by)
        for begun in changes.begun:
            for part in begun.given_up:
                self._say(GapKind.UNFILLABLE, begun.symbol, part, why="the exchange began to number anew")
            event = GapEvent(GapKind.RESTARTED, begun.symbol, self._now, begun.first, begun.last, before=begun.time)
            self._tell(event)
            self._checked.pop(begun.symbol, None)
        for symbol, part in changes.given_up:
            self._say(GapKind.UNFILLABLE, symbol, part, why="too many holes to hold")

    def _missed(self, symbol: str, missing: MissingRange) -> None:
        self._numbers.add_missing(symbol, missing)
        self._waiting.append((self._now, symbol))

    def _why(self, symbol: str) -> str:
        outage = self._outages.pop(symbol, None)
        return "the numbers jumped" if outage is None else f"no connection from {iso(outage[0])} to {iso(outage[1])}"

    def _tell_open(self, until: int) -> None:
        """Tell of what is missing since then or longer."""
        if until <= self._settled:
            return
        before, self._settled = self._settled, until
        while self._waiting and self._waiting[0][0] <= until:
            _, symbol = self._waiting.popleft()
            for each in self._numbers.missing(symbol):
                if before < each.since <= until and not self._is_told(symbol, each):
                    self._say(GapKind.OPENED, symbol, each)

    def _is_told(self, symbol: str, each: MissingRange) -> bool:
        held = self._told.open.get(symbol)
        return held is not None and sum(part.count for part in held.within(each.first, each.last)) == each.count

    def _found_after_all(self, batch: pa.RecordBatch, by: Way) -> None:
        """What was given up and came all the same is filled."""
        lost = {symbol: held for symbol, held in self._told.unfillable.items() if held}
        if not lost:
            return
        mine = batch.filter(pc.is_in(batch.column("symbol"), pa.array(lost, pa.string())))
        for symbol in mine.column("symbol").unique().to_pylist():
            for first, last in _runs(mine.filter(pc.equal(mine.column("symbol"), symbol))):
                for part in lost[symbol].within(first, last):
                    self._say(GapKind.FILLED, symbol, part, how=by)

    def _check(self, *, everything: bool) -> None:
        """Say up to which number each symbol is accounted for, where that has changed; or of all, and what is open."""
        self._tell_open(self._now)  # what is said to be accounted for has no gap that is yet to be told
        self._checked_at = self._now
        if everything:
            self._retold_at = self._now
            for symbol, each in self._numbers.all_missing():
                self._say(GapKind.OPENED, symbol, each)
        for symbol, high in self._numbers.highs().items():  # of symbols, not of trades
            if high == self._checked.get(symbol) and not everything:
                continue
            self._checked[symbol] = high
            time = self._numbers.time_of_highest(symbol)
            self._tell(GapEvent(GapKind.CHECKED, symbol, self._now, last=high, before=time))

    def _say(self, kind: GapKind, symbol: str, part: MissingRange, how: str = "", why: str = "") -> None:
        self._tell(
            GapEvent(
                kind,
                symbol,
                self._now,
                part.first,
                part.last,
                part.after,
                part.before,
                part.since,
                how,
                why or part.why,
            )
        )

    def _tell(self, event: GapEvent) -> None:
        self._events.append(event)
        self._told.add((event,))


def _runs(trades: pa.RecordBatch) -> list[tuple[int, int]]:
    """The numbers of trades as ranges of consecutive ones."""
    numbers = np.unique(trades.column("source_sequence").drop_null().to_numpy())
    if not len(numbers):
        return []
    begins = np.append(0, np.flatnonzero(np.diff(numbers) != 1) + 1)
    ends = np.append(begins[1:], len(numbers)) - 1
    return list(zip(numbers[begins].tolist(), numbers[ends].tolist(), strict=True))
