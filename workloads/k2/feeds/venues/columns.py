"""From what a venue's messages say to columns of events: exact decimals, message ids, times, the vendor's own fields.

A parser lists what its messages say, a value a row, in `TradeRows` or `QuoteRows`; what K2 cannot hold of them is `Unreadable`
with its reason and the message, and the others become a batch. Nothing here knows a venue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta

from k2.feeds.formats.columns import exact, parsed_amounts, timestamp_array, vendor_map
from k2.feeds.venues.venue import Unreadable
from k2.model.compute import pc
from k2.model.events import COLUMNS, Decimals, arrow_schema
from k2.model.ids import message_ids
from k2.model.topics import DataType

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A whole number that a column holds, for typed messages: larger ones are refused where they are decoded."""

LATEST_MICROS = 2**63 // 1000
"""The first time that 64-bit nanoseconds do not hold."""
_MICROS_FROM = 10**14
_MILLIS_FROM = 10**11
_NANOSECONDS = pa.timestamp("ns", tz="UTC")
_FINER = re.compile(r"(\.[0-9]{9})[0-9]+")
_TIME_SHAPE = "ISO 8601 with its offset (2026-08-09T21:05:42.514318Z), 1970 to 2262"
_NO_CONDITIONS = pa.list_(pa.field("item", pa.string(), nullable=False))

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class TradeRows:
    """Trades as messages say them, a value a row: all lists are of one length."""

    raw: list[bytes] = field(default_factory=list[bytes])
    """The message of each, for a dead letter."""
    received: list[int] = field(default_factory=list[int])
    """Microseconds since 1970 by our clock."""
    symbols: list[str] = field(default_factory=list[str])
    ids: Sequence[str | int] = field(default_factory=list[str | int])
    """The venue's own; one list has either texts or numbers."""
    times: Sequence[int] | Sequence[str] = field(default_factory=list[int])
    """By the venue's clock: microseconds since 1970 (`micros`), or ISO 8601 with its offset, what is finer than them cut."""
    prices: Sequence[str] = field(default_factory=list[str])
    """As plain decimals (`amount`)."""
    quantities: Sequence[str] = field(default_factory=list[str])
    sides: Sequence[str] | pa.Array = field(default_factory=list[str])
    """BUY, SELL or UNKNOWN: the aggressor's."""
    sequences: Sequence[int] | None = None
    """The venue's numbers where they are consecutive (`Numbering`); they may be those of `ids`."""
    vendor: Mapping[str, Sequence[str] | pa.Array] = field(default_factory=lambda: MappingProxyType({}))
    """Field of the message → its text in each row; empty where it was not there."""


@dataclass(slots=True)
class QuoteRows:
    """Best bids and asks as messages say them, a value a row. A side whose price is empty or zero is not there."""

    raw: list[bytes] = field(default_factory=list[bytes])
    received: list[int] = field(default_factory=list[int])
    symbols: list[str] = field(default_factory=list[str])
    ids: Sequence[str | int] = field(default_factory=list[str | int])
    times: Sequence[int] | Sequence[str] = field(default_factory=list[int])
    bid_prices: Sequence[str] = field(default_factory=list[str])
    bid_quantities: Sequence[str] = field(default_factory=list[str])
    ask_prices: Sequence[str] = field(default_factory=list[str])
    ask_quantities: Sequence[str] = field(default_factory=list[str])
    sequences: Sequence[int] | None = None
    vendor: Mapping[str, Sequence[str] | pa.Array] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Made:
    """What became of rows: events, None where none was left, and what K2 cannot hold."""

    events: pa.RecordBatch | None
    unreadable: tuple[Unreadable, ...] = ()


class EventColumns:
    """Makes events of a feed out of rows.

    Args:
        exchange: the exchange's code, upper case.
        asset_class: of all events.
        currency: of prices whose symbol is not in `currencies`.
        decimals: of the data types whose tables have other than standard ones.

    Attributes:
        currencies: symbol → currency of its prices, as the venue lists it; whoever asks for the listing fills it in.
    """

    def __init__(
        self,
        exchange: str,
        asset_class: str = "crypto",
        currency: str = "",
        decimals: Mapping[DataType, Decimals] = MappingProxyType({}),
    ) -> None:
        self.exchange = exchange
        self.currencies: MutableMapping[str, str] = {}
        self._asset_class = asset_class
        self._currency = currency
        self._decimals = decimals

    def decimals(self, data_type: DataType) -> Decimals:
        """Of that data type's table."""
        return self._decimals.get(data_type, Decimals.STANDARD)

    def trades(self, rows: TradeRows) -> Made:
        """Trades as events, in the order of the rows."""
        reader = _Reader(rows.raw, self.decimals(DataType.TRADES))
        given = self._common(DataType.TRADES, rows, reader)
        given |= {
            "trade_id": given.pop("id"),
            "price": reader.amounts("price", rows.prices),
            "quantity": reader.amounts("quantity", rows.quantities),
            "side": rows.sides if isinstance(rows.sides, pa.Array) else pa.array(rows.sides, pa.string()),
            "trade_conditions": pa.ListArray.from_arrays(
                pa.array(np.zeros(len(rows.raw) + 1, dtype=np.int32)), pa.array([], pa.string()), type=_NO_CONDITIONS
            ),
        }
        return self._made(DataType.TRADES, given, reader)

    def quotes(self, rows: QuoteRows) -> Made:
        """Quotes as events, in the order of the rows."""
        reader = _Reader(rows.raw, self.decimals(DataType.QUOTES))
        given = self._common(DataType.QUOTES, rows, reader)
        given["quote_id"] = given.pop("id")
        for side, prices, quantities in (
            ("bid", rows.bid_prices, rows.bid_quantities),
            ("ask", rows.ask_prices, rows.ask_quantities),
        ):
            price = reader.amounts(f"{side} price", prices, blank=True)
            absent = pc.equal(price, pa.scalar(Decimal(0), price.type))
            none = pa.scalar(None, price.type)
            quantity = reader.amounts(f"{side} quantity", quantities, blank=True)
            given[f"{side}_price"] = pc.if_else(absent, none, price)
            given[f"{side}_quantity"] = pc.if_else(absent, none, quantity)
        return self._made(DataType.QUOTES, given, reader)

    def _common(self, data_type: DataType, rows: TradeRows | QuoteRows, reader: _Reader) -> dict[str, pa.Array]:
        count = len(rows.raw)
        ids = pa.array(rows.ids, pa.string() if count and isinstance(rows.ids[0], str) else pa.int64())
        symbols = pa.array(rows.symbols, pa.string()).dictionary_encode()
        names = symbols.dictionary.to_pylist()
        currencies = pa.array([self.currencies.get(name, self._currency) for name in names], pa.string())
        plain = symbols.dictionary.take(symbols.indices)
        texts = ids if pa.types.is_string(ids.type) else ids.cast(pa.string())
        sequences = None
        if rows.sequences is not None:
            sequences = ids if rows.sequences is rows.ids else pa.array(rows.sequences, pa.int64())
        return {
            "message_id": message_ids(data_type, self.exchange, plain, texts),
            "id": texts,
            "symbol": plain,
            "exchange": pa.repeat(self.exchange, count),
            "asset_class": pa.repeat(self._asset_class, count),
            "timestamp": reader.times(rows.times),
            "currency": currencies.take(symbols.indices),
            "source_sequence": pa.nulls(count, pa.int64()) if sequences is None else sequences,
            "ingestion_timestamp": timestamp_array(np.array(rows.received, dtype=np.int64)),
            "vendor_data": vendor_map({name: _text(values) for name, values in rows.vendor.items()}, count),
        }

    def _made(self, data_type: DataType, given: Mapping[str, pa.Array], reader: _Reader) -> Made:
        count = reader.count
        if not count:
            return Made(None)
        decimals = self.decimals(data_type)
        arrays = [
            given[column.name] if column.name in given else pa.nulls(count, column.arrow(decimals).type)
            for column in COLUMNS[data_type]
        ]
        events = pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(data_type, decimals))
        if reader.ok.all():
            return Made(events)
        events = events.filter(pa.array(reader.ok))
        return Made(events if events.num_rows else None, reader.unreadable())


class _Reader:
    """Columns of rows, and which rows K2 cannot hold."""

    def __init__(self, raw: Sequence[bytes], decimals: Decimals) -> None:
        self.count = len(raw)
        self.ok: Mask = np.ones(len(raw), dtype=bool)
        self._raw = raw
        self._decimals = decimals
        self._reasons: dict[int, str] = {}

    def amounts(self, label: str, texts: Sequence[str], *, blank: bool = False) -> pa.Array:
        """Exact decimals of plain texts; zero where a text is none, or is blank and may be."""
        values = pa.array(texts, pa.string())
        found, ok = parsed_amounts(values, self._decimals)
        if blank:
            ok |= pc.equal(values, "").to_numpy(zero_copy_only=False)
        self._refuse(ok, lambda row: f"{label} {exact(texts[row], self._decimals)}")
        return found

    def times(self, told: Sequence[int] | Sequence[str]) -> pa.Array:
        """Times, those that 64-bit nanoseconds do not hold refused, and texts that are none."""
        if told and isinstance(told[0], str):
            values = self._written(cast("Sequence[str]", told))
        else:
            values = np.array(told, dtype=np.int64)
        self._refuse(
            (values > 0) & (values < LATEST_MICROS),
            lambda row: f"time is out of range: found {values[row]} µs since 1970, expected 1970 to 2262",
        )
        return timestamp_array(values)

    def _written(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Microseconds of ISO 8601 times; 1 where a text is none."""
        try:
            nanoseconds = pa.array(texts, pa.string()).cast(_NANOSECONDS).cast(pa.int64())
            return nanoseconds.to_numpy() // 1000
        except pa.ArrowInvalid:
            found = [_micros_written(text) for text in texts]  # one of them is odd: each by itself
        ok = np.array([value is not None for value in found])
        self._refuse(ok, lambda row: f"time is no time: found {texts[row]!r}, expected {_TIME_SHAPE}")
        return np.array([1 if value is None else value for value in found], dtype=np.int64)

    def unreadable(self) -> tuple[Unreadable, ...]:
        """The rows that were refused, each with its first reason."""
        return tuple(Unreadable(self._raw[row], self._reasons[row]) for row in sorted(self._reasons))

    def _refuse(self, ok: Mask, reason: Callable[[int], str]) -> None:
        if ok.all():
            return
        self.ok &= ok
        # A loop over what is wrong: few rows, or none.
        for row in np.flatnonzero(~ok).tolist():
            self._reasons.setdefault(row, reason(row))


def amount(value: Decimal | str) -> str:
    """A number of a message as a plain decimal, digit for digit: 1E-7 is 0.0000001. For JSON numbers decoded as `Decimal`.

    One with more than 60 digits stays as it is, and is refused with its reason like any text that is no amount.
    """
    if isinstance(value, str):
        return value
    if not value.is_finite() or abs(value.adjusted()) > 60:
        return str(value)
    return f"{value:f}"


def micros(time: int) -> int:
    """Microseconds of a time since 1970 that is told in nanoseconds, microseconds, milliseconds or seconds, by its size.

    Milliseconds reach 10^14 in the year 5138, and microseconds did so in 1973: for times of markets they cannot be confused.
    """
    if time >= _MICROS_FROM * 1000:
        return time // 1000
    if time >= _MICROS_FROM:
        return time
    return time * 1000 if time >= _MILLIS_FROM else time * 1_000_000


def _micros_written(text: str) -> int | None:
    # More than nine digits behind the point are more than Arrow reads; they are cut like all that is finer than a microsecond.
    short = _FINER.sub(r"\1", text)
    try:
        return pa.scalar(short).cast(_NANOSECONDS).value // 1000
    except pa.ArrowInvalid:
        return None


def times_in_micros(times: Sequence[int]) -> list[int]:
    """`micros` of each."""
    if times and min(times) >= _MICROS_FROM and max(times) < _MICROS_FROM * 1000:
        return list(times)
    return [micros(time) for time in times]


def _text(values: Sequence[str] | pa.Array) -> pa.StringArray:
    column: Any = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    return column if pa.types.is_string(column.type) else column.cast(pa.string())
