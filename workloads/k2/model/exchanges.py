"""What K2 knows of an exchange: its time zone, currency and regular session.

Sources: the exchanges' own trading-hours pages as known in 2026; sessions are the continuous trading of the main board.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from k2.model.errors import UserError
from k2.model.topics import AssetClass


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
