"""From the numbers of a synthetic market to batches of events of the model, in any batch size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.feeds.formats.columns import decimal_array, timestamp_array
from k2.model.compute import pc
from k2.model.events import COLUMNS, SCALE, arrow_schema
from k2.model.ids import message_ids
from k2.model.topics import DataType

Ints = npt.NDArray[np.int64]

QUOTE, TRADE = 0, 1
UNIT = 10**SCALE


@dataclass(frozen=True, slots=True)
class Slice:
    """Events of all symbols in time order, as columns of numbers. Prices in units of 1e-8, sizes in whole units.

    `symbol` is an index into the market's symbols, `kind` is QUOTE or TRADE, `price` and `quantity` are the trade's.
    """

    day: date
    time: Ints
    symbol: Ints
    kind: npt.NDArray[np.int8]
    bid: Ints
    ask: Ints
    bid_size: Ints
    ask_size: Ints
    buys: npt.NDArray[np.bool_]
    quantity: Ints
    number: Ints

    def __len__(self) -> int:
        return len(self.time)

    def cut(self, start: int, end: int) -> Slice:
        """The events [start, end)."""
        columns = {name: getattr(self, name)[start:end] for name in self.__slots__ if name != "day"}
        return Slice(day=self.day, **columns)


def merged(parts: Sequence[dict[str, Any]], day: date) -> Slice:
    """One slice of the symbols' own ones, by time; at one time, by the order of the symbols."""
    order = np.argsort(np.concatenate([part["times"] for part in parts]), kind="stable")

    def column(name: str, scale: bool = False) -> Any:
        values = [part[name] * part["tick"] if scale else part[name] for part in parts]
        return np.concatenate(values)[order]

    owners = np.repeat(np.arange(len(parts)), [len(part["times"]) for part in parts])[order]
    return Slice(
        day=day,
        time=column("times"),
        symbol=owners,
        kind=column("kinds"),
        bid=column("bid", scale=True),
        ask=column("ask", scale=True),
        bid_size=column("bid_size"),
        ask_size=column("ask_size"),
        buys=column("buys"),
        quantity=column("quantity"),
        number=column("numbers"),
    )


class EventMaker:
    """Makes batches of the model's schema of slices. `source_sequence` counts each data type's events from 1.

    Args:
        symbols: the market's symbols.
        exchange: the exchange's code.
        asset_class: of all events.
        currency: of all prices.
        data_types: which of trades and quotes are wanted; the others are made and dropped, so that a market is the same.
    """

    def __init__(
        self, symbols: Sequence[str], exchange: str, asset_class: str, currency: str, data_types: Sequence[DataType]
    ) -> None:
        self._symbols = pa.array(symbols, pa.string())
        self._exchange = exchange
        self._constants = {"exchange": exchange, "asset_class": asset_class, "currency": currency}
        self._wanted = data_types
        self._sequence = dict.fromkeys(DataType, 1)

    def batches(self, part: Slice, ingested: int | None) -> tuple[tuple[DataType, pa.RecordBatch], ...]:
        """Quotes and trades of a slice, quotes first; `ingested`: microseconds, None: the events' own times."""
        found: list[tuple[DataType, pa.RecordBatch]] = []
        for data_type, kind in ((DataType.QUOTES, QUOTE), (DataType.TRADES, TRADE)):
            rows = np.flatnonzero(part.kind == kind)
            if data_type in self._wanted and rows.size:
                found.append((data_type, self._batch(data_type, part, rows, ingested)))
        return tuple(found)

    def _batch(self, data_type: DataType, part: Slice, rows: Ints, ingested: int | None) -> pa.RecordBatch:
        symbols = self._symbols.take(pa.array(part.symbol[rows]))
        numbers = pa.array(part.number[rows]).cast(pa.string())
        ids = pc.binary_join_element_wise(symbols, part.day.strftime("%Y%m%d"), numbers, "-")
        times = part.time[rows]
        first = self._sequence[data_type]
        self._sequence[data_type] = first + rows.size
        given: dict[str, pa.Array] = {
            "message_id": message_ids(data_type, self._exchange, symbols, ids),
            "symbol": symbols,
            "timestamp": timestamp_array(times),
            "source_sequence": pa.array(np.arange(first, first + rows.size, dtype=np.int64)),
            "ingestion_timestamp": timestamp_array(times if ingested is None else np.full(rows.size, ingested)),
        }
        given |= {name: pa.repeat(pa.scalar(value), rows.size) for name, value in self._constants.items()}
        given |= self._trade(part, rows, ids) if data_type is DataType.TRADES else self._quote(part, rows, ids)
        arrays = [
            given[column.name] if column.name in given else pa.nulls(rows.size, column.arrow().type)
            for column in COLUMNS[data_type]
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(data_type))

    def _trade(self, part: Slice, rows: Ints, ids: pa.StringArray) -> dict[str, pa.Array]:
        buys = part.buys[rows]
        kind = pa.list_(pa.field("item", pa.string(), nullable=False))
        return {
            "trade_id": ids,
            "price": decimal_array(np.where(buys, part.ask[rows], part.bid[rows])),
            "quantity": decimal_array(part.quantity[rows] * UNIT),
            "side": pa.array(["SELL", "BUY"]).take(pa.array(buys.astype(np.int8))),
            "trade_conditions": pa.ListArray.from_arrays(
                pa.array(np.zeros(rows.size + 1, dtype=np.int32)), pa.array([], pa.string()), type=kind
            ),
        }

    def _quote(self, part: Slice, rows: Ints, ids: pa.StringArray) -> dict[str, pa.Array]:
        return {
            "quote_id": ids,
            "bid_price": decimal_array(part.bid[rows]),
            "bid_quantity": decimal_array(part.bid_size[rows] * UNIT),
            "ask_price": decimal_array(part.ask[rows]),
            "ask_quantity": decimal_array(part.ask_size[rows] * UNIT),
        }


def rebatched(slices: Iterator[Slice], rows: int) -> Iterator[Slice]:
    """The same events in slices of at most `rows`; a date's last one may be smaller, and so may a slice's."""
    for part in slices:
        for start in range(0, len(part), rows):
            yield part.cut(start, min(start + rows, len(part)))
