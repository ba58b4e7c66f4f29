"""What K2 knows of exchanges: time zone, currency, asset class and hours of each, by code.

They are data: `exchanges.yaml` beside this module ships, and the platform's settings add to it and change it. A process reads
them once, when it first asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
from k2.model.exchange_entries import SHIPPED, ExchangeEntry, ExchangesDocument
from k2.model.settings import Settings
from k2.model.topics import AssetClass


class Session(StrEnum):
    """Which part of a trading date counts: every print, or those of the regular session."""

    ALL = "all"
    REGULAR = "regular"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange.

    `regular` is the local time of the regular session, start inclusive and end exclusive; None means round the clock.
    """

    code: str
    name: str
    time_zone: str
    currency: str
    asset_class: AssetClass
    regular: tuple[time, time] | None

    @property
    def zone(self) -> ZoneInfo:
        """The exchange's time zone."""
        return ZoneInfo(self.time_zone)

    def trading_day(self, day: date) -> tuple[datetime, datetime]:
        """UTC bounds [start, end) of a calendar date of the exchange: 23, 24 or 25 hours where clocks change."""
        utc = ZoneInfo("UTC")
        start = datetime.combine(day, time(), self.zone)
        end = datetime.combine(day + timedelta(days=1), time(), self.zone)
        return start.astimezone(utc), end.astimezone(utc)

    def trades_on(self, day: date) -> bool:
        """Whether there is a regular session on that weekday. Holidays and half days are not known here."""
        return self.regular is None or day.weekday() < 5

    def hours(self, day: date, session: Session) -> tuple[datetime, datetime]:
        """UTC bounds [start, end) of a session of a trading date; they are equal where there is none."""
        if session is Session.ALL or self.regular is None:
            return self.trading_day(day)
        utc = ZoneInfo("UTC")
        begin, end = (datetime.combine(day, at, self.zone).astimezone(utc) for at in self.regular)
        return begin, end if self.trades_on(day) else begin


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
    return {code: _exchange(code, entry) for code, entry in _entries().items()}


@cache
def shipped() -> Mapping[str, ExchangeEntry]:
    """The entries that ship with K2, by code."""
    return ExchangesDocument.read(SHIPPED).exchanges


def use(said: ExchangesDocument | None) -> None:
    """From now on this process knows what ships and what is said here; None: what its settings say, read anew."""
    global _said  # noqa: PLW0603 - what a process knows of the world, as its environment is
    _said = said
    known.cache_clear()


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


def _entries() -> Mapping[str, ExchangeEntry]:
    said = Settings().resolved().exchanges_said() if _said is None else _said
    return said.over(ExchangesDocument(exchanges=dict(shipped()))).exchanges


def _exchange(code: str, entry: ExchangeEntry) -> Exchange:
    if entry.time_zone is None or entry.currency is None or entry.asset_class is None:
        needed = {"timeZone": entry.time_zone, "currency": entry.currency, "assetClass": entry.asset_class}
        raise UserError(
            f"The exchange {code} is not described",
            found=f"no {' and no '.join(name for name, value in needed.items() if value is None)}",
            expected="timeZone, currency and assetClass of an exchange that does not ship with K2",
            remedy="docs/exchanges.md has an example",
        )
    return Exchange(code, entry.name or code, entry.time_zone, entry.currency, entry.asset_class, entry.usual)


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
