"""A seeded market: several symbols, a U-shaped day, a random walk on a tick grid, and quotes and trades that agree.

A date is cut into slices of about equal numbers of events; a slice depends on the seed, the settings and the slices before
it, never on how fast or in what batches it is taken. Every trade lies at the bid or the ask of the last quote strictly
before it, on the side that says so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from k2.feeds.venues.synthetic.events import QUOTE, TRADE, Slice, merged
from k2.model.errors import UserError
from k2.model.exchanges import Exchange
from k2.model.sources import SyntheticSource
from k2.model.times import DAY_US, micros

Ints = npt.NDArray[np.int64]

SLICE_EVENTS = 49_152
MAX_EVENTS_PER_DAY = 1_000_000_000
_DAY_MOVE = 0.015  # standard deviation of a day's move, as a part of the price
_U_DEPTH = 3.0  # how much busier than noon the open and the close are: 1 + this, at the edges
_GRID = 4096
_TICKS = ((2.0, 0.01), (0.1, 0.005), (0.0, 0.001))  # price from which a tick size holds, as at ASX


@dataclass(slots=True)
class _State:
    """What a symbol carries from slice to slice. Prices in ticks, sizes in units."""

    tick: float
    start: int
    mid: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int
    last: int = 0
    trades: int = 0
    quotes: int = 0


class SyntheticMarket:
    """The events of a `SyntheticSource`, slice by slice, in time order.

    Args:
        source: seed, symbols, dates and volume. `events_per_second` is not looked at here: a rate changes no event.
        exchange: gives the session's hours.

    Raises:
        UserError: the settings cannot be met (no symbols, a symbol twice, more events than a session has microseconds).
    """

    def __init__(self, source: SyntheticSource, exchange: Exchange) -> None:
        if not source.symbols or len(set(source.symbols)) < len(source.symbols):
            raise UserError(
                "The symbols of a synthetic market", found=source.symbols, expected="at least one, each once"
            )
        self._source = source
        self._exchange = exchange
        self._trades = _shares(source.trades_per_day, _weights(source.seed, source.symbols))
        self._quotes = np.round(self._trades * source.quotes_per_trade).astype(np.int64)
        self.events_per_day = int(self._trades.sum() + self._quotes.sum())
        if self.events_per_day > MAX_EVENTS_PER_DAY:
            raise UserError(
                "Events of a synthetic trading date",
                found=self.events_per_day,
                expected=f"at most {MAX_EVENTS_PER_DAY:,}",
            )
        self._states = [self._opening(symbol) for symbol in source.symbols]

    @property
    def dates(self) -> list[date]:
        """The trading dates: weekends are skipped, unless the exchange never closes."""
        days: list[date] = []
        day = self._source.start
        while len(days) < self._source.days:
            if self._exchange.regular is None or day.weekday() < 5:
                days.append(day)
            day += timedelta(days=1)
        return days

    @property
    def events(self) -> int:
        """All events of all dates."""
        return self.events_per_day * self._source.days

    def slices(self) -> Iterator[Slice]:
        """All slices of all dates."""
        self._states = [self._opening(symbol) for symbol in self._source.symbols]
        for day in self.dates:
            yield from self.day(day)

    def day(self, day: date) -> Iterator[Slice]:
        """The slices of one date, which follows the dates that were taken before."""
        count = max(1, math.ceil(self.events_per_day / SLICE_EVENTS))
        begins, ends = _session(self._exchange, day)
        for state in self._states:
            state.trades = state.quotes = state.last = 0
        curve = _u_curve()
        for index in range(count):
            rng = np.random.Generator(np.random.PCG64([self._source.seed, day.toordinal(), index]))
            parts = []
            for number, state in enumerate(self._states):
                trades = _part(int(self._trades[number]), index, count)
                quotes = _part(int(self._quotes[number]), index, count)
                at = (index + np.sort(rng.random(trades + quotes))) / count
                times = begins + (np.interp(at, curve, np.linspace(0, 1, _GRID)) * (ends - begins - 1)).astype(np.int64)
                daily = int(self._trades[number]) + int(self._quotes[number])
                parts.append(self._walk(rng, state, times, trades, daily, first=index == 0))
            yield merged(parts, day)

    def live(self, day: date, times: Ints, trades_share: float, rng: np.random.Generator) -> Slice:
        """A slice at given times (microseconds, ascending), spread over the symbols: for a market that never ends."""
        weights = self._trades / self._trades.sum()
        whose = rng.choice(len(self._states), size=len(times), p=weights)
        parts = []
        for number, state in enumerate(self._states):
            own = times[whose == number]
            trades = int(rng.binomial(len(own), trades_share)) if len(own) else 0
            daily = int(self._trades[number]) + int(self._quotes[number])
            parts.append(self._walk(rng, state, own, trades, daily, first=False, number_by_time=True))
        return merged(parts, day)

    def _opening(self, symbol: str) -> _State:
        digest = hashlib.sha256(f"{self._source.seed}\x1f{symbol}".encode()).digest()
        price = 1.5 * 80 ** (int.from_bytes(digest[:4], "big") / 2**32)  # 1.50 to 120, evenly on a log scale
        tick = next(size for above, size in _TICKS if price >= above)
        mid = max(20, round(price / tick))
        return _State(tick, mid, mid, mid, mid + 1, 1000, 1000)

    def _walk(
        self,
        rng: np.random.Generator,
        state: _State,
        times: Ints,
        trades: int,
        daily: int,
        *,
        first: bool,
        number_by_time: bool = False,
    ) -> dict[str, Any]:
        """One symbol's events of a slice: `trades` of them are trades, the rest quotes (see `merged` for the columns)."""
        count = len(times)
        # Strictly later than each other and than the slice before: "the last quote before it" is then one quote.
        steps = np.arange(count, dtype=np.int64)
        times = np.maximum.accumulate(np.maximum(times, state.last + 1) - steps) + steps
        kinds = np.full(count, QUOTE, dtype=np.int8)
        kinds[rng.permutation(count)[:trades]] = TRADE
        if first and trades < count and kinds[0] == TRADE:
            kinds[np.flatnonzero(kinds == QUOTE)[0]] = TRADE
            kinds[0] = QUOTE  # a day opens with a quote, so that no trade is without one
        is_quote = kinds == QUOTE
        chance = min(0.5, (state.start * _DAY_MOVE) ** 2 / max(1, daily))
        moves = rng.choice(np.array([-1, 0, 1]), size=count, p=[chance / 2, 1 - chance, chance / 2])
        # The price moves with quotes; it is reflected far from zero.
        mid = np.abs(state.mid - 10 + np.cumsum(np.where(is_quote, moves, 0))) + 10
        spread = rng.choice(np.array([1, 2, 3]), size=count, p=[0.7, 0.22, 0.08])
        sizes = np.rint(np.exp(rng.normal(6.2, 1.0, size=(3, count)))).astype(np.int64) + 1
        # The quote that prevails at each event: the last one at or before it; -1: that of the slice before.
        prevailing = np.maximum.accumulate(np.where(is_quote, steps, -1)) if count else steps
        bid = _carried(mid - spread // 2, prevailing, state.bid)
        ask = _carried(mid - spread // 2 + spread, prevailing, state.ask)
        bid_size, ask_size = (
            _carried(sizes[0], prevailing, state.bid_size),
            _carried(sizes[1], prevailing, state.ask_size),
        )
        buys = rng.random(count) < 0.5
        numbers = np.where(is_quote, np.cumsum(is_quote) + state.quotes, np.cumsum(~is_quote) + state.trades)
        if count:
            state.mid, state.last = int(mid[-1]), int(times[-1])
            state.bid, state.ask = int(bid[-1]), int(ask[-1])
            state.bid_size, state.ask_size = int(bid_size[-1]), int(ask_size[-1])
        state.quotes += count - trades
        state.trades += trades
        return {
            "times": times,
            "kinds": kinds,
            "bid": bid,
            "ask": ask,
            "bid_size": bid_size,
            "ask_size": ask_size,
            "buys": buys,
            # A trade takes no more than is offered.
            "quantity": np.minimum(sizes[2] // 2 + 1, np.where(buys, ask_size, bid_size)),
            # A market without end may be started again: its numbers come from the clock, and never come back.
            "numbers": times % DAY_US if number_by_time else numbers,
            "tick": round(state.tick * 100_000_000),
        }


def _weights(seed: int, symbols: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The symbols' parts of the volume: a few take most of it, as on any exchange; shuffled by the seed."""
    weights = 1.0 / np.arange(1, len(symbols) + 1) ** 0.8
    np.random.Generator(np.random.PCG64([seed, len(symbols)])).shuffle(weights)
    return weights / weights.sum()


def _shares(total: int, weights: npt.NDArray[np.float64]) -> Ints:
    """`total` split by weights into whole numbers that add up to it."""
    edges = np.round(np.concatenate([[0.0], np.cumsum(weights)]) * total).astype(np.int64)
    edges[-1] = total
    return np.diff(edges)


def _part(total: int, index: int, count: int) -> int:
    return total * (index + 1) // count - total * index // count


def _carried(values: Ints, prevailing: Ints, before: int) -> Ints:
    return np.where(prevailing >= 0, values[np.maximum(prevailing, 0)], before) if len(values) else values


def _u_curve() -> npt.NDArray[np.float64]:
    """The part of the day's events that came by each point of the session (cumulative, 0 to 1)."""
    x = np.linspace(-1, 1, _GRID)
    cumulative = (x + 1) + _U_DEPTH * (x**3 + 1) / 3
    return cumulative / cumulative[-1]


def _session(exchange: Exchange, day: date) -> tuple[int, int]:
    """UTC microseconds of the regular session of a date, [begin, end)."""
    # By the usual hours, never by a calendar: one that is corrected would make other events of the same settings.
    if exchange.regular is None:
        begin, end = (datetime.combine(each, time(), exchange.zone) for each in (day, day + timedelta(days=1)))
    else:
        begin, end = (datetime.combine(day, at, exchange.zone) for at in exchange.regular)
    return micros(begin), micros(end)
