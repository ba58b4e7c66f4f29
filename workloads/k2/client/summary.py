"""A trading date of a symbol, as Python has its values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DaySummary:
    """OHLCV and VWAP of a trading date's session: of all prints, in file order where times are equal.

    Prices and VWAP in `currency` (VWAP with the places of the prices, half to even; None where the volume is zero), volume
    in units of the instrument, times UTC. `complete_until`: time of the newest event that was there to be counted. `profile`: of the exchange's, the one whose
    trades alone count; None: all do. `calendar`: name and version of the exchange's calendar that the date and its session are of.
    """

    symbol: str
    exchange: str
    date: date
    time_zone: str
    session: str
    currency: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    trade_count: int
    first_time: datetime
    last_time: datetime
    snapshot_id: str | None
    complete_until: datetime | None
    profile: str | None = None
    calendar: str | None = None

    @classmethod
    def read(cls, said: dict[str, Any]) -> Self:
        """From the API's object."""
        return cls(
            symbol=said["symbol"],
            exchange=said["exchange"],
            date=date.fromisoformat(said["date"]),
            time_zone=said["time_zone"],
            session=said["session"],
            currency=said["currency"],
            open=Decimal(said["open"]),
            high=Decimal(said["high"]),
            low=Decimal(said["low"]),
            close=Decimal(said["close"]),
            volume=Decimal(said["volume"]),
            vwap=None if said["vwap"] is None else Decimal(said["vwap"]),
            trade_count=said["trade_count"],
            first_time=datetime.fromisoformat(said["first_time"]),
            last_time=datetime.fromisoformat(said["last_time"]),
            snapshot_id=said["snapshot_id"],
            complete_until=None if said["complete_until"] is None else datetime.fromisoformat(said["complete_until"]),
            profile=said.get("profile", {}).get(said["exchange"], {}).get("name"),
            calendar=said.get("calendars", {}).get(said["exchange"]),
        )
