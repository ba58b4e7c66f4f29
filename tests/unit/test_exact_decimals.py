"""Columns of decimals as digits, their sums, products, extremes and quotients, beside Python's own integers."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.events import Decimals
from k2.query.aggregates import digits as digits_module
from k2.query.aggregates import exact_decimals
from k2.query.aggregates.digits import SHORT, Digits, aligned, decimals, digits_of, extremes, wide, widest

STANDARD, WIDE = Decimals.STANDARD.arrow, Decimals.WIDE.arrow
MOST = 10**38 - 1
SHORT_NUMBERS = st.integers(-SHORT + 1, SHORT - 1)
ANY = st.integers(-MOST, MOST)
# Values of one kind: with few digits or many, and with so many zeros at their end.
KINDS = st.one_of(
    st.integers(0, 18).map(
        lambda zeros: st.integers(-(10 ** (38 - zeros)) + 1, 10 ** (38 - zeros) - 1).map(lambda n: n * 10**zeros)
    ),
    st.integers(0, 18).map(lambda zeros: st.integers(-(10**9), 10**9).map(lambda n: n * 10**zeros)),
    st.just(SHORT_NUMBERS),
    st.just(ANY),
)
LISTS = KINDS.flatmap(lambda kind: st.lists(kind | st.just(0), min_size=1, max_size=50))
EDGES = [0, 1, -1, SHORT - 1, SHORT, -SHORT, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**64), 10**36, MOST, -MOST]


def amounts(numbers, kind=WIDE):
    """Decimals of these digits, made by Arrow from Python's."""
    return pa.chunked_array([pa.array([Decimal(f"{n}E-{kind.scale}") for n in numbers], kind)])


def read(numbers):
    return digits_of(amounts(numbers), 18)


def python(digits):
    return [int(number) for number in digits.values()]


def runs_of(data, size):
    inner = data.draw(st.sets(st.integers(1, size - 1))) if size > 1 else set()
    starts = [0, *sorted(inner)]
    return np.array(starts), list(zip(starts, [*starts[1:], size], strict=True))


@given(LISTS)
def test_digits_of_a_wide_column_are_its_values(numbers):
    assert python(read(numbers)) == numbers


@pytest.mark.parametrize("zeros", range(19))
@pytest.mark.parametrize("edge", EDGES)
def test_the_edges_of_words_and_of_digits_are_read_as_they_are(zeros, edge):
    for numbers in ([edge], [edge, 10**zeros], [7 * 10**zeros, edge], [edge, 10**zeros, 3]):
        assert python(read(numbers)) == numbers


@given(st.integers(-(10**17), 10**17), st.integers(1, 18), st.integers(1, 2**50))
def test_what_is_alike_in_the_lower_word_alone_is_told_apart(number, zeros, more):
    other = number * 10**zeros + more * 2 ** (64 + zeros)
    numbers = [10**zeros, other if abs(other) <= MOST else 10**zeros]
    assert python(read(numbers)) == numbers


@given(st.lists(SHORT_NUMBERS, min_size=1, max_size=50), st.integers(0, 18))
def test_values_of_few_digits_are_short_whatever_zeros_follow(numbers, zeros):
    found = read([number * 10**zeros for number in numbers])
    assert found.high is None
    assert found.zeros >= zeros or not zeros


def test_one_fine_value_among_many_is_found_wherever_it_is(monkeypatch):
    monkeypatch.setattr(digits_module, "_SAMPLE", 3)
    monkeypatch.setattr(digits_module, "_BLOCK", 8)
    for place in range(60):
        numbers = [37 * 10**18 + cent * 10**16 for cent in range(60)]
        numbers[place] += 1230
        numbers[59 - place] += 45 * 10**5
        assert python(read(numbers)) == numbers
        assert read(numbers).high is not None  # 20 digits
        assert read([n // 1000 * 100 for n in numbers]).zeros == 2


@given(st.lists(SHORT_NUMBERS, max_size=5), st.integers(0, 5))
def test_digits_are_read_from_any_slice(numbers, skipped):
    for kind in (STANDARD, WIDE):
        column = pa.chunked_array([amounts(numbers, kind).combine_chunks()] * 2).slice(skipped)
        assert python(digits_of(column, kind.scale)) == (numbers * 2)[skipped:]


@given(st.lists(SHORT_NUMBERS, max_size=9))
def test_standard_digits_can_be_had_in_the_places_of_a_wide_table(numbers):
    found = digits_of(amounts(numbers, STANDARD), 18)
    assert found.low.tolist() == numbers
    assert python(found) == [number * 10**10 for number in numbers]


@given(LISTS, LISTS, st.data())
def test_sums_and_products_are_exact(left, right, data):
    size = min(len(left), len(right))
    left, right = left[:size], right[:size]
    at, runs = runs_of(data, size)
    assert exact_decimals.sums(read(left), at).tolist() == [sum(left[i:j]) for i, j in runs]
    products = [a * b for a, b in zip(left, right, strict=True)]
    assert exact_decimals.product_sums(read(left), read(right), at).tolist() == [sum(products[i:j]) for i, j in runs]


@given(LISTS, st.data())
def test_extremes_are_those_of_each_run(numbers, data):
    at, runs = runs_of(data, len(numbers))
    assert python(extremes(read(numbers), at, np.maximum)) == [max(numbers[i:j]) for i, j in runs]
    assert python(extremes(read(numbers), at, np.minimum)) == [min(numbers[i:j]) for i, j in runs]


def test_sums_of_more_rows_than_one_block_are_exact(monkeypatch):
    monkeypatch.setattr(exact_decimals, "_BLOCK", 4)
    for number in (SHORT - 1, MOST):
        values = read([number] * 23)
        assert exact_decimals.product_sums(values, values, np.array([0, 3, 17])).tolist() == [
            rows * number**2 for rows in (3, 14, 6)
        ]


def test_a_block_of_the_largest_values_does_not_overflow():
    size = exact_decimals._BLOCK
    values = Digits(np.full(size, SHORT - 1))
    minus = Digits(-values.low)
    assert exact_decimals.product_sums(values, minus, np.array([0])).tolist() == [-size * (SHORT - 1) ** 2]
    largest, smallest = (
        Digits(np.full(size, low), np.full(size, high)) for low, high in ((-1, 2**63 - 1), (0, -(2**63)))
    )
    for left, right in ((largest, largest), (largest, smallest), (smallest, smallest)):
        product = python(left.chosen(np.array([0])))[0] * python(right.chosen(np.array([0])))[0]
        assert exact_decimals.product_sums(left, right, np.array([0])).tolist() == [size * product]


@given(st.lists(LISTS, min_size=1, max_size=3), st.booleans())
def test_aligned_columns_compare_and_add_as_their_values_do(columns, with_standard):
    read_columns = [read(numbers) for numbers in columns]
    if with_standard:
        columns = [*columns, [n // 10**10 % SHORT * 10**10 for n in columns[0]]]
        read_columns.append(digits_of(amounts([n // 10**10 for n in columns[-1]], STANDARD), 18))
    found, zeros = aligned(read_columns)
    assert [[int(number) * 10**zeros for number in column] for column in found] == columns


@given(st.lists(ANY, max_size=5), st.sampled_from([1, 10**5, 5 * 10**17, 10**18, 10**20]))
def test_decimals_of_any_size_come_back_as_they_were(numbers, factor):
    numbers = [abs(number) // factor * (1 if number > 0 else -1) for number in numbers]
    column = decimals(wide(numbers), WIDE, factor=factor)
    column.validate(full=True)
    assert [Fraction(value) * 10**18 for value in column.to_pylist()] == [number * factor for number in numbers]


@given(st.lists(st.integers(-(2**62) + 1, 2**62 - 1), max_size=5), st.sampled_from([1, 10, 10**9, 5 * 10**17, 10**18]))
def test_decimals_of_64_bits_times_a_factor_are_exact(numbers, factor):
    column = decimals(np.array(numbers, np.int64), WIDE, factor=factor)
    assert [Fraction(value) * 10**18 for value in column.to_pylist()] == [number * factor for number in numbers]


def test_nulls_of_decimals():
    valid = np.array([True, False, True])
    column = decimals(np.array([1, 2, 3]), STANDARD, valid=valid)
    assert column.to_pylist() == [Decimal("0.00000001"), None, Decimal("0.00000003")]
    column = decimals(wide([-(2**70), 10**39, 3]), WIDE, valid=valid)
    assert column.to_pylist() == [Decimal(-(2**70)).scaleb(-18), None, Decimal(3).scaleb(-18)]


@pytest.mark.parametrize("number", [10**38, -(10**38), 2**127])
def test_a_number_of_too_many_digits_is_refused(number):
    with pytest.raises(OverflowError, match="more than 38 digits"):
        decimals(wide([1, number]), WIDE)


def test_the_widest_type_holds_what_any_of_them_does():
    assert widest(STANDARD) == STANDARD
    assert widest(STANDARD, WIDE) == WIDE
    assert widest(pa.decimal128(20, 2), STANDARD) == pa.decimal128(26, 8)


@given(st.integers(-(10**80), 10**80), st.integers(1, 10**40))
def test_quotients_are_rounded_half_to_even(numerator, denominator):
    found = exact_decimals.quotients(wide([numerator]), wide([denominator])).tolist()
    assert found == [round(Fraction(numerator, denominator))]
