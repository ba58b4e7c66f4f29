"""What Bybit sends, typed: the stream's envelope, the answer to an operation, and the REST interface's trades and instruments.

Source: bybit-exchange.github.io/docs/v5 (WebSocket publicTrade and orderbook; REST recent-trade and instruments-info).
"""

from __future__ import annotations

import msgspec
from msgspec import field

from k2.feeds.venues.columns import Number
from k2.feeds.venues.reading import Name, UnreadableError, fields, rows, text

TRADES = "publicTrade"
QUOTES = "orderbook.1"


class StreamTrade(msgspec.Struct, gc=False):
    """A trade of the stream. `side` is the taker's."""

    symbol: Name = field(name="s")
    id: Name = field(name="i")
    time: Number = field(name="T", default=0)
    price: str = field(name="p", default="")
    quantity: str = field(name="v", default="")
    side: str = field(name="S", default="")
    tick_direction: str = field(name="L", default="")
    block: bool = field(name="BT", default=False)
    rpi: bool = field(name="RPI", default=False)
    seq: Number | None = None


class Book(msgspec.Struct, gc=False):
    """The best bid and ask: price and quantity, or nothing."""

    symbol: Name = field(name="s")
    bids: tuple[tuple[str, str], ...] = field(name="b", default=())
    asks: tuple[tuple[str, str], ...] = field(name="a", default=())
    update: Number = field(name="u", default=0)


class Message(msgspec.Struct, gc=False):
    """A message of a topic, or the answer to an operation."""

    topic: str = ""
    type: str = ""
    data: tuple[StreamTrade, ...] | Book | None = None
    ts: Number = 0
    cts: Number = 0
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""


class RestTrade(msgspec.Struct, rename="camel", gc=False):
    """A trade of /v5/market/recent-trade."""

    exec_id: Name
    symbol: str = ""
    price: str = ""
    size: str = ""
    side: str = ""
    time: Number = 0
    is_block_trade: bool = False
    is_rpi_trade: bool = field(name="isRPITrade", default=False)
    seq: Number | None = None


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str | None = None


class _LotFilter(msgspec.Struct, rename="camel"):
    base_precision: str | None = None


class ListedInstrument(msgspec.Struct, rename="camel"):
    """What /v5/market/instruments-info lists."""

    symbol: Name
    base_coin: str = ""
    quote_coin: str = ""
    status: str = ""
    price_filter: _PriceFilter = field(default_factory=_PriceFilter)
    lot_size_filter: _LotFilter = field(default_factory=_LotFilter)


class _Listed(msgspec.Struct):
    list: msgspec.Raw


class Answer(msgspec.Struct, rename="camel"):
    """Any answer of the REST interface: errors come with a code and an empty result."""

    ret_code: int = 0
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")


MESSAGES = msgspec.json.Decoder(Message, strict=False)
ANSWER = msgspec.json.Decoder(Answer)
LISTED = msgspec.json.Decoder(_Listed)
REST_TRADES = msgspec.json.Decoder(list[RestTrade], strict=False)
INSTRUMENTS = msgspec.json.Decoder(list[ListedInstrument])


def piece_by_piece(data: bytes) -> tuple[Message, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not.

    Raises:
        UnreadableError: nothing of it does.
    """
    found = fields(data)
    message = Message(text(found, "topic"), text(found, "type"), op=text(found, "op"), ret_msg=text(found, "ret_msg"))
    message.success = found.get("success") if isinstance(found.get("success"), bool) else None
    message.ts, message.cts = _number(found.get("ts")), _number(found.get("cts"))
    if message.topic.startswith(f"{TRADES}."):
        good, bad = rows(found.get("data", {}), StreamTrade, "trade")
        message.data = tuple(good)
        return message, [each.reason for each in bad]
    if message.topic.startswith(f"{QUOTES}."):
        books, bad = rows([found.get("data")], Book, "quote")
        if bad:
            raise UnreadableError(bad[0].reason)
        message.data = books[0]
    return message, []


def _number(told: object) -> int:
    return int(told) if isinstance(told, str) and told.isdecimal() and len(told) < 19 else 0
