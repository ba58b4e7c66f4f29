"""Which holes are asked for, and when: most traded symbols first, within the budget, again after a failure, given up when sure. Pure.

Times are seconds of a steady clock, and arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from k2.feeds.gaps.budget import WeightBudget
from k2.feeds.venues.venue import Hole, Request, Venue

PARALLEL = 4
"""Requests at a time; of one symbol there is never more than one."""

SPAN = 1_000
"""Holes of a symbol that lie within so many numbers are asked for at once: it is what a page holds."""

PAGES_A_TURN = 10
"""After so many pages the holes of other symbols come first."""

FAILURES = 5
"""Failed requests of a symbol in a row, with pauses of 1, 2, 4, … seconds; then there is a long one."""
LONG_PAUSE = 300.0

ABSENT_PAUSES = (2.0, 10.0, 30.0)
"""After an answer without them trades are asked for again so much later: an exchange's REST interface lags behind its stream."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is due: for a hole, or (None) for the newest trades of a symbol."""

    symbol: str
    request: Request
    hole: Hole | None = None
    page: int = 0


@dataclass(slots=True)
class _Symbol:
    """How it goes with one symbol."""

    busy: bool = False
    failures: int = 0
    not_before: float = 0.0
    pages: int = 0
    going_on: Ask | None = None
    absent: dict[tuple[int, int], tuple[int, float]] = field(default_factory=dict[tuple[int, int], tuple[int, float]])


class FillSchedule:
    """Decides what is asked for next.

    Args:
        venue: what makes the requests.
        budget: of the exchange, shared with all who ask of it.
        jitter: a number from 0 to 1, so that many do not come at once.
    """

    def __init__(self, venue: Venue, budget: WeightBudget, jitter: Callable[[], float] = random.random) -> None:
        self._venue, self._budget, self._jitter = venue, budget, jitter
        self._symbols: dict[str, _Symbol] = {}
        self._running = 0

    def due(
        self, now: float, holes: Iterable[Hole], unheard: Iterable[str], volumes: Mapping[str, Decimal]
    ) -> tuple[list[Ask], list[Hole], float]:
        """What is to be sent now, what cannot be asked for at all, and seconds after which to ask again at the latest.

        Args:
            now: the time.
            holes: what is missing.
            unheard: symbols whose newest trades are wanted: they tell what is missing.
            volumes: how much each symbol trades.
        """
        asks: list[Ask] = []
        found, hopeless, later = self._candidates(now, holes, unheard)
        # Who has not traded for seconds trades little: what is known to be missing goes before.
        found.sort(key=lambda ask: self._order(ask, volumes))
        for ask in found:
            if self._running >= PARALLEL:
                break
            seconds = self._budget.wait(now, ask.request.weight)
            if seconds > 0:  # and none that is cheaper goes before it
                later = min(later, seconds)
                break
            self._budget.spend(now, ask.request.weight)
            self._symbols[ask.symbol].busy = True
            self._running += 1
            asks.append(ask)
        return asks, hopeless, later

    def answered(self, ask: Ask, now: float, following: Request | None, missing: Sequence[Hole]) -> list[Hole]:
        """An answer came.

        Args:
            ask: what was asked.
            now: the time.
            following: the request for its next page.
            missing: what is still missing of what was asked for.

        Returns:
            What the exchange has not got: it is asked for no more.
        """
        state = self._done(ask)
        state.failures = 0
        if ask.hole is None:
            return []
        state.pages += 1
        if missing and following is not None and following != ask.request:
            state.going_on = replace(ask, request=following, page=ask.page + 1)
            return []
        gone: list[Hole] = []
        absent: dict[tuple[int, int], tuple[int, float]] = {}
        for hole in missing:
            key = hole.first, hole.last
            times = state.absent.get(key, (0, 0.0))[0]
            if times >= len(ABSENT_PAUSES):
                gone.append(hole)
            else:
                absent[key] = times + 1, now + ABSENT_PAUSES[times]
        inside = range(ask.hole.first, ask.hole.last + 1)
        state.absent = {key: each for key, each in state.absent.items() if key[0] not in inside} | absent
        if not missing:
            state.pages = 0
        return gone

    def failed(self, ask: Ask, now: float) -> None:
        """A request came to nothing: it is sent again later, from the page where it was."""
        state = self._done(ask)
        state.failures += 1
        if state.failures >= FAILURES:
            state.not_before, state.failures, state.going_on = now + LONG_PAUSE, 0, None
        else:
            state.not_before = now + 2 ** (state.failures - 1) * (0.5 + self._jitter() / 2)
            state.going_on = ask if ask.hole is not None and ask.page else None

    def limited(self, ask: Ask, now: float, seconds: float) -> None:
        """The exchange refused because there were too many: nothing at all is sent until then. It is no failure of the request."""
        state = self._done(ask)
        state.going_on = ask if ask.hole is not None and ask.page else None
        self._budget.stop(now, seconds)

    def _done(self, ask: Ask) -> _Symbol:
        state = self._symbols[ask.symbol]
        state.busy, state.going_on = False, None
        self._running -= 1
        return state

    def _order(self, ask: Ask, volumes: Mapping[str, Decimal]) -> tuple[int, int, Decimal, str]:
        turn = self._symbols[ask.symbol].pages // PAGES_A_TURN
        return int(ask.hole is None), turn, -volumes.get(ask.symbol, Decimal(0)), ask.symbol

    def _candidates(
        self, now: float, holes: Iterable[Hole], unheard: Iterable[str]
    ) -> tuple[list[Ask], list[Hole], float]:
        """What could be asked of each symbol, what never can, and seconds until there may be more."""
        found: dict[str, Ask] = {}
        hopeless: list[Hole] = []
        later = LONG_PAUSE
        by_symbol: dict[str, list[Hole]] = {symbol: [] for symbol in unheard}
        for hole in holes:
            by_symbol.setdefault(hole.symbol, []).append(hole)
        for symbol, held in by_symbol.items():
            state = self._symbols.setdefault(symbol, _Symbol())
            if state.busy:
                continue
            if state.not_before > now:
                later = min(later, state.not_before - now)
                continue
            ready, after = _ready(state, now, held)
            later = min(later, after)
            if state.going_on is not None:
                found[symbol] = state.going_on
            elif ready is None:
                request = None if held else self._venue.latest(symbol)
                if request is not None:
                    found[symbol] = Ask(symbol, request)
            elif (request := self._venue.fill(ready)) is None:
                hopeless += held
            else:
                found[symbol] = Ask(symbol, request, ready)
        return list(found.values()), hopeless, later


def _ready(state: _Symbol, now: float, holes: Sequence[Hole]) -> tuple[Hole | None, float]:
    """The first holes of a symbol that are to be asked for now, as one; and seconds until others are."""
    later = LONG_PAUSE
    whole: Hole | None = None
    for hole in sorted(holes, key=lambda each: each.first):
        _, at = state.absent.get((hole.first, hole.last), (0, 0.0))
        if at > now:
            later = min(later, at - now)
        elif whole is None:
            whole = hole
        elif hole.last - whole.first < SPAN:
            whole = replace(whole, last=hole.last, before=hole.before)
    return whole, later
