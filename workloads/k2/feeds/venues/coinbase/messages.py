"""What Coinbase sends, typed: the stream's envelope with its channels, and the REST interface's trades and products.

Sources: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels (stream),
docs.cdp.coinbase.com/exchange/reference (REST).
"""

from __future__ import annotations

from typing import cast

import msgspec

from k2.feeds.venues.columns import Number
from k2.feeds.venues.reading import Name, fields, rows, shown, text

TRADES = "market_trades"
QUOTES = "ticker"
HEARTBEATS = "heartbeats"
ANSWERS = "subscriptions"
CHANNELS = frozenset({TRADES, QUOTES, HEARTBEATS, ANSWERS})


class StreamTrade(msgspec.Struct, gc=False):
    """A trade of the stream. `side` is the maker's."""

    product_id: Name
    trade_id: Number
    price: str
    size: str
    time: str
    side: str = ""


class Ticker(msgspec.Struct, gc=False):
    """The best bid and ask after a trade; a side that is empty has no orders."""

    product_id: Name
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class Event(msgspec.Struct, gc=False):
    """What a message holds, by its channel. Trades stand newest first.

    Tuples, because an empty list would be made anew for every message.
    """

    trades: tuple[StreamTrade, ...] = ()
    tickers: tuple[Ticker, ...] = ()
    subscriptions: dict[str, list[str]] | None = None


class Message(msgspec.Struct, gc=False):
    """A message of the stream. One without a channel has a `type` (error) and the venue's words."""

    channel: str = ""
    timestamp: str = ""
    events: tuple[Event, ...] = ()
    type: str = ""
    message: str = ""


class RestTrade(msgspec.Struct, gc=False):
    """A trade of /products/X/trades. `side` is the maker's, in lower case."""

    trade_id: Number
    price: str
    size: str
    time: str
    side: str = ""


class Product(msgspec.Struct):
    """What /products lists."""

    id: Name
    base_currency: str
    quote_currency: str
    quote_increment: str | None = None
    base_increment: str | None = None
    status: str = ""
    trading_disabled: bool = False


# Not strict: `trade_id` is a text in the stream and a number over REST.
MESSAGES = msgspec.json.Decoder(Message, strict=False)
REST_TRADES = msgspec.json.Decoder(list[RestTrade], strict=False)
PRODUCTS = msgspec.json.Decoder(list[Product], strict=False)


def piece_by_piece(data: bytes) -> tuple[Message, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not.

    Raises:
        UnreadableError: nothing of it does.
    """
    found = fields(data)
    message = Message(text(found, "channel"), text(found, "timestamp"), (), text(found, "type"), text(found, "message"))
    if message.channel not in (TRADES, QUOTES):
        return message, []
    good: list[Event] = []
    reasons: list[str] = []
    events = found.get("events")
    if not isinstance(events, list):
        return message, [f"has no list of events: found {shown(events)}"]
    for event in cast("list[object]", events):
        if not isinstance(event, dict):
            reasons.append(f"is no event: found {shown(event)}")
            continue
        parts = cast("dict[str, object]", event)
        trades, bad_trades = rows(parts.get("trades"), StreamTrade, "trade")
        tickers, bad_tickers = rows(parts.get("tickers"), Ticker, "ticker")
        good.append(Event(tuple(trades), tuple(tickers)))
        reasons += [bad.reason for bad in bad_trades + bad_tickers]
    message.events = tuple(good)
    return message, reasons
