"""Rows as JSON, NDJSON, CSV, Parquet and Arrow: exact, and the same as Python's own encoders would give."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.forms.formats import Format, encode, negotiate
from k2.forms.wire import ending_of, metadata_of
from k2.model.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROW = st.fixed_dictionaries(
    {
        "symbol": st.none() | TEXT,
        "price": st.none() | st.decimals(-(10**10) + 1, 10**10 - 1, places=8),
        "volume": st.none() | st.decimals(-(10**20), 10**20, places=8),
        "timestamp": st.none()
        | st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001
        "sequence": st.none() | st.integers(-(2**63), 2**63 - 1),
        "flag": st.none() | st.booleans(),
        "conditions": st.none() | st.lists(TEXT, max_size=3),
        "vendor": st.none() | st.dictionaries(TEXT, TEXT, max_size=2).map(lambda d: list(d.items())),
    }
)
# As rows mostly are: every value there, some columns the same in all.
FULL = st.fixed_dictionaries(
    {
        "symbol": st.sampled_from(["BHP", "RIO", 'a"b']),
        "price": st.decimals(-(10**10) + 1, 10**10 - 1, places=8),
        "volume": st.decimals(-(10**20), 10**20, places=8),
        "timestamp": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001
        "sequence": st.integers(-(2**63), 2**63 - 1),
        "flag": st.booleans(),
        "conditions": st.lists(TEXT, max_size=1),
        "vendor": st.just([]),
    }
)
SCHEMA = pa.schema(
    {
        "symbol": pa.string(),
        "price": pa.decimal128(18, 8),
        "volume": pa.decimal128(38, 8),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "sequence": pa.int64(),
        "flag": pa.bool_(),
        "conditions": pa.list_(pa.string()),
        "vendor": pa.map_(pa.string(), pa.string()),
    }
)


def plain(row):
    """The row as the JSON object that it should become."""
    return {
        "symbol": row["symbol"],
        "price": None if row["price"] is None else f"{row['price']:.8f}",
        "volume": None if row["volume"] is None else f"{row['volume']:.8f}",
        "timestamp": None if row["timestamp"] is None else f"{row['timestamp']:%Y-%m-%dT%H:%M:%S.%fZ}".rjust(27, "0"),
        "sequence": row["sequence"],
        "flag": row["flag"],
        "conditions": row["conditions"],
        "vendor": None if row["vendor"] is None else dict(row["vendor"]),
    }


def normal(value):
    """Minus zero is zero."""
    return Decimal(value) if value is not None else None


def assert_same(found, row):
    expected = plain(row)
    for name in ("price", "volume"):
        assert normal(found.pop(name)) == normal(expected.pop(name))
    assert found == expected


@given(st.lists(ROW, max_size=6) | st.lists(FULL, max_size=6), st.integers(0, 3))
def test_json_and_ndjson_hold_every_value_exactly(rows, skip):
    table = pa.Table.from_pylist(rows, SCHEMA).slice(skip)
    body = json.loads(b"".join(encode(table, Format.JSON, {"more": False})))
    assert body["more"] is False
    for found, row in zip(body["data"], rows[skip:], strict=True):
        assert_same(found, row)
    lines = b"".join(encode(table, Format.NDJSON, {})).decode().split("\n")[:-1]
    for line, row in zip(lines, rows[skip:], strict=True):
        assert_same(json.loads(line), row)


@given(st.lists(ROW, max_size=6))
def test_csv_is_read_back_by_any_reader(rows):
    table = pa.Table.from_pylist(rows, SCHEMA)
    text = b"".join(encode(table, Format.CSV, {})).decode()
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found[0] == SCHEMA.names
    for line, row in zip(found[1:], rows, strict=True):
        cells = dict(zip(SCHEMA.names, line, strict=True))
        assert cells["symbol"] == (row["symbol"] or "")
        assert cells["sequence"] == ("" if row["sequence"] is None else str(row["sequence"]))
        assert normal(cells["price"] or None) == row["price"]
        assert cells["conditions"] == ";".join(row["conditions"] or [])


def test_decimals_are_never_in_scientific_notation():
    small = [Decimal("0.00000001"), Decimal("-0.00000001"), Decimal(0), Decimal("9999999999.99999999"), None]
    table = pa.table({"price": pa.array(small, pa.decimal128(18, 8))})
    assert b"".join(encode(table, Format.CSV, {})).decode().split("\n")[1:5] == [
        "0.00000001",
        "-0.00000001",
        "0.00000000",
        "9999999999.99999999",
    ]


def test_arrow_and_parquet_keep_types_and_values():
    table = pa.table({"price": pa.array([Decimal("1.5")], pa.decimal128(18, 8)), "s": ["x"]})
    assert pa.ipc.open_stream(b"".join(encode(table, Format.ARROW, {}))).read_all() == table
    assert pa.parquet.read_table(io.BytesIO(b"".join(encode(table, Format.PARQUET, {})))) == table
    empty = table.schema.empty_table()
    assert pa.ipc.open_stream(b"".join(encode(empty, Format.ARROW, {}))).read_all() == empty
    assert json.loads(b"".join(encode(empty, Format.JSON, {"count": 0}))) == {"data": [], "count": 0}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Format.JSON),
        ("*/*", Format.JSON),
        ("text/csv", Format.CSV),
        ("application/json;q=0.5, text/csv", Format.CSV),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Format.JSON),
        ("application/vnd.apache.arrow.stream", Format.ARROW),
        ("application/x-ndjson", Format.NDJSON),
    ],
)
def test_the_accept_header_chooses(accept, form):
    assert negotiate(None, accept) is form
    assert negotiate(Format.CSV, accept) is Format.CSV


def test_an_accept_header_that_leaves_nothing_is_refused():
    with pytest.raises(UserError, match="No accepted form can be made: found 'image/png', expected application/json, "):
        negotiate(None, "image/png")


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.float32(), pa.list_(pa.float64()), pa.map_(pa.string(), pa.float64())]
)
@pytest.mark.parametrize("alike", [True, False], ids=["all of them", "some of them"])
def test_what_json_has_no_number_for_is_null_in_it(kind, alike):
    odd = [float("nan"), float("inf"), float("-inf")]
    values = odd if alike else [*odd, 0.5, None]
    if pa.types.is_list(kind):
        cells, expected = [values], [[each if each == 0.5 else None for each in values]]
    elif pa.types.is_map(kind):
        cells = [[(str(number), each) for number, each in enumerate(values)]]
        expected = [{str(number): each if each == 0.5 else None for number, each in enumerate(values)}]
    else:
        cells, expected = values, [each if each == 0.5 else None for each in values]
    rows = pa.table({"iv": pa.array(cells, kind)})

    def refused(text):
        raise AssertionError(f"{text} is no JSON")

    whole = json.loads(b"".join(encode(rows, Format.JSON, {})), parse_constant=refused)
    lines = b"".join(encode(rows, Format.NDJSON, {})).decode().splitlines()
    assert [row["iv"] for row in whole["data"]] == expected
    assert [json.loads(line, parse_constant=refused)["iv"] for line in lines] == expected


def test_bytes_are_base64_where_answers_are_text():
    rows = pa.table({"raw": pa.array([b"\xff\x00", None, b""])})
    said = {form: b"".join(encode(rows, form, {})).decode() for form in (Format.JSON, Format.NDJSON, Format.CSV)}
    assert json.loads(said[Format.JSON])["data"] == [{"raw": "/wA="}, {"raw": None}, {"raw": ""}]
    assert said[Format.NDJSON].splitlines()[0] == '{"raw":"/wA="}'
    assert said[Format.CSV].splitlines()[:2] == ["raw", "/wA="]


def test_an_envelope_comes_back_from_metadata_as_it_was():
    envelope = {
        "snapshot_id": "4711",
        "pin_id": None,
        "count": 3,
        "more": False,
        "next_page": None,
        "note": "",
        "sources": [{"rows": 1}],
    }
    held = {name.encode(): text.encode() for name, text in metadata_of(envelope).items()}
    assert ending_of(held) == envelope
