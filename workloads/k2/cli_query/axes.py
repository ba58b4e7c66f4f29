"""The axes of a chart in characters: round prices, and times where there is room for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import pairwise

_LINES_BETWEEN = 3
_ROUND = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1440)
_SPACE = 2


@dataclass(frozen=True, slots=True)
class Tick:
    """A price of the axis."""

    value: Decimal
    label: str


@dataclass(frozen=True, slots=True)
class Labels:
    """A line of labels, and the columns that they stand for."""

    text: str
    marks: Sequence[bool]


def price_axis(low: Decimal, high: Decimal, lines: int) -> tuple[Decimal, Decimal, list[Tick]]:
    """What an axis reaches from and to, and the round prices on it, about three lines apart."""
    if low == high:  # one price: a step of its last place around it
        step = Decimal(1).scaleb(min(_exponent(low), 0))
        return low - step, high + step, _ticks(low - step, high + step, step)
    wanted = (high - low) / max(1, lines // _LINES_BETWEEN)
    unit = Decimal(1).scaleb(wanted.adjusted())
    step = next(factor * unit for factor in _ROUND if factor * unit >= wanted)
    return low, high, _ticks(low, high, step)


def _ticks(low: Decimal, high: Decimal, step: Decimal) -> list[Tick]:
    """Multiples of `step` from `low` to `high`."""
    first = int((low / step).to_integral_value(ROUND_CEILING))
    last = int((high / step).to_integral_value(ROUND_FLOOR))
    places = max(0, -_exponent(step))
    return [Tick(n * step, f"{n * step:,.{places}f}") for n in range(first, last + 1)]


def _exponent(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def time_labels(starts: Sequence[datetime], days: Sequence[date], step: int, *, daily: bool) -> tuple[Labels, Labels]:
    """Two lines below columns that begin at `starts`: times of day and dates; days and months where `daily`.

    Args:
        starts: local times, one a column, in order.
        days: their trading dates.
        step: characters of a column.
        daily: a column is a day or more.
    """
    if daily:
        upper = [f"{day.day}" for day in days]
        lower = [f"{d:%b %Y}" if not n or d.month != days[n - 1].month else "" for n, d in enumerate(days)]
    else:
        upper = _times(starts, days, step)
        lower = [f"{d:%a %-d %b}" if not n or d != days[n - 1] else "" for n, d in enumerate(days)]
    return _placed(upper, step), _placed(lower, step)


def _times(starts: Sequence[datetime], days: Sequence[date], step: int) -> list[str]:
    """The first time of each date, and times where a new multiple of the finest interval begins that leaves them room."""
    width = -(-(len("00:00") + _SPACE) // step)
    opens = [n for n in range(len(days)) if not n or days[n] != days[n - 1]]
    closing = [
        opened for opened, n in zip([*opens[1:], len(days) + width], opens, strict=True) for _ in range(n, opened)
    ]
    inner: list[int] = []
    for minutes in _MINUTES:
        numbers = [(day, (start.hour * 60 + start.minute) // minutes) for start, day in zip(starts, days, strict=True)]
        begun = [n for n in range(1, len(days)) if numbers[n] != numbers[n - 1] and days[n] == days[n - 1]]
        inner = [n for n in begun if closing[n] - n >= width]
        if all(b - a >= width for a, b in pairwise(sorted((*inner, *opens))) if b in inner):
            break
    shown = {*opens, *inner}
    return [f"{start:%H:%M}" if n in shown else "" for n, start in enumerate(starts)]


def _placed(texts: Sequence[str], step: int) -> Labels:
    """Each text at its column, where the one before leaves room."""
    line = ""
    marks = [False] * (len(texts) * step)
    for n, text in enumerate(texts):
        column = n * step
        if text and (not line or column >= len(line) + _SPACE):
            line = line.ljust(column) + text
            marks[column] = True
    return Labels(line, marks)
