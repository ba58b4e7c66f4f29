"""Folded bars as rows of an answer: averages divided once, buckets without trades filled in. Pure and exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.times import MAX_US, MIN_US
from k2.query.aggregates.digits import Ints, Wide, decimals, wide
from k2.query.aggregates.exact_decimals import quotients
from k2.query.aggregates.folding import Folded
from k2.query.aggregates.sessions import Calendar
from k2.query.asked.requests import Window

# pyarrow makes its compute functions at import: no type checker sees them.

_TIME = pa.timestamp("us", tz="UTC")
_PRICES = ("open", "high", "low", "close")

CalendarOf = Callable[[int, int], Calendar]
"""The calendar from the date of one instant to that of another."""


@dataclass(frozen=True, slots=True)
class Traded:
    """What bars are of.

    Attributes:
        symbols: names of the bars' series.
        exchange: its code.
        price: type of the trades' prices.
        quantity: type of their quantities.
    """

    symbols: tuple[str, ...]
    exchange: str
    price: pa.Decimal128Type
    quantity: pa.Decimal128Type


def bar_schema(price: pa.Decimal128Type, quantity: pa.Decimal128Type) -> pa.Schema:
    """Columns of bars: `date` is the trading date, `start` and `end` are those of the bucket.

    Prices and their averages have the type of the trades' prices, `volume` has the places of their quantities. Of a bucket without trades `volume` and `trade_count` are zero, prices are null (or the last price, where it is carried).
    """
    return pa.schema(
        [
            ("symbol", pa.string()),
            ("exchange", pa.string()),
            ("date", pa.date32()),
            ("start", _TIME),
            ("end", _TIME),
            *((name, price) for name in _PRICES),
            ("volume", _volume(quantity)),
            ("vwap", price),
            ("twap", price),
            ("trade_count", pa.int64()),
        ]
    )


def bar_rows(
    bars: Folded,
    traded: Traded,
    calendar_of: CalendarOf,
    window: Window,
    grids: Sequence[Ints] | None,
    *,
    carry: bool,
) -> pa.Table:
    """Rows by symbol and start.

    Args:
        bars: those whose buckets start in the window, and whatever earlier ones of the same date there are.
        traded: what they are of.
        calendar_of: the buckets.
        window: where buckets start.
        grids: for each series the starts of all buckets to answer, its bars' own among them; None: the bars' own alone.
        carry: whether an empty bucket stands at the last price of the same date, where there is one.

    Raises:
        UserError: a volume has more digits than a decimal may have.
    """
    schema = bar_schema(traded.price, traded.quantity)
    starts = bars.start if grids is None else np.concatenate([bars.start, *grids])
    if not len(starts):
        return schema.empty_table()
    calendar = calendar_of(int(starts.min()), int(starts.max()))
    if grids is None:
        own, series = np.arange(len(bars)), bars.series
        before = own
    else:
        own, before, series, starts = _placed(bars, grids)
    first_us = MIN_US if window.start_us is None else window.start_us
    last_us = MAX_US if window.end_us is None else window.end_us - 1
    kept = (starts >= first_us) & (starts <= last_us)
    own, before, series, starts = own[kept], before[kept], series[kept], starts[kept]
    day = calendar.index(starts)
    figures = _figures(bars, traded, calendar)
    index = pa.array(own, mask=own < 0)
    columns = {name: column.take(index) for name, column in figures.items()}
    columns["volume"] = columns["volume"].fill_null(pa.scalar(0, _volume(traded.quantity)))
    columns["trade_count"] = columns["trade_count"].fill_null(0)
    if carry and len(bars):
        held = (before >= 0) & (calendar.index(bars.start)[before] == day)
        price = figures["close"].take(pa.array(before, mask=~held))
        for name in (*_PRICES, "twap"):
            columns[name] = pc.coalesce(columns[name], price)
    columns |= {
        "symbol": pa.array(traded.symbols, pa.string()).take(pa.array(series)),
        "exchange": pa.repeat(traded.exchange, len(starts)),
        "date": pa.array(calendar.days[day].astype(np.int32)).cast(pa.date32()),
        "start": pa.array(starts).cast(_TIME),
        "end": pa.array(calendar.ends(starts)).cast(_TIME),
    }
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _placed(bars: Folded, grids: Sequence[Ints]) -> tuple[NDArray[Any], NDArray[Any], Ints, Ints]:
    """For each bucket of the grids its bar (or -1), the bar at or before it (or -1), its series and its start."""
    own: list[NDArray[Any]] = []
    before: list[NDArray[Any]] = []
    for number, grid in enumerate(grids):
        first, last = np.searchsorted(bars.series, (number, number + 1))
        place = np.searchsorted(bars.start[first:last], grid, side="right") - 1 + first
        earlier = np.where(place >= first, place, -1)
        there = np.full(len(grid), -1)
        if len(bars):
            there = np.where((earlier >= 0) & (bars.start[earlier] == grid), earlier, -1)
        own.append(there)
        before.append(earlier)
    series = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
    return np.concatenate(own), np.concatenate(before), series, np.concatenate(grids)


def _figures(bars: Folded, traded: Traded, calendar: Calendar) -> dict[str, pa.Array]:
    """What the folded bars say, as columns."""
    any_volume = np.array(bars.volume > 0, np.bool_)
    # The places of prices and quantities by those of quantities are those of prices.
    vwap = quotients(bars.notional, np.where(any_volume, bars.volume, 1))
    return {
        **{name: decimals(getattr(bars, name), traded.price) for name in _PRICES},
        "volume": _volumes(bars.volume, _volume(traded.quantity)),
        "vwap": decimals(vwap, traded.price, valid=any_volume),
        "twap": decimals(_twap(bars, calendar), traded.price),
        "trade_count": pa.array(bars.count),
    }


def _volume(quantity: pa.Decimal128Type) -> pa.Decimal128Type:
    """Type of a sum of quantities."""
    return pa.decimal128(38, quantity.scale)


def _volumes(sums: Wide, kind: pa.Decimal128Type) -> pa.Array:
    try:
        return decimals(sums, kind)
    except OverflowError as error:
        raise UserError(
            f"The volume of a bar does not fit {kind}",
            found=f"{max(sums) // 10**kind.scale} units",
            expected=f"fewer than 10^{kind.precision - kind.scale} units in a bar",
            remedy="Ask for shorter buckets, or for the summary of a trading date, whose volume has no limit",
        ) from error


def _twap(bars: Folded, calendar: Calendar) -> Wide:
    """The last price, averaged over the time of the bucket during which there was one on that date.

    A bucket begins with the last price of an earlier one of the same date (its close), or else with its first trade; its
    own last price stands until the bucket ends.
    """
    # Ticks are folded on the session's own clock, which stands still in its pauses.
    ends, day = calendar.trading_us(calendar.ends(bars.start)), calendar.index(bars.start)
    follows = np.concatenate(([False], (bars.series[1:] == bars.series[:-1]) & (day[1:] == day[:-1])))
    since_us = np.where(follows, calendar.trading_us(bars.start), bars.first_us)
    carried = np.concatenate((bars.close[:1], bars.close[:-1]))
    whole = bars.integral + wide(carried) * (bars.first_us - since_us) + wide(bars.close) * (ends - bars.last_us)
    return quotients(whole, wide(ends - since_us))
