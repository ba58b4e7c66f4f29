"""Decimals of more than 18 digits as text: the fast way, where all values are small, and the slow one are the same."""

import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.forms.formats import Format, encode
from k2.forms.text_columns import decimal_text

EDGE = [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0, -1, 10**37, 2**64, -(2**64), 2**96, 10**36 - 1, -(10**36)]
DIGITS = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(10**10), 10**10) | st.sampled_from(EDGE)
PRICES = st.integers(-(10**6), 10**6).map(lambda cents: cents * 10**16) | st.integers(-(10**35), 10**35)
SCALES = [1, 8, 9, 10, 18, 19, 30]


def column_of(digits, scale=8):
    values = [None if number is None else Decimal(f"{number}E-{scale}") for number in digits]
    return pa.array(values, pa.decimal128(38, scale))


def plain(number, scale=8):
    text = f"{abs(number):0{scale + 1}d}"
    return ("-" if number < 0 else "") + text[:-scale] + "." + text[-scale:]


@given(st.lists(st.none() | DIGITS, max_size=6) | st.lists(st.none() | PRICES, max_size=6), st.integers(0, 6))
@pytest.mark.parametrize("scale", SCALES)
def test_every_value_is_written_with_all_its_places(scale, digits, skipped):
    texts = decimal_text(column_of(digits, scale).slice(skipped)).to_pylist()
    assert texts == [None if number is None else plain(number, scale) for number in digits[skipped:]]


@given(st.lists(st.tuples(DIGITS, PRICES, PRICES, st.integers(0, 10**6)), min_size=1, max_size=6))
def test_rows_of_standard_and_wide_columns_are_written_side_by_side(rows):
    scales = (8, 18, 18, 8)
    columns = [column_of(digits, scale) for digits, scale in zip(zip(*rows, strict=True), scales, strict=True)]
    body = json.loads(b"".join(encode(pa.table(dict(zip("abcd", columns, strict=True))), Format.JSON, {})))
    assert [tuple(row.values()) for row in body["data"]] == [tuple(map(plain, row, scales)) for row in rows]


@pytest.mark.parametrize("digits", [[1, -25 * 10**7], [1, None], [2**63, 5], []])
def test_json_has_them_as_strings(digits):
    body = json.loads(b"".join(encode(pa.table({"volume": column_of(digits)}), Format.JSON, {})))
    assert [row["volume"] for row in body["data"]] == [None if number is None else plain(number) for number in digits]
