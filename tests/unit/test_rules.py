"""What every event must be: one set of rules, with the field and the value in each reason."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.events import varied_rows

from k2.model.events import EVENT_TIME, Decimals, arrow_schema, widened
from k2.model.rules import broken_rows, is_symbol
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
        ({"price": 0}, "price is 0, expected more than 0"),
        ({"price": -37}, "price is -37, expected more than 0"),
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


def test_a_side_of_a_quote_is_whole_or_absent():
    assert broken_rows(quote(), QUOTES) == {}
    assert broken_rows(quote(bid_price=1, bid_quantity=2), QUOTES) == {}
    assert broken_rows(quote(bid_price=1), QUOTES) == {0: "bid_price and bid_quantity: only one is there"}
    assert "ask_quantity is 0" in broken_rows(quote(ask_price=1, ask_quantity=0), QUOTES)[0]
    assert "ask_price is -1" in broken_rows(quote(ask_price=-1, ask_quantity=1), QUOTES)[0]


def test_every_data_type_has_its_time_held_to_the_range():
    for data_type, column in EVENT_TIME.items():
        schema = arrow_schema(data_type)
        arrays = [
            pa.array([MAX_US], field.type) if field.name == column else pa.nulls(1, field.type) for field in schema
        ]
        assert column in broken_rows(pa.RecordBatch.from_arrays(arrays, schema=schema), data_type)[0]
