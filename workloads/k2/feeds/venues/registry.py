"""The exchanges that can be heard, by the name that a person writes in `source.live.venue`. A venue is a folder and its line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from k2.feeds.venues.binance.venue import Binance
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.venue import Venue

VENUES: Mapping[str, Callable[[EventColumns], Venue]] = MappingProxyType({Binance.name: Binance})
"""Name → class; it is made with what turns its rows into events of the feed."""
