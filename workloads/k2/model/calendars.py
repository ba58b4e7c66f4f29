"""When exchanges trade: from weekly hours, the dates that differ from them, and the range of dates that a calendar knows.

A trading date is as long as until the next begins: from midnight, or where trading begins the evening before from then on. That
follows from the weekly hours alone, so every instant has its date, also beyond what a calendar knows. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
from k2.model.times import micros, to_datetime

DAY_MINUTES = 24 * 60
FIRST_DATE, LAST_DATE = date(1, 1, 3), date(9999, 12, 29)
"""The dates whose bounds exist as times in every zone."""

Parts = tuple[tuple[int, int], ...]
"""Stretches [start, end) of trading, in minutes of the exchange's clocks since the date's midnight; negative: the evening before."""


class OutsideCalendarError(UserError):
    """A date's session is asked for that the calendar does not know."""


@dataclass(frozen=True, slots=True)
class Era:
    """Weekly hours from a date on: those of each weekday, Monday first; nothing where there is no trading."""

    since: date
    week: tuple[Parts, ...]

    @property
    def begins(self) -> int:
        """When its trading dates begin, in minutes since midnight: zero, or less where one begins the evening before."""
        return min([0, *(parts[0][0] for parts in self.week if parts)])


@dataclass(frozen=True, slots=True, eq=False)
class TradingCalendar:
    """The trading dates of an exchange, or of some of its products.

    Attributes:
        name: what settings call it.
        version: changes whenever an answer by it may; empty where there is nothing to change.
        zone: by whose clocks its hours are.
        eras: weekly hours, one or more, by date.
        closed: dates without trading although their weekday has hours.
        special: dates with hours of their own, whatever their weekday.
        first, last: the dates that it knows, both inclusive.
    """

    name: str
    version: str
    zone: ZoneInfo
    eras: tuple[Era, ...]
    closed: frozenset[date] = frozenset()
    special: Mapping[date, Parts] = field(default_factory=dict[date, Parts])
    first: date = FIRST_DATE
    last: date = LAST_DATE

    @property
    def title(self) -> str:
        """Name and version, as answers tell them."""
        return f"{self.name} {self.version}".rstrip()

    @property
    def is_utc(self) -> bool:
        """Whether its dates are those of UTC."""
        return self.zone.key == "UTC" and not any(era.begins for era in self.eras)

    def knows(self, day: date) -> bool:
        """Whether the date is within its range."""
        return self.first <= day <= self.last

    def begins_us(self, day: date) -> int:
        """When a trading date begins, of whichever date."""
        return _begins(self, min(max(day, FIRST_DATE), LAST_DATE))

    def date_of(self, us: int) -> date:
        """The trading date of an instant; beyond the dates that there are the first or the last."""
        if us < self.begins_us(FIRST_DATE):
            return FIRST_DATE
        if us >= self.begins_us(LAST_DATE):
            return LAST_DATE
        local = to_datetime(us).astimezone(self.zone).date()
        following = local + timedelta(days=1)
        return following if us >= self.begins_us(following) else local

    def session(self, day: date) -> tuple[tuple[int, int], ...]:
        """The stretches [start, end) of the regular session, in microseconds since 1970 UTC; none where there is no trading.

        Raises:
            OutsideCalendarError: the date is beyond its range.
        """
        if not self.knows(day):
            raise OutsideCalendarError(
                f"The calendar {self.name} does not know the session of that date",
                found=day.isoformat(),
                expected=f"a date from {self.first.isoformat()} to {self.last.isoformat()}",
                remedy="Ask with session=all, or with start and end; a calendar of your own can know more (docs/exchanges.md)",
            )
        return _session(self, day)

    def usual_session(self, day: date) -> tuple[tuple[int, int], ...]:
        """The session that a date has, or beyond the range would have by its weekday alone."""
        if self.knows(day):
            return _session(self, day)
        return _instants(self.zone, day, _era(self, day).week[day.weekday()])

    def is_open(self, us: int) -> bool:
        """Whether an instant lies in the (usual) session of its date."""
        return any(start <= us < end for start, end in self.usual_session(self.date_of(us)))


def day_parts(opens: str, closes: str, pauses: Iterable[tuple[str, str]] = ()) -> Parts:
    """The stretches of a date from times HH:MM by the exchange's clocks; one that closes no later than it opens opens the evening before.

    A close at 00:00 or 24:00 is the date's end. Raises `ValueError` where pauses do not lie in order between open and close.
    """
    start, end = _minutes(opens), _minutes(closes) or DAY_MINUTES
    overnight = start >= end
    bounds = [start - DAY_MINUTES if overnight else start]
    between = [_minutes(each) for pause in pauses for each in pause]
    bounds += [each - DAY_MINUTES if overnight and each >= start else each for each in between]
    bounds.append(end)
    if any(first >= second for first, second in pairwise(bounds)):
        raise ValueError("hours and pauses in which each time is later than the one before")
    return tuple(zip(bounds[::2], bounds[1::2], strict=True))


def weekly(days: Iterable[int], parts: Parts) -> tuple[Parts, ...]:
    """The same hours on some weekdays (Monday: 0)."""
    chosen = set(days)
    return tuple(parts if day in chosen else () for day in range(7))


def every_day(zone: ZoneInfo) -> TradingCalendar:
    """Round the clock, from midnight to midnight, on every date that there is."""
    return TradingCalendar("24/7", "", zone, (Era(FIRST_DATE, weekly(range(7), ((0, DAY_MINUTES),))),))


def weekdays(zone: ZoneInfo, opens: str, closes: str) -> TradingCalendar:
    """The same hours from Monday to Friday, without holidays, on every date that there is."""
    week = weekly(range(5), day_parts(opens, closes))
    return TradingCalendar(f"weekdays {opens}-{closes}", "", zone, (Era(FIRST_DATE, week),))


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _era(calendar: TradingCalendar, day: date) -> Era:
    for era in reversed(calendar.eras):
        if era.since <= day:
            return era
    return calendar.eras[0]


@lru_cache(maxsize=100_000)
def _begins(calendar: TradingCalendar, day: date) -> int:
    return _instant(calendar.zone, day, _era(calendar, day).begins)


@lru_cache(maxsize=100_000)
def _session(calendar: TradingCalendar, day: date) -> tuple[tuple[int, int], ...]:
    parts = calendar.special.get(day)
    if parts is None:
        parts = () if day in calendar.closed else _era(calendar, day).week[day.weekday()]
    return _instants(calendar.zone, day, parts)


def _instants(zone: ZoneInfo, day: date, parts: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((_instant(zone, day, start), _instant(zone, day, end)) for start, end in parts)


def _instant(zone: ZoneInfo, day: date, minutes: int) -> int:
    """When the clocks show that time of the date, or of the evening before it."""
    local = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - the zone follows
    return micros(local.replace(tzinfo=zone))
