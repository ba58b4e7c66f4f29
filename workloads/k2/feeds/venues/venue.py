"""What an exchange has to tell so that its market can be heard: one class, which opens no socket and keeps no state of a connection.

`k2.feeds.live` connects, subscribes, fills and counts for all of them; a venue is a folder here with the one class that says what is
sent, and what the answers mean. Everything of it is pure: bytes in, columns out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

import pyarrow as pa

from k2.feeds.load.unreadable import Unreadable
from k2.model.topics import DataType


class Numbering(StrEnum):
    """What the number of a trade (its `source_sequence`) proves."""

    CONSECUTIVE = "consecutive"
    """Per symbol, by one, without holes: a number that is missing is a trade that is missing, and can be asked for."""
    NONE = "none"
    """Nothing. What is known is when no connection was up."""


@dataclass(frozen=True, slots=True)
class VenueLimits:
    """What an exchange lets one address do. Sizes of batches and paces stay within four fifths of them."""

    streams_a_connection: int
    """A stream is a symbol and a data type."""
    messages_a_second: float
    """That we send on a connection, answers to its pings included."""
    connections_a_minute: float
    batch: int = 200
    """Streams in one subscription."""
    lifetime_seconds: float | None = None
    """After which the exchange ends a connection; None: never."""
    weight_a_minute: float = 1200.0
    """Of requests over REST, in the exchange's own units."""
    connections_at_once: int = 10
    """That may be opened one right after the other, after a rest. 1: the limit is of a second, and has no room for more."""


class Frame(NamedTuple):
    """A message of a connection as it came."""

    data: bytes
    received: int
    """Microseconds since 1970 by our clock."""
    connection: int
    """Which of the feed's connections; counts on when one is made anew."""


class NoticeKind(StrEnum):
    """What a message says that is no event of the market."""

    SUBSCRIBED = "subscribed"
    REFUSED = "refused"
    """A subscription was refused, or the venue told of an error; `text` is its words."""
    ENDING = "ending"
    """This connection will be ended soon: open the next one now."""
    ALIVE = "alive"
    """A heartbeat that the venue sends as a message: no data."""
    INSTRUMENTS = "instruments"
    """Something changed in what is listed: ask again."""
    UNKNOWN = "unknown"
    """An event that we do not know. Counted by `text` (its name), never an error."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a message said beside events."""

    kind: NoticeKind
    connection: int
    text: str = ""
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Heard:
    """What frames say: events as columns of `k2.model.events.arrow_schema`, in the order in which they came.

    A trade's `source_sequence` is the venue's own number of it where those are consecutive (`Venue.numbering`), and so are `trade_id`
    and `message_id` those that a file of the same venue gives: a trade is the same event whichever way it came.
    `vendor_data` has the message's own further fields.
    """

    events: Mapping[DataType, pa.RecordBatch] = field(default_factory=lambda: MappingProxyType({}))
    notices: tuple[Notice, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class Instrument:
    """What can be subscribed to, as the venue lists it."""

    symbol: str
    """As K2 and the venue's REST interface spell it: BTCUSDT, BTC-USD, BTC/USD."""
    base: str
    quote: str
    """The currency of its prices."""
    trading: bool
    status: str
    """In the venue's words."""
    tick: Decimal | None = None
    """The smallest step of a price; None: the venue does not say."""
    lot: Decimal | None = None
    """The smallest step of a quantity."""
    volume: Decimal | None = None
    """What was traded in a day, in the quote currency, where the listing says it: the order in which gaps are filled."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET of the venue's REST interface."""

    path: str
    """From the root, with its query: /api/v3/exchangeInfo."""
    weight: float
    """In the units of `VenueLimits.weight_a_minute`."""
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Hole:
    """Trades of a symbol that did not come: numbers first to last, both included, traded between two times that are known.

    `after` and `before` are the times of the trades beside the hole, in microseconds since 1970 by the venue's clock.
    """

    symbol: str
    first: int
    last: int
    after: int
    before: int


@dataclass(frozen=True, slots=True)
class Filled:
    """What an answer to `Venue.fill` holds."""

    heard: Heard
    next: Request | None = None
    """To go on with where the answer did not reach the end of what was asked for; None: this was all that the venue has."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One connection's address and what is sent on it after it is open, each in its turn under the limits."""

    path: str
    """With the query, from the root of the stream's address."""
    messages: tuple[bytes, ...] = ()


class Venue(Protocol):
    """An exchange's public market data."""

    name: str
    """As in `source.live.venue`: binance."""
    exchange: str
    """The exchange's code: BINANCE."""
    stream_url: str
    """Of its own; a setting may name another."""
    rest_url: str
    numbering: Numbering
    limits: VenueLimits
    data_types: Collection[DataType]
    """What it can be heard for."""
    separate: bool
    """Whether each data type has an address of its own, so that a connection hears one of them; else it may hear all."""
    ping: bytes | None
    """The message that keeps a connection open; None: the protocol's own pings do."""
    ping_seconds: float

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """How one connection hears these, at most `limits.streams_a_connection` streams."""
        ...

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """What is sent on an open connection to hear others, in batches of `limits.batch`."""
        ...

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """What frames say. Never raises for what a frame holds: that is `unreadable`, or a notice."""
        ...

    def instruments(self) -> Request:
        """What asks for all that is listed."""
        ...

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """The listing.

        Raises:
            WorldError: the answer is no listing.
        """
        ...

    def fill(self, hole: Hole) -> Request | None:
        """What asks for the trades of a hole; None: the venue has no such question."""
        ...

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """The answer to that, with only the trades that were asked for.

        Raises:
            WorldError: the answer is none.
        """
        ...

    def latest(self, symbol: str) -> Request | None:
        """What asks for the newest trades of a symbol: their numbers tell what was missed while nothing was heard."""
        ...

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """The answer to that.

        Raises:
            WorldError: the answer is none.
        """
        ...
