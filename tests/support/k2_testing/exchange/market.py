"""The market of the stand-in exchange: what is listed, and trades and quotes by seed, each numbered as venues number theirs.

Everything that was made is kept: a venue's REST interface answers from it, and it is the oracle that a table is compared with.
Prices are whole ticks and quantities whole lots, so that nothing is ever rounded. Times are microseconds since 1970.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import NamedTuple

import numpy as np

FOREVER = 2**62
DRAWN = 1024
SWEEP = 0.3
"""How many trades belong to the order of the one before, with its symbol and time: a fill by time alone loses those."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A pair of assets that is traded."""

    base: str
    quote: str
    tick: Decimal
    """The smallest step of its price."""
    lot: Decimal
    """The smallest step of its quantity."""
    price: Decimal
    """Of the first trade, about."""
    largest: Decimal
    """The largest quantity of a trade."""
    trading: bool = True
    alias: str = ""
    """Where the venue lists it a second time with another quote asset, that one."""


class Trade(NamedTuple):
    """A trade: `listing` is its place in the market's list."""

    listing: int
    number: int
    price: int
    """In ticks."""
    quantity: int
    """In lots."""
    buy: bool
    """Whether who took the liquidity bought."""
    time: int


class Quote(NamedTuple):
    """The best bid and ask after a change; `number` rises per listing, with holes."""

    listing: int
    number: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int
    time: int


# Sizes as venues have them: the largest quantities, the finest prices, and a pair of everyday.
_KNOWN = (
    ("BTC", "0.01", "0.00001", "65083.67", "12"),
    ("ETH", "0.01", "0.0001", "1919.41", "900"),
    ("BNB", "0.01", "0.001", "612.30", "5000"),
    ("BTTC", "0.00000001", "1", "0.00000062", "92000000000"),
    ("SHIB", "0.00000001", "1", "0.00001234", "46116860414"),
    ("BONK", "0.00000001", "0.1", "0.00002011", "360000000000"),
    ("BABYDOGE", "0.000000000001", "1", "0.000000001283", "9999999999999"),
    ("SATS", "0.0000000000001", "100", "0.0000000412345", "410000000000"),
)


def listings(number: int, quote: str = "USDT", finest: int = 8) -> tuple[Listing, ...]:
    """As many pairs, the well-known ones first and made-up ones after them.

    Args:
        number: how many.
        quote: the asset of their prices.
        finest: digits behind the point that the venue's prices may have; pairs with finer ones are left out.
    """
    known = [
        Listing(base, quote, Decimal(tick), Decimal(lot), Decimal(price), Decimal(largest))
        for base, tick, lot, price, largest in _KNOWN
        if digits(Decimal(tick)) <= finest
    ]
    made = (
        Listing(f"M{n:04d}", quote, Decimal("0.0001"), Decimal("0.01"), Decimal("12.5"), Decimal(10000))
        for n in count()
    )
    return tuple(known[:number] + [next(made) for _ in range(number - len(known))])


def digits(step: Decimal) -> int:
    """Digits behind the point of a tick or a lot."""
    return max(0, -int(step.as_tuple().exponent))


@dataclass(slots=True)
class _Run:
    """Trades of a listing that are numbered one after the other, as columns."""

    first: int
    prices: array[int] = field(default_factory=lambda: array("q"))
    quantities: array[int] = field(default_factory=lambda: array("q"))
    buys: array[int] = field(default_factory=lambda: array("b"))
    times: array[int] = field(default_factory=lambda: array("q"))

    @property
    def next(self) -> int:
        return self.first + len(self.times)

    def slice(self, listing: int, begin: int, end: int, until: int) -> list[Trade]:
        """By place in the run, without those after a time."""
        end = min(end, bisect.bisect_right(self.times, until))
        return [
            Trade(listing, self.first + at, self.prices[at], self.quantities[at], bool(self.buys[at]), self.times[at])
            for at in range(max(0, begin), end)
        ]


class Market:
    """Makes trades and quotes of its listings, always the same ones for a seed; their times are the caller's.

    Args:
        listed: what is traded.
        seed: decides on prices, quantities, sides and which listing trades next.
        resolution: the venue's clock in microseconds: 1000 where it counts in milliseconds.
    """

    def __init__(self, listed: Sequence[Listing], seed: int, *, resolution: int = 1) -> None:
        self.listed = tuple(listed)
        self.made = 0
        """Trades since the market began."""
        self.quoted: list[Quote] = []
        self.visible_until = FOREVER
        """Questions are answered as though nothing had happened after it."""
        self._rng = np.random.default_rng(seed)
        # Of their own: how many are drawn at once depends on the pace.
        self._times, self._quotes = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))
        self._resolution = resolution
        self._active = np.array([n for n, listing in enumerate(self.listed) if listing.trading])
        self._weights = 1.0 / np.arange(1, len(self._active) + 1)
        self._weights /= self._weights.sum()
        self._prices = [max(1, int(listing.price / listing.tick)) for listing in self.listed]
        self._exponents = [float(np.log10(float(listing.largest / listing.lot))) for listing in self.listed]
        # Beyond what 32 bits hold, as Binance's are by now.
        self._runs = [
            [_Run(int(first))] for first in self._rng.integers(3_900_000_000, 5_000_000_000, len(self.listed))
        ]
        self._began = [run[0].first for run in self._runs]
        self._updates = [int(first) for first in self._rng.integers(90_000_000_000, 99_000_000_000, len(self.listed))]
        self._last: Trade | None = None
        self._draws = self._drawn()

    def history(self, trades: int, until: int) -> None:
        """Trades of each listing from before the market began, one every ten seconds until then: no part of the oracle."""
        indices = self._active.tolist()
        self._make(indices * trades, [until - back * 10_000_000 for back in range(trades, 0, -1) for _ in indices])
        self._began = [runs[0].next for runs in self._runs]
        self.made = 0

    def trade(self, trades: int, since: int, until: int) -> list[Trade]:
        """The next trades, between two times; the most traded are the first listings."""
        times = np.sort(self._times.integers(min(since, until), until + 1, trades))
        return self._make(None, (times - times % self._resolution).tolist())

    def last_round(self, now: int, rounds: int = 2) -> list[Trade]:
        """Trades of every listing in turn, after which the market is quiet: whatever was missed before shows by them."""
        indices = self._active.tolist() * rounds
        now = max(now, self._last.time if self._last is not None else now)
        return self._make(indices, [now - now % self._resolution] * len(indices))

    def _drawn(self) -> Iterator[tuple[int, int, float, bool, bool]]:
        """The next trades' listings, steps of the price, sizes and sides: the same however many are asked for at once.

        The last says whether it belongs to the order of the one before.
        """
        while True:
            chosen = self._active[self._rng.choice(len(self._active), DRAWN, p=self._weights)]
            steps, sizes = self._rng.integers(-3, 4, DRAWN), self._rng.random(DRAWN)
            buys, sweeps = self._rng.random(DRAWN) < 0.5, self._rng.random(DRAWN) < SWEEP
            columns = (column.tolist() for column in (chosen, steps, sizes, buys, sweeps))
            yield from zip(*columns, strict=True)

    def _make(self, indices: list[int] | None, times: list[int]) -> list[Trade]:
        made: list[Trade] = []
        last = self._last
        for at, (drawn, step, size, buy, swept) in zip(range(len(times)), self._draws, strict=False):
            index, time = drawn if indices is None else indices[at], times[at]
            if swept and indices is None and last is not None:
                index, time = last.listing, last.time
            elif last is not None:
                time = max(time, last.time)
            run = self._runs[index][-1]
            price = self._prices[index] = max(1, self._prices[index] + step)
            quantity = max(1, int(10.0 ** (size * self._exponents[index])))
            last = Trade(index, run.next, price, quantity, buy, time)
            made.append(last)
            run.prices.append(price)
            run.quantities.append(quantity)
            run.buys.append(buy)
            run.times.append(time)
        self.made += len(made)
        self._last = last
        return made

    def quote(self, quotes: int, now: int) -> list[Quote]:
        """The next changes of bids and asks."""
        chosen = self._active[self._quotes.integers(0, len(self._active), quotes)].tolist()
        holes = self._quotes.integers(1, 9, quotes).tolist()
        sizes = self._quotes.random((quotes, 2)).tolist()
        spreads = self._quotes.integers(1, 4, quotes).tolist()
        made = []
        for index, hole, (bid_size, ask_size), spread in zip(chosen, holes, sizes, spreads, strict=True):
            self._updates[index] += hole
            # A bid above nothing: the cheapest pairs cost a tick.
            ask = max(2, self._prices[index] + spread)
            amounts = [max(1, int(10.0 ** (size * self._exponents[index]))) for size in (bid_size, ask_size)]
            bid = max(1, ask - spread)
            made.append(
                Quote(index, self._updates[index], bid, amounts[0], ask, amounts[1], now - now % self._resolution)
            )
        self.quoted.extend(made)
        return made

    def renumber(self, listing: int) -> None:
        """Number the trades of a listing from 1 again."""
        self._runs[listing].append(_Run(1))

    def numbered(self, listing: int, first: int, trades: int) -> list[Trade]:
        """At most so many trades from a number on, as they are numbered now or, where that run has no such number, before."""
        for run in reversed(self._runs[listing]):
            if run.first <= first < run.next:
                return run.slice(listing, first - run.first, first - run.first + trades, self.visible_until)
        newest = self._runs[listing][-1]
        return newest.slice(listing, 0, trades, self.visible_until) if first < newest.first else []

    def below(self, listing: int, number: int, trades: int) -> list[Trade]:
        """The last so many trades with numbers below one, oldest first."""
        run = self._runs[listing][-1]
        end = min(number - run.first, bisect.bisect_right(run.times, self.visible_until))
        return run.slice(listing, end - trades, end, self.visible_until)

    def newest(self, listing: int, trades: int) -> list[Trade]:
        """The last so many trades, oldest first."""
        return self.below(listing, self._runs[listing][-1].next, trades)

    def since(self, listing: int, time: int, trades: int) -> list[Trade]:
        """At most so many trades after a time, oldest first."""
        run = self._runs[listing][-1]
        begin = bisect.bisect_right(run.times, time)
        return run.slice(listing, begin, begin + trades, self.visible_until)

    def all(self, *, history: bool = False) -> list[Trade]:
        """Every trade of every listing, by listing and number; with `history` those from before the market began, too."""
        return [
            trade
            for index, runs in enumerate(self._runs)
            for run in runs
            for trade in run.slice(index, 0, len(run.times), FOREVER)
            if history or run is not runs[0] or trade.number >= self._began[index]
        ]
