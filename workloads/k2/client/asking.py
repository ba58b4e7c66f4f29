"""What a person says in Python, as the parameters of the API: times and dates as texts, symbols as lists. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Literal

from k2.client.pin import Pin
from k2.query.asked.requests import MOST_ROWS

Time = str | int | date | datetime
"""ISO 8601 or a datetime (of `tz`, or UTC, where it has no offset), a date (its midnight, likewise), or nanoseconds since 1970.

Of nanoseconds an integer has 19 digits; shorter numbers say their unit, as texts: "1394445600s" (ns, us, ms, s).
"""

Symbols = str | Sequence[str]
Session = Literal["all", "regular"]


def events(
    symbols: Symbols,
    exchange: str | None,
    fields: Sequence[str],
    limit: int | None,
) -> dict[str, Any]:
    """Which events, and what of them."""
    return {
        "symbols": listed(symbols) or None,
        "exchange": exchange,
        "fields": list(fields) or None,
        "limit": MOST_ROWS if limit is None else limit,
    }


def when(
    start: Time | None,
    end: Time | None,
    date: str | date | None,
    last_date: str | date | None,
    session: Session,
    tz: str | None,
) -> dict[str, Any]:
    """From when to when."""
    return {
        "start": text(start),
        "end": text(end),
        "date": text(date),
        "last_date": text(last_date),
        "session": None if session == "all" else session,
        "tz": tz,
    }


def at(snapshot: str | int | None, as_of: Time | None, pin: Pin | str | None, hybrid: bool | None) -> dict[str, Any]:
    """Which rows answer."""
    return {
        "snapshot": None if snapshot is None else str(snapshot),
        "as_of": text(as_of),
        "pin": pin_id(pin),
        "hybrid": hybrid,
    }


def pin_id(pin: Pin | str | None) -> str | None:
    """The token of a pin."""
    return pin.id if isinstance(pin, Pin) else pin


def listed(symbols: Symbols) -> list[str]:
    """One symbol, or several, as a list."""
    return [symbols] if isinstance(symbols, str) else list(symbols)


def text(time: Time | None) -> str | None:
    """A time or a date as a text."""
    if time is None:
        return None
    if isinstance(time, datetime) and time.tzinfo is not None:
        time = time.astimezone(UTC)  # old offsets have seconds, which a text of a time may not
    return time.isoformat() if isinstance(time, date) else str(time)
