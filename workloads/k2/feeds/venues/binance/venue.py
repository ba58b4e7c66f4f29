"""Binance spot as a venue: `trade` streams become trades, `bookTicker` streams quotes, `historicalTrades` fills what was missed.

Source: https://developers.binance.com/docs/binance-spot-api-docs (web-socket-streams.md, rest-api.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pyarrow as pa

from k2.feeds.venues.binance import frames as messages
from k2.feeds.venues.binance import rest
from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows, amount, times_in_micros
from k2.feeds.venues.gathered import Gathered
from k2.feeds.venues.rest import in_batches
from k2.feeds.venues.venue import (
    Filled,
    Frame,
    Heard,
    Hole,
    Instrument,
    Numbering,
    Request,
    Subscription,
    Unreadable,
    VenueLimits,
)
from k2.model.topics import DataType

_STREAM = {DataType.TRADES: "trade", DataType.QUOTES: "bookTicker"}
_IN_MICROSECONDS = {"X-MBX-TIME-UNIT": "MICROSECOND"}
_PAGE = 1000
_FILL_WEIGHT = 25.0
_LISTING_WEIGHT = 20.0
_SIDES = pa.array(["BUY", "SELL", "UNKNOWN"])


class Binance:
    """Binance's spot market (a `Venue`).

    A trade's number is its id, without holes for each symbol. A quote's id is the book's update id; a bookTicker has no time, so a
    quote's is that at which it was received: the same update by two connections is one quote, for the sink goes by ids.

    Args:
        columns: makes events of the feed.
    """

    name = "binance"
    exchange = "BINANCE"
    stream_url = "wss://stream.binance.com:9443"
    rest_url = "https://api.binance.com"
    numbering = Numbering.CONSECUTIVE
    limits = VenueLimits(
        streams_a_connection=1024,
        messages_a_second=5,
        connections_a_minute=60,  # 300 in five minutes
        batch=200,
        lifetime_seconds=24 * 3600,
        weight_a_minute=6000,
    )
    data_types: Collection[DataType] = (DataType.TRADES, DataType.QUOTES)
    separate = False
    # The venue pings by the protocol; what proves that it still talks to us is an answer.
    ping: bytes | None = b'{"method":"LIST_SUBSCRIPTIONS","id":0}'
    ping_seconds = 20.0

    def __init__(self, columns: EventColumns) -> None:
        self._columns = columns

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """See `Venue`. The first batch stands in the address, the others are sent."""
        names = _names(symbols, data_types)
        size = self.limits.batch
        path = f"/stream?streams={'/'.join(names[:size])}&timeUnit=MICROSECOND"
        return Subscription(path, self._asked("SUBSCRIBE", names[size:], 1))

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """See `Venue`."""
        gone = self._asked("UNSUBSCRIBE", _names(removed, data_types), 1)
        return (*gone, *self._asked("SUBSCRIBE", _names(added, data_types), 1 + len(gone)))

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """See `Venue`."""
        found = messages.read(frames)
        return Gathered(found.notices, found.unreadable).heard(self._columns, _trades(found), _quotes(found))

    def instruments(self) -> Request:
        """See `Venue`."""
        return Request("/api/v3/exchangeInfo", _LISTING_WEIGHT)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """See `Venue`."""
        return rest.decoded_listing(body)

    def fill(self, hole: Hole) -> Request | None:
        """See `Venue`."""
        return _history(hole.symbol, hole.first, min(_PAGE, hole.last - hole.first + 1))

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """See `Venue`."""
        found = rest.decoded_trades(body)
        numbers = [trade.number for _, trade in found if isinstance(trade, rest.RestTrade)]
        wanted = [
            (raw, trade) for raw, trade in found if isinstance(trade, str) or hole.first <= trade.number <= hole.last
        ]
        asked = int(parse_qs(urlsplit(request.path).query)["fromId"][0])
        last = max(numbers, default=asked - 1)
        after = None
        if asked <= last < hole.last:
            after = _history(hole.symbol, last + 1, min(_PAGE, hole.last - last))
        return Filled(self._heard(wanted, received, hole.symbol), after)

    def latest(self, symbol: str) -> Request | None:
        """See `Venue`."""
        return _history(symbol, None, _PAGE)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """See `Venue`."""
        return self._heard(rest.decoded_trades(body), received, symbol)

    def _heard(self, found: Sequence[tuple[bytes, rest.RestTrade | str]], received: int, symbol: str) -> Heard:
        trades = [(raw, trade) for raw, trade in found if isinstance(trade, rest.RestTrade)]
        unreadable = [Unreadable(raw, reason) for raw, reason in found if isinstance(reason, str)]
        numbers = [trade.number for _, trade in trades]
        rows = TradeRows(
            raw=[raw for raw, _ in trades],
            received=[received] * len(trades),
            symbols=[symbol] * len(trades),
            ids=numbers,
            times=times_in_micros([trade.time for _, trade in trades]),
            prices=[trade.price or "" for _, trade in trades],
            quantities=[trade.quantity or "" for _, trade in trades],
            sides=_sides([trade.buyer_is_maker for _, trade in trades]),
            sequences=numbers,
        )
        return Gathered(unreadable=unreadable).heard(self._columns, rows)

    def _asked(self, method: str, names: Sequence[str], first: int) -> tuple[bytes, ...]:
        return tuple(
            json.dumps({"method": method, "params": batch, "id": number}, separators=(",", ":")).encode()
            for number, batch in enumerate(in_batches(names, self.limits.batch), first)
        )


def _names(symbols: Sequence[str], data_types: Sequence[DataType]) -> list[str]:
    return [f"{symbol.lower()}@{_STREAM[kind]}" for symbol in symbols for kind in data_types if kind in _STREAM]


def _history(symbol: str, first: int | None, limit: int) -> Request:
    asked: dict[str, Any] = {"symbol": symbol} | ({} if first is None else {"fromId": first}) | {"limit": limit}
    return Request(f"/api/v3/historicalTrades?{urlencode(asked)}", _FILL_WEIGHT, _IN_MICROSECONDS)


def _trades(found: messages.Read) -> TradeRows:
    trades, frames = found.trades, found.of_trades
    numbers: list[Any] = [trade.number for trade in trades]
    vendor: dict[str, pa.Array] = {"E": _numbers([trade.event_time for trade in trades])}
    if any(trade.bid or trade.ask for trade in trades):  # the orders of buyer and seller, until June 2024
        vendor |= {
            "b": pa.array([str(trade.bid) for trade in trades], pa.string()),
            "a": pa.array([str(trade.ask) for trade in trades], pa.string()),
        }
    return TradeRows(
        raw=[frame.data for frame in frames],
        received=[frame.received for frame in frames],
        symbols=[trade.symbol for trade in trades],
        ids=numbers,
        times=times_in_micros([trade.time for trade in trades]),
        prices=[trade.price for trade in trades],
        quantities=[trade.quantity for trade in trades],
        sides=_sides([trade.buyer_is_maker for trade in trades]),
        sequences=numbers,
        vendor=vendor,
    )


def _quotes(found: messages.Read) -> QuoteRows:
    quotes, frames = found.tickers, found.of_tickers
    numbers: list[Any] = [quote.update for quote in quotes]
    received = [frame.received for frame in frames]
    return QuoteRows(
        raw=[frame.data for frame in frames],
        received=received,
        symbols=[quote.symbol for quote in quotes],
        ids=numbers,
        times=received,
        bid_prices=[_text(quote.bid) for quote in quotes],
        bid_quantities=[quote.bid_quantity for quote in quotes],
        ask_prices=[_text(quote.ask) for quote in quotes],
        ask_quantities=[quote.ask_quantity for quote in quotes],
        sequences=numbers,
    )


def _text(value: str | int) -> str:
    return value if isinstance(value, str) else amount(str(value))


def _numbers(values: list[int]) -> pa.Array:
    """Numbers as text, empty where one is zero: the message did not have it."""
    texts: Any = pa.array(values, pa.int64()).cast(pa.string())
    if 0 not in values:
        return texts
    return pa.array(["" if value == 0 else str(value) for value in values], pa.string())


def _sides(buyer_is_maker: Sequence[bool | None]) -> pa.Array:
    """The aggressor's: when the buyer's order stood in the book, it was the seller."""
    return _SIDES.take(pa.array(np.array([2 if made is None else int(made) for made in buyer_is_maker], dtype=np.int8)))
