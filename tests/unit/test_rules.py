"""What every event must be: one set of rules, with the field and the value in each reason."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.events import varied_rows

from k2.model.events import EVENT_TIME, MAX_DECIMAL, Decimals, arrow_schema, widened
from k2.model.feed_rules import Prices
from k2.model.rules import broken_rows
from k2.model.symbols import is_symbol
from k2.model.times import MAX_US, MIN_US
from k2.model.topics import DataType

TRADES, QUOTES = DataType.TRADES, DataType.QUOTES


def trades(*changes: dict) -> pa.RecordBatch:
    """Good trades, of which some fields are other ones."""
    rows = [
        row | {"price": 1, "quantity": 1} | change
        for row, change in zip(varied_rows(len(changes)), changes, strict=True)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema(TRADES))


def with_times(*micros: int) -> pa.RecordBatch:
    batch = trades(*({} for _ in micros))
    place = batch.schema.get_field_index("timestamp")
    return batch.set_column(
        place, batch.schema.field(place), pa.array(micros, pa.int64()).cast(pa.timestamp("us", "UTC"))
    )


def quote(**sides: object) -> pa.RecordBatch:
    row = {"message_id": bytes(16), "quote_id": "1", "symbol": "BHP", "exchange": "ASX", "asset_class": "equities"}
    times = {"timestamp": 0, "ingestion_timestamp": 0}
    return pa.RecordBatch.from_pylist([row | times | {"currency": "AUD"} | sides], schema=arrow_schema(QUOTES))


def test_good_events_break_no_rule():
    assert broken_rows(trades({}, {}, {}), TRADES) == {}
    assert broken_rows(trades()[:0], TRADES) == {}


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_an_instant_is_refused_exactly_when_64_bits_of_nanoseconds_do_not_hold_it(micros):
    broken = broken_rows(with_times(*micros), TRADES)
    assert set(broken) == {row for row, at in enumerate(micros) if not MIN_US <= at < MAX_US}
    kept = [at for row, at in enumerate(micros) if row not in broken]
    assert [
        int(each) for each in np.array(kept, "datetime64[us]").astype("datetime64[ns]").astype(np.int64) // 1000
    ] == kept


def test_nanoseconds_in_a_field_of_microseconds_are_told_for_what_they_are():
    reason = broken_rows(with_times(1_394_445_600_123_456_789), TRADES)[0]
    assert reason.startswith("timestamp is 1394445600123456789 µs since 1970 (about the year ")
    assert "as nanoseconds, 2014" in reason


def test_what_stands_behind_an_offset_or_a_null_is_not_looked_at():
    batch = with_times(2**62, 5, 2**62)
    assert broken_rows(batch.slice(1, 1), TRADES) == {}
    assert set(broken_rows(batch.slice(1), TRADES)) == {1}


@pytest.mark.parametrize(
    ("symbol", "right"),
    [
        ("BTC/USDT", True),
        (".", True),
        ("日本", True),
        ("A B", True),
        ("", False),
        ("A\nB", False),
        ("A\x85", False),
        ("x" * 65, False),
    ],
)
def test_a_symbol_is_1_to_64_printable_characters(symbol, right):
    assert is_symbol(symbol) is right
    assert (broken_rows(trades({"symbol": symbol}), TRADES) == {}) is right


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"symbol": ""}, "symbol is missing"),
        ({"symbol": "B\x07P"}, "symbol is 'B\\x07P', expected 1 to 64 printable characters"),
        ({"quantity": 0}, "quantity is 0, expected more than 0"),
        ({"price": 0}, "price is 0, expected more than 0; a feed with prices: any takes it"),
        ({"price": -37}, "price is -37, expected more than 0; a feed with prices: any takes it"),
    ],
)
def test_a_reason_names_the_field_and_what_it_holds(change, reason):
    assert broken_rows(trades({}, change, {}), TRADES) == {1: reason}


@given(st.integers(-(10**38) + 1, 10**38 - 1) | st.sampled_from([0, 1, -1, 2**64, -(2**64), 2**63]))
def test_the_sign_of_a_wide_amount_is_its_own_and_it_is_told_with_all_its_digits(units):
    batch = widened(trades({}), TRADES)
    place = batch.schema.get_field_index("price")
    price = Decimal(f"{units}E-18")
    batch = batch.set_column(place, batch.schema.field(place), pa.array([price], Decimals.WIDE.arrow))
    broken = broken_rows(batch, TRADES)
    assert set(broken) == (set() if units > 0 else {0})
    if units <= 0:
        assert Decimal(broken[0].removeprefix("price is ").partition(",")[0]) == price


@pytest.mark.parametrize(
    ("day", "right"), [(-719_162, True), (-719_163, False), (0, True), (2_932_896, True), (2_932_897, False)]
)
def test_a_date_is_one_that_calendars_have(day, right):
    batch = trades({}, {}, {}).append_column("settles", pa.array([None, day, 0], pa.int32()).cast(pa.date32()))
    expected = f"settles is {day} days since 1970, expected a date of the years 1 to 9999"
    assert broken_rows(batch, TRADES) == ({} if right else {1: expected})
    assert broken_rows(batch[2:], TRADES) == {}


KEYS = st.lists(st.sampled_from("abc"), max_size=4) | st.lists(st.integers(0, 40).map(str), min_size=14, max_size=20)


@given(st.lists(st.none() | KEYS, max_size=8), st.integers(0, 3))
def test_a_map_has_each_of_its_keys_once(rows, skipped):
    maps = [None if keys is None else [(key, "x") for key in keys] for keys in rows]
    batch = trades(*({"vendor_data": each} for each in maps))[skipped:]
    twice = {row for row, keys in enumerate(rows[skipped:]) if keys is not None and len(set(keys)) < len(keys)}
    broken = broken_rows(batch, TRADES)
    assert set(broken) == twice
    for row, reason in broken.items():
        found = re.fullmatch(r"vendor_data has the key '(.*)' twice, expected each key once", reason)
        assert rows[skipped:][row].count(found[1]) > 1


def test_a_map_of_very_many_keys_holds_nobody_up():
    keys = [(str(number), "x") for number in range(100_000)]
    assert broken_rows(trades({"vendor_data": keys}, {}), TRADES) == {}
    assert set(broken_rows(trades({}, {"vendor_data": [*keys, keys[7]]}), TRADES)) == {1}


@given(st.lists(st.none() | st.lists(st.none() | st.sampled_from("ab"), max_size=3), max_size=8), st.integers(0, 3))
def test_a_list_has_no_item_that_is_null_and_a_map_no_value(rows, skipped):
    holes = {row for row, items in enumerate(rows[skipped:]) if items is not None and None in items}
    lists = trades(*({"trade_conditions": each} for each in rows))[skipped:]
    assert broken_rows(lists, TRADES) == dict.fromkeys(
        holes, "trade_conditions has an item that is null, expected texts"
    )
    maps = [None if items is None else [(str(key), value) for key, value in enumerate(items)] for items in rows]
    broken = broken_rows(trades(*({"vendor_data": each} for each in maps))[skipped:], TRADES)
    assert broken == {
        row: f"vendor_data has null under '{rows[skipped:][row].index(None)}', expected a text" for row in holes
    }


def test_a_side_of_a_quote_is_whole_or_absent():
    assert broken_rows(quote(), QUOTES) == {}
    assert broken_rows(quote(bid_price=1, bid_quantity=2), QUOTES) == {}
    assert broken_rows(quote(bid_price=1), QUOTES) == {0: "bid_price and bid_quantity: only one is there"}
    assert "ask_quantity is 0" in broken_rows(quote(ask_price=1, ask_quantity=0), QUOTES)[0]
    assert "ask_price is -1" in broken_rows(quote(ask_price=-1, ask_quantity=1), QUOTES)[0]


amounts = st.decimals(-MAX_DECIMAL, MAX_DECIMAL, places=8) | st.sampled_from([Decimal(0), Decimal("-0.00000001")])


@given(st.lists(st.tuples(amounts, amounts), max_size=20))
def test_a_feed_may_have_prices_of_any_sign_and_sizes_are_above_zero_all_the_same(rows):
    batch = trades(*({"price": price, "quantity": quantity} for price, quantity in rows))
    assert set(broken_rows(batch, TRADES)) == {n for n, row in enumerate(rows) if min(row) <= 0}
    of_any = broken_rows(batch, TRADES, Prices.ANY)
    assert set(of_any) == {n for n, (_, quantity) in enumerate(rows) if quantity <= 0}
    assert all(reason.startswith("quantity is ") and "prices" not in reason for reason in of_any.values())


@pytest.mark.parametrize(("bid", "ask"), [("-37.63", "0"), ("0", "-1"), ("-2", "-2")])
def test_both_sides_of_a_quote_may_have_any_sign_and_a_crossed_one_is_kept(bid, ask):
    there = quote(bid_price=Decimal(bid), bid_quantity=1, ask_price=Decimal(ask), ask_quantity=1)
    assert broken_rows(there, QUOTES, Prices.ANY) == {}
    assert "a feed with prices: any takes it" in broken_rows(there, QUOTES)[0]
    assert "only one is there" in broken_rows(quote(bid_price=Decimal(bid)), QUOTES, Prices.ANY)[0]
    assert "bid_quantity is 0" in broken_rows(quote(bid_price=-1, bid_quantity=0), QUOTES, Prices.ANY)[0]


def test_amounts_of_reference_data_are_no_prices():
    arrays = [
        pa.array([-1], field.type) if field.name == "net_amount" else pa.nulls(1, field.type)
        for field in arrow_schema(DataType.REFERENCE_DATA)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(DataType.REFERENCE_DATA))
    assert broken_rows(batch, DataType.REFERENCE_DATA, Prices.ANY) == {0: "net_amount is -1, expected 0 or more"}


def test_every_data_type_has_its_time_held_to_the_range():
    for data_type, column in EVENT_TIME.items():
        schema = arrow_schema(data_type)
        arrays = [
            pa.array([MAX_US], field.type) if field.name == column else pa.nulls(1, field.type) for field in schema
        ]
        assert column in broken_rows(pa.RecordBatch.from_arrays(arrays, schema=schema), data_type)[0]
