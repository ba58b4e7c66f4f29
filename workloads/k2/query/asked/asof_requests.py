"""The question about trades and the quotes that prevailed as a frozen value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from k2.model.errors import UserError
from k2.model.prints import EVERY_PRINT, Prints
from k2.model.times import DAY_US, HOUR_US, MAX_US, MIN_US, duration_us
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.requests import CURRENT, DEFAULT_LIMIT, At, Window, check_limit, check_symbols

_UNITS = ("ms", "s", "m", "h", "d")


@dataclass(frozen=True, slots=True)
class AsofQuery:
    """Trades of symbols in a window, oldest first, at most `limit` of them, each with the quote that prevailed.

    Attributes:
        symbols: one or more.
        exchange: of all symbols; None: of each the one that it is traded on.
        window: where the trades lie.
        limit: most trades.
        lookback_us: oldest age of a quote (µs) that still prevails; None: it is of the trade's own trading date.
        at: the snapshot that answers.
        fields: columns of the answer, in this order; none: all.
        prints: only trades that these let through; the quotes are all.
        adjusted: for what prices and quantities are adjusted; None: they are as they were traded.
    """

    symbols: tuple[str, ...]
    exchange: str | None = None
    window: Window = Window()  # noqa: RUF009 (frozen)
    limit: int = DEFAULT_LIMIT
    lookback_us: int | None = None
    at: At = CURRENT
    fields: tuple[str, ...] = ()
    prints: Prints = EVERY_PRINT
    adjusted: Adjusting | None = None

    @property
    def around_quotes(self) -> Window:
        """What any exchange's quotes of these trades lie in."""
        start_us = self.window.start_us
        back = DAY_US + HOUR_US if self.lookback_us is None else self.lookback_us
        return Window(None if start_us is None else max(start_us - back, MIN_US), self.window.end_us)

    def __post_init__(self) -> None:
        check_symbols(self.symbols, needed=True)
        check_limit(self.limit)
        if self.lookback_us is not None and self.lookback_us < 1:
            raise UserError("lookback is too short", found=f"{self.lookback_us} µs", expected="more than nothing")


def parse_lookback(text: str | None) -> int | None:
    """Microseconds of a duration such as 500ms, 30s, 5m, 1h or 2d; None for `day` and for nothing: the trading date."""
    if text is None or text.strip() == "day":
        return None
    found = duration_us(text.strip(), _UNITS)
    if found is None:
        raise UserError(
            "lookback is no duration", found=text, expected="day, or a number with ms, s, m, h or d, such as 30s"
        )
    return min(found, MAX_US)
