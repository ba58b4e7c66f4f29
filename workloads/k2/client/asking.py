"""What a person says in Python, as the parameters of the API: times and dates as texts, symbols as lists. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict, cast

from k2.client.pin import Pin
from k2.client.shape import Shaped
from k2.model.errors import UserError
from k2.query.asked.requests import MOST_ROWS

Time = str | int | date | datetime
"""ISO 8601 or a datetime (of `tz`, or UTC, where it has no offset), a date (its midnight, likewise), or nanoseconds since 1970.

Of nanoseconds an integer has 19 digits; shorter numbers say their unit, as texts: "1394445600s" (ns, us, ms, s).
"""

Symbols = str | Sequence[str]
Session = Literal["all", "regular"]
Codes = str | int | Sequence[str | int]
Amount = str | int | float | Decimal
"""A price or a quantity; of a float the digits count that Python shows: 36.75 is 36.75."""


class PrintOptions(TypedDict, total=False):
    """Which trades count; what is not given is no condition.

    `conditions`: at least one of these codes of `trade_conditions`; `exclude_conditions`: none of these; `side`: the source's;
    bounds of quantity and price are inclusive and exact; `profile`: one of the exchange's, or "none" (default: in regular
    sessions the exchange's default profile).
    """

    conditions: Codes | None
    exclude_conditions: Codes | None
    side: Literal["BUY", "SELL", "SELL_SHORT", "UNKNOWN"] | None
    min_quantity: Amount | None
    max_quantity: Amount | None
    min_price: Amount | None
    max_price: Amount | None
    profile: str | None


class TradeOptions(PrintOptions, Shaped, total=False):
    """What methods that give trades, or what is made of them, take beside their question: which trades count, and the shape."""


_CODES = ("conditions", "exclude_conditions")
_AMOUNTS = ("min_quantity", "max_quantity", "min_price", "max_price")


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


def prints(options: PrintOptions) -> dict[str, Any]:
    """Which trades count; a `TypeError` for what is no such option."""
    known = PrintOptions.__annotations__
    if unknown := sorted(options.keys() - known.keys()):
        raise TypeError(f"There is no option {', '.join(unknown)}; of trades there are {', '.join(known)}")
    return {
        name: _codes(name, value) if name in _CODES else _amount(value) if name in _AMOUNTS else value
        for name, value in options.items()
        if value is not None
    }


def parted(options: TradeOptions) -> tuple[PrintOptions, Shaped]:
    """Which trades count, and the shape; what is neither is with the first, which refuses it."""
    of_shape = Shaped.__annotations__.keys()
    only = {name: value for name, value in options.items() if name not in of_shape}
    shaped = {name: value for name, value in options.items() if name in of_shape}
    return cast("PrintOptions", only), cast("Shaped", shaped)


def _codes(name: str, given: Any) -> list[str] | None:
    codes = [str(each) for each in ([given] if isinstance(given, (str, int)) else given)]
    if not codes and name == "conditions":  # no trade has one of none, and all trades is not what was asked for
        raise UserError("conditions names no code", expected="one or more, or no conditions at all")
    return codes or None


def _amount(value: Any) -> str:
    # A float's shortest digits are those that were typed.
    exact = Decimal(repr(float(value))) if isinstance(value, float) else value
    return f"{exact:f}" if isinstance(exact, Decimal) else str(exact)


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
