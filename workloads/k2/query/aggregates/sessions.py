"""Buckets of time in an exchange's session: of each trading date from the session's start on, right where clocks change. Pure.

A bucket is `width` of elapsed time, the last one of a session as short as need be, so none reaches over two dates. On a
date of 25 hours there are 25 buckets of an hour. Times are microseconds since 1970 UTC, days are days since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from k2.model.exchanges import Exchange, Session, exchange
from k2.model.times import day_number, micros, to_datetime
from k2.query.aggregates.digits import Ints
from k2.query.asked.requests import Window

# The dates whose bounds exist as times in every zone.
_FIRST, _LAST = date(1, 1, 3), date(9999, 12, 29)


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The sessions of successive trading dates, cut into buckets.

    Attributes:
        days: the dates, one after another.
        opens: when each session starts.
        closes: when it ends, exclusive; equal to the start on a date without one.
        width_us: length of a bucket; None: a session is one bucket.
    """

    days: Ints
    opens: Ints
    closes: Ints
    width_us: int | None

    def starts(self, us: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Where the bucket of each instant starts, and whether it lies in a session at all (elsewhere there is none)."""
        index = np.searchsorted(self.opens, us, side="right") - 1
        opens = self.opens[index]
        inside = (index >= 0) & (us >= opens) & (us < self.closes[index])
        if self.width_us is None:
            return opens, inside
        return us - (us - opens) % self.width_us, inside

    def index(self, starts: Ints) -> NDArray[np.intp]:
        """Which date each bucket belongs to, by its start: an index into `days`."""
        return np.searchsorted(self.opens, starts, side="right") - 1

    def ends(self, starts: Ints) -> Ints:
        """Where buckets end."""
        closes = self.closes[self.index(starts)]
        return closes if self.width_us is None else np.minimum(starts + self.width_us, closes)


def calendar(market: Exchange, session: Session, width_us: int | None, first_us: int, last_us: int) -> Calendar:
    """The calendar of all dates from that of the first instant to that of the last one."""
    first, last = day_of(market, first_us), day_of(market, last_us)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    bounds = np.array([_hours(market.code, day, session) for day in days], np.int64)
    numbers = np.arange(day_number(first), day_number(last) + 1, dtype=np.int64)
    return Calendar(numbers, bounds[:, 0], bounds[:, 1], width_us)


def day_of(market: Exchange, us: int) -> date:
    """The date of an instant in the exchange's time zone."""
    if not _hours(market.code, _FIRST, Session.ALL)[0] <= us < _hours(market.code, _LAST, Session.ALL)[1]:
        return _FIRST if us < 0 else _LAST
    return to_datetime(us).astimezone(market.zone).date()


def of_days(market: Exchange, session: Session, first: date, last: date) -> Window:
    """From the start of the first date's session to the end of the last one's."""
    return Window(_hours(market.code, first, session)[0], _hours(market.code, last, session)[1])


def to_read(market: Exchange, session: Session, width_us: int | None, window: Window) -> Window:
    """What decides the bars that start in a window: from the start of the session until the last such bucket ends."""
    start_us, end_us = window.start_us, window.end_us
    if start_us is not None:
        start_us = min(start_us, _hours(market.code, day_of(market, start_us), session)[0])
    if end_us is not None:
        last_us = end_us - 1
        opens, closes = _hours(market.code, day_of(market, last_us), session)
        if opens <= last_us < closes:
            end_us = closes if width_us is None else min(last_us - (last_us - opens) % width_us + width_us, closes)
    return Window(start_us, end_us if start_us is None or end_us is None else max(start_us, end_us))


def grid(market: Exchange, session: Session, width_us: int | None, window: Window, most: int) -> Ints:
    """Starts of all buckets that start in a bounded window on dates that the exchange is open, at most `most` of them."""
    start_us, end_us = window.start_us, window.end_us
    if start_us is None or end_us is None or start_us >= end_us:
        return np.zeros(0, np.int64)
    parts: list[Ints] = []
    count, day, last = 0, day_of(market, start_us), day_of(market, end_us - 1)
    while day <= last and count < most:
        opens, closes = _hours(market.code, day, session)
        if market.trades_on(day):
            starts = np.arange(opens, closes, width_us or max(closes - opens, 1), dtype=np.int64)
            parts.append(starts[(starts >= start_us) & (starts < end_us)])
            count += len(parts[-1])
        day += timedelta(days=1)
    return np.concatenate(parts)[:most] if parts else np.zeros(0, np.int64)


@lru_cache(maxsize=50_000)
def _hours(code: str, day: date, session: Session) -> tuple[int, int]:
    start, end = exchange(code).hours(min(max(day, _FIRST), _LAST), session)
    return micros(start), micros(end)
