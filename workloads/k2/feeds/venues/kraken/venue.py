"""Kraken's spot market as a venue: what is sent, and what the answers mean.

The stream is the WebSocket interface's version 2, whose symbols are BTC/USD. The REST interface still says XBT and XDG.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from k2.feeds.venues.columns import EventColumns, QuoteRows, TradeRows
from k2.feeds.venues.gathered import Gathered
from k2.feeds.venues.kraken import messages
from k2.feeds.venues.kraken.messages import KrakenDatum, KrakenMessage, KrakenRestTrade
from k2.feeds.venues.reading import REFUSED, shown
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

CHANNELS = {DataType.TRADES: messages.TRADES, DataType.QUOTES: messages.QUOTES}
PAGE = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_CHANNEL = {
    messages.TRADES: {"snapshot": True},
    # By itself a ticker comes with each trade only.
    messages.QUOTES: {"event_trigger": "bbo", "snapshot": True},
}
_SIDES = {"buy": "BUY", "sell": "SELL", "b": "BUY", "s": "SELL"}
_ORDER_TYPES = {"m": "market", "l": "limit"}
_REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_STREAM_NAMES = {name: asset for asset, name in _REST_NAMES.items()}


class Kraken:
    """Kraken's spot market (a `Venue`).

    A trade's number is its id: by the documentation a sequence of each book. The stream has been seen to leave some out that the REST
    interface has, so they are filled from there.
    """

    name = "kraken"
    exchange = "KRAKEN"
    stream_url = "wss://ws.kraken.com"
    rest_url = "https://api.kraken.com"
    numbering = Numbering.CONSECUTIVE
    limits = VenueLimits(
        streams_a_connection=250,
        messages_a_second=5,
        # About 150 in ten minutes.
        connections_a_minute=15,
        batch=100,
        # About one request a second of the public interface.
        weight_a_minute=60,
    )
    data_types: Collection[DataType] = tuple(CHANNELS)
    separate = False
    ping: bytes | None = b'{"method":"ping"}'
    ping_seconds = 15.0

    def __init__(self, columns: EventColumns) -> None:
        self._columns = columns

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """See `Venue`."""
        return Subscription("/v2", self.changed(symbols, (), data_types))

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """A message a channel and batch. Snapshots are asked for: the trades' does not come by itself."""
        return tuple(
            msgspec.json.encode({"method": method, "params": {"channel": channel, "symbol": batch} | further})
            for method, symbols in (("unsubscribe", removed), ("subscribe", added))
            for channel in (CHANNELS[data_type] for data_type in data_types)
            for further in (_OF_CHANNEL[channel] if method == "subscribe" else {},)
            for batch in in_batches(symbols, self.limits.batch)
        )

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """See `Venue`."""
        gathered = Gathered()
        trades: list[KrakenDatum] = []
        traded: list[Frame] = []
        tickers: list[KrakenDatum] = []
        quoted: list[Frame] = []
        for frame, message in gathered.read(frames, messages.MESSAGES, messages.piece_by_piece):
            if message.channel == messages.TRADES:
                for datum in message.data:
                    if datum.trade_id < 0 or not datum.symbol:
                        gathered.refuse(frame.data, f"trade has no {'symbol' if not datum.symbol else 'trade_id'}")
                        continue
                    trades.append(datum)
                    traded.append(frame)
            elif message.channel == messages.QUOTES:
                for datum in message.data:
                    if not datum.symbol:
                        gathered.refuse(frame.data, "ticker has no symbol")
                        continue
                    tickers.append(datum)
                    quoted.append(frame)
            else:
                _note(gathered, frame, message)
        return gathered.heard(self._columns, _trade_rows(trades, traded), _quote_rows(tickers, quoted))

    def instruments(self) -> Request:
        """See `Venue`."""
        return Request("/0/public/AssetPairs", 1)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """Pairs by the names that the stream has for them; a dark pool has none and is left out."""
        found: list[Instrument] = []
        for raw in _result(body, "a listing").values():
            try:
                pair = messages.PAIR.decode(raw)
            except REFUSED:
                continue
            if "/" not in pair.wsname:
                continue
            base, _, quote = pair.wsname.partition("/")
            base, quote = _STREAM_NAMES.get(base, base), _STREAM_NAMES.get(quote, quote)
            found.append(
                Instrument(
                    symbol=f"{base}/{quote}",
                    base=base,
                    quote=quote,
                    trading=pair.status == "online",
                    status=pair.status,
                    tick=step(pair.tick_size) or _of_places(pair.pair_decimals),
                    lot=_of_places(pair.lot_decimals),
                )
            )
        return found

    def fill(self, hole: Hole) -> Request | None:
        """The trades from the time of the one before the hole on, oldest first.

        `since` is exclusive and in nanoseconds, and trades of one order have one time: so from a nanosecond before.
        """
        return _trades_since(hole.symbol, max(hole.after * 1000 - 1, 0))

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """The next page, while this one is full and ends before the hole does."""
        result = _result(body, "a list of trades")
        found, bad = _trades_of(result)
        wanted = [trade for trade in found if hole.first <= trade.trade_id <= hole.last]
        newest = max((trade.trade_id for trade in found), default=hole.last)
        following = None
        if newest < hole.last and len(found) + len(bad) >= PAGE:
            # Trades of one time may stand on two pages, so the next begins with the last time of this one, unless it did already.
            last, asked = _nanoseconds(result.get("last")), int(parse_qs(urlsplit(request.path).query)["since"][0])
            if last > asked:
                following = _trades_since(hole.symbol, last - 1 if last - 1 > asked else last)
        return Filled(self._of_rest(wanted, bad, received, hole.symbol), following)

    def latest(self, symbol: str) -> Request | None:
        """The newest page."""
        return Request(f"/0/public/Trades?{urlencode({'pair': _rest_pair(symbol), 'count': PAGE})}", 1)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """All trades of the page."""
        return self._of_rest(*_trades_of(_result(body, "a list of trades")), received, symbol)

    def _of_rest(
        self, trades: Sequence[KrakenRestTrade], bad: Sequence[Unreadable], received: int, symbol: str
    ) -> Heard:
        numbers = [trade.trade_id for trade in trades]
        rows = TradeRows(
            raw=[msgspec.json.encode(trade) for trade in trades],
            received=[received] * len(trades),
            symbols=[symbol] * len(trades),
            ids=numbers,
            times=[_micros(trade.time) for trade in trades],
            prices=[trade.price for trade in trades],
            quantities=[trade.volume for trade in trades],
            sides=[_SIDES.get(trade.side, "UNKNOWN") for trade in trades],
            sequences=numbers,
            vendor={
                "ord_type": [_ORDER_TYPES.get(trade.order_type, trade.order_type) for trade in trades],
                "misc": [trade.misc for trade in trades],
            },
        )
        return Gathered(unreadable=list(bad)).heard(self._columns, rows)


def _trade_rows(trades: Sequence[KrakenDatum], frames: Sequence[Frame]) -> TradeRows:
    ids = [trade.trade_id for trade in trades]
    return TradeRows(
        raw=[frame.data for frame in frames],
        received=[frame.received for frame in frames],
        symbols=[trade.symbol for trade in trades],
        ids=ids,
        times=[trade.timestamp for trade in trades],
        prices=messages.numbers([trade.price for trade in trades]),
        quantities=messages.numbers([trade.qty for trade in trades]),
        sides=[_SIDES.get(trade.side, "UNKNOWN") for trade in trades],
        sequences=ids,
        vendor={"ord_type": [trade.ord_type for trade in trades]},
    )


def _quote_rows(tickers: Sequence[KrakenDatum], frames: Sequence[Frame]) -> QuoteRows:
    """Quotes have no number of their own: one's id is its time and what it says."""
    times = [ticker.timestamp or _written(frame.received) for ticker, frame in zip(tickers, frames, strict=True)]
    sides = [
        messages.numbers(column)
        for column in (
            [ticker.bid for ticker in tickers],
            [ticker.bid_qty for ticker in tickers],
            [ticker.ask for ticker in tickers],
            [ticker.ask_qty for ticker in tickers],
        )
    ]
    return QuoteRows(
        raw=[frame.data for frame in frames],
        received=[frame.received for frame in frames],
        symbols=[ticker.symbol for ticker in tickers],
        ids=["/".join(said) for said in zip(times, *sides, strict=True)],
        times=times,
        bid_prices=sides[0],
        bid_quantities=sides[1],
        ask_prices=sides[2],
        ask_quantities=sides[3],
    )


def _note(gathered: Gathered, frame: Frame, message: KrakenMessage) -> None:
    if message.channel == messages.HEARTBEAT or message.method == "pong":
        gathered.note(NoticeKind.ALIVE, frame)
    elif message.channel == messages.STATUS:
        systems = [datum.system for datum in message.data if datum.system not in ("", "online")]
        # Maintenance refuses no subscription: it is told, and the connection is kept.
        gathered.note(NoticeKind.ALIVE, frame, ", ".join(systems))
    elif message.success is False or message.error:
        symbols = [message.symbol] if message.symbol else []
        gathered.note(NoticeKind.REFUSED, frame, message.error or f"{message.method} was refused", symbols)
    elif message.method == "subscribe":
        symbols = [message.result.symbol] if message.result is not None and message.result.symbol else []
        gathered.note(NoticeKind.SUBSCRIBED, frame, symbols=symbols)
    elif message.method == "unsubscribe":
        gathered.note(NoticeKind.ALIVE, frame)
    else:
        gathered.note(NoticeKind.UNKNOWN, frame, message.channel or message.method or shown(frame.data))


def _result(body: bytes, expected: str) -> dict[str, msgspec.Raw]:
    found = answer(messages.ANSWER, body, expected)
    if found.error or found.result is None:
        raise WorldError(f"Kraken's answer is not {expected}: {', '.join(found.error) or shown(body)}")
    return found.result


def _trades_of(result: dict[str, msgspec.Raw]) -> tuple[list[KrakenRestTrade], list[Unreadable]]:
    """The trades stand under the pair's name, of which Kraken has several; beside them only `last`."""
    of_pair = next((bytes(raw) for name, raw in result.items() if name != "last"), b"[]")
    return parts(messages.REST_TRADES, of_pair, KrakenRestTrade, "trade")


def _trades_since(symbol: str, nanoseconds: int) -> Request:
    asked = {"pair": _rest_pair(symbol), "since": nanoseconds, "count": PAGE}
    return Request(f"/0/public/Trades?{urlencode(asked)}", 1)


def _rest_pair(symbol: str) -> str:
    return "".join(_REST_NAMES.get(asset, asset) for asset in symbol.split("/"))


def _nanoseconds(last: msgspec.Raw | None) -> int:
    told = bytes(last or b"").strip(b'"')
    return int(told) if told.isdigit() else 0


def _micros(seconds: Decimal) -> int:
    """Microseconds since 1970, what is finer cut; 0, which is refused, where the number cannot be a time."""
    if not seconds.is_finite() or not 0 <= seconds.adjusted() < 12:
        return 0
    return int(seconds * 1_000_000)


def _of_places(places: int | None) -> Decimal | None:
    return None if places is None or not 0 <= places <= 30 else Decimal(1).scaleb(-places)


def _written(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
