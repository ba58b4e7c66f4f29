"""Kinds and classes of dead letters' reasons: the same whatever the values are, made from the reasons that K2 itself gives."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.events import START_US, message_id, trades

from k2.lake.appends.same_event import conflict_reason
from k2.model.codec.decode import decode
from k2.model.codec.encode import encode
from k2.model.codec.further import HELD_BY_WIDER
from k2.model.feed_rules import TOLERANCE_US
from k2.model.reasons import reason_class, reason_kind
from k2.model.rules import broken_rows, wrong_name, wrong_time
from k2.model.topics import DataType


def trade(**columns):
    return trades([message_id(1)], symbols=["BHP"], times=[START_US], **columns)


FIRST = trade(trade_ids=["N1"], prices=[Decimal(100)]).to_pylist()[0]


@pytest.mark.parametrize(
    ("reason", "kind", "name"),
    [
        ("tombstone (no value)", "tombstone (no value)", "tombstone"),
        ("not Confluent framing: first byte 0x7b, expected 0x00", "not Confluent framing", "framing"),
        ("2 bytes are no Confluent header", "bytes are no Confluent header", "framing"),
        ("schema id 9 is not known to the registry", "schema id is not known to the registry", "unknown_schema"),
        ("truncated", "truncated", "truncated"),
        ("17 trailing bytes", "trailing bytes", "trailing"),
        ("invalid uuid", "invalid uuid", "value"),
        ("price has more than 8 decimals: 1.123456789", "price has more than 8 decimals", "decimal"),
        (
            "price has more than 8 decimals: 1E-13; an IcebergTable with spec.decimals: wide holds it",
            "price has more than 8 decimals; an IcebergTable with spec.decimals: wide holds it",
            "decimal",
        ),
        ("price has more than 10 integer digits: 1e30; and more", "price has more than 10 integer digits", "decimal"),
        ("symbol is missing", "symbol is missing", "value"),
        (
            "settles is 9999999 days since 1970, expected a date of the years 1 to 9999",
            "settles is …, expected a date of the years 1 to 9999",
            "value",
        ),
        (
            "vendor_data has the key 'a' twice, expected each key once",
            "vendor_data has the key … twice, expected each key once",
            "value",
        ),
        (
            "price is -37.63, expected more than 0; a feed with prices: any takes it",
            "price is …, expected more than 0; a feed with prices: any takes it",
            "price",
        ),
        (
            "price is negative: found '-37.63'; a feed with prices: any takes it",
            "price is negative: found …; a feed with prices: any takes it",
            "price",
        ),
        ("side is 'X', expected 1', expected one of BUY", "side is …, expected one of BUY", "value"),
        (
            f"lots is 1099511627776, which is no int{HELD_BY_WIDER}",
            f"lots is …, which is no int{HELD_BY_WIDER}",
            "value",
        ),
        (
            "schema id 7: edge of its schema is double, which is no decimal(9, 4)",
            "edge of its schema is double, which is no decimal(9, 4)",
            "schema",
        ),
        ("listing_date is 99999, which is no date32[day]", "listing_date is …, which is no date32[day]", "value"),
        (
            "bid_price and bid_quantity: only one is there",
            "bid_price and bid_quantity: only one is there",
            "value",
        ),
        ("m.trades cannot hold price 17.5: out of range for 17.5", "the table cannot hold price", "value"),
        ("m.trades cannot hold it: no file takes 'BHP'", "the table cannot hold it", "value"),
        ("not readable: b'BHP' at 12", "not readable", "other"),
        ("who knows 12.5 of 'BHP'", "who knows … of …", "other"),
    ],
)
def test_a_reason_has_a_kind_and_a_class(reason, kind, name):
    assert (reason_kind(reason), reason_class(reason)) == (kind, name)


def test_a_schema_that_is_refused_says_what_is_wrong_with_it_and_not_which_it_was():
    payload = encode(trade(), DataType.TRADES, 7).payloads()[0]
    (bad,) = decode([payload], DataType.TRADES, lambda _: '{"type": "record", "name": "T", "fields": []}').bad
    assert bad.reason.startswith("schema id 7: its schema T is not one of ")
    assert reason_kind(bad.reason) == bad.reason.removeprefix("schema id 7: ")
    (bad,) = decode([payload], DataType.TRADES, lambda _: '"no such type"').bad
    assert reason_kind(bad.reason) == "its schema is no Avro schema"


@given(price=st.decimals(max_value=0, min_value=-(10**9), places=8), symbol=st.sampled_from(["", "A\x07", "B" * 99]))
def test_what_breaks_a_rule_of_events_is_of_one_kind_whatever_it_is(price, symbol):
    events = trade(prices=[price])
    (reason,) = broken_rows(events, DataType.TRADES).values()
    assert reason_kind(reason) == "price is …, expected more than 0; a feed with prices: any takes it"
    found = reason_kind(wrong_name("symbol", symbol))
    assert found == ("symbol is …, expected 1 to 64 printable characters" if symbol else "symbol is missing")


@given(st.integers(min_value=2**62, max_value=2**63 - 1))
def test_no_instant_is_told_with_a_time_that_is_out_of_range(micros):
    assert reason_kind(wrong_time("timestamp", micros)).startswith("timestamp is …, expected a time from 1677")


@given(symbol=st.text(max_size=64), price=st.decimals(allow_nan=False, allow_infinity=False, max_value=99, min_value=1))
def test_conflicts_are_of_one_kind_whoever_is_in_conflict(symbol, price):
    other = FIRST | {"symbol": symbol, "price": price}
    reason = conflict_reason(DataType.TRADES, other, FIRST, "t/0/1", TOLERANCE_US)
    assert reason_kind(reason) == "its id is another event's already"
    assert reason_class(reason) == reason_class(reason_kind(reason)) == "conflict"


@given(st.text(max_size=2_000))
def test_a_kind_is_short_and_what_nobody_knows_loses_its_numbers(text):
    kind = reason_kind(f"who knows {text}")
    assert len(kind) <= 160
    assert not set("0123456789") & set(kind) or any(words in text for words in _KEPT)


_KEPT = ("another event's", "cannot hold", "schema id", "has more than", "expected", "which is no")
"""What rules here know, and keep the rest of."""


@pytest.mark.parametrize(
    "reason", ["price has more than 8 decimals: 1", "1 trailing bytes", "schema id 3 is not known to the registry"]
)
def test_a_kind_is_of_its_reasons_class(reason):
    assert reason_class(reason_kind(reason)) == reason_class(reason) != "other"
