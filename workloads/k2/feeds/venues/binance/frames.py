"""Messages of Binance's streams: combined ones, `{"stream", "data"}`, and raw ones.

Messages are decoded by their types, all of a batch at once. One that does not fit is looked at again by itself: a number may stand where a
text was, a text where a number was, and an event that K2 does not know has a name at least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
from msgspec import Raw, Struct
from msgspec import field as named

from k2.feeds.venues.columns import Number, amount
from k2.feeds.venues.venue import Frame, Notice, NoticeKind, Unreadable

MOST_REASON = 200


class Payload(Struct, gc=False):
    """A trade or a bookTicker: they share letters. Times are in microseconds where the venue was asked for them."""

    event: str = named(name="e", default="")
    event_time: Number = named(name="E", default=0)
    symbol: str = named(name="s", default="")
    number: Number | None = named(name="t", default=None)
    price: str = named(name="p", default="")
    quantity: str = named(name="q", default="")
    time: Number = named(name="T", default=0)
    buyer_is_maker: bool | None = named(name="m", default=None)
    bid: str | int = named(name="b", default="")
    """Of a trade, in older recordings: the buyer's order."""
    bid_quantity: str = named(name="B", default="")
    ask: str | int = named(name="a", default="")
    """Of a trade, in older recordings: the seller's order."""
    ask_quantity: str = named(name="A", default="")
    update: Number | None = named(name="u", default=None)


class _Lenient(Struct):
    """The same with numbers where there should be texts, digit for digit, and texts where there should be numbers."""

    event: str = named(name="e", default="")
    event_time: Number = named(name="E", default=0)
    symbol: str = named(name="s", default="")
    number: Number | None = named(name="t", default=None)
    price: Decimal | None = named(name="p", default=None)
    quantity: Decimal | None = named(name="q", default=None)
    time: Number = named(name="T", default=0)
    buyer_is_maker: bool | None = named(name="m", default=None)
    bid: Decimal | None = named(name="b", default=None)
    bid_quantity: Decimal | None = named(name="B", default=None)
    ask: Decimal | None = named(name="a", default=None)
    ask_quantity: Decimal | None = named(name="A", default=None)
    update: Number | None = named(name="u", default=None)


class _Combined(Struct, gc=False):
    """A message of `/stream`; what is none of a stream has no data."""

    data: Payload | None = None


class _Failure(Struct):
    code: int = 0
    msg: str = ""


class _Head(Struct):
    """What any message may say: enough to name it."""

    stream: str = ""
    data: Raw = Raw()
    event: str = named(name="e", default="")
    update: Raw = named(name="u", default=Raw())
    id: Raw = Raw()
    code: int | None = None
    msg: str = ""
    error: _Failure | None = None


_decode_all = msgspec.json.Decoder(_Combined).decode_lines
_decode = msgspec.json.Decoder(Payload).decode
_decode_leniently = msgspec.json.Decoder(_Lenient, strict=False).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_NOT_READ = (ValueError, RecursionError)  # msgspec's errors and that of broken UTF-8 are ValueErrors

TRADE, BOOK_TICKER, SHUTDOWN = "trade", "bookTicker", "serverShutdown"


@dataclass(slots=True)
class Read:
    """What a batch of messages holds, in their order."""

    trades: list[Payload] = field(default_factory=list[Payload])
    of_trades: list[Frame] = field(default_factory=list[Frame])
    """The message of each."""
    tickers: list[Payload] = field(default_factory=list[Payload])
    of_tickers: list[Frame] = field(default_factory=list[Frame])
    notices: list[Notice] = field(default_factory=list[Notice])
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])


def read(frames: Sequence[Frame]) -> Read:
    """Sort messages by what they are. Nothing in them raises."""
    found = Read()
    trades, of_trades, tickers, of_tickers = found.trades, found.of_trades, found.tickers, found.of_tickers
    # A loop over messages: each is an object of its own until here, and the columns begin behind it.
    for frame, data in zip(frames, _payloads(frames), strict=True):
        if data is None:
            _read_by_itself(frame, found)
        elif data.event == TRADE and data.number is not None and data.symbol:
            trades.append(data)
            of_trades.append(frame)
        elif data.update is not None and data.symbol and data.event in {"", BOOK_TICKER}:
            tickers.append(data)
            of_tickers.append(frame)
        else:
            _read_by_itself(frame, found)
    return found


def _payloads(frames: Sequence[Frame]) -> Iterator[Payload | None]:
    """The data of each message; None where it must be looked at by itself."""
    if frames:
        try:
            messages = _decode_all(b"\n".join([frame.data for frame in frames]))
        except _NOT_READ:
            messages = ()
        if len(messages) == len(frames):
            yield from [message.data for message in messages]
            return
        # One of them does not fit: halves of a batch are tried, so that the others are not slow.
        if len(frames) > 1:
            middle = len(frames) // 2
            yield from _payloads(frames[:middle])
            yield from _payloads(frames[middle:])
            return
        yield None


def _read_by_itself(frame: Frame, found: Read) -> None:
    said, stream = frame.data, ""
    try:
        head = _decode_head(said)
        if bytes(head.data):
            said, stream = bytes(head.data), head.stream
            head = _decode_head(said) if said.startswith(b"{") else _Head()
    except _NOT_READ as error:
        found.unreadable.append(Unreadable(frame.data, f"is no message of Binance: {_words(error)}"))
        return
    suffix = stream.partition("@")[2]
    name = head.event or suffix or (BOOK_TICKER if bytes(head.update) else "")
    if name in {TRADE, BOOK_TICKER}:
        _read_event(frame, said, name, found)
    else:
        found.notices.append(_notice(frame, head, name or stream))


def _read_event(frame: Frame, said: bytes, name: str, found: Read) -> None:
    try:
        data = _decoded(said)
    except _NOT_READ as error:
        found.unreadable.append(Unreadable(frame.data, f"{name} cannot be read: {_words(error)}"))
        return
    number = data.number if name == TRADE else data.update
    if number is None or not data.symbol:
        lacks = "symbol (s)" if not data.symbol else "number (t)" if name == TRADE else "update id (u)"
        found.unreadable.append(Unreadable(frame.data, f"{name} has no {lacks}"))
    elif name == TRADE:
        found.trades.append(data)
        found.of_trades.append(frame)
    else:
        found.tickers.append(data)
        found.of_tickers.append(frame)


def _decoded(said: bytes) -> Payload:
    try:
        return _decode(said)
    except msgspec.ValidationError:
        rough = _decode_leniently(said)
    return Payload(
        event=rough.event,
        event_time=rough.event_time,
        symbol=rough.symbol,
        number=rough.number,
        price=_plain(rough.price),
        quantity=_plain(rough.quantity),
        time=rough.time,
        buyer_is_maker=rough.buyer_is_maker,
        bid=_plain(rough.bid),
        bid_quantity=_plain(rough.bid_quantity),
        ask=_plain(rough.ask),
        ask_quantity=_plain(rough.ask_quantity),
        update=rough.update,
    )


def _notice(frame: Frame, head: _Head, name: str) -> Notice:
    if name.removeprefix("!") == SHUTDOWN:
        return Notice(NoticeKind.ENDING, frame.connection, name)
    refusal = head.error if head.error is not None else None if head.code is None else _Failure(head.code, head.msg)
    if refusal is not None:
        return Notice(NoticeKind.REFUSED, frame.connection, f"{refusal.msg[:MOST_REASON]} (code {refusal.code})")
    if bytes(head.id):
        return Notice(NoticeKind.SUBSCRIBED, frame.connection)
    return Notice(NoticeKind.UNKNOWN, frame.connection, name[:MOST_REASON] or "without a name")


def _plain(value: Decimal | None) -> str:
    return "" if value is None else amount(value)


def _words(error: Exception) -> str:
    return str(error)[:MOST_REASON]
