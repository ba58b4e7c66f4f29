"""How a source numbers its events."""

from __future__ import annotations

from enum import StrEnum


class SequenceScope(StrEnum):
    """Which events a source numbers together: anew on each trading day, or without end (`…-continuous`)."""

    SYMBOL = "symbol"
    EXCHANGE = "exchange"
    SYMBOL_CONTINUOUS = "symbol-continuous"
    EXCHANGE_CONTINUOUS = "exchange-continuous"

    @property
    def by_symbol(self) -> bool:
        """Whether each symbol's events are numbered for themselves, and not those of all of an exchange together."""
        return self in {SequenceScope.SYMBOL, SequenceScope.SYMBOL_CONTINUOUS}

    @property
    def by_day(self) -> bool:
        """Whether the numbers may begin anew on each trading day."""
        return self in {SequenceScope.SYMBOL, SequenceScope.EXCHANGE}

    @property
    def described(self) -> str:
        """What the numbers are grouped by."""
        return f"{'symbol' if self.by_symbol else 'exchange'}{' and trading day' if self.by_day else ', over all days'}"
