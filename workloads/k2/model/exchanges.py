"""What K2 knows of an exchange: its time zone, currency and regular session.

Sources: the exchanges' own trading-hours pages as known in 2026; sessions are the continuous trading of the main board.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
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


_KNOWN = (
    Exchange(
        "ASX", "Australian Securities Exchange", "Australia/Sydney", "AUD", AssetClass.EQUITIES, (time(10), time(16))
    ),
    Exchange(
        "NYSE", "New York Stock Exchange", "America/New_York", "USD", AssetClass.EQUITIES, (time(9, 30), time(16))
    ),
    Exchange("NASDAQ", "Nasdaq Stock Market", "America/New_York", "USD", AssetClass.EQUITIES, (time(9, 30), time(16))),
    Exchange("LSE", "London Stock Exchange", "Europe/London", "GBP", AssetClass.EQUITIES, (time(8), time(16, 30))),
    Exchange("TSE", "Tokyo Stock Exchange", "Asia/Tokyo", "JPY", AssetClass.EQUITIES, (time(9), time(15, 30))),
    Exchange("CME", "Chicago Mercantile Exchange", "America/Chicago", "USD", AssetClass.FUTURES, None),
    Exchange("BINANCE", "Binance", "UTC", "USDT", AssetClass.CRYPTO, None),
    Exchange("COINBASE", "Coinbase", "UTC", "USD", AssetClass.CRYPTO, None),
    Exchange("KRAKEN", "Kraken", "UTC", "USD", AssetClass.CRYPTO, None),
    Exchange("SIM", "K2's simulated exchange", "UTC", "USD", AssetClass.EQUITIES, (time(10), time(16))),
)
EXCHANGES: dict[str, Exchange] = {exchange.code: exchange for exchange in _KNOWN}


def exchange(code: str) -> Exchange:
    """The exchange of that code (any case), or a `UserError` that lists the known ones."""
    found = EXCHANGES.get(code.strip().upper())
    if found is None:
        raise UserError("Unknown exchange", found=code, expected="one of " + ", ".join(EXCHANGES))
    return found
