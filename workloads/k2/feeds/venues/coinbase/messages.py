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


class CoinbaseTrade(msgspec.Struct, gc=False):
    """A trade of the stream. `side` is the maker's."""

    product_id: Name
    trade_id: Number
    price: str
    size: str
    time: str
    side: str = ""


class CoinbaseTicker(msgspec.Struct, gc=False):
    """The best bid and ask after a trade; a side that is empty has no orders."""

    product_id: Name
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class CoinbaseEvent(msgspec.Struct, gc=False):
    """What a message holds, by its channel. Trades stand newest first.

    Tuples, because an empty list would be made anew for every message.
    """

    trades: tuple[CoinbaseTrade, ...] = ()
    tickers: tuple[CoinbaseTicker, ...] = ()
    subscriptions: dict[str, list[str]] | None = None


class CoinbaseMessage(msgspec.Struct, gc=False):
    """A message of the stream. One without a channel has a `type` (error) and the venue's words."""

    channel: str = ""
    timestamp: str = ""
    events: tuple[CoinbaseEvent, ...] = ()
    type: str = ""
    message: str = ""


class CoinbaseRestTrade(msgspec.Struct, gc=False):
    """A trade of /products/X/trades. `side` is the maker's, in lower case."""

    trade_id: Number
    price: str
    size: str
    time: str
    side: str = ""


class CoinbaseProduct(msgspec.Struct):
    """What /products lists."""

    id: Name
    base_currency: str
    quote_currency: str
    quote_increment: str | None = None
    base_increment: str | None = None
    status: str = ""
    trading_disabled: bool = False


# Not strict: `trade_id` is a text in the stream and a number over REST.
MESSAGES = msgspec.json.Decoder(CoinbaseMessage, strict=False)
REST_TRADES = msgspec.json.Decoder(list[CoinbaseRestTrade], strict=False)
PRODUCTS = msgspec.json.Decoder(list[CoinbaseProduct], strict=False)


def piece_by_piece(data: bytes) -> tuple[CoinbaseMessage, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not.

    Raises:
        NoMessageError: nothing of it does.
    """
    found = fields(data)
    message = CoinbaseMessage(
        text(found, "channel"), text(found, "timestamp"), (), text(found, "type"), text(found, "message")
    )
    if message.channel not in (TRADES, QUOTES):
        return message, []
    good: list[CoinbaseEvent] = []
    reasons: list[str] = []
    events = found.get("events")
    if not isinstance(events, list):
        return message, [f"has no list of events: found {shown(events)}"]
    for event in cast("list[object]", events):
        if not isinstance(event, dict):
            reasons.append(f"is no event: found {shown(event)}")
            continue
        parts = cast("dict[str, object]", event)
        trades, bad_trades = rows(parts.get("trades"), CoinbaseTrade, "trade")
        tickers, bad_tickers = rows(parts.get("tickers"), CoinbaseTicker, "ticker")
        good.append(CoinbaseEvent(tuple(trades), tuple(tickers)))
        reasons += [bad.reason for bad in bad_trades + bad_tickers]
    message.events = tuple(good)
    return message, reasons
