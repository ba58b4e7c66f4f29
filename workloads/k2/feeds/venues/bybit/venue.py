"""Bybit's spot market as a venue: what is sent, and what the answers mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from operator import attrgetter
from urllib.parse import urlencode

import msgspec

from k2.feeds.venues.bybit import messages
from k2.feeds.venues.bybit.messages import BybitBook, BybitInstrument, BybitMessage, BybitRestTrade, BybitTrade
from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows, times_in_micros
from k2.feeds.venues.gathered import Gathered
from k2.feeds.venues.reading import shown
from k2.feeds.venues.rest import answer, in_batches, parts, step
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

TOPICS = {DataType.TRADES: messages.TRADES, DataType.QUOTES: messages.QUOTES}
PAGE = 60
_SIDES = {"Buy": "BUY", "Sell": "SELL"}
_TOPIC = re.compile(rf"(?:{messages.TRADES}|{re.escape(messages.QUOTES)})\.([A-Z0-9]+)")
_time = attrgetter("time")


class Bybit:
    """Bybit's spot market (a `Venue`).

    A trade's id is one of a kind and says nothing of those beside it, so what is known of missing trades is when nothing was heard.
    """

    name = "bybit"
    exchange = "BYBIT"
    stream_url = "wss://stream.bybit.com"
    rest_url = "https://api.bybit.com"
    numbering = Numbering.NONE
    limits = VenueLimits(
        # The topics of a connection may have 21,000 characters together.
        streams_a_connection=400,
        messages_a_second=5,
        # 500 in five minutes.
        connections_a_minute=100,
        # Of spot topics in one message.
        batch=10,
        # 600 requests in 5 seconds.
        weight_a_minute=7200,
    )
    data_types: Collection[DataType] = tuple(TOPICS)
    separate = False
    ping: bytes | None = b'{"op":"ping"}'
    ping_seconds = 20.0

    def __init__(self, columns: EventColumns) -> None:
        self._columns = columns

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """See `Venue`."""
        return Subscription("/v5/public/spot", self.changed(symbols, (), data_types))

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """See `Venue`."""
        return tuple(
            msgspec.json.encode({"op": op, "args": batch})
            for op, symbols in (("unsubscribe", removed), ("subscribe", added))
            for batch in in_batches(
                [f"{TOPICS[kind]}.{each}" for kind in data_types for each in symbols], self.limits.batch
            )
        )

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """See `Venue`."""
        gathered = Gathered()
        trades: list[BybitTrade] = []
        traded: list[Frame] = []
        quotes: list[tuple[Frame, int, BybitBook]] = []
        for frame, message in gathered.read(frames, messages.MESSAGES, messages.piece_by_piece):
            data = message.data
            if isinstance(data, tuple) and message.topic.startswith(f"{messages.TRADES}."):
                trades += data
                traded += [frame] * len(data)
            elif isinstance(data, BybitBook) and message.topic.startswith(f"{messages.QUOTES}."):
                if message.type == "delta":
                    # Level 1 is documented to come whole. What only says a change cannot be told without what was before it.
                    gathered.refuse(frame.data, "quote says only what changed: found type 'delta', expected 'snapshot'")
                    continue
                quotes.append((frame, message.cts or message.ts, data))
            else:
                _note(gathered, frame, message)
        return gathered.heard(self._columns, _trade_rows(trades, traded), _quote_rows(quotes))

    def instruments(self) -> Request:
        """See `Venue`."""
        return Request("/v5/market/instruments-info?category=spot&limit=1000", 1)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """See `Venue`."""
        listed, _ = parts(messages.INSTRUMENTS, _listed(body, "a list of instruments"), BybitInstrument, "instrument")
        return [
            Instrument(
                symbol=each.symbol,
                base=each.base_coin,
                quote=each.quote_coin,
                trading=each.status == "Trading",
                status=each.status,
                tick=step(each.price_filter.tick_size),
                lot=step(each.lot_size_filter.base_precision),
            )
            for each in listed
        ]

    def fill(self, hole: Hole) -> Request | None:  # noqa: ARG002 - a hole is by numbers, and there are none
        """There is no question for trades by their ids."""
        return None

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:  # noqa: ARG002 - never asked for
        """What `latest` gives of the times of a hole."""
        trades, bad = _trades_of(body)
        wanted = [trade for trade in trades if hole.after <= trade.time * 1000 <= hole.before]
        return Filled(self._of_rest(wanted, bad, received, hole.symbol))

    def latest(self, symbol: str) -> Request | None:
        """The newest 60 trades: more are not to be had of a spot market."""
        return Request(f"/v5/market/recent-trade?{urlencode({'category': 'spot', 'symbol': symbol, 'limit': PAGE})}", 1)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """All of them, oldest first."""
        return self._of_rest(*_trades_of(body), received, symbol)

    def _of_rest(
        self, trades: Sequence[BybitRestTrade], bad: Sequence[Unreadable], received: int, symbol: str
    ) -> Heard:
        # They stand newest first, many in one millisecond.
        oldest_first = sorted(trades, key=_time, reverse=True)[::-1]
        named = [
            BybitTrade(
                symbol=symbol,
                id=trade.exec_id,
                time=trade.time,
                price=trade.price,
                quantity=trade.size,
                side=trade.side,
                block=trade.is_block_trade,
                rpi=trade.is_rpi_trade,
                seq=trade.seq,
            )
            for trade in oldest_first
        ]
        frames = [Frame(msgspec.json.encode(trade), received, 0) for trade in oldest_first]
        return Gathered(unreadable=list(bad)).heard(self._columns, _trade_rows(named, frames))


def _trade_rows(trades: Sequence[BybitTrade], frames: Sequence[Frame]) -> TradeRows:
    return TradeRows(
        raw=[frame.data for frame in frames],
        received=[frame.received for frame in frames],
        symbols=[trade.symbol for trade in trades],
        ids=[trade.id for trade in trades],
        times=times_in_micros([trade.time for trade in trades]),
        prices=[trade.price for trade in trades],
        quantities=[trade.quantity for trade in trades],
        sides=[_SIDES.get(trade.side, "UNKNOWN") for trade in trades],
        vendor={
            "L": [trade.tick_direction for trade in trades],
            "BT": ["true" if trade.block else "" for trade in trades],
            "RPI": ["true" if trade.rpi else "" for trade in trades],
            "seq": ["" if trade.seq is None else str(trade.seq) for trade in trades],
        },
    )


def _quote_rows(quotes: Sequence[tuple[Frame, int, BybitBook]]) -> QuoteRows:
    """A quote's id is its time and the book's update id, which begins anew with the venue's service."""
    bids = [book.bids[0] if book.bids else ("", "") for _, _, book in quotes]
    asks = [book.asks[0] if book.asks else ("", "") for _, _, book in quotes]
    return QuoteRows(
        raw=[frame.data for frame, _, _ in quotes],
        received=[frame.received for frame, _, _ in quotes],
        symbols=[book.symbol for _, _, book in quotes],
        ids=[f"{time}/{book.update}" for _, time, book in quotes],
        times=times_in_micros([time for _, time, _ in quotes]),
        bid_prices=[price for price, _ in bids],
        bid_quantities=[quantity for _, quantity in bids],
        ask_prices=[price for price, _ in asks],
        ask_quantities=[quantity for _, quantity in asks],
    )


def _note(gathered: Gathered, frame: Frame, message: BybitMessage) -> None:
    if message.op == "pong" or message.ret_msg == "pong":
        gathered.note(NoticeKind.ALIVE, frame)
    elif message.success is False:
        symbols = dict.fromkeys(_TOPIC.findall(message.ret_msg))
        gathered.note(NoticeKind.REFUSED, frame, message.ret_msg or f"{message.op} was refused", symbols)
    elif message.op == "subscribe":
        gathered.note(NoticeKind.SUBSCRIBED, frame)
    elif message.op == "unsubscribe":
        gathered.note(NoticeKind.ALIVE, frame)
    else:
        gathered.note(NoticeKind.UNKNOWN, frame, message.topic.rpartition(".")[0] or message.op or shown(frame.data))


def _listed(body: bytes, expected: str) -> bytes:
    found = answer(messages.ANSWER, body, expected)
    if found.ret_code != 0:
        raise WorldError(f"Bybit's answer is not {expected}: {found.ret_msg} (code {found.ret_code})")
    return bytes(answer(messages.LISTED, bytes(found.result), expected).list)


def _trades_of(body: bytes) -> tuple[list[BybitRestTrade], list[Unreadable]]:
    return parts(messages.REST_TRADES, _listed(body, "a list of trades"), BybitRestTrade, "trade")
