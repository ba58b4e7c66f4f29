"""Decimals of more than 18 digits as text: the fast way, where all values are small, and the slow one are the same."""

import json
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.forms.formats import Format, encode
from k2.forms.text_columns import decimal_text

EDGE = [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 0, -1, 10**37]
DIGITS = st.integers(-(10**38) + 1, 10**38 - 1) | st.integers(-(10**10), 10**10) | st.sampled_from(EDGE)


def column_of(digits, scale=8):
    values = [None if number is None else Decimal(f"{number}E-{scale}") for number in digits]
    return pa.array(values, pa.decimal128(38, scale))


def plain(number, scale=8):
    text = f"{abs(number):0{scale + 1}d}"
    return ("-" if number < 0 else "") + text[:-scale] + "." + text[-scale:]


@given(st.lists(st.none() | DIGITS, max_size=6), st.integers(0, 6))
def test_every_value_is_written_with_all_its_places(digits, skipped):
    texts = decimal_text(column_of(digits).slice(skipped)).to_pylist()
    assert texts == [None if number is None else plain(number) for number in digits[skipped:]]


@pytest.mark.parametrize("digits", [[1, -25 * 10**7], [1, None], [2**63, 5], []])
def test_json_has_them_as_strings(digits):
    body = json.loads(b"".join(encode(pa.table({"volume": column_of(digits)}), Format.JSON, {})))
    assert [row["volume"] for row in body["data"]] == [None if number is None else plain(number) for number in digits]
