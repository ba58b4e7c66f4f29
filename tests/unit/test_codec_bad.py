"""What is no event is reported one by one, with a reason, and takes nothing else with it: rows + bad = payloads."""

from __future__ import annotations

import io
import json
import uuid
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.events import varied_rows

from k2.model.codec import decode, encode, wire
from k2.model.codec import plan as plans
from k2.model.codec.record import read_record
from k2.model.errors import WorldError
from k2.model.events import SIDES, arrow_schema, avro_schema
from k2.model.topics import DataType

TRADES = DataType.TRADES
HEADER = wire.header(7)
OURS = json.dumps(avro_schema(TRADES))


EVENTS = pa.RecordBatch.from_pylist(varied_rows(40), schema=arrow_schema(TRADES))
GOOD = encode(EVENTS, TRADES, 7).payloads()


def known(schema_id: int) -> str | None:
    return OURS if schema_id == 7 else None


def check(payloads, schema_of=known):
    """Decode, and the promise that holds for anything: each payload is one row or one bad, in order."""
    found = decode(payloads, TRADES, schema_of)
    indices = found.rows.tolist()
    assert len(found.events) == len(indices)
    assert sorted(indices + [bad.index for bad in found.bad]) == list(range(len(payloads)))
    assert indices == sorted(indices)
    assert all(bad.reason for bad in found.bad)
    assert found.events.schema.equals(arrow_schema(TRADES))
    found.events.validate(full=True)
    return found


def reason_of(payload: bytes | None, schema_of=known) -> str:
    """The reason for a bad payload, which must not touch its neighbours."""
    found = check([*GOOD[:3], payload, *GOOD[3:6]], schema_of)
    assert found.rows.tolist() == [0, 1, 2, 4, 5, 6], found.bad
    assert found.events.equals(EVENTS.slice(0, 6))
    alone = check([payload], schema_of)
    assert [bad.reason for bad in alone.bad] == [bad.reason for bad in found.bad]
    return found.bad[0].reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, "tombstone (no value)"),
        (b"", "0 bytes are no Confluent header"),
        (b"\0\0\0", "3 bytes are no Confluent header"),
        (b'{"symbol": "BHP"}', "not Confluent framing: first byte 0x7b, expected 0x00"),
        (wire.header(999) + GOOD[0][5:], "schema id 999 is not known to the registry"),
        (HEADER, "truncated"),
        (GOOD[0][:-1], "truncated"),
        (GOOD[0][:30], "truncated"),
        (GOOD[0] + b"abc", "3 trailing bytes"),
        (GOOD[0] + GOOD[1], f"{len(GOOD[1])} trailing bytes"),
        (GOOD[0].replace(b"ASX", b"\xff\xfe\xfd"), "invalid UTF-8 in a string"),
        (GOOD[0][:6] + b"z" * 36 + GOOD[0][42:], "invalid uuid"),
    ],
)
def test_the_reason_says_what_is_wrong(payload, reason):
    assert reason_of(payload) == reason


def with_price(raw: bytes) -> bytes:
    """A trade whose price is these bytes of two's complement."""
    schema = avro_schema(TRADES)
    next(field for field in schema["fields"] if field["name"] == "price")["type"] = "bytes"
    row = varied_rows(1)[0] | {"price": raw, "message_id": str(uuid.UUID(int=5))}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return HEADER + out.getvalue()


@pytest.mark.parametrize(
    "number", [10**18, -(10**18), 2**62, 2**63, -(2**63), 10**20, 2**64 + 5, -(2**64) + 5, 2**126], ids=str
)
def test_more_than_ten_integer_digits_are_bad_never_wrapped(number):
    raw = number.to_bytes((number.bit_length() + 8) // 8, "big", signed=True)
    assert reason_of(with_price(raw)).startswith("price has more than 10 integer digits: ")


@pytest.mark.parametrize("number", [10**18 + 1, -(10**20) - 7, 2**126 + 1, 10**38 - 1], ids=str)
def test_a_letter_that_is_looked_at_shows_all_digits_of_the_amount_that_made_it_one(number):
    raw = number.to_bytes((number.bit_length() + 8) // 8, "big", signed=True)
    record = read_record(with_price(raw), known)
    assert record is not None
    assert record["price"] == Decimal(f"{number}E-8")


def test_a_decimal_of_more_than_sixteen_bytes_is_bad():
    assert "16 bytes" in reason_of(with_price(b"\x01" * 20))


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\0\0\x7f", b"\xff\xff\x80", b"\0" * 16])
def test_a_decimal_that_is_longer_than_it_must_be_is_still_its_value(raw):
    """Allowed by Avro, and fastavro writes -128 that way: read alone, because the quick length check doubts it."""
    found = check([GOOD[0], with_price(raw), GOOD[1]])
    assert found.bad == []
    assert found.events.column("price")[1].as_py() == Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-8)


def test_two_errors_that_make_up_for_each_other_are_both_seen():
    """Joined, these bytes are two good records: only the lengths tell that the cut is elsewhere."""
    for cut in (1, 5, 40, len(GOOD[1]) - 1):
        found = check([GOOD[0] + GOOD[1][:cut], GOOD[1][cut:], GOOD[2]])
        assert [bad.index for bad in found.bad] == [0, 1]
    found = check([GOOD[0] + GOOD[1], b"", GOOD[2]])
    assert [bad.index for bad in found.bad] == [0, 1]


def test_a_registry_that_cannot_be_reached_makes_no_message_bad():
    def unreachable(schema_id):
        raise WorldError("no registry")

    with pytest.raises(WorldError):
        decode(GOOD, TRADES, unreachable)


edits = st.one_of(
    st.none().map(lambda _: lambda p: None),
    st.binary(max_size=60).map(lambda junk: lambda p: junk),
    st.binary(max_size=200).map(lambda junk: lambda p: HEADER + junk),
    st.binary(min_size=1, max_size=40).map(lambda junk: lambda p: p + junk),
    st.integers(0, 400).map(lambda cut: lambda p: p[: cut % len(p)]),
    st.sampled_from([b"\0\0\0\0\1", b"\0\0\0\3\xe7"]).map(lambda header: lambda p: header + p[5:]),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.integers(0, len(GOOD) - 1), edits, max_size=6))
def test_garbage_tombstones_truncation_and_trailing_bytes_are_always_seen(changes):
    payloads = [changes[at](payload) if at in changes else payload for at, payload in enumerate(GOOD)]
    found = check(payloads)
    changed = [at for at in changes if payloads[at] != GOOD[at]]
    bad = {each.index for each in found.bad}
    assert bad <= set(changed)
    # Random bytes after a header may be an event after all; nothing else may.
    assert all(at in bad or fastavro_reads_all(payloads[at]) for at in changed)
    for row, at in enumerate(found.rows.tolist()):
        if at not in changed:
            assert found.events.slice(row, 1).equals(EVENTS.slice(at, 1))


def fastavro_reads_all(payload: bytes | None) -> bool:
    if payload is None or payload[:5] != HEADER:
        return False
    body = io.BytesIO(payload[5:])
    fastavro.schemaless_reader(body, fastavro.parse_schema(avro_schema(TRADES)), None)
    return body.tell() == len(payload) - 5


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 10_000), st.integers(1, 255)), max_size=8))
def test_flipped_bits_lose_no_row_and_mean_the_same_alone_as_in_company(flips):
    payloads = [bytearray(payload) for payload in GOOD]
    for at, where, bits in flips:
        payloads[at][where % len(payloads[at])] ^= bits
    payloads = [bytes(payload) for payload in payloads]
    found = check(payloads)
    reasons = {bad.index: bad.reason for bad in found.bad}
    for at, _, _ in flips:
        alone = check([payloads[at]])
        assert (at in reasons) == bool(alone.bad)
        if not alone.bad:
            row = found.rows.tolist().index(at)
            assert found.events.slice(row, 1).equals(alone.events)


# --- other writers' schemas ---------------------------------------------------------------------------------------


def written(schema: dict, row: dict, schema_id: int) -> bytes:
    out = io.BytesIO()
    datum = row | {"message_id": uuid.UUID(bytes=row["message_id"])}
    datum["vendor_data"] = dict(datum["vendor_data"]) if datum.get("vendor_data") else None
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    return wire.header(schema_id) + out.getvalue()


def edited(**changes) -> dict:
    """Our schema with fields changed (a type), removed (None) or added (a whole field)."""
    schema = avro_schema(TRADES)
    fields = {field["name"]: field for field in schema["fields"]}
    for name, change in changes.items():
        if change is None:
            del fields[name]
        elif name in fields:
            fields[name] = {"name": name, "type": change}
        else:
            fields[name] = change
    return schema | {"fields": list(fields.values())}


def two(schema: dict):
    text = json.dumps(schema)
    return {7: OURS, 8: text}.get


def test_an_older_writer_without_an_optional_field_gives_null():
    schema = edited(platform_sequence=None, vendor_data=None)
    payloads = [written(schema, row, 8) for row in varied_rows(5)]
    found = check([GOOD[0], *payloads, GOOD[1]], two(schema))
    assert found.bad == []
    assert found.rows.tolist() == list(range(7))
    assert found.events.column("vendor_data").null_count == 6
    assert found.events.column("trade_id").to_pylist() == ["T0", "T0", "T1", "T2", "T3", "T4", "T1"]


def test_a_newer_writer_s_field_is_reported_and_the_rest_is_read():
    schema = edited(venue={"name": "venue", "type": ["null", "string"], "default": None})
    payloads = [written(schema, row | {"venue": "X"}, 8) for row in varied_rows(5)]
    found = check(payloads, two(schema))
    assert found.unknown_fields == {"venue"}
    assert found.events.column("price").equals(EVENTS.column("price").slice(0, 5))
    mixed = check([GOOD[0], *payloads], two(schema))
    assert mixed.unknown_fields == {"venue"}
    assert check(GOOD).unknown_fields == frozenset()


def test_fields_in_another_order_are_found_by_name():
    schema = avro_schema(TRADES)
    schema["fields"] = schema["fields"][::-1]
    found = check([written(schema, row, 8) for row in varied_rows(5)], two(schema))
    assert found.events.equals(EVENTS.slice(0, 5))


def test_a_writer_that_lacks_what_an_event_needs_is_refused_by_name():
    schema = edited(currency=None)
    reason = reason_of(written(schema, varied_rows(1)[0], 8), two(schema))
    assert reason == "schema id 8: its schema Trade lacks currency, which Trade needs"


def test_a_float_is_no_price():
    schema = edited(price="double")
    assert (
        reason_of(written(schema, varied_rows(1)[0], 8), two(schema))
        == "schema id 8: price of its schema is double, not decimal"
    )


def test_another_scale_is_converted_when_it_is_exact():
    schema = edited(price={"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 6})
    found = check([written(schema, row, 8) for row in varied_rows(3)], two(schema))
    assert found.events.column("price").equals(EVENTS.column("price").slice(0, 3))
    finer = edited(price={"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 9})
    exact, inexact = varied_rows(2)
    inexact["price"] = Decimal("0.000000001")
    found = check([written(finer, exact, 8), written(finer, inexact, 8)], two(finer))
    wanted = "price has more than 8 decimals: 0.000000001; an IcebergTable with spec.decimals: wide holds it"
    assert [(bad.index, bad.reason) for bad in found.bad] == [(1, wanted)]


def test_a_decimal_on_a_fixed_and_types_called_by_their_names_are_read():
    fixed = {"type": "fixed", "name": "Amount", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 10}
    schema = edited(price=fixed, quantity="Amount")
    found = check([written(schema, row, 8) for row in varied_rows(3)], two(schema))
    assert found.bad == []
    for name in ("price", "quantity"):
        assert found.events.column(name).equals(EVENTS.column(name).slice(0, 3))


def test_a_uuid_is_read_where_a_text_is_and_whatever_text_a_writer_puts_there():
    logical = {"type": "string", "logicalType": "uuid"}
    schema = edited(trade_id=["null", logical], platform_sequence=None)
    plain = edited(trade_id=["null", "string"], platform_sequence=None)
    ids = [str(uuid.UUID(int=number)) for number in range(3)]
    payloads = [written(plain, row | {"trade_id": each}, 8) for row, each in zip(varied_rows(3), ids, strict=True)]
    assert check(payloads, two(schema)).events.column("trade_id").to_pylist() == ids
    odd = written(plain, varied_rows(1)[0] | {"trade_id": "no uuid"}, 8)
    found = check([GOOD[0], odd, b"\0\0\0\0\x08"], two(schema))
    assert found.events.column("trade_id").to_pylist() == ["T0", "no uuid"]


@pytest.mark.parametrize("nanos", [0, 1, 999, 1_394_445_600_123_456_789, -1, -1_001])
def test_nanoseconds_are_cut_towards_the_past_and_milliseconds_are_exact(nanos):
    fine = edited(timestamp={"type": "long", "logicalType": "timestamp-nanos"})
    coarse = edited(timestamp={"type": "long", "logicalType": "timestamp-millis"})
    row = varied_rows(1)[0]
    (at,) = check([written(fine, row | {"timestamp": nanos}, 8)], two(fine)).events.column("timestamp")
    assert at.value == nanos // 1000
    (at,) = check([written(coarse, row | {"timestamp": nanos // 1_000_000}, 8)], two(coarse)).events.column("timestamp")
    assert at.value == nanos // 1_000_000 * 1000


def test_a_long_without_a_unit_is_no_time():
    assert "timestamp of its schema is a long without a unit" in reason_of(
        written(edited(timestamp="long"), varied_rows(1)[0] | {"timestamp": 5}, 8), two(edited(timestamp="long"))
    )


def test_one_value_that_does_not_fit_takes_no_neighbour_with_it():
    wide = edited(price={"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10})
    rows = varied_rows(200)
    rows[77]["price"] = Decimal("12345678901.5")
    found = check([written(wide, row, 8) for row in rows], two(wide))
    assert [(bad.index, bad.reason) for bad in found.bad] == [
        (77, "price has more than 10 integer digits: 12345678901.5; an IcebergTable with spec.decimals: wide holds it")
    ]


def test_a_side_that_the_reader_does_not_know_is_bad_and_its_neighbours_are_not():
    schema = edited(side={"type": "enum", "name": "Side", "symbols": [*SIDES, "CROSS"]})
    mixed = [
        written(schema, row | {"side": side}, 8)
        for row, side in zip(varied_rows(3), ("BUY", "CROSS", "SELL"), strict=True)
    ]
    found = check(mixed, two(schema))
    assert [(bad.index, bad.reason) for bad in found.bad] == [
        (1, "side is 'CROSS', expected one of BUY, SELL, SELL_SHORT, UNKNOWN")
    ]


def test_a_null_where_none_may_be_is_bad():
    schema = edited(currency=["null", "string"])
    found = check(
        [written(schema, row | {"currency": code}, 8) for row, code in zip(varied_rows(2), ("AUD", None), strict=True)],
        two(schema),
    )
    assert [(bad.index, bad.reason) for bad in found.bad] == [(1, "currency is missing")]


@pytest.mark.parametrize("text", ["{", '"string"', '{"type": "nonsense"}', '{"type":"record","name":"A","fields":[]}'])
def test_a_schema_that_is_none_of_ours_is_a_reason(text):
    reason = reason_of(wire.header(8) + b"abc", lambda schema_id: OURS if schema_id == 7 else text)
    assert reason.startswith("schema id 8: its schema")


def test_reason_plans_are_kept():
    assert plans.writer_plan(OURS, TRADES) is plans.writer_plan(OURS, TRADES)


def test_without_the_length_check_they_would_pass(monkeypatch):
    """The control: the same bytes are two rows when every length is believed."""
    from k2.model.codec import decode as function

    monkeypatch.setitem(function.__globals__, "record_lengths", lambda columns, fields, count: Believed())
    found = decode([GOOD[0] + GOOD[1][:40], GOOD[1][40:]], TRADES, known)
    assert found.bad == []


class Believed:
    """Equal to whatever it is compared with, as far as numpy asks."""

    def __array__(self, dtype=None, copy=None):
        import numpy as np

        return np.array([len(GOOD[0]) + 40, len(GOOD[1]) - 40])
