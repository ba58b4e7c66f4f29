"""Calendars that a person writes: weekly hours by date, holidays, half days; from nothing, or on top of one that ships."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from k2.model.calendars import FIRST_DATE, LAST_DATE, Era, Parts, TradingCalendar, day_parts
from k2.model.errors import UserError
from k2.model.times import parse_zone

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK_PATTERN = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"


def _clock(value: object) -> object:
    # To YAML 17:00 without quotation marks is the number 1020.
    return f"{value // 60:02}:{value % 60:02}" if isinstance(value, int) and not isinstance(value, bool) else value


def _zone_name(name: str) -> str:
    try:
        parse_zone(name)
    except UserError:
        raise ValueError("a time zone's name of the IANA's, such as Australia/Sydney or UTC") from None
    return name


Clock = Annotated[str, BeforeValidator(_clock), Field(pattern=CLOCK_PATTERN)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class HoursEntry(_Written):
    """Hours of a date."""

    open: Clock = Field(
        description="By the exchange's clocks, HH:MM; no earlier than the close: of the evening before."
    )
    close: Clock = Field(description="HH:MM, exclusive; 24:00 is the end of the date.")
    pauses: tuple[Annotated[str, Field(pattern=r"^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$")], ...] = Field(
        default=(), description="Pauses such as 11:30-12:30, in order."
    )

    @model_validator(mode="after")
    def _in_order(self) -> HoursEntry:
        day_parts(self.open, self.close, self._pauses())
        return self

    @property
    def parts(self) -> Parts:
        """The stretches of trading."""
        return day_parts(self.open, self.close, self._pauses())

    def _pauses(self) -> list[tuple[str, str]]:
        bounds = (pause.split("-") for pause in self.pauses)
        return [(start, end) for start, end in bounds]


class WeekEntry(HoursEntry):
    """Hours of some weekdays, from a date on."""

    since: date | None = Field(
        default=None,
        alias="from",
        description="From this trading date on; default: ever. Later ones replace earlier ones.",
    )
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        default=("mon", "tue", "wed", "thu", "fri"), min_length=1, description="Weekdays; default: mon to fri."
    )


class CalendarEntry(_Written):
    """A calendar in the platform's settings."""

    based_on: str | None = Field(
        default=None, description="A calendar that ships, such as XNYS: what is said here is said on top of it."
    )
    time_zone: ZoneName | None = Field(
        default=None,
        description="By whose clocks its hours are; default: that of the calendar below it, or the exchange's.",
    )
    since: date | None = Field(default=None, description="The first date that it knows; default: ever.")
    until: date | None = Field(default=None, description="The last date that it knows; default: for good.")
    hours: tuple[WeekEntry, ...] = Field(default=(), description="Weekly hours; needed, unless it is based on another.")
    closed: tuple[date, ...] = Field(default=(), description="Trading dates without trading.")
    special: dict[date, HoursEntry] = Field(
        default={}, description="Trading dates with hours of their own: half days, late openings, a Saturday."
    )

    @model_validator(mode="after")
    def _whole(self) -> CalendarEntry:
        if not self.hours and self.based_on is None:
            raise ValueError("hours, or basedOn")
        return self

    def calendar(self, name: str, zone: ZoneInfo, below: TradingCalendar | None) -> TradingCalendar:
        """The calendar.

        Args:
            name: what it is called.
            zone: the exchange's.
            below: what it is based on; its dates stay unless they are said anew.
        """
        clocks = zone if below is None else below.zone
        if self.time_zone is not None:
            clocks = ZoneInfo(self.time_zone)
        said = set(self.closed) | set(self.special)
        closed = set() if below is None else set(below.closed) - said
        special = {} if below is None else {day: parts for day, parts in below.special.items() if day not in said}
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True) + ("" if below is None else below.version)
        return TradingCalendar(
            name=name,
            version=hashlib.sha256(content.encode()).hexdigest()[:8],
            zone=clocks,
            eras=self._eras(() if below is None else below.eras),
            closed=frozenset(closed | set(self.closed)),
            special=special | {day: hours.parts for day, hours in self.special.items()},
            first=self.since or (FIRST_DATE if below is None else below.first),
            last=self.until or (LAST_DATE if below is None else below.last),
        )

    def _eras(self, below: tuple[Era, ...]) -> tuple[Era, ...]:
        if not self.hours:
            return below
        found: dict[date, list[Parts]] = {}
        for entry in self.hours:
            week = found.setdefault(entry.since or FIRST_DATE, [()] * 7)
            for day in entry.days:
                week[_WEEKDAYS.index(day)] = entry.parts
        eras = [Era(since, tuple(week)) for since, week in sorted(found.items())]
        return (*(each for each in below if each.since < eras[0].since), *eras)
