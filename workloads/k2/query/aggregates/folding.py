"""Ticks folded into bars, and bars into longer ones: open, high, low, close, sums, and price weighted by time. Pure and exact.

Prices and quantities are counted in the last place of their columns' types (see `digits.py`), times are microseconds since
1970 UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k2.lake.proof.runs import starts_of
from k2.query.aggregates.digits import Digits, Ints, Wide, extremes, wide
from k2.query.aggregates.exact_decimals import product_sums, sums

_WIDE = ("volume", "notional", "integral")


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """Bars, by series and start; arrays of one length.

    Attributes:
        series: number of the symbol.
        start: where the bucket starts.
        first_us: time of the first tick.
        last_us: time of the last tick.
        open: price of the first tick. Prices are 64-bit numbers where all are short (see `digits.SHORT`), else Python's.
        high: highest price.
        low: lowest price.
        close: price of the last tick.
        count: number of ticks.
        volume: sum of quantities.
        notional: sum of price times quantity, with the places of both.
        integral: price times the microseconds that it was the last one, summed from the first tick to the last.
    """

    series: Ints
    start: Ints
    first_us: Ints
    last_us: Ints
    open: Ints | Wide
    high: Ints | Wide
    low: Ints | Wide
    close: Ints | Wide
    count: Ints
    volume: Wide
    notional: Wide
    integral: Wide

    def __len__(self) -> int:
        return len(self.start)

    def chosen(self, which: NDArray[Any]) -> Folded:
        """Some of the bars: by a mask, or by their places."""
        return Folded(**{name: getattr(self, name)[which] for name in _NAMES})


_NAMES = tuple(field.name for field in fields(Folded))


def nothing_folded() -> Folded:
    """No bars."""
    return Folded(**{name: np.zeros(0, object if name in _WIDE else np.int64) for name in _NAMES})


def fold_ticks(series: Ints, start: Ints, us: Ints, price: Digits, quantity: Digits) -> Folded:
    """Bars of ticks that come by series and, within one, in the total order; at least one tick."""
    first = starts_of(series, start)
    last = np.append(first[1:], len(us)) - 1
    held_us = np.append(np.diff(us), 0)
    held_us[last] = 0
    return Folded(
        series=series[first],
        start=start[first],
        first_us=us[first],
        last_us=us[last],
        open=price.chosen(first).values(),
        high=extremes(price, first, np.maximum).values(),
        low=extremes(price, first, np.minimum).values(),
        close=price.chosen(last).values(),
        count=last - first + 1,
        volume=sums(quantity, first),
        notional=product_sums(price, quantity, first),
        integral=product_sums(price, Digits(held_us), first),
    )


def fold_bars(bars: Folded, start: Ints) -> Folded:
    """Longer bars: each of `bars`, which come by series and time, lies in the bucket that begins at its `start`."""
    first = starts_of(bars.series, start)
    last = np.append(first[1:], len(bars)) - 1
    # From the last tick of one bar to the first of the next, the former's close was the last price.
    between = np.append(wide(bars.close[:-1]) * (bars.first_us[1:] - bars.last_us[:-1]), 0)
    between[last] = 0
    return Folded(
        series=bars.series[first],
        start=start[first],
        first_us=bars.first_us[first],
        last_us=bars.last_us[last],
        open=bars.open[first],
        high=np.maximum.reduceat(bars.high, first),
        low=np.minimum.reduceat(bars.low, first),
        close=bars.close[last],
        count=np.add.reduceat(bars.count, first),
        volume=np.add.reduceat(bars.volume, first),
        notional=np.add.reduceat(bars.notional, first),
        integral=np.add.reduceat(bars.integral + between, first),
    )


def joined(parts: Sequence[Folded]) -> Folded:
    """Bars of successive stretches of time as one; where a stretch was cut within a bucket its bars are folded together."""
    parts = [part for part in parts if len(part)]
    if len(parts) < 2:
        return parts[0] if parts else nothing_folded()
    together = Folded(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _NAMES})
    # Stable: of one bucket, the earlier stretch comes first.
    ordered = together.chosen(np.lexsort((together.start, together.series)))
    return fold_bars(ordered, ordered.start)
