"""What every event must be, whoever brings it: the one set of rules for files, the sink, and the tail of a topic.

Avro and Arrow hold more than a table, a Parquet reader or a datetime does (an instant of the year 10000, a symbol of no
letters). What breaks a rule is refused where it enters, with the field and the value; behind that point nobody asks again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.amounts import plain
from k2.model.compute import pc
from k2.model.feed_rules import TAKES_ANY, Prices
from k2.model.symbols import SYMBOL_SHAPE, is_symbol
from k2.model.times import MAX_US, MIN_US, day_number
from k2.model.topics import DataType

Mask = npt.NDArray[np.bool_]
Broken = dict[int, str]
"""Row → why it is no event: the field, what was found, what was expected."""

TIME_RANGE = "a time from 1677-09-21T00:12:43.145225Z until 2262-04-11T23:47:16.854775Z"
_LOWEST: dict[DataType, dict[str, int]] = {
    DataType.TRADES: {"price": 1, "quantity": 1},
    DataType.QUOTES: {"bid_price": 1, "bid_quantity": 1, "ask_price": 1, "ask_quantity": 1},
    DataType.REFERENCE_DATA: {"net_amount": 0, "gross_amount": 0, "ratio": 1},
    DataType.GAPS: {},
}
"""Columns of amounts, with the lowest sign that is allowed (1: above zero, 0: zero too)."""
_PRICES = frozenset({"price", "bid_price", "ask_price"})
_FIRST_DAY, _LAST_DAY = day_number(date.min), day_number(date.max)
_FEW_KEYS = 16
_YEAR_US = 31_556_952 * 1_000_000
_NAMES = ("symbol", "exchange", "company_id")


def broken_rows(events: pa.RecordBatch, data_type: DataType, prices: Prices = Prices.POSITIVE) -> Broken:
    """The rows that are no events of that type, each with its first fault.

    Args:
        events: columns of `arrow_schema(data_type)`, and perhaps further ones; nulls where none may be are another's matter.
        data_type: what they are.
        prices: which prices their feed has.
    """
    broken: Broken = {}
    for field, array in zip(events.schema, events.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            mark(broken, out_of_range(array), _wrong_time(field.name, array))
        elif pa.types.is_date(field.type):
            mark(broken, _no_calendar(array), _wrong_date(field.name, array))
        elif pa.types.is_map(field.type):
            mark(broken, _twice_named(array), _wrong_key(field.name, array))
            mark(broken, _holed(array, array.items), _without_value(field.name, array))
        elif pa.types.is_list(field.type):
            mark(
                broken,
                _holed(array, array.values),
                lambda _, f=field: f"{f.name} has an item that is null, expected texts",
            )
        elif field.name in _NAMES:
            mark(broken, nameless(array), lambda row, f=field, a=array: wrong_name(f.name, a[row].as_py()))
    columns = dict(zip(events.schema.names, events.columns, strict=True))
    for name, lowest in _LOWEST[data_type].items():
        if name in _PRICES and prices is Prices.ANY:
            continue
        mark(broken, _below(columns[name], lowest), _wrong_amount(name, columns[name], lowest))
    if data_type is DataType.QUOTES:
        for side in ("bid", "ask"):
            price, quantity = columns[f"{side}_price"], columns[f"{side}_quantity"]
            half = _nulls(price) != _nulls(quantity)
            mark(
                broken, half if half.any() else None, lambda _, s=side: f"{s}_price and {s}_quantity: only one is there"
            )
    return broken


def mark(broken: Broken, rows: Mask | None, reason: Callable[[int], str]) -> None:
    """Note why these rows are no events, where nothing was noted before; None: it is none of them."""
    for row in () if rows is None else np.flatnonzero(rows).tolist():  # bad rows alone: each needs its own words
        broken.setdefault(row, reason(row))


def out_of_range(times: pa.Array) -> Mask | None:
    """Which instants are none that K2 holds; None: it holds them all.

    Args:
        times: a column of timestamps in microseconds; those of other units are cast, which must fit.
    """
    micros = np.frombuffer(times.buffers()[1], np.int64)[times.offset : times.offset + len(times)]
    if times.null_count:
        micros = np.where(_nulls(times), 0, micros)  # what stands in null places is anything
    if not len(micros) or (micros.min() >= MIN_US and micros.max() < MAX_US):
        return None
    return (micros < MIN_US) | (micros >= MAX_US)


def nameless(names: pa.Array) -> Mask | None:
    """Which texts cannot be the name of an instrument or a venue; None: all can. A null is no text."""
    encoded = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
    wrong = [text is not None and not is_symbol(text) for text in encoded.dictionary.to_pylist()]  # a few distinct ones
    if not any(wrong):
        return None
    return np.array([*wrong, False])[pc.fill_null(encoded.indices, len(wrong)).to_numpy(zero_copy_only=False)]


def wrong_name(column: str, found: str | None) -> str:
    """Why a text is no name."""
    return f"{column} is missing" if not found else f"{column} is {found!r}, expected {SYMBOL_SHAPE}"


def wrong_time(column: str, micros: int) -> str:
    """Why an instant is not one that K2 holds."""
    return f"{column} is {micros} µs since 1970 ({_year(micros)}), expected {TIME_RANGE}"


def _year(micros: int) -> str:
    """About when that is, and the commonest mistake where it explains the value."""
    year = 1970 + micros // _YEAR_US
    as_nanoseconds = 1970 + micros // 1000 // _YEAR_US
    hint = f"; as nanoseconds, {as_nanoseconds}" if year > 10_000 and as_nanoseconds < 2100 else ""
    return f"about the year {year}{hint}"


def _wrong_time(column: str, array: pa.Array) -> Callable[[int], str]:
    return lambda row: wrong_time(column, array[row].value)


def _no_calendar(dates: pa.Array) -> Mask | None:
    """Which dates are of no year from 1 to 9999, which is what Python and most databases have; None: all are."""
    if dates.null_count == len(dates):
        return None
    days = np.frombuffer(dates.buffers()[1], np.int32)[dates.offset : dates.offset + len(dates)]
    if dates.null_count:
        days = np.where(_nulls(dates), 0, days)
    if days.min() >= _FIRST_DAY and days.max() <= _LAST_DAY:
        return None
    return (days < _FIRST_DAY) | (days > _LAST_DAY)


def _wrong_date(column: str, array: pa.Array) -> Callable[[int], str]:
    expected = "a date of the years 1 to 9999"
    return lambda row: f"{column} is {array[row].value} days since 1970, expected {expected}"


def _twice_named(maps: pa.Array) -> Mask | None:
    """Which maps have a key more than once, which none of those that read a table takes; None: none has."""
    if maps.null_count == len(maps):
        return None
    offsets = np.frombuffer(maps.buffers()[1], np.int32)[maps.offset : maps.offset + len(maps) + 1]
    sizes = np.diff(offsets)
    if sizes.max() < 2:
        return None
    keys = maps.keys.slice(int(offsets[0]), int(offsets[-1] - offsets[0])).dictionary_encode()
    codes = keys.indices.to_numpy(zero_copy_only=False)
    of_row = np.repeat(np.arange(len(sizes)), sizes)
    wrong = np.zeros(len(sizes), dtype=bool)
    if sizes.max() <= _FEW_KEYS:  # as nearly all: to compare each with those before it costs half of sorting them
        for apart in range(1, int(sizes.max())):
            same = (codes[apart:] == codes[:-apart]) & (of_row[apart:] == of_row[:-apart])
            wrong[of_row[apart:][same]] = True
    else:
        pairs = np.sort(of_row * len(keys.dictionary) + codes)
        wrong[pairs[1:][pairs[1:] == pairs[:-1]] // len(keys.dictionary)] = True
    if maps.null_count:
        wrong &= ~_nulls(maps)
    return wrong if wrong.any() else None


def _wrong_key(column: str, array: pa.Array) -> Callable[[int], str]:
    def reason(row: int) -> str:
        counts = Counter(key for key, _ in array[row].as_py())
        return f"{column} has the key {counts.most_common(1)[0][0]!r} twice, expected each key once"

    return reason


def _holed(nested: pa.Array, items: pa.Array) -> Mask | None:
    """Which lists or maps have an item that is null, for which a table's column has no room; None: none has."""
    if not items.null_count or nested.null_count == len(nested):
        return None
    offsets = np.frombuffer(nested.buffers()[1], np.int32)[nested.offset : nested.offset + len(nested) + 1]
    wrong = np.zeros(len(nested), dtype=bool)
    of_row = np.repeat(np.arange(len(nested)), np.diff(offsets))
    wrong[of_row[_nulls(items)[offsets[0] : offsets[-1]]]] = True
    if nested.null_count:
        wrong &= ~_nulls(nested)
    return wrong if wrong.any() else None


def _without_value(column: str, array: pa.Array) -> Callable[[int], str]:
    def reason(row: int) -> str:
        key = next(key for key, value in array[row].as_py() if value is None)
        return f"{column} has null under {key!r}, expected a text"

    return reason


def _below(amounts: pa.Array, lowest: int) -> Mask | None:
    if amounts.null_count == len(amounts):
        return None
    wrong = _signs(amounts) < lowest
    if amounts.null_count:
        wrong &= ~_nulls(amounts)
    return wrong if wrong.any() else None


def _signs(amounts: pa.Array) -> npt.NDArray[np.int8]:
    """-1, 0 or 1 of each decimal128, by its two words."""
    words = np.frombuffer(amounts.buffers()[1], np.int64)[2 * amounts.offset : 2 * (amounts.offset + len(amounts))]
    low, high = words[0::2], words[1::2]
    return np.where(high < 0, -1, (low != 0) | (high != 0)).astype(np.int8)


def _wrong_amount(column: str, array: pa.Array, lowest: int) -> Callable[[int], str]:
    expected = "more than 0" if lowest else "0 or more"
    if column in _PRICES:
        expected += f"; {TAKES_ANY}"
    return lambda row: f"{column} is {plain(array[row].as_py())}, expected {expected}"


def _nulls(array: pa.Array) -> Mask:
    return np.asarray(array.is_null()) if array.null_count else np.zeros(len(array), dtype=bool)
