"""The question about the newest trade and quote of symbols as a frozen value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass

from k2.query.asked.requests import CURRENT, At, check_symbols


@dataclass(frozen=True, slots=True)
class LastQuery:
    """The newest trade and the newest quote of each symbol.

    Attributes:
        symbols: one or more.
        exchange: of all symbols; None: of each the one that it is traded on.
        at: the snapshot that answers.
    """

    symbols: tuple[str, ...]
    exchange: str | None = None
    at: At = CURRENT

    def __post_init__(self) -> None:
        check_symbols(self.symbols, needed=True)
