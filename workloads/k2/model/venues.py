"""The exchanges that can be heard, as a person and a plan know them; `k2.feeds.venues.registry` has what reads each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

VenueName = Literal["binance", "bybit", "coinbase", "kraken", "okx"]

NUMBERED: Mapping[str, bool] = MappingProxyType(
    {"binance": True, "bybit": False, "coinbase": True, "kraken": True, "okx": True}
)
"""Whether the venue numbers each symbol's trades without holes, so that a sink can tell what is missing."""
