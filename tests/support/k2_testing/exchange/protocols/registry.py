"""The venues that the stand-in exchange can be, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from k2_testing.exchange.protocols.binance import Binance
from k2_testing.exchange.protocols.bybit import Bybit
from k2_testing.exchange.protocols.coinbase import Coinbase
from k2_testing.exchange.protocols.kraken import Kraken
from k2_testing.exchange.protocols.okx import Okx
from k2_testing.exchange.protocols.protocol import VenueProtocol

PROTOCOLS: Mapping[str, type[VenueProtocol]] = MappingProxyType(
    {kind.name: kind for kind in (Binance, Coinbase, Kraken, Okx, Bybit)}
)
