"""The digest by which files that were written anew are compared with those they came from."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.lake.upkeep.row_digest import RowDigest, row_hashes

SCHEMA = pa.schema(
    [
        ("symbol", pa.string()),
        ("id", pa.binary(16)),
        ("time", pa.timestamp("us", tz="UTC")),
        ("price", pa.decimal128(18, 8)),
        ("number", pa.int32()),
        ("ratio", pa.float64()),
        ("open", pa.bool_()),
        ("codes", pa.list_(pa.string())),
        ("data", pa.map_(pa.string(), pa.string())),
    ]
)
text = st.text(st.characters(codec="utf-8"), max_size=4)
row = st.fixed_dictionaries(
    {
        "symbol": st.none() | text,
        "id": st.none() | st.binary(min_size=16, max_size=16),
        "time": st.none() | st.integers(-(2**50), 2**50),
        "price": st.none() | st.integers(-(10**17), 10**17).map(lambda n: Decimal(f"{n}e-8")),
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "ratio": st.none() | st.floats(allow_nan=False).filter(lambda x: x != 0),
        "open": st.none() | st.booleans(),
        "codes": st.none() | st.lists(st.none() | text, max_size=3),
        "data": st.none() | st.dictionaries(text, st.none() | text, max_size=2).map(lambda d: list(d.items())),
    }
)


def digest(rows):
    found = RowDigest()
    found.add(rows)
    return found


def made(rows):
    return pa.Table.from_pylist(rows, SCHEMA)


@given(st.lists(row, max_size=12), st.randoms(use_true_random=False), st.integers(0, 12))
def test_the_digest_is_the_same_in_any_order_and_any_pieces(rows, random, cut):
    mixed = random.sample(rows, len(rows))
    pieces = RowDigest()
    whole = made([row_of(0), *mixed])
    for part in (whole.slice(1, cut), whole.slice(1 + cut)):
        pieces.add(part)
    assert pieces.difference(digest(made(rows))) == ""
    assert pieces.rows == len(rows)


def row_of(number):
    return {"symbol": "ABC", "id": bytes(16), "time": number, "price": Decimal(1), "codes": ["x"], "data": [("k", "v")]}


@given(st.lists(row, min_size=1, max_size=6), row, st.data())
def test_another_value_anywhere_is_another_digest(rows, other, data):
    place = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(SCHEMA.names))
    changed = [*rows[:place], rows[place] | {name: other[name]}, *rows[place + 1 :]]
    same = made(changed).equals(made(rows))
    assert (digest(made(changed)).difference(digest(made(rows))) == "") == same


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"codes": []}, {"codes": None}),
        ({"codes": ["a", "b"]}, {"codes": ["b", "a"]}),
        ({"codes": ["ab"]}, {"codes": ["a", "b"]}),
        ({"codes": [""]}, {"codes": []}),
        ({"symbol": ""}, {"symbol": None}),
        ({"symbol": "a\x00"}, {"symbol": "a"}),
        ({"data": [("a", "b")]}, {"data": [("b", "a")]}),
        ({"number": 0}, {"number": None}),
    ],
)
def test_values_that_look_alike_differ(one, two):
    assert row_hashes(made([one]))[0] != row_hashes(made([two]))[0]


def test_values_that_change_places_between_rows_are_found():
    rows = [row_of(1) | {"number": 1, "ratio": 2.0}, row_of(2) | {"number": 2, "ratio": 1.0}]
    swapped = [rows[0] | {"ratio": 1.0}, rows[1] | {"ratio": 2.0}]
    assert digest(made(rows)).difference(digest(made(swapped))) == "as many rows of each symbol, but values differ"


def test_a_dictionary_counts_by_its_values_and_a_lost_row_is_told_by_its_symbol():
    rows = made([row_of(1), row_of(2) | {"symbol": "XYZ"}])
    encoded = rows.set_column(0, "symbol", pc_dictionary(rows.column("symbol")))
    assert digest(encoded).difference(digest(rows)) == ""
    assert digest(rows).difference(digest(rows.slice(0, 1))) == "XYZ: 1 and 0 rows"


def pc_dictionary(column):
    return column.dictionary_encode()


def test_hashes_are_spread_over_all_bits():
    hashes = row_hashes(pa.table({"symbol": ["A"] * 20_000, "n": pa.array(range(20_000), pa.int64())}))
    assert len(np.unique(hashes)) == 20_000
    ones = [int(((hashes >> np.uint64(bit)) & np.uint64(1)).sum()) for bit in range(64)]
    assert all(9_500 < count < 10_500 for count in ones)
