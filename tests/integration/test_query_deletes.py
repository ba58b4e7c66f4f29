"""Rows that other engines deleted without rewriting a file are gone from every answer, and only those."""

from datetime import timedelta
from decimal import Decimal

import pytest
from k2_testing.deleting import data_files, delete_equal, delete_positions
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import append_ticks, at
from pyiceberg.manifest import FileFormat
from pyiceberg.types import StringType

from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.model.times import parse_date
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery, SummaryQuery
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2.query.rows.errors import UnreadableError

OPEN = at("2014-03-09T23:00:00")
BHP = EventsQuery(DataType.TRADES, ("BHP",))


@pytest.fixture
def lake(tmp_path):
    return make_lake(tmp_path)


@pytest.fixture
def questions(lake, tmp_path):
    engine = Engine(Limits(timeout_seconds=20))
    reader = TableReader(lambda: open_named("k2", catalog_properties(tmp_path)))
    yield Questions(Planner(reader, {DataType.TRADES: "market_data.trades"}), engine)
    engine.close()


def ticks(first, count, **more):
    return [
        {"timestamp": OPEN + timedelta(seconds=n), "price": Decimal(n + 1)} | more for n in range(first, first + count)
    ]


def table_of(lake):
    return lake.load_table("market_data.trades")


def ids(events):
    return events.rows["trade_id"].to_pylist()


def test_rows_deleted_by_position_are_gone_and_those_of_other_files_are_not(lake, questions):
    before = append_ticks(lake, ticks(0, 4))
    append_ticks(lake, ticks(4, 4))
    table = table_of(lake)
    first, second = data_files(table)
    delete_positions(table, [(first.file_path, 1), (first.file_path, 3)], first)
    assert ids(questions.events(BHP)) == ["T0", "T2", "T4", "T5", "T6", "T7"]
    found = questions.summary(SummaryQuery("BHP", parse_date("2014-03-10", "date")))
    assert (found.trade_count, found.volume, found.high) == (6, 6, 8)
    assert [(s.symbol, s.rows) for s in questions.symbols(DataType.TRADES).symbols] == [("BHP", 6)]
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",), at=At(snapshot=before)))) == [
        "T0",
        "T1",
        "T2",
        "T3",
    ]
    # a second delete of the same file, after its symbols were remembered
    delete_positions(table_of(lake), [(first.file_path, 0), (second.file_path, 3)], first)
    assert ids(questions.events(BHP)) == ["T2", "T4", "T5", "T6"]
    assert [(s.symbol, s.rows) for s in questions.symbols(DataType.TRADES).symbols] == [("BHP", 4)]
    assert sum(batch.num_rows for batch in questions.stream(EventsQuery(DataType.TRADES)).batches()) == 4


def test_rows_deleted_by_value_are_gone_from_older_files_alone(lake, questions):
    append_ticks(lake, ticks(0, 3) + ticks(0, 1, symbol="CBA"))
    table = table_of(lake)
    delete_equal(table, {"symbol": ["BHP"], "price": [Decimal(2)]}, data_files(table)[0])
    append_ticks(lake, ticks(1, 1))  # the same values, later: these stay
    assert [str(p) for p in questions.events(BHP).rows["price"].to_pylist()] == [
        "1.00000000",
        "2.00000000",
        "3.00000000",
    ]
    assert ids(questions.events(BHP)) == ["T0", "T4", "T2"]
    assert len(ids(questions.events(EventsQuery(DataType.TRADES, ("CBA",))))) == 1


def test_a_null_in_an_equality_delete_deletes_nulls(lake, questions):
    append_ticks(lake, ticks(0, 2, source_sequence=None) + ticks(2, 2, source_sequence=7))
    table = table_of(lake)
    delete_equal(table, {"source_sequence": [None]}, data_files(table)[0])
    assert ids(questions.events(BHP)) == ["T2", "T3"]


def test_deletes_by_a_column_that_was_renamed_or_dropped_still_hold(lake, questions):
    append_ticks(lake, ticks(0, 4))
    table = table_of(lake)
    delete_equal(table, {"trade_id": ["T1"]}, data_files(table)[0])
    with table_of(lake).update_schema() as update:
        update.add_column("venue", StringType())
        update.rename_column("trade_id", "ticket")
    append_ticks_renamed(lake)
    assert questions.events(BHP).rows["ticket"].to_pylist() == ["T0", "T2", "T3"]
    with table_of(lake).update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("ticket")
    append_ticks_renamed(lake)
    found = questions.events(BHP).rows
    assert "ticket" not in found.column_names
    assert [str(p) for p in found["price"].to_pylist()] == ["1.00000000", "3.00000000", "4.00000000"]


def append_ticks_renamed(lake):
    """A snapshot under the new schema over the old files."""
    with table_of(lake).transaction() as transaction, transaction.update_snapshot().fast_append():
        pass


def test_position_and_equality_deletes_hold_together_and_pages_agree(lake, questions):
    append_ticks(lake, ticks(0, 6))
    table = table_of(lake)
    file = data_files(table)[0]
    delete_positions(table, [(file.file_path, 0)], file)
    delete_equal(table_of(lake), {"trade_id": ["T3", "T4"]}, file)
    assert ids(questions.events(BHP)) == ["T1", "T2", "T5"]
    narrow = questions.events(EventsQuery(DataType.TRADES, ("BHP",), fields=("price",)))
    assert narrow.rows.column_names == ["price"]
    assert narrow.rows.num_rows == 3
    # PyIceberg itself reads position deletes (not equality deletes): a witness that the files are as the format has them
    assert len(table_of(lake).scan(snapshot_id=table_of(lake).snapshots()[1].snapshot_id).to_arrow()) == 5


def test_deletes_that_are_not_parquet_are_refused_not_ignored(lake, questions):
    append_ticks(lake, ticks(0, 2))
    file = data_files(table_of(lake))[0]
    delete_positions(table_of(lake), [(file.file_path, 0)], file, FileFormat.AVRO)
    with pytest.raises(UnreadableError, match="were deleted by a file that is not Parquet"):
        questions.events(BHP)
