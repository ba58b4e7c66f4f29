"""What Kraken sends, typed: the stream's envelope with its channels, and the REST interface's trades and pairs.

Prices and quantities of the stream are JSON numbers. They are kept as the bytes that came and read as decimals, never as floats.
Sources: docs.kraken.com/api/docs/websocket-v2 (stream), docs.kraken.com/api/docs/rest-api (REST).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from msgspec import Raw

from k2.feeds.venues.columns import Number, amount
from k2.feeds.venues.reading import fields, rows, text

TRADES = "trade"
QUOTES = "ticker"
HEARTBEAT = "heartbeat"
STATUS = "status"
NONE = -1


class KrakenDatum(msgspec.Struct, gc=False):
    """A trade or a ticker, by the message's channel; what a channel does not have is empty. `side` is the taker's."""

    symbol: str = ""
    side: str = ""
    price: Raw = Raw()
    qty: Raw = Raw()
    trade_id: Number = NONE
    timestamp: str = ""
    ord_type: str = ""
    bid: Raw = Raw()
    bid_qty: Raw = Raw()
    ask: Raw = Raw()
    ask_qty: Raw = Raw()
    system: str = ""


class KrakenResult(msgspec.Struct, gc=False):
    """What was subscribed to."""

    channel: str = ""
    symbol: str = ""


class KrakenMessage(msgspec.Struct, gc=False):
    """A message of a channel, or the answer to a method."""

    channel: str = ""
    data: tuple[KrakenDatum, ...] = ()
    method: str = ""
    success: bool | None = None
    result: KrakenResult | None = None
    error: str = ""
    symbol: str = ""


class _KrakenLoosely(msgspec.Struct):
    """A trade or ticker of which some numbers are texts, or texts numbers."""

    symbol: str = ""
    side: str = ""
    price: str = ""
    qty: str = ""
    trade_id: Number = NONE
    timestamp: str = ""
    ord_type: str = ""
    bid: str = ""
    bid_qty: str = ""
    ask: str = ""
    ask_qty: str = ""


class KrakenRestTrade(msgspec.Struct, array_like=True, gc=False):
    """A trade of /0/public/Trades: a list. `time` is in seconds, to 100 ns."""

    price: str
    volume: str
    time: Decimal
    side: str
    order_type: str
    misc: str
    trade_id: Number


class KrakenPair(msgspec.Struct):
    """What /0/public/AssetPairs lists. Of dark pools there is no `wsname`."""

    wsname: str = ""
    status: str = ""
    tick_size: str | None = None
    pair_decimals: int | None = None
    lot_decimals: int | None = None


class KrakenAnswer(msgspec.Struct):
    """Any answer of the REST interface: errors come with the status 200."""

    error: list[str] = []
    result: dict[str, Raw] | None = None


MESSAGES = msgspec.json.Decoder(KrakenMessage, strict=False)
ANSWER = msgspec.json.Decoder(KrakenAnswer)
REST_TRADES = msgspec.json.Decoder(list[KrakenRestTrade], strict=False)
PAIR = msgspec.json.Decoder(KrakenPair, strict=False)


def piece_by_piece(data: bytes) -> tuple[KrakenMessage, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not.

    Raises:
        NoMessageError: nothing of it does.
    """
    found = fields(data)
    message = KrakenMessage(text(found, "channel"), method=text(found, "method"), error=text(found, "error"))
    message.success = False if found.get("success") is False else None
    if message.channel not in (TRADES, QUOTES):
        return message, []
    good, bad = rows(found.get("data", {}), _KrakenLoosely, message.channel)
    message.data = tuple(_datum(each) for each in good)
    return message, [each.reason for each in bad]


def numbers(values: Sequence[Raw]) -> list[str]:
    """JSON numbers as plain decimals, digit for digit; also where they stand in quotes or have an exponent."""
    # Latin-1 never fails: what is no number is refused where decimals are made of it.
    texts = [bytes(value).decode("latin-1") for value in values]
    together = ",".join(texts)
    if '"' not in together and "e" not in together and "E" not in together:
        return texts
    return [_plain(each.strip('"')) for each in texts]


def _plain(told: str) -> str:
    if "e" not in told and "E" not in told:
        return told
    try:
        return amount(Decimal(told))
    except ArithmeticError:
        return told


def _datum(loose: _KrakenLoosely) -> KrakenDatum:
    datum = KrakenDatum(
        loose.symbol, loose.side, trade_id=loose.trade_id, timestamp=loose.timestamp, ord_type=loose.ord_type
    )
    datum.price, datum.qty = Raw(loose.price.encode()), Raw(loose.qty.encode())
    datum.bid, datum.bid_qty = Raw(loose.bid.encode()), Raw(loose.bid_qty.encode())
    datum.ask, datum.ask_qty = Raw(loose.ask.encode()), Raw(loose.ask_qty.encode())
    return datum
