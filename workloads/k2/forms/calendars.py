"""An exchange's calendar as an answer: of each trading date when it begins, opens, pauses and closes, and what is known at all."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
from pydantic import Field

from k2.forms.formats import Format
from k2.forms.parameters import Params
from k2.model.calendar_data import shipped_names, source
from k2.model.calendars import FIRST_DATE, LAST_DATE, TradingCalendar
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.times import iso, parse_date

MOST_DATES = 4_000
"""Dates of one answer: ten years."""
_USUAL_DAYS = 30
_TEXTS = ("date", "status", "opens", "closes")
ROWS = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("pauses", pa.list_(pa.string())),
        ("begins", pa.string()),
        ("ends", pa.string()),
    ]
)
"""Columns of the dates, where they are asked for as rows."""


class CalendarParams(Params):
    """Parameters of /v1/calendar."""

    start: str | None = Field(
        default=None, description="First trading date; default: the exchange's of now.", examples=["2024-11-25"]
    )
    end: str | None = Field(
        default=None, description="Last trading date, itself included; default: 30 days later.", examples=["2024-11-29"]
    )
    symbol: str | None = Field(
        default=None, description="Whose calendar, where some of the exchange's symbols have another."
    )
    format: Format | None = Field(default=None, description="Instead of the Accept header.")


def calendar_body(code: str, params: CalendarParams, now_us: int) -> dict[str, Any]:
    """The calendar of an exchange from one trading date to another.

    `status` of a date is `regular` (the hours of its weekday), `special` (hours of its own), `closed`, or `unknown`: beyond what the
    calendar knows. Times are ISO 8601 in UTC, a pause is an interval of two. Beside the dates stands what is known of the exchange, its
    profiles among it.

    Raises:
        UserError: the exchange is not known, the dates are reversed, or there are too many of them.
    """
    market = exchange(code)
    if params.symbol is not None:
        market = market.of(params.symbol)
    calendar = market.calendar
    first = calendar.date_of(now_us) if params.start is None else _date(params.start, "start")
    last = min(first + timedelta(days=_USUAL_DAYS), LAST_DATE) if params.end is None else _date(params.end, "end")
    if last < first:
        raise UserError("The dates are reversed", found=f"start {first}, end {last}", expected="start before end")
    if (last - first).days >= MOST_DATES:
        raise UserError("Too many dates", found=f"{(last - first).days + 1:,}", expected=f"at most {MOST_DATES:,}")
    ships = calendar.name in shipped_names() and calendar.version.startswith(source()["version"])
    rows = [_row(calendar, first + timedelta(days=number)) for number in range((last - first).days + 1)]
    return {
        "exchange": market.code,
        "name": market.name,
        "time_zone": calendar.zone.key,
        "currency": market.currency,
        "asset_class": market.asset_class.value,
        "profiles": {name: profile.conditions_said() for name, profile in market.profiles},
        "default_profile": market.default_profile,
        "calendar": calendar.name,
        "version": calendar.version or None,
        "source": f"{source()['source']} {source()['version']}, tzdata {source()['tzdata']}" if ships else None,
        "known_from": None if calendar.first == FIRST_DATE else calendar.first.isoformat(),
        "known_until": None if calendar.last == LAST_DATE else calendar.last.isoformat(),
        "data": rows,
        "count": len(rows),
    }


def _row(calendar: TradingCalendar, day: date) -> dict[str, Any]:
    known = calendar.knows(day)
    parts = calendar.session(day) if known else ()
    status = "regular" if parts else "closed"
    if day in calendar.special:
        status = "special"
    return {
        "date": day.isoformat(),
        "status": status if known else "unknown",
        "opens": iso(parts[0][0]) if parts else None,
        "closes": iso(parts[-1][1]) if parts else None,
        "pauses": [f"{iso(before[1])}/{iso(after[0])}" for before, after in pairwise(parts)],
        "begins": iso(calendar.begins_us(day)),
        "ends": iso(calendar.begins_us(day + timedelta(days=1))),
    }


def _date(text: str, name: str) -> date:
    found = parse_date(text, name)
    if not FIRST_DATE <= found <= LAST_DATE:
        raise UserError(f"{name} is out of range", found=text, expected="a year from 1 to 9999")
    return found
