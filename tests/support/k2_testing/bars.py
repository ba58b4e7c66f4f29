"""Bars as Python's fractions make them, tick by tick: what the platform's are compared with. Of BHP in Sydney."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from k2_testing.ticks import at

ZONE = ZoneInfo("Australia/Sydney")
WIDTH = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14400}

_AMOUNT = st.decimals(Decimal("0.00000001"), Decimal("9999999999.99999999"), places=8)
_PRICE = st.decimals(Decimal("-9999999999.99999999"), Decimal("9999999999.99999999"), places=8) | st.just(Decimal(0))
# From Friday to Monday, over the hours in which Sydney's clocks went back on 6 April and forward on 5 October 2014.
_FRIDAYS = (at("2014-03-07T00:00:00"), at("2014-04-04T00:00:00"), at("2014-10-03T00:00:00"))
TICK = st.fixed_dictionaries(
    {
        "timestamp": st.builds(
            lambda friday, second, micro: friday + timedelta(seconds=second, microseconds=micro),
            st.sampled_from(_FRIDAYS),
            st.integers(0, 84 * 3600) | st.integers(22 * 3600, 22 * 3600 + 300) | st.integers(39 * 3600, 42 * 3600),
            st.sampled_from([0, 1, 999_999]),
        ),
        "price": _PRICE,
        "quantity": _AMOUNT | st.just(Decimal(0)),
        "source_sequence": st.none() | st.integers(0, 3),
    }
)
"""A trade at a time that is hard for a calendar, or among many others."""


def session_of(day: date, session: str) -> tuple[datetime, datetime]:
    """Bounds in UTC of a session in Sydney."""
    first, last = (time(10), time(16)) if session == "regular" else (time(0), time(0))
    end_day = day if session == "regular" else day + timedelta(days=1)
    return datetime.combine(day, first, ZONE).astimezone(UTC), datetime.combine(end_day, last, ZONE).astimezone(UTC)


def _bucket(moment: datetime, interval: str, session: str) -> tuple[datetime, datetime] | None:
    day = moment.astimezone(ZONE).date()
    opens, closes = session_of(day, session)
    if not opens <= moment < closes or (session == "regular" and day.weekday() >= 5):
        return None
    if interval == "1d":
        return opens, closes
    width = timedelta(seconds=WIDTH[interval])
    start = opens + (moment - opens) // width * width
    return start, min(start + width, closes)


def independent_bars(
    ticks: Sequence[dict[str, Any]], interval: str, session: str, places: int = 8
) -> list[dict[str, Any]]:
    """Bars of ticks that are in the order of their offsets; TWAP by walking through the last prices of the date.

    Averages are rounded to `places`.
    """
    last = 2**70
    order = sorted(
        ticks, key=lambda t: (t["timestamp"], last if t["source_sequence"] is None else t["source_sequence"])
    )
    buckets: dict[tuple[datetime, datetime], list[dict[str, Any]]] = {}
    for tick in order:
        where = _bucket(tick["timestamp"], interval, session)
        if where is not None:
            buckets.setdefault(where, []).append(tick)
    return [_bar(where, buckets, places) for where in buckets]


def _bar(
    where: tuple[datetime, datetime], buckets: dict[tuple[datetime, datetime], list[dict[str, Any]]], places: int
) -> dict[str, Any]:
    (start, end), inside = where, buckets[where]
    day = start.astimezone(ZONE).date()
    earlier = [
        tick
        for (other, _), ticks in buckets.items()
        for tick in ticks
        if other < start and other.astimezone(ZONE).date() == day
    ]
    steps = [(start, earlier[-1]["price"])] if earlier else []
    steps += [(tick["timestamp"], tick["price"]) for tick in inside]
    steps.append((end, Decimal(0)))
    area = sum(Fraction(price) * _seconds(until - since) for (since, price), (until, _) in pairwise(steps))
    volume = sum(Fraction(tick["quantity"]) for tick in inside)
    notional = sum(Fraction(tick["quantity"]) * Fraction(tick["price"]) for tick in inside)
    return {
        "symbol": inside[0].get("symbol", "BHP"),
        "exchange": "ASX",
        "date": day,
        "start": start,
        "end": end,
        "open": inside[0]["price"],
        "high": max(tick["price"] for tick in inside),
        "low": min(tick["price"] for tick in inside),
        "close": inside[-1]["price"],
        "volume": volume,
        "vwap": _rounded(notional / volume, places) if volume else None,
        "twap": _rounded(area / _seconds(end - steps[0][0]), places),
        "trade_count": len(inside),
    }


def _rounded(value: Fraction, places: int) -> Fraction:
    return Fraction(round(value * 10**places), 10**places)


def _seconds(delta: timedelta) -> Fraction:
    return Fraction(delta // timedelta(microseconds=1), 1_000_000)
