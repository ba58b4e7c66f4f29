"""An exchange of a few lines: its trades are numbers, its answers are text, and its REST interface keeps only some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from k2.feeds.venues.venue import (
    Filled,
    Frame,
    Heard,
    Hole,
    Instrument,
    Numbering,
    Request,
    Subscription,
    VenueLimits,
)
from k2.model.errors import WorldError
from k2.model.events import arrow_schema
from k2.model.ids import message_ids
from k2.model.topics import DataType

START_US = 1_700_000_000_000_000
APART_US = 1_000
"""Between two trades of a symbol."""

PAGE = 100


def paper_trades(symbol: str, numbers: Sequence[int], received: int = START_US) -> pa.RecordBatch:
    """Trades as events: each at the time and the price that its number says."""
    count = len(numbers)
    texts = pa.array([str(number) for number in numbers], pa.string())
    times = pa.array([START_US + number * APART_US for number in numbers], pa.timestamp("us", tz="UTC"))
    columns = {
        "message_id": message_ids(DataType.TRADES, "PAPER", symbol, texts),
        "trade_id": texts,
        "symbol": pa.array([symbol] * count, pa.string()),
        "exchange": pa.array(["PAPER"] * count, pa.string()),
        "asset_class": pa.array(["crypto"] * count, pa.string()),
        "timestamp": times,
        "price": pa.array([Decimal(1 + number % 7) for number in numbers], pa.decimal128(18, 8)),
        "quantity": pa.array([Decimal(1)] * count, pa.decimal128(18, 8)),
        "currency": pa.array(["USDT"] * count, pa.string()),
        "side": pa.array(["BUY"] * count, pa.string()),
        "source_sequence": pa.array(numbers, pa.int64()),
        "ingestion_timestamp": pa.array([received] * count, pa.timestamp("us", tz="UTC")),
    }
    schema = arrow_schema(DataType.TRADES)
    arrays = [columns.get(field.name) for field in schema]
    empty = pa.array([[]] * count, pa.list_(pa.field("item", pa.string(), nullable=False)))
    found = [
        each if each is not None else empty if field.name == "trade_conditions" else pa.nulls(count, field.type)
        for each, field in zip(arrays, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(found, schema=schema)


def heard_trades(symbol: str, numbers: Sequence[int], received: int = START_US) -> Heard:
    """The same as what a venue says of frames."""
    return Heard({DataType.TRADES: paper_trades(symbol, numbers, received)})


@dataclass(slots=True)
class PaperExchange:
    """What the exchange has, by symbol; tests add to it and take away."""

    trades: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def answer(self, request: Request) -> bytes:
        """The body of the answer: at most `PAGE` numbers."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        known = sorted(self.trades.get(asked["symbol"], []))
        if "from" in asked:
            known = [number for number in known if number >= int(asked["from"])][:PAGE]
        return " ".join(map(str, known[-PAGE:])).encode()


class PaperVenue:
    """A venue whose numbers have no holes, and whose messages are symbol and numbers."""

    name = "paper"
    exchange = "PAPER"
    stream_url = "wss://paper.invalid"
    rest_url = "https://paper.invalid"
    numbering = Numbering.CONSECUTIVE
    limits = VenueLimits(1024, 5.0, 60.0, weight_a_minute=6_000.0)
    data_types = (DataType.TRADES,)
    ping: bytes | None = None
    ping_seconds = 20.0
    separate = False
    can_fill = True

    def subscription(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> Subscription:
        """Nobody subscribes here."""
        del data_types
        return Subscription(f"/ws?{'/'.join(symbols)}")

    def changed(
        self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]
    ) -> tuple[bytes, ...]:
        """Nor do they change."""
        del added, removed, data_types
        return ()

    def parse(self, frames: Sequence[Frame]) -> Heard:
        """A frame is a symbol and its numbers."""
        symbol, *numbers = frames[0].data.decode().split()
        return heard_trades(symbol, [int(each) for each in numbers], frames[0].received)

    def instruments(self) -> Request:
        """All that is listed."""
        return Request("/instruments", 1.0)

    def parse_instruments(self, body: bytes) -> list[Instrument]:
        """One symbol a word."""
        return [Instrument(each, each[:3], "USDT", trading=True, status="TRADING") for each in body.decode().split()]

    def fill(self, hole: Hole) -> Request | None:
        """Asks from the first number on."""
        return Request(f"/trades?symbol={hole.symbol}&from={hole.first}", 25.0) if self.can_fill else None

    def parse_fill(self, request: Request, body: bytes, received: int, hole: Hole) -> Filled:
        """The numbers of the hole; and what comes after them, while it is within the hole."""
        numbers = _numbers(body)
        inside = [number for number in numbers if hole.first <= number <= hole.last]
        more = len(numbers) == PAGE and numbers[-1] < hole.last
        following = replace(request, path=f"/trades?symbol={hole.symbol}&from={numbers[-1] + 1}") if more else None
        return Filled(heard_trades(hole.symbol, inside, received), following)

    def latest(self, symbol: str) -> Request | None:
        """Asks for the newest."""
        return Request(f"/newest?symbol={symbol}", 25.0)

    def parse_latest(self, body: bytes, received: int, symbol: str) -> Heard:
        """The numbers that came."""
        return heard_trades(symbol, _numbers(body), received)


def _numbers(body: bytes) -> list[int]:
    try:
        return [int(each) for each in body.decode().split()]
    except ValueError as error:
        raise WorldError(f"the answer is no list of numbers: {error}") from error
