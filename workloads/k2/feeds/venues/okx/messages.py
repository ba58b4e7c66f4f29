"""What OKX sends, typed: the stream's envelope, the answer to a subscription, and the REST interface's trades and instruments.

Source: www.okx.com/docs-v5 (WebSocket trades-all and bbo-tbt; REST history-trades and instruments).
"""

from __future__ import annotations

import msgspec

from k2.feeds.venues.columns import Number
from k2.feeds.venues.reading import Name, fields, rows, text

TRADES = "trades-all"
QUOTES = "bbo-tbt"
PONG = b"pong"
NONE = -1


class OkxArgument(msgspec.Struct, gc=False, rename="camel"):
    """What was subscribed to."""

    channel: str = ""
    inst_id: str = ""


class OkxDatum(msgspec.Struct, gc=False, rename="camel"):
    """A trade or a best quote, by the message's channel; what a channel does not have is empty. `side` is the taker's."""

    inst_id: str = ""
    trade_id: Number = NONE
    px: str = ""
    sz: str = ""
    side: str = ""
    source: str = ""
    ts: Number = 0
    asks: tuple[tuple[str, ...], ...] = ()
    """The best one at most: price, quantity, and two numbers more."""
    bids: tuple[tuple[str, ...], ...] = ()
    seq_id: Number = NONE


class OkxMessage(msgspec.Struct, gc=False, rename="camel"):
    """A message of a channel; an answer or a word of the venue's has an `event`."""

    arg: OkxArgument | None = None
    data: tuple[OkxDatum, ...] = ()
    event: str = ""
    code: str = ""
    msg: str = ""


class OkxInstrument(msgspec.Struct, rename="camel"):
    """What /api/v5/public/instruments lists."""

    inst_id: Name
    base_ccy: str = ""
    quote_ccy: str = ""
    tick_sz: str | None = None
    lot_sz: str | None = None
    state: str = ""


class OkxAnswer(msgspec.Struct):
    """Any answer of the REST interface: errors come with a code."""

    data: msgspec.Raw
    code: str = "0"
    msg: str = ""


MESSAGES = msgspec.json.Decoder(OkxMessage, strict=False)
ANSWER = msgspec.json.Decoder(OkxAnswer)
REST_TRADES = msgspec.json.Decoder(list[OkxDatum], strict=False)
INSTRUMENTS = msgspec.json.Decoder(list[OkxInstrument])


def piece_by_piece(data: bytes) -> tuple[OkxMessage, list[str]]:
    """A message that is not of its type: what fits of it, and why the rest does not. The answer to a ping is no JSON.

    Raises:
        NoMessageError: nothing of it does.
    """
    if data == PONG:
        return OkxMessage(event="pong"), []
    found = fields(data)
    message = OkxMessage(event=text(found, "event"), code=text(found, "code"), msg=text(found, "msg"))
    argument = found.get("arg")
    if isinstance(argument, dict):
        message.arg = OkxArgument(text(argument, "channel"), text(argument, "instId"))
    if message.arg is None or message.event or message.arg.channel not in (TRADES, QUOTES):
        return message, []
    good, bad = rows(found.get("data", {}), OkxDatum, "trade" if message.arg.channel == TRADES else "quote")
    message.data = tuple(good)
    return message, [each.reason for each in bad]
