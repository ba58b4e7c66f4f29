"""Instants and dates as texts, and as integer microseconds since 1970, UTC. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

from k2.model.errors import UserError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
DAY_SECONDS = 86_400
UNITS_US = {"ms": 1_000, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}

EPOCH_DATE = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_FORM = "an ISO 8601 time (2014-03-10T10:00:00Z; UTC when it has no offset) or nanoseconds since 1970"
_DURATION = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[a-z]+)")
_NANOSECONDS = re.compile(r"-?[0-9]{1,19}")
_ISO = re.compile(r"(?P<head>.*[T ]\d{2}:\d{2}:\d{2})[.,](?P<fraction>[0-9]+)(?P<zone>.*)")
MIN_US, MAX_US = -9_223_372_036_854_775, 9_223_372_036_854_775
"""The times that K2 holds, [1677-09-21T00:12:43.145225Z, 2262-04-11T23:47:16.854775Z): what 64 bits of nanoseconds do, which is
what the libraries that read them (pandas, NumPy, Arrow's nanoseconds) can."""


def parse_time(text: str, name: str) -> int:
    """Microseconds since 1970 UTC of an ISO 8601 time, a date, or epoch nanoseconds.

    An instant between two microseconds becomes the later one: as a bound of [start, end) over microsecond data it then
    chooses the very same events. A bound beyond the times that K2 holds becomes the nearest that it does: there are no
    events beyond.

    Raises:
        UserError: it is neither, or outside the years 1 to 9999.
    """
    value = text.strip()
    micros = -(-int(value) // 1000) if _NANOSECONDS.fullmatch(value) else _parse_iso(value, text, name)
    return min(max(micros, MIN_US), MAX_US)


def _parse_iso(value: str, text: str, name: str) -> int:
    round_up = 0
    parts = _ISO.fullmatch(value)
    if parts is not None:
        fraction = parts["fraction"]
        round_up = int(bool(fraction[6:].strip("0")))
        value = f"{parts['head']}.{fraction[:6]:0<6}{parts['zone']}"
    try:
        # In a URL the plus of an offset turns into a space.
        parsed = datetime.fromisoformat(re.sub(r" (\d{2}:\d{2})$", r"+\1", value) if "T" in value else value)
        aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        since = aware.astimezone(UTC) - _EPOCH
    except (ValueError, OverflowError):
        raise UserError(f"{name} is not a time", found=text, expected=_TIME_FORM) from None
    return since // timedelta(microseconds=1) + round_up


def parse_date(text: str, name: str) -> date:
    """A calendar date `YYYY-MM-DD`, or a `UserError`."""
    value = text.strip()
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            return date.fromisoformat(value)
    except ValueError:
        pass  # a date that does not exist: the same answer as for no date at all
    raise UserError(f"{name} is not a date", found=text, expected="a calendar date, YYYY-MM-DD")


def duration_us(text: str, units: Collection[str]) -> int | None:
    """Microseconds of a number with one of these units (of `UNITS_US`), such as 30s; None for any other text."""
    found = _DURATION.fullmatch(text)
    return int(found["number"]) * UNITS_US[found["unit"]] if found is not None and found["unit"] in units else None


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def day_number(day: date) -> int:
    """Days from 1970-01-01 to that date."""
    return (day - EPOCH_DATE).days


def midnight(day: date) -> int:
    """Microseconds since 1970 of the date's first moment in UTC."""
    return day_number(day) * DAY_US


def to_datetime(micros: int) -> datetime:
    """The instant as an aware UTC datetime."""
    return datetime.fromtimestamp(micros // SECOND_US, UTC).replace(microsecond=micros % SECOND_US)


def iso(micros: int) -> str:
    """The instant as ISO 8601 with microseconds and Z, the form of every time in an answer."""
    return to_datetime(micros).isoformat(timespec="microseconds")[:26] + "Z"
