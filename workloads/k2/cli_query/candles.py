"""Bars as candlesticks with volume, in characters: what `--chart` prints. Pure, but for the terminal's size.

One column of characters a bar, two steps of price a line. With colours, bodies are green or red heavy lines; without, a
rising body is a line and a falling one a block. Positions are floating-point numbers, labels are exact.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal, localcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from k2.cli_query.axes import Tick, price_axis, time_labels
from k2.model.exchanges import known_exchange
from k2.query.asked.bar_requests import Interval

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_A_TERMINAL = (100, 30)
_LEAST_COLUMNS, _LEAST_LINES, _MOST_LINES = 20, 12, 48
_WIDEST_STEP = 3
_EXACT = Context(prec=100)  # by default sums and labels of a wide table's numbers would be rounded to 28 digits
_GREEN, _RED, _DIM, _BOLD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
# (upper half, lower half) of a cell, each nothing, wick or body → what is drawn.
_LINES = dict(zip(((u, low) for u in " wb" for low in " wb"), " ╷╻╵│╽╹╿┃", strict=True))
# A block has no half with a wick: the body is what counts.
_BLOCKS = dict(zip(((u, low) for u in " wb" for low in " wb"), " ╷▄╵│▄▀▀█", strict=True))
_EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Candle:
    """What one column shows: one bar, or several neighbours. `start` is in the exchange's time zone."""

    start: datetime
    day: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def rises(self) -> bool:
        """Whether it closed no lower than it opened."""
        return self.close >= self.open


def charts(rows: pa.Table, interval: Interval, *, colour: bool) -> Iterator[str]:
    """A chart of each exchange and symbol in `rows` (columns: `rows_of_bars.bar_schema`), to fit the terminal."""
    width, lines = shutil.get_terminal_size(_NOT_A_TERMINAL)
    of: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        of.setdefault((row["exchange"], row["symbol"]), []).append(row)
    for (exchange, symbol), found in of.items():
        known = known_exchange(exchange)
        zone = ZoneInfo("UTC") if known is None else known.zone
        candles = [_candle(row, zone) for row in found if row["open"] is not None]
        if candles:
            title = f"{symbol} {exchange}  {interval.value}"
            # The prompt stays in sight.
            height = min(max(lines - 1, _LEAST_LINES), _MOST_LINES)
            yield draw(candles, title, interval, width=width, height=height, colour=colour)


def draw(candles: Sequence[Candle], title: str, interval: Interval, *, width: int, height: int, colour: bool) -> str:
    """The picture.

    Args:
        candles: by time, one or more.
        title: what they are of.
        interval: of one candle.
        width: most characters of a line (20 columns of candles at least).
        height: lines.
        colour: with ANSI colours.
    """
    with localcontext(_EXACT):
        below = height - 5  # title, figures, and three lines of time
        volume_lines = max(2, below // 5)
        price_lines = below - volume_lines - 1
        first, last = candles[0], candles[-1]
        low, high, ticks = price_axis(min(c.low for c in candles), max(c.high for c in candles), price_lines)
        labels = (
            *(tick.label for tick in ticks),
            _short(max(c.volume for c in candles)),
            f"{last.close.normalize():f}",
        )
        beside = max(map(len, labels)) + 2  # with its mark
        columns = max(width - beside - 1, _LEAST_COLUMNS)
        shown, merged = _merged(candles, columns)
        step = max(1, min(_WIDEST_STEP, columns // len(shown)))
        used = len(shown) * step
        paint = _Paint(colour)
        each = "" if merged == 1 else f"  ({merged} bars a column)"
        zone = str(first.start.tzinfo)
        days = (
            f"{first.day:%a %-d %b %Y}" if first.day == last.day else f"{first.day:%-d %b %Y} to {last.day:%-d %b %Y}"
        )
        head = [paint.bold(f"{title}  {days}") + f"  {zone}{each}", _figures(candles, paint)]
        scale = _Scale(low, high, price_lines)
        prices = _price_panel(shown, scale, ticks, last, step, paint)
        volumes = _volume_panel(shown, volume_lines, step, paint)
        clock, dates = time_labels(
            [c.start for c in shown], [c.day for c in shown], step, daily=interval is Interval.DAY
        )
        axis = "".join("┴" if mark else "─" for mark in clock.marks[:used])
        lines = [*head, *prices, " " * used + paint.dim("│"), *volumes, paint.dim(f"{axis}┘"), clock.text, dates.text]
        return "".join(f"{line.rstrip()}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class _Paint:
    colour: bool

    def candle(self, text: str, candle: Candle) -> str:
        return self._in(_GREEN if candle.rises else _RED, text)

    def dim(self, text: str) -> str:
        return self._in(_DIM, text)

    def bold(self, text: str) -> str:
        return self._in(_BOLD, text)

    def cell(self, candle: Candle, upper: str, lower: str) -> str:
        glyphs = _LINES if self.colour or candle.rises else _BLOCKS
        glyph = glyphs[upper, lower]
        return glyph if glyph == " " else self.candle(glyph, candle)

    def _in(self, code: str, text: str) -> str:
        return f"{code}{text}{_PLAIN}" if self.colour else text


@dataclass(frozen=True, slots=True)
class _Scale:
    """Prices to half lines: 0 is the lowest half of the lowest line."""

    low: Decimal
    high: Decimal
    lines: int

    def half(self, price: Decimal) -> int:
        span = self.high - self.low
        return min(int((price - self.low) / span * 2 * self.lines), 2 * self.lines - 1)


def _price_panel(
    shown: Sequence[Candle], scale: _Scale, ticks: Sequence[Tick], last: Candle, step: int, paint: _Paint
) -> list[str]:
    labels = {scale.half(tick.value) // 2: tick.label for tick in ticks}
    halves = [[scale.half(price) for price in (c.low, *sorted((c.open, c.close)), c.high)] for c in shown]
    closing = scale.half(last.close) // 2
    gap = " " * (step - 1)
    lines: list[str] = []
    for line in reversed(range(scale.lines)):
        cells = [
            paint.cell(candle, _part(2 * line + 1, found), _part(2 * line, found))
            for candle, found in zip(shown, halves, strict=True)
        ]
        beside = f"{paint.dim('├')} {labels[line]}" if line in labels else paint.dim("│")
        if line == closing:
            beside = paint.dim("│") + paint.candle(f"◂{last.close.normalize():f}", last)
        lines.append("".join(cell + gap for cell in cells) + beside)
    return lines


def _part(half: int, found: Sequence[int]) -> str:
    low, bottom, top, high = found
    if bottom <= half <= top:
        return "b"
    return "w" if low <= half <= high else " "


def _volume_panel(shown: Sequence[Candle], lines: int, step: int, paint: _Paint) -> list[str]:
    most = max(c.volume for c in shown)
    # What was traded is seen, however little it was.
    eighths = (
        [max(1, round(c.volume / most * 8 * lines)) if c.volume else 0 for c in shown] if most else [0] * len(shown)
    )
    gap = " " * (step - 1)
    drawn: list[str] = []
    for line in reversed(range(lines)):
        cells = [_EIGHTHS[min(max(found - 8 * line, 0), 8)] for found in eighths]
        text = "".join((paint.candle(c, k) if c != " " else c) + gap for c, k in zip(cells, shown, strict=True))
        drawn.append(text + (f"{paint.dim('├')} {_short(most)}" if line == lines - 1 else paint.dim("│")))
    return drawn


def _figures(candles: Sequence[Candle], paint: _Paint) -> str:
    first, last = candles[0], candles[-1]
    high, low = max(c.high for c in candles), min(c.low for c in candles)
    whole = Candle(
        first.start, first.day, first.open, high, low, last.close, sum((c.volume for c in candles), Decimal())
    )
    prices = "  ".join(
        f"{name} {price.normalize():f}"
        for name, price in (("O", first.open), ("H", high), ("L", low), ("C", last.close))
    )
    return f"{prices}  {paint.candle(_change(first.open, last.close), whole)}  V {whole.volume.normalize():,f}"


def _change(first: Decimal, last: Decimal) -> str:
    """In percent; from a price of zero or less that would mean nothing, and it is the difference."""
    by = last - first
    return f"{by / first * 100:+.2f} %" if first > 0 else f"{by.normalize():+f}"


def _merged(candles: Sequence[Candle], columns: int) -> tuple[list[Candle], int]:
    """Neighbours joined until they fit; how many make one. None reaches over two dates while there is room for that."""
    together = -(-len(candles) // columns)
    groups = [list(candles[n : n + together]) for n in range(0, len(candles), together)]
    by_day = [candles[n : min(n + together, end)] for begin, end in _days(candles) for n in range(begin, end, together)]
    chosen = by_day if len(by_day) <= columns else groups
    return [_joined(group) for group in chosen], together


def _days(candles: Sequence[Candle]) -> Iterator[tuple[int, int]]:
    edges = [0, *(n + 1 for n, (a, b) in enumerate(pairwise(candles)) if a.day != b.day), len(candles)]
    return pairwise(edges)


def _joined(group: Sequence[Candle]) -> Candle:
    first, last = group[0], group[-1]
    volume = sum((c.volume for c in group), Decimal())
    high, low = max(c.high for c in group), min(c.low for c in group)
    return Candle(first.start, first.day, first.open, high, low, last.close, volume)


def _candle(row: dict[str, Any], zone: ZoneInfo) -> Candle:
    prices = (row[name] for name in ("open", "high", "low", "close", "volume"))
    return Candle(row["start"].astimezone(zone), row["date"], *prices)


def _short(volume: Decimal) -> str:
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if volume >= size:
            return f"{volume / size:.3g}{unit}" if volume / size < 1000 else f"{volume / size:,.0f}{unit}"
    return f"{volume:.4g}"
