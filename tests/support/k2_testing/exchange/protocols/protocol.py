"""What a venue's protocol is to the stand-in exchange: messages in, messages out, and answers to questions. No sockets."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from k2_testing.exchange.counting import Rules, VenueClock
from k2_testing.exchange.market import Listing, Market, Quote, Trade, digits

FIELD_NOBODY_KNOWS = b'"addedLater":{"a":[1,null,"\\u20ac"]},'


@dataclass(slots=True)
class Talk:
    """What one connection has asked for, and how it is spoken to."""

    identity: str
    """Of the connection, in the venue's answers."""
    trades: set[int] = field(default_factory=set)
    """Listings whose trades it hears."""
    quotes: set[int] = field(default_factory=set)
    heartbeats: bool = False
    combined: bool = False
    """Messages are wrapped in the name of their stream."""
    resolution: int = 1
    """Microseconds in one of the units in which it is told times."""
    channel: str = ""
    """The one that the address of the connection has, where a venue has several."""
    sequence: int = 0
    """Of the next message, where the venue numbers them by connection."""

    @property
    def streams(self) -> int:
        """How many it hears."""
        return len(self.trades) + len(self.quotes)


@dataclass(frozen=True, slots=True)
class Query:
    """A question over REST."""

    path: str
    values: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Its answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class VenueProtocol(abc.ABC):
    """One venue's way to speak of a market.

    Args:
        market: what it speaks of.
        clock: the venue's.
    """

    name: ClassVar[str]
    rules: ClassVar[Rules]
    resolution: ClassVar[int] = 1
    """Of the venue's clock, in microseconds."""
    finest: ClassVar[int] = 8
    """Digits behind the point that its prices may have."""
    quote_asset: ClassVar[str] = "USDT"
    price_key: ClassVar[bytes]
    """What stands before a price in a message of trades: `"p":`."""

    def __init__(self, market: Market, clock: VenueClock) -> None:
        self.market, self.clock = market, clock
        self.symbols = [self.symbol(listing) for listing in market.listed]
        self.places = {symbol: place for place, symbol in enumerate(self.symbols)}
        self.prices = [self.spell(listing.tick) for listing in market.listed]
        self.quantities = [self.spell(listing.lot) for listing in market.listed]

    @staticmethod
    @abc.abstractmethod
    def symbol(listing: Listing) -> str:
        """How the venue writes it."""

    def spell(self, step: Decimal) -> Callable[[int], str]:
        """How a number of ticks or lots is written: as many digits as it needs."""
        plain = fixed(step, digits(step))
        return (lambda units: plain(units).rstrip("0").rstrip(".")) if digits(step) else plain

    @abc.abstractmethod
    def opened(self, path: str, values: Mapping[str, str], talk: Talk) -> list[bytes] | None:
        """What is said first to who connects with this address; None: there is nothing at that path."""

    @abc.abstractmethod
    def received(self, text: str, talk: Talk) -> list[bytes]:
        """What is answered to a message, in order; `talk` is changed by it."""

    def subscribes(self, text: str) -> bool:
        """Whether a message asks for streams, or to be rid of them."""
        return "subscribe" in text.lower()

    @abc.abstractmethod
    def refusal(self, text: str, talk: Talk) -> bytes:
        """The refusal of a subscription."""

    @abc.abstractmethod
    def of_trades(self, trades: Sequence[Trade], talk: Talk) -> list[bytes]:
        """The messages of trades of one listing, which came together."""

    @abc.abstractmethod
    def of_quotes(self, quotes: Sequence[Quote], talk: Talk) -> list[bytes]:
        """The messages of quotes."""

    def snapshot(self, listing: int, talk: Talk) -> list[bytes]:
        """The last trades once more."""
        return self.of_trades(self.market.newest(listing, 100), talk)

    def heartbeat(self, talk: Talk) -> list[bytes]:
        """What the venue says each `heartbeat_seconds`, whatever happens."""
        return []

    def shutdown(self, talk: Talk) -> list[bytes]:
        """What it says before it ends a connection of its own will."""
        return []

    @abc.abstractmethod
    def unknown(self, talk: Talk, padding: str = "") -> bytes:
        """An event that no documentation knows."""

    def with_new_field(self, message: bytes) -> bytes:
        """A message of trades with a field more."""
        return message.replace(self.price_key, FIELD_NOBODY_KNOWS + self.price_key)

    def with_other_spelling(self, message: bytes) -> bytes:
        """A message of trades with its prices as numbers where they were strings, or as strings where they were numbers."""
        key = re.escape(self.price_key)
        numbers = re.sub(key + rb'"([^"]*)"', self.price_key + rb"\1", message)
        return numbers if numbers != message else re.sub(key + rb"([0-9.]+)", self.price_key + rb'"\1"', message)

    def weight(self, query: Query) -> float:
        """What a question costs."""
        return 1.0

    @abc.abstractmethod
    def answer(self, query: Query) -> Reply:
        """The answer to a question."""

    def used(self, weight: float) -> dict[str, str]:
        """The headers in which an answer says how much of the limit is used."""
        return {}

    def limited(self, status: int, retry_after: int) -> Reply:
        """The answer to one question too many."""
        return Reply(b"Too Many Requests", status, {"Retry-After": str(retry_after)})


def fixed(step: Decimal, shown: int) -> Callable[[int], str]:
    """How whole steps are written with so many digits behind the point, exactly."""
    whole = int(step.scaleb(shown))
    if step != Decimal(whole).scaleb(-shown):
        raise ValueError(f"{step} cannot be written with {shown} digits behind the point")
    if not shown:
        return lambda units: str(units * whole)
    unit = 10**shown

    def write(units: int) -> str:
        above, below = divmod(units * whole, unit)
        return f"{above}.{below:0{shown}d}"

    return write


def iso(time: int, shown: int = 0) -> str:
    """A time in microseconds as exchanges write it, with so many digits of its second at least and none that are noughts beyond."""
    seconds, micros = divmod(time, 1_000_000)
    below = f"{micros:06d}".rstrip("0").ljust(shown, "0")
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{below}Z" if below else f"{moment}Z"


def dumped(value: Any) -> bytes:
    """JSON as exchanges write it: without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def number(text: str | None, default: int, most: int) -> int:
    """A number of a query, within bounds."""
    return min(int(text), most) if text and text.isdecimal() else default
