"""Buckets of time in an exchange's session: of each trading date from the session's start on, right where clocks change. Pure.

A bucket is `width` of elapsed time, the last one of a stretch as short as need be, so none reaches over two dates or into a pause:
after one they are counted anew. On a date of 25 hours there are 25 buckets of an hour. A bucket of a whole date holds its pauses, but
trades in them are not of it, and its time is that of trading. Times are microseconds since 1970 UTC, days are days since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from k2.model.calendars import FIRST_DATE, LAST_DATE
from k2.model.exchanges import Exchange, Session
from k2.model.times import day_number
from k2.query.aggregates.digits import Ints
from k2.query.asked.requests import Window


@dataclass(frozen=True, slots=True, eq=False)
class Calendar:
    """The sessions of successive trading dates, cut into buckets.

    Attributes:
        days: the dates, one after another.
        opens: when each session starts.
        closes: when it ends, exclusive; equal to the start on a date without one.
        stretches: (start, end, place of its date in `days`, how long the session paused before it) of each stretch of trading.
        width_us: length of a bucket; None: a session is one bucket.
    """

    days: Ints
    opens: Ints
    closes: Ints
    stretches: tuple[Ints, Ints, Ints, Ints]
    width_us: int | None

    def starts(self, us: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Where the bucket of each instant starts, and whether it lies in a session at all (elsewhere there is none)."""
        begins, ends, dates, _ = self.stretches
        if not len(begins):
            return us, np.zeros(len(us), np.bool_)
        place = np.searchsorted(begins, us, side="right") - 1
        inside = (place >= 0) & (us >= begins[place]) & (us < ends[place])
        if self.width_us is None:
            return self.opens[dates[place]], inside
        return us - (us - begins[place]) % self.width_us, inside

    def index(self, starts: Ints) -> NDArray[np.intp]:
        """Which date each bucket belongs to, by its start: an index into `days`."""
        begins, _, dates, _ = self.stretches
        return dates[np.searchsorted(begins, starts, side="right") - 1].astype(np.intp)

    def ends(self, starts: Ints) -> Ints:
        """Where buckets end."""
        begins, ends, dates, _ = self.stretches
        place = np.searchsorted(begins, starts, side="right") - 1
        return self.closes[dates[place]] if self.width_us is None else np.minimum(starts + self.width_us, ends[place])

    def trading_us(self, us: Ints) -> Ints:
        """Instants on a clock that stands still in the pauses of a session; differences within a date are time of trading."""
        begins, _, _, paused = self.stretches
        return us - paused[np.searchsorted(begins, us, side="right") - 1] if paused.any() else us


def calendar(market: Exchange, session: Session, width_us: int | None, first_us: int, last_us: int) -> Calendar:
    """The calendar of all dates from that of the first instant to that of the last one.

    Raises:
        OutsideCalendarError: the regular session of a date that the exchange's calendar does not know.
    """
    first, last = day_of(market, first_us), day_of(market, last_us)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    rows: list[tuple[int, int, int, int]] = []
    bounds = np.zeros((len(days), 2), np.int64)
    for place, day in enumerate(days):
        paused, before, found = 0, None, market.stretches(_clamped(day), session)
        for start, end in found:
            paused += 0 if before is None else start - before
            before = end
            rows.append((start, end, place, paused))
        bounds[place] = (found[0][0], found[-1][1]) if found else _bounds(market, day, session)
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    numbers = np.arange(day_number(first), day_number(last) + 1, dtype=np.int64)
    return Calendar(numbers, bounds[:, 0], bounds[:, 1], (columns[0], columns[1], columns[2], columns[3]), width_us)


def day_of(market: Exchange, us: int) -> date:
    """The trading date of an instant."""
    return market.calendar.date_of(us)


def of_days(market: Exchange, session: Session, first: date, last: date) -> Window:
    """From the start of the first date's session to the end of the last one's."""
    return Window(_bounds(market, first, session)[0], _bounds(market, last, session)[1])


def to_read(market: Exchange, session: Session, width_us: int | None, window: Window) -> Window:
    """What decides the bars that start in a window: from the start of the session until the last such bucket ends.

    Bounds of a window may lie beyond what the exchange's calendar knows; only trades there would be a question to it.
    """
    start_us, end_us = window.start_us, window.end_us
    if start_us is not None:
        start_us = min([start_us, *(opens for opens, _ in _about(market, start_us, session))])
    if end_us is not None:
        last_us = end_us - 1
        found = _about(market, last_us, session)
        for opens, closes in found:
            if opens <= last_us < closes and width_us is not None:
                end_us = min(last_us - (last_us - opens) % width_us + width_us, closes)
        if width_us is None and found and found[0][0] <= last_us < found[-1][1]:
            end_us = found[-1][1]
    return Window(start_us, end_us if start_us is None or end_us is None else max(start_us, end_us))


def grid(market: Exchange, session: Session, width_us: int | None, window: Window, most: int) -> Ints:
    """Starts of all buckets that start in a bounded window on dates that the exchange is open, at most `most` of them."""
    start_us, end_us = window.start_us, window.end_us
    if start_us is None or end_us is None or start_us >= end_us:
        return np.zeros(0, np.int64)
    parts: list[Ints] = []
    count, day, last = 0, day_of(market, start_us), day_of(market, end_us - 1)
    while day <= last and count < most:
        if market.is_open_on(day):
            for opens, closes in _buckets(market, day, session, width_us):
                starts = np.arange(opens, closes, width_us or max(closes - opens, 1), dtype=np.int64)
                parts.append(starts[(starts >= start_us) & (starts < end_us)])
                count += len(parts[-1])
        day += timedelta(days=1)
    return np.concatenate(parts)[:most] if parts else np.zeros(0, np.int64)


def _about(market: Exchange, us: int, session: Session) -> tuple[tuple[int, int], ...]:
    """The stretches of the instant's date, or the usual ones where its calendar knows no more."""
    day = _clamped(day_of(market, us))
    return market.stretches(day, session) if session is Session.ALL else market.calendar.usual_session(day)


def _buckets(market: Exchange, day: date, session: Session, width_us: int | None) -> tuple[tuple[int, int], ...]:
    """What is cut into buckets: each stretch of the date, or the whole of it."""
    return (_bounds(market, day, session),) if width_us is None else market.stretches(_clamped(day), session)


def _bounds(market: Exchange, day: date, session: Session) -> tuple[int, int]:
    return market.bounds(_clamped(day), session)


def _clamped(day: date) -> date:
    return min(max(day, FIRST_DATE), LAST_DATE)
