"""Amounts times factors, as the SQL of adjusted answers multiplies them: exact to the last place, half to even."""

from decimal import Context, Decimal
from fractions import Fraction

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k2.lake.reader import ColumnInfo
from k2.model.times import to_datetime
from k2.query.rows.adjusted import PLACES, TOO_LARGE, Step, SymbolSteps, adjustable, adjusted, params

ONE = 10**PLACES
DAY = 86_400_000_000
EXACT = settings(max_examples=40, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        yield connection


def multiplied(database, units, factor, precision, scale):
    """The amount of so many units in the last place times a factor in units of 1e-18, as text."""
    column = ColumnInfo(1, "price", f"decimal({precision}, {scale})")
    rows = pa.table(
        {
            "symbol": ["BHP"],
            "timestamp": pa.array([0], pa.timestamp("us", "UTC")),
            "price": pa.array(
                [None if units is None else Decimal(units).scaleb(-scale, Context(prec=precision))],
                pa.decimal128(precision, scale),
            ),
        }
    )
    assert rows.num_rows
    series = (SymbolSteps("BHP", (Step(None, price=factor),)),)
    source = adjusted("rows", {"price": '"price"'}, [column], series)
    found = database.execute(f"SELECT price FROM {source}", params(series)).to_arrow_table()
    assert found.schema.field("price").type == pa.decimal128(precision, scale)
    return found["price"][0].as_py()


FACTORS = st.one_of(
    st.integers(1, ONE), st.integers(1, 10**12).map(lambda number: number * ONE), st.integers(ONE, 10**24)
)


@EXACT
@given(units=st.integers(-(10**18) + 1, 10**18 - 1), factor=FACTORS)
@example(units=15, factor=ONE // 10)  # a half, to even: 1.5 units are 2, 2.5 are 2
@example(units=25, factor=ONE // 10)
@example(units=-25, factor=ONE // 10)
@example(units=10**18 - 1, factor=ONE)
@example(units=0, factor=1)
def test_a_product_is_rounded_once_half_to_even(database, units, factor):
    assert_product(database, units, factor, 18, 8)


@EXACT
@given(units=st.integers(-(10**38) + 1, 10**38 - 1), factor=FACTORS)
@example(units=15, factor=ONE // 10)
@example(units=-25, factor=ONE // 10)
@example(units=36_500_000_000_000_000_000, factor=333_333_333_333_333_333)
@example(units=-1, factor=ONE)
def test_so_is_one_of_a_wide_table(database, units, factor):
    assert_product(database, units, factor, 38, 18)


@pytest.mark.parametrize(("precision", "scale"), [(18, 8), (38, 18)])
@pytest.mark.parametrize("factor", [1, ONE // 2, 3 * ONE])
def test_an_amount_that_is_not_there_stays_so(database, precision, scale, factor):
    assert multiplied(database, None, factor, precision, scale) is None


def assert_product(database, units, factor, precision, scale):
    expected = round(Fraction(units * factor, ONE))
    if abs(expected) >= 10**precision:
        with pytest.raises(duckdb.Error, match=TOO_LARGE):
            multiplied(database, units, factor, precision, scale)
        return
    found = multiplied(database, units, factor, precision, scale)
    assert int(Fraction(found) * 10**scale) == expected


def test_the_symbol_and_the_time_choose_the_factor(database):
    series = tuple(
        SymbolSteps(symbol, (Step(None, price=2 * n * ONE), Step(DAY, price=3 * n * ONE), Step(2 * DAY, price=n * ONE)))
        for n, symbol in enumerate(("ZZ", "é", "B", "a", "BHP", "$adjusted_1"), 1)
    )
    times = [-DAY, DAY - 1, DAY, 2 * DAY - 1, 2 * DAY, 5 * DAY]
    names = [*(each.symbol for each in series), "other"]
    rows = pa.table(
        {
            "symbol": [name for name in names for _ in times],
            "timestamp": pa.array([to_datetime(us) for us in times] * len(names), pa.timestamp("us", "UTC")),
            "price": pa.array([Decimal(1)] * len(names) * len(times), pa.decimal128(18, 8)),
        }
    )
    assert rows.num_rows
    source = adjusted("rows", {"price": "price"}, [ColumnInfo(1, "price", "decimal(18, 8)")], series)
    found = database.execute(f"SELECT price FROM {source}", params(series)).to_arrow_table()["price"].to_pylist()
    expected = [n * step for n in range(1, len(series) + 1) for step in (2, 2, 3, 3, 1, 1)]
    assert found == [Decimal(each) for each in expected] + [Decimal(1)] * len(times)


def test_only_what_a_factor_changes_is_touched():
    columns = [ColumnInfo(n, name, "decimal(18, 8)") for n, name in enumerate(("price", "quantity", "bid_price"))]
    columns.append(ColumnInfo(9, "symbol", "string"))
    dividends = (SymbolSteps("BHP", (Step(None, price=ONE // 2), Step(DAY))),)
    assert [column.name for column in adjustable(columns, dividends)] == ["price", "bid_price"]
    assert adjustable(columns, (SymbolSteps("BHP", (Step(None),)),)) == []
