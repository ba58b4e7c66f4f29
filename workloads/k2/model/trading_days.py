"""On which trading day of an exchange instants lie: columns in, columns out."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.exchanges import Exchange
from k2.model.times import DAY_US, EPOCH_DATE, day_number, micros

Ints = npt.NDArray[np.int64]

# A calendar date is only made of instants that have one, with a day to spare on both sides.
_FIRST, _LAST = day_number(date(2, 1, 1)), day_number(date(9998, 12, 31))


def day_starts(times: Ints, exchange: Exchange | None) -> Ints:
    """The beginning of each instant's trading day; both in microseconds since 1970 UTC.

    Args:
        times: in any order.
        exchange: whose trading dates are meant; None: UTC's days.
    """
    if exchange is None or exchange.calendar.is_utc or not len(times):
        return times // DAY_US * DAY_US
    low, high = int(times.min()) // DAY_US, int(times.max()) // DAY_US
    blocks = range(low, high + 1) if high - low < 400 else np.unique(times // DAY_US).tolist()
    days = {day for block in blocks for day in (block - 1, block, block + 1) if _FIRST <= day <= _LAST}
    if not days:
        return times // DAY_US * DAY_US
    starts = np.array([_start(exchange, day) for day in sorted(days)], dtype=np.int64)
    return starts[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)]


def civil_dates(times: Ints, exchange: Exchange, begins: time) -> pa.StringArray:
    """Each instant's day as YYYY-MM-DD, where days begin at a fixed time by the exchange's clocks: the date on which it began.

    Args:
        times: microseconds since 1970 UTC, in any order.
        exchange: whose time zone is meant.
        begins: when a day begins there.
    """
    blocks = np.unique(times // DAY_US).tolist()
    days = sorted({day for block in blocks for day in range(block - 2, block + 2) if _FIRST <= day <= _LAST})
    dates = [EPOCH_DATE + timedelta(days=day) for day in days]
    starts = np.array([micros(datetime.combine(each, begins, exchange.zone)) for each in dates], dtype=np.int64)
    names = pa.array([each.isoformat() for each in dates], pa.string())
    return names.take(pa.array(np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)))


def day_of(start: int, exchange: Exchange | None) -> date:
    """The date that begins at that instant (microseconds since 1970 UTC)."""
    at = min(max(start // DAY_US, _FIRST), _LAST)
    if exchange is None or exchange.calendar.is_utc:
        return EPOCH_DATE + timedelta(days=at)
    return next(
        (EPOCH_DATE + timedelta(days=day) for day in (at, at + 1) if _start(exchange, day) == start),
        EPOCH_DATE + timedelta(days=at),
    )


def _start(exchange: Exchange, day: int) -> int:
    return exchange.calendar.begins_us(EPOCH_DATE + timedelta(days=day))
