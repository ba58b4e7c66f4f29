"""The exchanges that can be heard, by the name that a person writes in `source.live.venue`. A venue is a folder and its line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from k2.feeds.venues.binance.venue import Binance
from k2.feeds.venues.bybit.venue import Bybit
from k2.feeds.venues.coinbase.venue import Coinbase
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.kraken.venue import Kraken
from k2.feeds.venues.okx.venue import Okx
from k2.feeds.venues.venue import Venue

VENUES: Mapping[str, Callable[[EventColumns], Venue]] = MappingProxyType(
    {
        Binance.name: Binance,
        Bybit.name: Bybit,
        Coinbase.name: Coinbase,
        Kraken.name: Kraken,
        Okx.name: Okx,
    }
)
"""Name → class; it is made with what turns its rows into events of the feed."""
