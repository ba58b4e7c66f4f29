"""Cron lines, in the part of the syntax on which Kubernetes and the local executor agree: five fields, names, ranges, steps.

The one importer of cronsim. Pure: the time is an argument.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

EXPECTED = "a cron line of five fields (minute, hour, day of month, month, day of week), such as 15 3 * * *"

_MONTHS = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DAYS = "(?i:sun|mon|tue|wed|thu|fri|sat)"


def _field(value: str) -> str:
    item = f"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


PATTERN = (
    "^"
    + " +".join(
        _field(value)
        for value in (
            "[0-5]?[0-9]",
            "([01]?[0-9]|2[0-3])",
            "(0?[1-9]|[12][0-9]|3[01])",
            f"(0?[1-9]|1[0-2]|{_MONTHS})",
            # No 7 for Sunday: Kubernetes refuses it.
            f"([0-6]|{_DAYS})",
        )
    )
    + "$"
)
"""For the API server (CEL) and for `plan`; without a backslash, so that it needs no escaping."""

_ANY_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def schedule_problem(line: str) -> str:
    """What is wrong with a cron line; empty when nothing is."""
    if not re.fullmatch(PATTERN, line):
        return "not a cron line"
    try:
        next(CronSim(line, _ANY_DAY))
    except CronSimError:
        return "a range that ends before it begins, or a day that no month has"
    except StopIteration:
        return "a time that never comes"
    return ""


def known_zone(name: str) -> bool:
    """Whether there is a time zone of that name (IANA)."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def next_run(line: str, zone: str, after: datetime) -> datetime:
    """The first time of a line after a moment, in UTC."""
    return next(CronSim(line, after.astimezone(ZoneInfo(zone)))).astimezone(UTC)
