"""Amounts of up to 38 digits: nothing is rounded, neither in a number nor in what is said of it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.amounts import amount_unfit, fits, plain, units
from k2.model.events import Decimals

NUMBERS = st.integers(-(10**38) + 1, 10**38 - 1)


@given(NUMBERS, st.integers(0, 30))
def test_a_number_is_written_with_all_its_digits_and_no_zero_too_many(number, scale):
    value = Decimal(f"{number}E-{scale}")
    text = plain(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not ("." in text and text.endswith(("0", ".")))


@given(NUMBERS, st.integers(0, 18))
def test_units_are_counted_exactly(number, scale):
    assert units(Decimal(f"{number}E-{scale}"), scale) == number


@given(NUMBERS, st.integers(0, 38), st.sampled_from(Decimals))
def test_what_fits_is_what_multiplying_out_says(number, scale, decimals):
    value = Decimal(f"{number}E-{scale}")
    shifted, rest = divmod(number * 10**decimals.scale, 10**scale)
    expected = rest == 0 and abs(shifted) < 10**decimals.precision
    assert fits(value, decimals.precision, decimals.scale) == expected
    assert (amount_unfit(value, decimals, "x") is None) == expected


@pytest.mark.parametrize(
    ("text", "decimals", "reason"),
    [
        ("9999999999.99999999", "standard", None),
        ("10000000000", "standard", "has more than 10 integer digits: x; an IcebergTable with spec.decimals: wide holds it"),
        ("9999999999.999999999999999999", "standard", "has more than 8 decimals: x; an IcebergTable with spec.decimals: wide holds it"),
        ("1E-13", "standard", "has more than 8 decimals: x; an IcebergTable with spec.decimals: wide holds it"),
        ("1E-13", "wide", None),
        ("1E-19", "standard", "has more than 8 decimals: x"),
        ("1E-19", "wide", "has more than 18 decimals: x"),
        ("100000000000000000000", "wide", "has more than 20 integer digits: x"),
    ],
)  # fmt: skip
def test_a_reason_names_the_setting_that_would_hold_the_amount_where_there_is_one(text, decimals, reason):
    assert amount_unfit(Decimal(text), Decimals(decimals), "x") == reason
