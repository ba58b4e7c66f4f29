"""What K2 knows of exchanges: time zone, currency, asset class and hours of each, by code.

They are data: `exchanges.yaml` beside this module ships, and the platform's settings add to it and change it. A process reads
them once, when it first asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

from k2.model.calendar_data import shipped_calendar, shipped_names
from k2.model.calendars import TradingCalendar, every_day, weekdays
from k2.model.errors import UserError
from k2.model.exchange_entries import SHIPPED, ExchangeEntry, ExchangesDocument
from k2.model.prints import PrintFilter
from k2.model.settings import Settings
from k2.model.times import to_datetime
from k2.model.topics import AssetClass


class Session(StrEnum):
    """Which part of a trading date counts: every print, or those of the regular session."""

    ALL = "all"
    REGULAR = "regular"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange.

    Attributes:
        regular: the usual local hours of the main session, start inclusive and end exclusive; None: round the clock.
        calendar_name: what its trading dates and sessions go by; None: the usual hours from Monday to Friday, or every day.
        symbol_calendars: (pattern of symbols, name) of what some of them go by instead; the first that fits counts.
        profiles: which of its trades count, by name.
        default_profile: the one that its regular session has unless asked otherwise.
    """

    code: str
    name: str
    time_zone: str
    currency: str
    asset_class: AssetClass
    regular: tuple[time, time] | None
    calendar_name: str | None = None
    symbol_calendars: tuple[tuple[str, str], ...] = ()
    profiles: tuple[tuple[str, PrintFilter], ...] = ()
    default_profile: str | None = None

    @property
    def calendar(self) -> TradingCalendar:
        """When it trades."""
        return _calendar(self)

    def of(self, symbol: str) -> Exchange:
        """The same exchange by the calendar that the symbol goes by."""
        for pattern, name in self.symbol_calendars:
            if fnmatchcase(symbol, pattern):
                return replace(self, calendar_name=name, symbol_calendars=())
        return replace(self, symbol_calendars=()) if self.symbol_calendars else self

    def profile(self, name: str) -> PrintFilter | None:
        """The profile of that name, as a filter of this exchange's trades; None: there is none."""
        found = dict(self.profiles).get(name)
        return None if found is None else replace(found, exchange=self.code, profile=name)

    @property
    def zone(self) -> ZoneInfo:
        """The exchange's time zone."""
        return ZoneInfo(self.time_zone)

    def trading_day(self, day: date) -> tuple[datetime, datetime]:
        """UTC bounds [start, end) of a trading date: 23, 24 or 25 hours where clocks change."""
        start_us, end_us = self.bounds(day, Session.ALL)
        return to_datetime(start_us), to_datetime(end_us)

    def stretches(self, day: date, session: Session) -> tuple[tuple[int, int], ...]:
        """The stretches [start, end) of a trading date, in microseconds since 1970 UTC: all of it, or its regular session's.

        Raises:
            OutsideCalendarError: the regular session of a date that its calendar does not know.
        """
        if session is Session.REGULAR:
            return self.calendar.session(day)
        return ((self.calendar.begins_us(day), self.calendar.begins_us(day + timedelta(days=1))),)

    def bounds(self, day: date, session: Session) -> tuple[int, int]:
        """From the first stretch's start to the last one's end; where there is none both are the date's beginning."""
        found = self.stretches(day, session)
        if not found:
            return self.calendar.begins_us(day), self.calendar.begins_us(day)
        return found[0][0], found[-1][1]

    def is_open_on(self, day: date) -> bool:
        """Whether there is trading on a date; beyond what its calendar knows, whether there usually is on that weekday."""
        return bool(self.calendar.usual_session(day))


def exchange(code: str) -> Exchange:
    """The exchange of that code (any case).

    Raises:
        UserError: K2 knows none; it names those whose codes or names are nearest, and how one is added.
    """
    found = known_exchange(code.strip())
    if found is None:
        raise _unknown(code, "Add it")
    return found


def known_exchange(code: str) -> Exchange | None:
    """The exchange of that code in any case; None for one that K2 does not know."""
    return known().get(code.upper())


@cache
def known() -> Mapping[str, Exchange]:
    """All exchanges by code, as this process knows them: those that ship, and what its settings say of exchanges.

    Raises:
        UserError: an entry of the settings cannot be used.
    """
    _find_calendars(_document())
    return {code: _exchange(code, entry) for code, entry in _entries().items()}


@cache
def shipped() -> Mapping[str, ExchangeEntry]:
    """The entries that ship with K2, by code."""
    return ExchangesDocument.read(SHIPPED).exchanges


def use(said: ExchangesDocument | None) -> None:
    """From now on this process knows what ships and what is said here; None: what its settings say, read anew."""
    global _said  # noqa: PLW0603 - what a process knows of the world, as its environment is
    _said = said
    for held in (known, _settings_say, _calendar):
        held.cache_clear()


def with_options(code: str, time_zone: str | None, currency: str | None, asset_class: str | None) -> Exchange:
    """The exchange of that code with what a person says of it for once; one that K2 does not know needs all three.

    Raises:
        UserError: one of them cannot be used, or is missing.
    """
    name = code.strip().upper()
    options = {"--time-zone": time_zone, "--currency": currency, "--asset-class": asset_class}
    missing = [option for option, value in options.items() if value is None]
    if missing and name not in known():
        raise _unknown(code, f"Give {', '.join(missing)} for this once, or add it")
    fields = {"timeZone": time_zone, "currency": currency, "assetClass": asset_class}
    given = {field: value for field, value in fields.items() if value is not None}
    entry = ExchangesDocument.checked({"exchanges": {name: given}}, "What is said of the exchange is wrong at")
    return _exchange(name, entry.exchanges[name].over(_entries().get(name)))


_said: ExchangesDocument | None = None


def said_digest() -> str:
    """Of what is said beside what ships: answers to the same question differ where it does."""
    return json.dumps(_document().as_json(), sort_keys=True)


def _document() -> ExchangesDocument:
    """What is said beside what ships."""
    return _settings_say() if _said is None else _said


@cache
def _settings_say() -> ExchangesDocument:
    return Settings().resolved().exchanges_said()


def _entries() -> Mapping[str, ExchangeEntry]:
    return _document().over(ExchangesDocument(exchanges=dict(shipped()))).exchanges


@lru_cache(maxsize=10_000)
def _calendar(market: Exchange) -> TradingCalendar:
    if market.calendar_name is not None:
        return _named(market.calendar_name, market.zone)
    if market.regular is None:
        return every_day(market.zone)
    opens, closes = (f"{at:%H:%M}" for at in market.regular)
    return weekdays(market.zone, opens, closes)


def _named(name: str, zone: ZoneInfo) -> TradingCalendar:
    own = _document().calendars.get(name)
    if own is not None:
        return own.calendar(name, zone, None if own.based_on is None else shipped_calendar(own.based_on))
    found = shipped_calendar(name)
    if found is None:
        raise UserError("Unknown calendar", found=name, expected=_calendar_names(_document()))
    return found


def _find_calendars(said: ExchangesDocument) -> None:
    """A `UserError` where a calendar is named that is not there."""
    for code, entry in said.exchanges.items():
        named = [entry.calendar, *(entry.symbol_calendars or {}).values()]
        for name in (each for each in named if each is not None):
            if name not in said.calendars and name not in shipped_names():
                raise UserError(f"The calendar of {code} is not known", found=name, expected=_calendar_names(said))
    for name, entry in said.calendars.items():
        if entry.based_on is not None and entry.based_on not in shipped_names():
            raise UserError(
                f"What the calendar {name} is based on does not ship with K2",
                found=entry.based_on,
                expected=", ".join(shipped_names()),
            )


def _calendar_names(said: ExchangesDocument) -> str:
    return f"one of `calendars` ({', '.join(said.calendars) or 'there are none'}), or one that ships: {', '.join(shipped_names())}"


def _exchange(code: str, entry: ExchangeEntry) -> Exchange:
    if entry.time_zone is None or entry.currency is None or entry.asset_class is None:
        needed = {"timeZone": entry.time_zone, "currency": entry.currency, "assetClass": entry.asset_class}
        raise UserError(
            f"The exchange {code} is not described",
            found=f"no {' and no '.join(name for name, value in needed.items() if value is None)}",
            expected="timeZone, currency and assetClass of an exchange that does not ship with K2",
            remedy="docs/exchanges.md has an example",
        )
    profiles = {name: each.filter for name, each in (entry.profiles or {}).items()}
    if entry.default_profile is not None and entry.default_profile not in profiles:
        raise UserError(
            f"The default profile of the exchange {code} is not described",
            found=entry.default_profile,
            expected=f"one of {', '.join(profiles)}" if profiles else "one of its profiles, and it has none",
            remedy="docs/exchanges.md has an example",
        )
    return Exchange(
        code,
        entry.name or code,
        entry.time_zone,
        entry.currency,
        entry.asset_class,
        entry.usual,
        entry.calendar,
        tuple((entry.symbol_calendars or {}).items()),
        tuple(sorted(profiles.items())),
        entry.default_profile,
    )


def _unknown(code: str, remedy: str) -> UserError:
    near = _nearest(code.strip().upper())
    return UserError(
        "Unknown exchange",
        found=code,
        expected=f"{', '.join(near)} or another of the {len(known())} that K2 knows",
        remedy=f"{remedy} under `exchanges` in the platform's settings (docs/exchanges.md)",
    )


def _nearest(code: str) -> list[str]:
    """Codes that may be meant, by code or by name; the first ones where none is near."""
    names = {each.name.upper(): each.code for each in known().values()}
    found = get_close_matches(code, [*known(), *names], n=3, cutoff=0.5)
    return list(dict.fromkeys(names.get(each, each) for each in found)) or list(known())[:3]
