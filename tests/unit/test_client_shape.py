"""Answers in the shape in which they are wanted: floats that are the nearest ones, times as index, word of how far it is."""

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.client.answer import Answer
from k2.client.panel import wide
from k2.client.shape import Shape, floats
from k2.model.errors import UserError

PRICE = pa.decimal128(18, 8)
TIME = pa.timestamp("us", "UTC")
OPEN = datetime(2014, 3, 9, 23, tzinfo=UTC)


def trades(prices, schema=None):
    """An answer with a trade each second, in batches of two."""
    schema = schema or pa.schema([("timestamp", TIME), ("symbol", pa.string()), ("price", PRICE)])
    rows = [
        {"timestamp": OPEN + timedelta(seconds=n), "symbol": "BHP", "price": None if price is None else Decimal(price)}
        for n, price in enumerate(prices)
    ]
    return Answer(schema, iter(pa.Table.from_pylist(rows, schema).to_batches(max_chunksize=2)), {})


@pytest.mark.parametrize("kind", [PRICE, pa.decimal128(38, 18), pa.decimal128(38, 30), pa.decimal256(50, 8)])
@given(digits=st.lists(st.none() | st.integers(-(10**18) + 1, 10**18 - 1), max_size=20), cut=st.integers(0, 3))
def test_each_float_is_the_nearest_to_its_decimal(kind, digits, cut):
    values = [None if each is None else Decimal(each).scaleb(-kind.scale) for each in digits]
    found = floats(pa.array(values, kind).slice(cut))
    assert found.type == pa.float64()
    assert found.to_pylist() == [None if each is None else float(each) for each in values[cut:]]


def test_the_largest_amounts_are_the_nearest_floats_too():
    largest = "99999999999999999999.999999999999999999"
    values = [Decimal(text) for text in (largest, f"-{largest}", "0.009007199254740993", "-9.223372036854775808")]
    assert floats(pa.array(values, pa.decimal128(38, 18))).to_pylist() == [float(value) for value in values]


def test_a_frame_of_floats_can_be_computed_with():
    frame = trades(["36.5", "36.52", "36.48", "36.6"]).shaped(Shape("float", "time")).df()
    assert frame["price"].dtype == np.float64
    assert frame["price"].memory_usage(index=False, deep=True) == 8 * 4
    assert np.log(frame["price"]).iloc[0] == np.log(36.5)
    candles = frame["price"].resample("2s").ohlc()
    assert candles.iloc[0].to_dict() == {"open": 36.5, "high": 36.52, "low": 36.5, "close": 36.52}
    assert frame["price"].describe()["max"] == 36.6
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index[0] == pd.Timestamp(OPEN)


def test_all_forms_of_an_answer_have_the_floats_and_nulls_stay_nulls():
    def asked():
        return trades(["36.5", None, "1"]).shaped(Shape("float"))

    assert asked().schema.field("price").type == pa.float64()
    assert asked().arrow().schema == asked().schema
    assert [batch.column("price").to_pylist() for batch in asked()] == [[36.5, None], [1.0]]
    assert asked().pl()["price"].to_list() == [36.5, None, 1.0]
    assert np.isnan(asked().df()["price"][1])
    assert [row["price"] for row in asked().rows()] == [36.5, None, 1.0]
    assert trades([]).shaped(Shape("float")).arrow().schema == asked().schema


def test_without_a_word_prices_are_exact():
    assert trades(["0.1"]).arrow()["price"].to_pylist() == [Decimal("0.10000000")]
    assert trades(["0.1"]).df()["price"][0] == Decimal("0.1")


def test_a_question_says_what_its_connection_does_not():
    shape = Shape("float")
    assert shape.over({}) is not shape
    assert shape.over({}) == shape
    assert shape.over({"price_type": "decimal", "index": "time"}) == Shape("decimal", "time")
    with pytest.raises(TypeError, match="unexpected keyword arguments: pricetype"):
        shape.over({"pricetype": "float"})


@pytest.mark.parametrize("wrong", [{"price_type": "double"}, {"index": "timestamp"}])
def test_a_shape_that_there_is_not_is_told_with_those_there_are(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} cannot be used.* expected .* or "):
        Shape().over(wrong)


def test_an_index_of_times_that_are_not_there_is_refused():
    answer = trades(["1"])
    prices = Answer(pa.schema([("price", PRICE)]), (batch.select(["price"]) for batch in answer), {})
    with pytest.raises(UserError, match="no time to be the index: found 'price'"):
        prices.shaped(Shape(index="time")).df()


def test_a_long_answer_tells_how_far_it_is_batch_by_batch():
    told = []
    trades(["1"] * 5).shaped(Shape(progress=told.append)).arrow()
    assert told == [2, 4, 5]


def test_progress_is_a_line_on_stderr_that_ends_with_all_rows(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr("sys.stderr", said)
    trades(["1"] * 5).shaped(Shape(progress=True)).arrow()
    lines = said.getvalue().split("\r")
    assert lines[0] == ""
    assert lines[-1].startswith("5 rows in ")
    assert lines[-1].endswith(" a second)\n")
    assert said.getvalue().count("\n") == 1


BARS = pa.schema(
    [
        ("symbol", pa.string()),
        ("date", pa.date32()),
        ("start", TIME),
        ("close", PRICE),
        ("volume", pa.decimal128(38, 8)),
    ]
)


def bars(*rows):
    """Bars: symbol, minute, close."""
    return pa.Table.from_pylist(
        [
            {
                "symbol": symbol,
                "date": date(2014, 3, 10 + minute // 1440),
                "start": OPEN + timedelta(minutes=minute),
                "close": Decimal(close),
                "volume": Decimal(minute),
            }
            for symbol, minute, close in rows
        ],
        BARS,
    )


def test_a_panel_has_a_row_for_each_bucket_and_a_column_for_each_symbol_as_asked_for():
    found = wide(
        bars(("BHP", 5, "2"), ("BHP", 0, "1"), ("CBA", 5, "70")), ["CBA", "XYZ", "BHP", "CBA"], "close", daily=False
    )
    assert found.column_names == ["start", "CBA", "XYZ", "BHP"]
    assert found["start"].to_pylist() == [OPEN, OPEN + timedelta(minutes=5)]
    assert found["BHP"].to_pylist() == [1, 2]
    assert found["CBA"].to_pylist() == [None, 70]
    assert found["XYZ"].to_pylist() == [None, None]
    assert {found.schema.field(name).type for name in ("CBA", "XYZ", "BHP")} == {PRICE}


def test_days_of_a_panel_are_dates_wherever_the_exchanges_are():
    found = wide(bars(("BHP", 0, "1"), ("IBM", 60, "2"), ("IBM", 1500, "3")), ["BHP", "IBM"], "volume", daily=True)
    assert found["date"].to_pylist() == [date(2014, 3, 10), date(2014, 3, 11)]
    assert found["IBM"].to_pylist() == [60, 1500]
    assert found["BHP"].to_pylist() == [0, None]


def test_a_panel_of_nothing_has_its_columns():
    assert wide(bars(), ["BHP"], "close", daily=False).schema.names == ["start", "BHP"]


def test_what_no_panel_can_have_is_told():
    with pytest.raises(UserError, match="no such field: found 'mid'"):
        wide(bars(), ["BHP"], "mid", daily=False)
    with pytest.raises(UserError, match=r'called start.*layout="long"'):
        wide(bars(), ["start"], "close", daily=False)
