"""BHP's day summaries of 10 to 14 March 2014, loaded as the platform loads them, beside SQL straight on the vendor's file."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from k2_testing.lake import catalog_properties, make_lake

from k2.feeds.formats.layouts import Assembler, Files
from k2.feeds.formats.registry import file_format
from k2.feeds.load.csv_source import CsvFiles
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.writer import write_files
from k2.model.exchanges import EXCHANGES
from k2.model.topics import DataType
from k2.query.asked.requests import EventsQuery, SummaryQuery
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions

FILE = Path(__file__).parents[3] / "shared/data/asx-2014-03/trades/7078.csv"
ASX = EXCHANGES["ASX"]

pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not FILE.exists(), reason=f"the real ticks are not here: {FILE}"),
]


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Iterator[Questions]:
    folder = tmp_path_factory.mktemp("real")
    table = make_lake(folder).load_table("market_data.trades")
    assembler = Assembler(DataType.TRADES, ASX, ASX.currency, str(ASX.asset_class))
    source = CsvFiles([FILE], file_format("asx", Files(DataType.TRADES, ASX, symbol="BHP")), assembler)
    rows = pa.Table.from_batches([batch for chunk in source.chunks() for _, batch in chunk.events])
    rows = rows.append_column("kafka_topic_id", pa.array(["t"] * len(rows)))
    rows = rows.append_column("kafka_partition", pa.array([0] * len(rows), pa.int32()))
    rows = rows.append_column("kafka_offset", pa.array(np.arange(len(rows))))
    order = np.argsort(rows.column("timestamp").cast(pa.int64()).to_numpy(), kind="stable")
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for written in write_files(table, rows, order):
            snapshot.append_data_file(written.data_file)
    engine = Engine(Limits())
    reader = TableReader(lambda: open_named("k2", catalog_properties(folder)))
    yield Questions(Planner(reader, {DataType.TRADES: "market_data.trades"}), engine)
    engine.close()


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
