"""How a source numbers its events."""

from __future__ import annotations

from enum import StrEnum


class SequenceScope(StrEnum):
    """Which events a source numbers together."""

    SYMBOL = "symbol"
    EXCHANGE = "exchange"
