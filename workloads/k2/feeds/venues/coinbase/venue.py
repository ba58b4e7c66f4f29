"""Coinbase as a venue: what is sent, and what the answers mean.

The stream is Advanced Trade's; trades that were missed come from the Exchange's REST interface, whose trade ids are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from urllib.parse import quote

import msgspec

from k2.feeds.venues.coinbase import messages
from k2.feeds.venues.coinbase.messages import CoinbaseMessage, CoinbaseRestTrade, CoinbaseTicker, CoinbaseTrade
from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows
from k2.feeds.venues.gathered import Gathered
from k2.feeds.venues.reading import shown
from k2.feeds.venues.rest import in_batches, page_before, parts, step
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
from k2.model.topics import DataType

CHANNELS = {DataType.TRADES: messages.TRADES, DataType.QUOTES: messages.QUOTES}
PAGE = 1000
_AGGRESSOR = {"SELL": "BUY", "BUY": "SELL", "sell": "BUY", "buy": "SELL"}
"""Coinbase tells the side of the order that stood in the book; the aggressor's is the other one."""
_number = attrgetter("trade_id")


class Coinbase:
    """Coinbase's spot market."""

    name = "coinbase"
    exchange = "COINBASE"
    stream_url = "wss://advanced-trade-ws.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    numbering = Numbering.CONSECUTIVE
    limits = VenueLimits(
        # The number of streams is not documented; 100 keep a connection's burst of snapshots (100 trades a product) small.
        streams_a_connection=100,
        messages_a_second=8,
        # 750 a second are allowed; nobody needs more than one.
        connections_a_minute=60,
        batch=50,
        # 10 requests a second of the public interface.
        weight_a_minute=600,
    )
    data_types: Collection[DataType] = tuple(CHANNELS)
    separate = False
    ping: bytes | None = None
    ping_seconds = 20.0

    def __init__(self, columns: EventColumns) -> None:
        self._columns = columns

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """The channel of heartbeats keeps the others open: without it a quiet one is closed after a minute."""
        heartbeats = msgspec.json.encode({"type": "subscribe", "channel": messages.HEARTBEATS})
        return Subscription("/", (heartbeats, *self.changed(symbols, (), data_types)))

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """A message a channel and batch."""
        return tuple(
            msgspec.json.encode({"type": verb, "product_ids": batch, "channel": CHANNELS[data_type]})
            for verb, symbols in (("unsubscribe", removed), ("subscribe", added))
            for data_type in data_types
            for batch in in_batches(symbols, self.limits.batch)
        )

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """Trades of a message from the oldest on; they stand newest first in it."""
        gathered = Gathered()
        trades: list[CoinbaseTrade] = []
        traded: list[Frame] = []
        tickers: list[tuple[Frame, str, CoinbaseTicker]] = []
        for frame, message in gathered.read(frames, messages.MESSAGES, messages.piece_by_piece):
            if message.channel == messages.TRADES:
                for event in message.events:
                    if len(event.trades) == 1:
                        trades.append(event.trades[0])
                        traded.append(frame)
                    else:
                        trades += sorted(event.trades, key=_number)
                        traded += [frame] * len(event.trades)
            elif message.channel == messages.QUOTES:
                tickers += [(frame, message.timestamp, ticker) for event in message.events for ticker in event.tickers]
            else:
                _note(gathered, frame, message)
        return gathered.heard(self._columns, self._trade_rows(trades, traded), _quote_rows(tickers))

    def instruments(self) -> Request:
        """All products of the Exchange."""
        return Request("/products", 1)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """A product X-USDC that is another name of X-USD is not listed there, so it is no symbol."""
        return [
            Instrument(
                symbol=product.id,
                base=product.base_currency,
                quote=product.quote_currency,
                trading=product.status == "online" and not product.trading_disabled,
                status=product.status if not product.trading_disabled else f"{product.status}, trading disabled",
                tick=step(product.quote_increment),
                lot=step(product.base_increment),
            )
            for product in parts(messages.PRODUCTS, body, messages.CoinbaseProduct, "product")[0]
        ]

    def fill(self, hole: Hole) -> Request | None:
        """The trades up to the hole's last, newest first; `after` means older than."""
        return _trades_before(hole.symbol, hole.last + 1)

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """A page further back, while the oldest trade of this one is younger than the hole's first."""
        found, bad = parts(messages.REST_TRADES, body, CoinbaseRestTrade, "trade")
        wanted = [trade for trade in found if hole.first <= trade.trade_id <= hole.last]
        before = page_before(request, map(_number, found), hole)
        following = None if before is None else _trades_before(hole.symbol, before)
        return Filled(self._of_rest(wanted, bad, received, hole.symbol), following)

    def latest(self, symbol: str) -> Request | None:
        """The newest page."""
        return Request(f"/products/{quote(symbol, safe='')}/trades?limit={PAGE}", 1)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """All trades of the page."""
        return self._of_rest(*parts(messages.REST_TRADES, body, CoinbaseRestTrade, "trade"), received, symbol)

    def _of_rest(
        self, trades: Iterable[CoinbaseRestTrade], bad: Sequence[Unreadable], received: int, symbol: str
    ) -> Heard:
        oldest_first = sorted(trades, key=_number)
        named = [
            CoinbaseTrade(symbol, trade.trade_id, trade.price, trade.size, trade.time, trade.side)
            for trade in oldest_first
        ]
        frames = [Frame(msgspec.json.encode(trade), received, 0) for trade in oldest_first]
        return Gathered(unreadable=list(bad)).heard(self._columns, self._trade_rows(named, frames))

    def _trade_rows(self, trades: Sequence[CoinbaseTrade], frames: Sequence[Frame]) -> TradeRows:
        numbers = [trade.trade_id for trade in trades]
        return TradeRows(
            raw=[frame.data for frame in frames],
            received=[frame.received for frame in frames],
            symbols=[trade.product_id for trade in trades],
            ids=numbers,
            times=[trade.time for trade in trades],
            prices=[trade.price for trade in trades],
            quantities=[trade.size for trade in trades],
            sides=[_AGGRESSOR.get(trade.side, "UNKNOWN") for trade in trades],
            sequences=numbers,
        )


def _trades_before(symbol: str, number: int) -> Request:
    return Request(f"/products/{quote(symbol, safe='')}/trades?limit={PAGE}&after={number}", 1)


def _quote_rows(tickers: Sequence[tuple[Frame, str, CoinbaseTicker]]) -> QuoteRows:
    """Quotes have no number of their own: one's id is the message's time to the nanosecond and what it says."""
    return QuoteRows(
        raw=[frame.data for frame, _, _ in tickers],
        received=[frame.received for frame, _, _ in tickers],
        symbols=[ticker.product_id for _, _, ticker in tickers],
        ids=[
            f"{time}/{ticker.best_bid}/{ticker.best_bid_quantity}/{ticker.best_ask}/{ticker.best_ask_quantity}"
            for _, time, ticker in tickers
        ],
        times=[time for _, time, _ in tickers],
        bid_prices=[ticker.best_bid for _, _, ticker in tickers],
        bid_quantities=[ticker.best_bid_quantity for _, _, ticker in tickers],
        ask_prices=[ticker.best_ask for _, _, ticker in tickers],
        ask_quantities=[ticker.best_ask_quantity for _, _, ticker in tickers],
    )


def _note(gathered: Gathered, frame: Frame, message: CoinbaseMessage) -> None:
    if message.channel == messages.HEARTBEATS:
        gathered.note(NoticeKind.ALIVE, frame)
    elif message.channel == messages.ANSWERS:
        channels = [(event.subscriptions or {}) for event in message.events]
        symbols = {symbol for each in channels for name in CHANNELS.values() for symbol in each.get(name, ())}
        gathered.note(NoticeKind.SUBSCRIBED, frame, symbols=sorted(symbols))
    elif not message.channel and message.type == "error":
        gathered.note(NoticeKind.REFUSED, frame, message.message)
    else:
        gathered.note(NoticeKind.UNKNOWN, frame, message.channel or message.type or shown(frame.data))
