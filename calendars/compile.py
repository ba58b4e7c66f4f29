"""Compiles the calendars that ship with K2 from exchange-calendars (`make calendars`): workloads/k2/model/calendars.jsonl.

The library is asked here and nowhere else: it loads pandas, its range depends on the day of asking, and its releases change old
answers. What it says of each date is put down as hours by the week and the dates that differ, a line for each calendar and year,
so that a release's changes can be read in a diff.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from datetime import date, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import exchange_calendars
import pandas as pd
import yaml

MODEL = Path(__file__).parents[1] / "workloads" / "k2" / "model"
OUTPUT = MODEL / "calendars.jsonl"
FIRST, LAST = date(1990, 1, 1), date(2029, 12, 31)
"""What is asked for; a calendar whose source knows less has less."""

Hours = tuple[str, ...]
"""Open, close, and the pause's start and end where there is one, by the exchange's clocks."""


def names() -> list[str]:
    """The calendars that the exchanges which ship refer to."""
    entries = yaml.safe_load((MODEL / "exchanges.yaml").read_text())["exchanges"].values()
    return sorted({entry["calendar"] for entry in entries if "calendar" in entry})


def document(wanted: list[str]) -> str:
    """All lines of the file."""
    source = {"source": "exchange-calendars", "version": version("exchange-calendars"), "tzdata": version("tzdata")}
    lines = [source, *(line for name in wanted for line in compiled(name))]
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def compiled(name: str) -> list[dict[str, Any]]:
    """The lines of one calendar: its range and weekly hours, then the dates of each year that differ from them."""
    known = exchange_calendars.get_calendar(name, *(bound.isoformat() for bound in _range(name)))
    zone, sessions = str(known.tz), _sessions(known)
    first, last = min(sessions), max(sessions)
    # The range is that of the source, not of its first session: New Year's Day is known to be none.
    first, last = max(FIRST, date(first.year, 1, 1)) if first.month == 1 and first.day < 10 else first, _end(last)
    eras = _eras(known, sessions, first, last)
    lines: list[dict[str, Any]] = [
        {
            "calendar": name,
            "zone": zone,
            "first": first.isoformat(),
            "last": last.isoformat(),
            "hours": [[since.isoformat(), days, *hours] for since, days, hours in eras],
        }
    ]
    for year in range(first.year, last.year + 1):
        closed: list[str] = []
        special: dict[str, Hours] = {}
        day = max(first, date(year, 1, 1))
        while day <= min(last, date(year, 12, 31)):
            _, days, hours = next(era for era in reversed(eras) if era[0] <= day)
            found = sessions.get(day)
            if found is None and str(day.isoweekday()) in days:
                closed.append(day.isoformat()[5:])
            elif found is not None and (found != hours or str(day.isoweekday()) not in days):
                special[day.isoformat()[5:]] = found
            day += timedelta(days=1)
        lines.append({"calendar": name, "year": year, "closed": closed, "special": special})
    return lines


def _range(name: str) -> tuple[date, date]:
    kind = type(exchange_calendars.get_calendar(name))
    low, high = kind.bound_min(), kind.bound_max()
    return (
        max(FIRST, low.date()) if low is not None else FIRST,
        min(LAST, high.date()) if high is not None else LAST,
    )


def _end(last: date) -> date:
    return date(last.year, 12, 31) if last.month == 12 and last.day > 20 else last


def _sessions(known: Any) -> dict[date, Hours]:
    found: dict[date, Hours] = {}
    table = known.schedule
    for session, opens, closes, pause, resumes in zip(
        table.index, table["open"], table["close"], table["break_start"], table["break_end"], strict=True
    ):
        instants = [opens, closes] if pd.isna(pause) else [opens, closes, pause, resumes]
        local = [instant.tz_convert(known.tz) for instant in instants]
        found[session.date()] = tuple(f"{moment:%H:%M}" for moment in local)
        begins, ends = ((moment.date() - session.date()).days for moment in local[:2])
        # The file says hours without their date: those that begin the evening before end no later than they begin.
        overnight = local[0].time() >= local[1].time()
        if (begins, ends) != (-int(overnight), 0) and f"{local[1]:%H:%M}" != "00:00":
            raise ValueError(f"{session} is open from {local[0]} to {local[1]}")
    return found


def _eras(known: Any, sessions: dict[date, Hours], first: date, last: date) -> list[tuple[date, str, Hours]]:
    """Weekly hours, each with the date from which on they are those: where the source has them change."""
    changes = {first, last + timedelta(days=1)}
    for times in (known.open_times, known.close_times, known.break_start_times, known.break_end_times):
        changes |= {since.date() for since, _ in times or () if since is not None}
    for since, until, _ in getattr(known, "special_weekmasks", None) or ():
        changes |= {since.date() for since in (since,) if since is not None}
        changes |= {until.date() + timedelta(days=1) for until in (until,) if until is not None}
    eras: list[tuple[date, str, Hours]] = []
    for since, until in pairwise(sorted(each for each in changes if first <= each <= last + timedelta(days=1))):
        within = {day: hours for day, hours in sessions.items() if since <= day < until}
        if len(within) < 30 and eras:  # a week with a Saturday in it: its dates are listed
            continue
        weeks = (until - since).days / 7
        per_day = Counter(day.isoweekday() for day in within)
        days = "".join(str(day) for day in range(1, 8) if per_day[day] > weeks / 2)
        usual = Counter(within.values()).most_common(1)[0][0]
        if not eras or eras[-1][1:] != (days, usual):
            eras.append((since, days, usual))
    return eras


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the library warns of every date that it cannot know
    wanted = names()
    OUTPUT.write_text(document(wanted))
    sys.stderr.write(f"{OUTPUT}: {len(wanted)} calendars\n")
