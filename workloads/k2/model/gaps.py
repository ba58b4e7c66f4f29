"""What a feed tells of the trades that it has not got: the kinds of gap events, and what a series of them comes to.

A live feed writes the events to a topic of their own; the sink brings them into a table like all else. Whoever reads them in their
order, from either, knows what is missing, since when and why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from k2.model.missing import MissingNumbers, MissingRange

MOST_REMEMBERED = 10_000
"""Of each symbol's ranges that will not come, and of the times without a word: older ones are counted alone."""


class GapKind(StrEnum):
    """What a gap event says. Readers pass over kinds that they do not know."""

    OPENED = "opened"
    """Numbers from first to last are missing."""
    FILLED = "filled"
    """They came: late, by a snapshot, or because they were asked for (`how`)."""
    UNFILLABLE = "unfillable"
    """They are missing for good: the exchange has not got them, or cannot be asked."""
    UNKNOWN = "unknown"
    """Nothing was heard from `after` until `before` (null: still), and nothing tells what was missed."""
    DEAD_LETTERED = "dead_lettered"
    """They came, and were refused: they lie in the dead-letter topic, and are not asked for again."""
    RESTARTED = "restarted"
    """The exchange numbers anew from `first`; `last` was the highest number before."""
    CHECKED = "checked"
    """All numbers up to `last` are accounted for: each is in the topic, or told of as missing."""


@dataclass(frozen=True, slots=True)
class GapEvent:
    """One gap event.

    Attributes:
        symbol: whose.
        first, last: numbers, both included; None: it is not about numbers.
        at: when it was told, in microseconds since 1970 by our clock.
        after, before: of numbers, the times of the trades beside them by the venue's clock; of `unknown`, when nothing was heard
            by ours. In microseconds since 1970.
        since: when the gap showed itself, by our clock.
        how: by which way numbers came (stream, snapshot, fill).
        why: in a person's words.
    """

    kind: GapKind
    symbol: str
    at: int
    first: int | None = None
    last: int | None = None
    after: int | None = None
    before: int | None = None
    since: int | None = None
    how: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class GapCounts:
    """What an account comes to. `open`, `filled`, `unfillable` and `dead_lettered` are trades, `unknown` are times without a word.

    Attributes:
        open_ranges: ranges that the open ones lie in.
        oldest: since when the oldest of them is open, in microseconds since 1970 by our clock; None: none is.
    """

    open: int = 0
    filled: int = 0
    unfillable: int = 0
    unknown: int = 0
    dead_lettered: int = 0
    open_ranges: int = 0
    oldest: int | None = None


@dataclass(slots=True)
class GapAccount:
    """What gap events come to, taken in by `add` in their order. Told twice is told once."""

    open: dict[str, MissingNumbers] = field(default_factory=dict[str, MissingNumbers])
    unfillable: dict[str, MissingNumbers] = field(default_factory=dict[str, MissingNumbers])
    unknown: dict[tuple[str, int], GapEvent] = field(default_factory=dict[tuple[str, int], GapEvent])
    checked: dict[str, GapEvent] = field(default_factory=dict[str, GapEvent])
    filled: int = 0
    dead_lettered: int = 0
    restarts: deque[GapEvent] = field(default_factory=lambda: deque[GapEvent](maxlen=100))
    newest: int | None = None
    rounds: deque[int] = field(default_factory=lambda: deque[int](maxlen=2))
    """The two times at which symbols were last checked, all that had traded at each."""
    _unfillable_more: int = 0
    _unknown_more: int = 0

    def add(self, events: Iterable[GapEvent]) -> None:
        """Take in events."""
        for event in events:
            self._add(event)
            self.newest = event.at if self.newest is None else max(self.newest, event.at)

    def keep(self, symbols: Iterable[str]) -> None:
        """Forget what is about others than these symbols."""
        kept = set(symbols)
        self.open = {symbol: each for symbol, each in self.open.items() if symbol in kept}
        self.unfillable = {symbol: each for symbol, each in self.unfillable.items() if symbol in kept}
        self.checked = {symbol: each for symbol, each in self.checked.items() if symbol in kept}
        self.unknown = {key: each for key, each in self.unknown.items() if key[0] in kept}

    def _add(self, event: GapEvent) -> None:
        match event.kind:
            case GapKind.UNKNOWN:
                self.unknown[event.symbol, event.after or 0] = event
                if len(self.unknown) > MOST_REMEMBERED:
                    del self.unknown[next(iter(self.unknown))]
                    self._unknown_more += 1
            case GapKind.CHECKED:
                self.checked[event.symbol] = event
                if not self.rounds or event.at > self.rounds[-1]:
                    self.rounds.append(event.at)
            case GapKind.RESTARTED:
                self.restarts.append(event)
                self.checked.pop(event.symbol, None)
                # What is missing of the former numbering was told as unfillable just before.
                self.open.pop(event.symbol, None)
            case _:
                self._add_numbers(event)

    def _add_numbers(self, event: GapEvent) -> None:
        first, last, symbol = event.first, event.last, event.symbol
        if first is None or last is None:
            return
        held = self.open.setdefault(symbol, MissingNumbers())
        lost = self.unfillable.setdefault(symbol, MissingNumbers())
        since = event.at if event.since is None else event.since
        missing = MissingRange(first, last, event.after, event.before, since, event.why)
        if event.kind is GapKind.OPENED:
            lost.take(first, last)
            held.add(missing)
            return
        closed = sum(each.count for each in held.take(first, last))
        match event.kind:
            case GapKind.UNFILLABLE:
                lost.add(missing)
                if len(lost) > MOST_REMEMBERED:
                    oldest = next(iter(lost))
                    self._unfillable_more += sum(each.count for each in lost.take(oldest.first, oldest.last))
            case GapKind.FILLED:
                self.filled += closed + sum(each.count for each in lost.take(first, last))
            case GapKind.DEAD_LETTERED:
                self.dead_lettered += missing.count
            case _:
                pass

    @property
    def counts(self) -> GapCounts:
        """What it comes to now."""
        ranges = [each for held in self.open.values() for each in held]
        return GapCounts(
            open=sum(each.count for each in ranges),
            filled=self.filled,
            unfillable=self._unfillable_more + sum(held.count for held in self.unfillable.values()),
            unknown=self._unknown_more + len(self.unknown),
            dead_lettered=self.dead_lettered,
            open_ranges=len(ranges),
            oldest=min((each.since for each in ranges), default=None),
        )
