"""What a stand-in exchange is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from k2_testing.exchange.counting import Rules
from k2_testing.exchange.faults import Script
from k2_testing.exchange.market import Listing, listings
from k2_testing.exchange.protocols.protocol import VenueProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A market, its pace, what goes wrong, and where it listens."""

    venue: str = "binance"
    seed: int = 1
    listed: int | Sequence[Listing] = 3
    """What is traded, or how many of the usual pairs."""
    rate: float | None = 200.0
    """Trades a second; None: as fast as the clients read."""
    trades: int | None = None
    """How many before the market goes quiet; two further ones of each symbol end it. None: no end."""
    quote_rate: float = 0.0
    history: int = 0
    """Trades of each symbol from before the market began: no part of the oracle, unless it is asked for them."""
    waits: bool = True
    """Whether the market begins when each symbol's trades are heard by somebody; otherwise with `begin`."""
    script: Script = field(default_factory=Script)
    rules: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Rules` other than the venue's own: `{"ping_seconds": 0.2}`."""
    apart_seconds: float = 0.0
    """How far the venue's clock is before ours."""
    host: str = "127.0.0.1"
    port: int = 0
    certified: str = "127.0.0.1"
    """The name in the certificate; another one than clients connect to does not fit."""

    def rules_of(self, venue: Rules) -> Rules:
        """The venue's rules with what is to be different."""
        return replace(venue, **self.rules)

    def listings(self, protocol: type[VenueProtocol]) -> tuple[Listing, ...]:
        """What is traded, in the venue's sizes."""
        if isinstance(self.listed, int):
            return listings(self.listed, protocol.quote_asset, protocol.finest)
        return tuple(self.listed)
