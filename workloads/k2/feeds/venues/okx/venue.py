"""OKX's spot market as a venue: what is sent, and what the answers mean."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from urllib.parse import urlencode

import msgspec

from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows, times_in_micros
from k2.feeds.venues.gathered import Gathered
from k2.feeds.venues.okx import messages
from k2.feeds.venues.okx.messages import OkxDatum, OkxInstrument, OkxMessage
from k2.feeds.venues.reading import shown
from k2.feeds.venues.rest import answer, in_batches, page_before, parts, step
from k2.feeds.venues.venue import (
    Filled,
    Frame,
    Heard,
    Hole,
    Instrument,
    NoticeKind,
    Numbering,
    Request,
    Subscription,
    Unreadable,
    VenueLimits,
)
from k2.model.errors import WorldError
from k2.model.topics import DataType

CHANNELS = {DataType.TRADES: messages.TRADES, DataType.QUOTES: messages.QUOTES}
PAGE = 100
_PATHS = {DataType.TRADES: "/ws/v5/business", DataType.QUOTES: "/ws/v5/public"}
_SIDES = {"buy": "BUY", "sell": "SELL"}
_CLOSING = "64008"
"""The code with which the end of a connection is announced, for an upgrade of the service."""
_number = attrgetter("trade_id")


class Okx:
    """OKX's spot market (a `Venue`).

    A trade's number is its id, without holes for each instrument: of `trades-all`, which has an address apart from the quotes'. `trades`
    would merge them.
    """

    name = "okx"
    exchange = "OKX"
    stream_url = "wss://ws.okx.com:8443"
    rest_url = "https://www.okx.com"
    numbering = Numbering.CONSECUTIVE
    limits = VenueLimits(
        streams_a_connection=200,
        # 480 subscriptions an hour for a connection, so few and large ones; a message may have 64 KiB.
        messages_a_second=3,
        # 3 a second.
        connections_a_minute=180,
        connections_at_once=1,
        batch=100,
        # 20 requests in 2 seconds.
        weight_a_minute=600,
    )
    data_types: Collection[DataType] = tuple(CHANNELS)
    separate = True
    ping: bytes | None = b"ping"
    # A connection on which nothing came for 30 seconds is closed.
    ping_seconds = 20.0

    def __init__(self, columns: EventColumns) -> None:
        self._columns = columns

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """See `Venue`: of one data type, for each has an address of its own."""
        (data_type,) = data_types
        return Subscription(_PATHS[data_type], self.changed(symbols, (), data_types))

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """See `Venue`."""
        return tuple(
            msgspec.json.encode({"op": op, "args": [{"channel": CHANNELS[kind], "instId": each} for each in batch]})
            for op, symbols in (("unsubscribe", removed), ("subscribe", added))
            for kind in data_types
            for batch in in_batches(symbols, self.limits.batch)
        )

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """See `Venue`."""
        gathered = Gathered()
        trades: list[OkxDatum] = []
        traded: list[Frame] = []
        quotes: list[tuple[Frame, str, OkxDatum]] = []
        for frame, message in gathered.read(frames, messages.MESSAGES, messages.piece_by_piece):
            argument = message.arg
            if argument is None or message.event:
                _note(gathered, frame, message)
            elif argument.channel == messages.TRADES:
                for datum in message.data:
                    if datum.trade_id < 0 or not datum.inst_id:
                        gathered.refuse(frame.data, f"trade has no {'instId' if not datum.inst_id else 'tradeId'}")
                        continue
                    trades.append(datum)
                    traded.append(frame)
            elif argument.channel == messages.QUOTES and argument.inst_id:
                quotes += [(frame, argument.inst_id, datum) for datum in message.data]
            else:
                _note(gathered, frame, message)
        return gathered.heard(self._columns, _trade_rows(trades, traded), _quote_rows(quotes))

    def instruments(self) -> Request:
        """See `Venue`."""
        return Request("/api/v5/public/instruments?instType=SPOT", 1)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """See `Venue`."""
        listed, _ = parts(messages.INSTRUMENTS, _data(body, "a list of instruments"), OkxInstrument, "instrument")
        return [
            Instrument(
                symbol=each.inst_id,
                base=each.base_ccy,
                quote=each.quote_ccy,
                trading=each.state == "live",
                status=each.state,
                tick=step(each.tick_sz),
                lot=step(each.lot_sz),
            )
            for each in listed
        ]

    def fill(self, hole: Hole) -> Request | None:
        """The trades up to the hole's last, newest first; `after` means older than."""
        return _history(hole.symbol, hole.last + 1)

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """A page further back, while the oldest trade of this one is younger than the hole's first."""
        found, bad = _trades_of(body)
        wanted = [trade for trade in found if hole.first <= trade.trade_id <= hole.last]
        before = page_before(request, map(_number, found), hole)
        following = None if before is None else _history(hole.symbol, before)
        return Filled(self._of_rest(wanted, bad, received, hole.symbol), following)

    def latest(self, symbol: str) -> Request | None:
        """The newest page."""
        return _history(symbol, None)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """All trades of the page."""
        return self._of_rest(*_trades_of(body), received, symbol)

    def _of_rest(self, trades: Sequence[OkxDatum], bad: Sequence[Unreadable], received: int, symbol: str) -> Heard:
        oldest_first = sorted(trades, key=_number)
        for trade in oldest_first:
            trade.inst_id = symbol
        frames = [Frame(msgspec.json.encode(trade), received, 0) for trade in oldest_first]
        return Gathered(unreadable=list(bad)).heard(self._columns, _trade_rows(oldest_first, frames))


def _trade_rows(trades: Sequence[OkxDatum], frames: Sequence[Frame]) -> TradeRows:
    numbers = [trade.trade_id for trade in trades]
    return TradeRows(
        raw=[frame.data for frame in frames],
        received=[frame.received for frame in frames],
        symbols=[trade.inst_id for trade in trades],
        ids=numbers,
        times=times_in_micros([trade.ts for trade in trades]),
        prices=[trade.px for trade in trades],
        quantities=[trade.sz for trade in trades],
        sides=[_SIDES.get(trade.side, "UNKNOWN") for trade in trades],
        sequences=numbers,
        vendor={"source": [trade.source for trade in trades]},
    )


def _quote_rows(quotes: Sequence[tuple[Frame, str, OkxDatum]]) -> QuoteRows:
    """A quote's id is its time and the book's `seqId`, which may begin anew; without one, its time and what it says."""
    bids = [_best(quote.bids) for _, _, quote in quotes]
    asks = [_best(quote.asks) for _, _, quote in quotes]
    ids = [
        f"{quote.ts}/{quote.seq_id}" if quote.seq_id >= 0 else "/".join((str(quote.ts), *bid, *ask))
        for (_, _, quote), bid, ask in zip(quotes, bids, asks, strict=True)
    ]
    return QuoteRows(
        raw=[frame.data for frame, _, _ in quotes],
        received=[frame.received for frame, _, _ in quotes],
        symbols=[symbol for _, symbol, _ in quotes],
        ids=ids,
        times=times_in_micros([quote.ts for _, _, quote in quotes]),
        bid_prices=[price for price, _ in bids],
        bid_quantities=[quantity for _, quantity in bids],
        ask_prices=[price for price, _ in asks],
        ask_quantities=[quantity for _, quantity in asks],
    )


def _best(levels: tuple[tuple[str, ...], ...]) -> tuple[str, str]:
    if not levels:
        return "", ""
    price, quantity = (*levels[0], "", "")[:2]
    return price, quantity


def _note(gathered: Gathered, frame: Frame, message: OkxMessage) -> None:
    symbols = [message.arg.inst_id] if message.arg is not None and message.arg.inst_id else []
    if message.event == "pong":
        gathered.note(NoticeKind.ALIVE, frame)
    elif message.event == "subscribe":
        gathered.note(NoticeKind.SUBSCRIBED, frame, symbols=symbols)
    elif message.event in ("unsubscribe", "channel-conn-count"):
        gathered.note(NoticeKind.ALIVE, frame)
    elif message.event == "notice" and message.code == _CLOSING:
        gathered.note(NoticeKind.ENDING, frame, message.msg)
    elif message.event in ("error", "channel-conn-count-error"):
        gathered.note(NoticeKind.REFUSED, frame, f"{message.msg} (code {message.code})", symbols)
    else:
        name = message.event or (message.arg.channel if message.arg is not None else "")
        gathered.note(NoticeKind.UNKNOWN, frame, name or shown(frame.data))


def _data(body: bytes, expected: str) -> bytes:
    found = answer(messages.ANSWER, body, expected)
    if found.code != "0":
        raise WorldError(f"OKX's answer is not {expected}: {found.msg} (code {found.code})")
    return bytes(found.data)


def _trades_of(body: bytes) -> tuple[list[OkxDatum], list[Unreadable]]:
    found, bad = parts(messages.REST_TRADES, _data(body, "a list of trades"), OkxDatum, "trade")
    numbered = [trade for trade in found if trade.trade_id >= 0]
    bad += [Unreadable(msgspec.json.encode(trade), "trade has no tradeId") for trade in found if trade.trade_id < 0]
    return numbered, bad


def _history(symbol: str, before: int | None) -> Request:
    """The newest trades, or those before one, newest first: `type` 1 counts by trade id."""
    asked = {"instId": symbol, "type": 1} | ({} if before is None else {"after": before}) | {"limit": PAGE}
    return Request(f"/api/v5/market/history-trades?{urlencode(asked)}", 1)
