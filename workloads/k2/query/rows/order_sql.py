"""The SQL of when a row is, and where in the order: within stretches of time, later than a key. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from k2.model.events import SortKey
from k2.model.times import iso


def within(time: str, stretches: Sequence[tuple[int, int]], start_us: int | None, end_us: int | None) -> str:
    """The condition that a time lies in one of the stretches [start, end) that reach into [start_us, end_us)."""

    def overlaps(start: int, end: int) -> bool:
        return (start_us is None or end > start_us) and (end_us is None or start < end_us)

    return _among(time, [(start, end) for start, end in stretches if overlaps(start, end)])


def later(key: SortKey, times: Collection[str], params: dict[str, Any]) -> str:
    """The condition that a row comes after this key in the order; null is the last of its column; `times`: columns of times, in µs."""
    (name, value), *rest = key
    column = '"' + name.replace('"', '""') + '"'
    if value is None:
        equal, greater = f"{column} IS NULL", "false"
    else:
        literal = str(value) if isinstance(value, int) else f"$after_{name}"
        if name in times and isinstance(value, int):
            literal = f"TIMESTAMPTZ '{iso(value)}'"
        elif isinstance(value, str):
            params[f"after_{name}"] = value
        equal, greater = f"{column} = {literal}", f"({column} > {literal} OR {column} IS NULL)"
    return f"({greater} OR ({equal} AND {later(tuple(rest), times, params)}))" if rest else greater


def _among(time: str, stretches: Sequence[tuple[int, int]]) -> str:
    """The condition that a time lies in one of the stretches, as a search by halves: each row is compared with a few of them."""
    if not stretches:
        return "false"
    if len(stretches) == 1:
        ((start, end),) = stretches
        return f"({time} >= TIMESTAMPTZ '{iso(start)}' AND {time} < TIMESTAMPTZ '{iso(end)}')"
    middle = len(stretches) // 2
    before, behind = _among(time, stretches[:middle]), _among(time, stretches[middle:])
    return f"CASE WHEN {time} < TIMESTAMPTZ '{iso(stretches[middle][0])}' THEN {before} ELSE {behind} END"
