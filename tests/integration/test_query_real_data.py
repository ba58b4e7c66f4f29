"""BHP's day summaries of 10 to 14 March 2014, loaded as the platform loads them, beside SQL straight on the vendor's file."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import duckdb
import pyarrow as pa
import pytest
from k2_testing.asking import questions_of
from k2_testing.lake import make_lake
from k2_testing.real_ticks import BHP, append_bhp, needs_real_ticks

from k2.model.topics import DataType
from k2.query.asked.requests import EventsQuery, SummaryQuery

FILE = BHP[DataType.TRADES]

pytestmark = needs_real_ticks


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    append_bhp(make_lake(folder), DataType.TRADES)
    with questions_of(folder) as found:
        yield found


@pytest.fixture(scope="module")
def straight():
    """SQL on the file itself: line order, local dates, exact decimals."""
    rows = duckdb.sql(f"""
        WITH lines AS (
            SELECT *, row_number() OVER () AS line FROM read_csv('{FILE}', header = false, parallel = false,
                columns = {{'day': 'VARCHAR', 'time': 'VARCHAR', 'price': 'DECIMAL(18, 8)', 'volume': 'DECIMAL(18, 8)',
                            'a': 'VARCHAR', 'b': 'VARCHAR', 'c': 'VARCHAR'}})
        ), days AS (SELECT *, strptime(day, '%m/%d/%Y')::DATE AS date FROM lines)
        SELECT date, arg_min(price, (time, line)) AS open, max(price) AS high, min(price) AS low,
               arg_max(price, (time, line)) AS close, sum(volume) AS volume,
               sum(price::DECIMAL(28, 8) * volume) AS notional, count(*) AS trade_count
        FROM days GROUP BY date ORDER BY date
    """).to_arrow_table()
    return {row["date"]: row for row in rows.to_pylist()}


@pytest.mark.parametrize("day", [date(2014, 3, number) for number in range(10, 15)])
def test_a_day_summary_equals_sql_straight_on_the_file(questions, straight, day):
    found, expected = questions.summary(SummaryQuery("BHP", day)), straight[day]
    for name in ("open", "high", "low", "close", "volume", "trade_count"):
        assert getattr(found, name) == expected[name], name
    assert found.vwap * 10**8 == round(Fraction(expected["notional"]) / Fraction(expected["volume"]) * 10**8)
    assert isinstance(found.vwap, Decimal)


def test_every_line_of_the_file_is_streamed_once_in_its_order(questions, straight):
    stream = questions.stream(EventsQuery(DataType.TRADES, ("BHP",), limit=1_000_000))
    rows = pa.Table.from_batches(stream.batches())
    assert rows.num_rows == sum(row["trade_count"] for row in straight.values())
    keys = list(zip(rows["timestamp"].to_pylist(), rows["source_sequence"].to_pylist(), strict=True))
    assert keys == sorted(keys)
