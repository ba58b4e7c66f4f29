"""What Bybit sends, typed: the stream's envelope, the answer to an operation, and the REST interface's trades and instruments.

Source: bybit-exchange.github.io/docs/v5 (WebSocket publicTrade and orderbook; REST recent-trade and instruments-info).
"""

from __future__ import annotations

import msgspec
from msgspec import field

from k2.feeds.venues.columns import Number
from k2.feeds.venues.reading import Name, NoMessageError, fields, rows, text

TRADES = "publicTrade"
QUOTES = "orderbook.1"


class BybitTrade(msgspec.Struct, gc=False):
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


class BybitBook(msgspec.Struct, gc=False):
    """The best bid and ask: price and quantity, or nothing."""

    symbol: Name = field(name="s")
    bids: tuple[tuple[str, str], ...] = field(name="b", default=())
    asks: tuple[tuple[str, str], ...] = field(name="a", default=())
    update: Number = field(name="u", default=0)


class BybitMessage(msgspec.Struct, gc=False):
    """A message of a topic, or the answer to an operation."""

    topic: str = ""
    type: str = ""
    data: tuple[BybitTrade, ...] | BybitBook | None = None
    ts: Number = 0
    cts: Number = 0
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""


class BybitRestTrade(msgspec.Struct, rename="camel", gc=False):
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


class _BybitPriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str | None = None


class _BybitLotFilter(msgspec.Struct, rename="camel"):
    base_precision: str | None = None


class BybitInstrument(msgspec.Struct, rename="camel"):
    """What /v5/market/instruments-info lists."""

    symbol: Name
    base_coin: str = ""
    quote_coin: str = ""
    status: str = ""
    price_filter: _BybitPriceFilter = field(default_factory=_BybitPriceFilter)
    lot_size_filter: _BybitLotFilter = field(default_factory=_BybitLotFilter)


class _BybitListed(msgspec.Struct):
    list: msgspec.Raw


class BybitAnswer(msgspec.Struct, rename="camel"):
    """Any answer of the REST interface: errors come with a code and an empty result."""

    ret_code: int = 0
    ret_msg: str = ""
    result: msgspec.Raw = msgspec.Raw(b"{}")


MESSAGES = msgspec.json.Decoder(BybitMessage, strict=False)
ANSWER = msgspec.json.Decoder(BybitAnswer)
LISTED = msgspec.json.Decoder(_BybitListed)
REST_TRADES = msgspec.json.Decoder(list[BybitRestTrade], strict=False)
INSTRUMENTS = msgspec.json.Decoder(list[BybitInstrument])


def piece_by_piece(data: bytes) -> tuple[BybitMessage, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not.

    Raises:
        NoMessageError: nothing of it does.
    """
    found = fields(data)
    message = BybitMessage(
        text(found, "topic"), text(found, "type"), op=text(found, "op"), ret_msg=text(found, "ret_msg")
    )
    message.success = found.get("success") if isinstance(found.get("success"), bool) else None
    message.ts, message.cts = _number(found.get("ts")), _number(found.get("cts"))
    if message.topic.startswith(f"{TRADES}."):
        good, bad = rows(found.get("data", {}), BybitTrade, "trade")
        message.data = tuple(good)
        return message, [each.reason for each in bad]
    if message.topic.startswith(f"{QUOTES}."):
        books, bad = rows([found.get("data")], BybitBook, "quote")
        if bad:
            raise NoMessageError(bad[0].reason)
        message.data = books[0]
    return message, []


def _number(told: object) -> int:
    return int(told) if isinstance(told, str) and told.isdecimal() and len(told) < 19 else 0
