"""Instants and dates as texts, and as integer microseconds since 1970, UTC. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from k2.model.errors import UserError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
DAY_SECONDS = 86_400
UNITS_US = {"ms": 1_000, "s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US, "w": 7 * DAY_US}

EPOCH_DATE = date(1970, 1, 1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_FORM = (
    "an ISO 8601 time (2014-03-10T10:00:00Z; UTC when it has no offset), or a number since 1970 with its unit "
    "(1394445600000000000ns, also us, ms and s; 19 digits alone are nanoseconds)"
)
_DURATION = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[a-z]+)")
# A number says its unit, or is as long as nanoseconds of our time are: 20140310 would be a date to one, an instant to another.
_SINCE_1970 = re.compile(r"(?P<number>-?[0-9]{1,19})(?P<unit>ns|us|ms|s)|(?P<nanoseconds>-?[0-9]{19})")
_UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
# In a URL the plus of an offset turns into a space.
_ISO = re.compile(
    r"(?P<day>[0-9]{4}(?:-?[0-9]{2}-?[0-9]{2}|-?W[0-9]{2}-?[0-9]))"
    r"(?:[Tt ](?P<clock>[0-9:]+)(?:[.,](?P<fraction>[0-9]+))?(?P<zone>Z|z|[+ -][0-9:]+|))?"
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-5][0-9]))?")
# No place's clock is further from UTC than UTC+14.
_MOST_OFFSET_MINUTES = 14 * 60
OFFSET_FORM = "at most 14:00 from UTC, with minutes below 60"
MIN_US, MAX_US = -9_223_372_036_854_775, 9_223_372_036_854_775
"""The times that K2 holds, [1677-09-21T00:12:43.145225Z, 2262-04-11T23:47:16.854775Z): what 64 bits of nanoseconds do, which is
what the libraries that read them (pandas, NumPy, Arrow's nanoseconds) can."""


def parse_time(text: str, name: str, zone: ZoneInfo | None = None) -> int:
    """Microseconds since 1970 UTC of an ISO 8601 time, a date, or a number with its unit (19 digits alone: nanoseconds).

    What has no offset is of the zone; None: UTC.

    An instant between two microseconds becomes the later one: as a bound of [start, end) over microsecond data it then
    chooses the very same events. A bound beyond the times that K2 holds becomes the nearest that it does: there are no
    events beyond.

    Raises:
        UserError: it is neither, or a number whose instant 64 bits of nanoseconds do not hold.
    """
    value = text.strip()
    number = _SINCE_1970.fullmatch(value)
    if number is None:
        return min(max(_parse_iso(value, text, name, zone), MIN_US), MAX_US)
    count, unit = number["number"] or number["nanoseconds"], number["unit"] or "ns"
    micros = -(-int(count) * _UNITS_NS[unit] // 1000)
    if not MIN_US <= micros <= MAX_US:
        raise UserError(f"{name} is out of range", found=text, expected="a time of the years 1678 to 2261")
    return micros


def _parse_iso(value: str, text: str, name: str, zone: ZoneInfo | None) -> int:
    parts = _ISO.fullmatch(value)
    wrong = UserError(f"{name} is not a time", found=text, expected=_TIME_FORM)
    if parts is None or value.isdigit():
        raise wrong
    try:
        local = datetime.fromisoformat(f"{parts['day']}T{parts['clock'] or '00:00'}+00:00")
    except ValueError:
        raise wrong from None
    if zone is not None and not parts["zone"]:
        since = _in_zone(local, zone, text, name) - _EPOCH
    else:
        offset = offset_minutes((parts["zone"] or "Z").replace(" ", "+"))
        if offset is None:
            raise UserError(f"{name} has an offset that no clock has", found=text, expected=OFFSET_FORM)
        since = local - _EPOCH - timedelta(minutes=offset)
    fraction = parts["fraction"] or ""
    round_up = int(bool(fraction[6:].strip("0")))
    return since // timedelta(microseconds=1) + int(f"{fraction[:6]:0<6}") + round_up


def _in_zone(local: datetime, zone: ZoneInfo, text: str, name: str) -> datetime:
    """The instant at which the zone's clocks show that; a `UserError` where they never do, or do twice."""
    try:
        found = {
            moment
            for fold in (0, 1)
            if (moment := local.replace(tzinfo=zone, fold=fold).astimezone(UTC)).astimezone(zone).replace(tzinfo=UTC)
            == local
        }
    except OverflowError:
        raise UserError(f"{name} is out of range", found=text, expected="a time within the years 1 to 9999") from None
    if len(found) != 1:
        raise UserError(
            f"{zone.key}'s clocks {'show' if found else 'never show'} that {name}{' twice' if found else ''}",
            found=text,
            expected="a time with an offset, such as 2014-03-10T10:00:00+11:00",
        )
    return found.pop()


def parse_zone(text: str | None) -> ZoneInfo | None:
    """A time zone by its name, such as Australia/Sydney; None is none, and a `UserError` what is no zone."""
    if text is None:
        return None
    try:
        return ZoneInfo(text.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UserError(
            "tz is not a time zone", found=text, expected="a name of the IANA's, such as Australia/Sydney or UTC"
        ) from None


def offset_minutes(text: str) -> int | None:
    """Minutes that a clock is ahead of UTC, of an offset such as +10:30, -0530, +11 or Z; None where it is none."""
    if text in ("Z", "z"):
        return 0
    parts = _OFFSET.fullmatch(text)
    if parts is None:
        return None
    minutes = int(parts["hours"]) * 60 + int(parts["minutes"] or 0)
    if minutes > _MOST_OFFSET_MINUTES:
        return None
    return -minutes if parts["sign"] == "-" else minutes


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
