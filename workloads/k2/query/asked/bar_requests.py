"""The question about bars as a frozen value, checked when it is made. Times are integer microseconds since 1970, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.prints import EVERY_PRINT, Prints
from k2.model.times import DAY_US, HOUR_US, MAX_US, MIN_US, MINUTE_US, parse_date
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.requests import CURRENT, At, Window, check_limit, check_symbols

MOST_BARS = 10_000
"""Bars of an answer, unless another limit is asked for: a week of minutes."""


class Interval(StrEnum):
    """How long a bucket is."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER = "15m"
    HALF_HOUR = "30m"
    HOUR = "1h"
    FOUR_HOURS = "4h"
    DAY = "1d"

    @property
    def width_us(self) -> int | None:
        """Microseconds; None for a day, which is as long as its session."""
        minutes = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240}.get(self.value)
        return None if minutes is None else minutes * MINUTE_US


class Empty(StrEnum):
    """What stands for a bucket without trades: nothing, a bar of nulls, or one at the last price of the same date."""

    SKIP = "skip"
    NULL = "null"
    CARRY = "carry"


ALWAYS = Window()
"""Without bounds."""


@dataclass(frozen=True, slots=True)
class Dates:
    """Trading dates of an exchange, both inclusive."""

    first: date
    last: date

    def __post_init__(self) -> None:
        for day in (self.first, self.last):
            # A trading date reaches into the UTC days beside it, which must exist.
            if not date(1, 1, 3) <= day <= date(9999, 12, 29):
                raise UserError("The date is out of range", found=day.isoformat(), expected="a year from 1 to 9999")
        if self.first > self.last:
            raise UserError(
                "The dates are reversed",
                found=f"date {self.first.isoformat()}, last_date {self.last.isoformat()}",
                expected="date before last_date",
            )


@dataclass(frozen=True, slots=True)
class BarsQuery:
    """Bars of symbols by time, at most `limit` of them.

    Attributes:
        symbols: one or more.
        interval: length of a bucket.
        exchange: of all symbols; None: of each the one that it is traded on.
        period: trading dates, or the instants [start, end) within which buckets start.
        session: which trades count.
        empty: what stands for a bucket without trades.
        limit: most bars of all symbols together.
        at: the snapshot that answers.
        prints: of the trades that these let through.
        adjusted: for what prices and quantities are adjusted; None: they are as they were traded.
    """

    symbols: tuple[str, ...]
    interval: Interval
    exchange: str | None = None
    period: Window | Dates = ALWAYS
    session: Session = Session.ALL
    empty: Empty = Empty.SKIP
    limit: int = MOST_BARS
    at: At = CURRENT
    prints: Prints = EVERY_PRINT
    adjusted: Adjusting | None = None

    def __post_init__(self) -> None:
        check_symbols(self.symbols, needed=True)
        check_limit(self.limit)

    def grows(self, now_us: int) -> bool:
        """Whether the answer becomes longer while nothing comes in: empty buckets go on until now, unless they end before."""
        end_us, at = self.around.end_us, self.at
        if self.empty is Empty.SKIP or end_us is None or at.snapshot is not None or at.pin is not None:
            return False
        return now_us < (end_us if at.as_of_us is None else min(end_us, at.as_of_us))

    @property
    def around(self) -> Window:
        """What any exchange's ticks of these bars lie in."""
        if isinstance(self.period, Dates):
            return Window.around(self.period.first, self.period.last)
        start, end = self.period.start_us, self.period.end_us
        longest = DAY_US + HOUR_US  # a date on which clocks go back
        return Window(
            None if start is None else max(start - longest, MIN_US), None if end is None else min(end + longest, MAX_US)
        )


def parse_period(
    start: str | None, end: str | None, first: str | None, last: str | None, zone: ZoneInfo | None = None
) -> Window | Dates:
    """From start and end, or date and last_date (the same as date where it is not given)."""
    if first is None:
        if last is not None:
            raise UserError("last_date is given without date", expected="both, or date alone")
        return Window.parse(start, end, zone)
    if start is not None or end is not None:
        raise UserError("Both date and start or end are given", expected="one way to say when")
    day = parse_date(first, "date")
    return Dates(day, day if last is None else parse_date(last, "last_date"))
