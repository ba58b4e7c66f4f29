"""The calendars that ship: `calendars.jsonl`, compiled from exchange-calendars by `make calendars`.

The first line says of which release. Each calendar has a line with its range and weekly hours, and one for each year with the
dates that differ. A calendar's lines alone are parsed, when it is first asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from k2.model.calendars import Era, Parts, TradingCalendar, day_parts, weekly

PATH = Path(__file__).with_name("calendars.jsonl")
_PREFIX = '{"calendar":"'


@cache
def shipped_names() -> tuple[str, ...]:
    """The names of all calendars that ship."""
    return tuple(dict.fromkeys(line[len(_PREFIX) :].partition('"')[0] for line in _lines()[1:]))


@cache
def source() -> dict[str, str]:
    """What the calendars were compiled from: `source`, `version`, and the `tzdata` that they were compiled with."""
    return json.loads(_lines()[0])


@cache
def shipped_calendar(name: str) -> TradingCalendar | None:
    """The calendar of that name; None where none ships. Its version is the release's and a digest of what it says."""
    own = [line for line in _lines() if line.startswith(f'{_PREFIX}{name}"')]
    if not own:
        return None
    head, *years = map(json.loads, own)
    closed: set[date] = set()
    special: dict[date, Parts] = {}
    for said in years:
        closed |= {date.fromisoformat(f"{said['year']}-{day}") for day in said["closed"]}
        special |= {
            date.fromisoformat(f"{said['year']}-{day}"): _parts(hours) for day, hours in said["special"].items()
        }
    return TradingCalendar(
        name=name,
        version=f"{source()['version']}-{hashlib.sha256(''.join(own).encode()).hexdigest()[:8]}",
        zone=ZoneInfo(head["zone"]),
        eras=tuple(_era(*era) for era in head["hours"]),
        closed=frozenset(closed),
        special=special,
        first=date.fromisoformat(head["first"]),
        last=date.fromisoformat(head["last"]),
    )


@cache
def _lines() -> list[str]:
    return PATH.read_text().splitlines()


def _era(since: str, days: str, *hours: Any) -> Era:
    return Era(date.fromisoformat(since), weekly((int(day) - 1 for day in days), _parts(hours)))


def _parts(hours: Sequence[str]) -> Parts:
    opens, closes, *pause = hours
    return day_parts(opens, closes, [(pause[0], pause[1])] if pause else ())
