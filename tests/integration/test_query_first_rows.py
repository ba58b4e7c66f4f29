"""The first rows of a symbol are the first of the order, however its files lie: in order, over each other, or in none."""

import random
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from k2_testing.asking import TABLES
from k2_testing.deleting import data_files, delete_positions
from k2_testing.lake import catalog_properties
from k2_testing.ticks import OPEN, append_ticks
from pyiceberg.transforms import IdentityTransform

from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.model.topics import DataType
from k2.query.asked.requests import CURRENT, EventsQuery, Window
from k2.query.plan.planner import Planner


@pytest.fixture
def planner(tmp_path):
    return Planner(TableReader(lambda: open_named("k2", catalog_properties(tmp_path))), TABLES)


def trades(seconds, symbol="BHP"):
    """A trade at each of the seconds, numbered by it."""
    return [
        {
            "timestamp": OPEN + timedelta(seconds=second),
            "trade_id": f"{symbol}{second}",
            "symbol": symbol,
            "source_sequence": second,
            "price": Decimal(second + 1),
        }
        for second in seconds
    ]


def lies_in_order(planner):
    pinned = planner.pin(DataType.TRADES, CURRENT)
    return planner.plan(pinned, ("BHP",), None, Window()).lies_in_order


def pages(questions, size):
    found, after, more = [], (), True
    while more:
        answer = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=size, after=after))
        found += answer.rows["trade_id"].to_pylist()
        after, more = answer.last, answer.more
    return found


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_files_in_order_are_read_as_they_lie(lake, planner, questions, size):
    for first in (0, 10, 20):
        append_ticks(lake, trades(range(first, first + 10)) + trades(range(first, first + 10), "CBA"))
    assert lies_in_order(planner)
    assert pages(questions, size) == [f"BHP{n}" for n in range(30)]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_files_whose_times_overlap_are_sorted(lake, planner, questions, size):
    append_ticks(lake, trades(range(0, 30, 2)))
    append_ticks(lake, trades(range(1, 30, 2)))
    assert not lies_in_order(planner)
    assert pages(questions, size) == [f"BHP{n}" for n in range(30)]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_a_file_of_a_writer_that_promises_no_order_is_sorted(lake, planner, questions, size):
    append_ticks(lake, trades(range(30)))
    table = lake.load_table("market_data.trades")
    rows = table.scan().to_arrow()
    shuffled = list(range(30))
    random.Random(1).shuffle(shuffled)
    table.overwrite(rows.take(pa.array(shuffled)))
    assert [file.sort_order_id for file in data_files(lake.load_table("market_data.trades"))] == [None]
    assert not lies_in_order(planner)
    assert pages(questions, size) == [f"BHP{n}" for n in range(30)]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_rows_that_tie_come_in_the_order_of_their_offsets(lake, planner, questions, size):
    many = [tick | {"source_sequence": None, "trade_id": f"n{n}"} for n, tick in enumerate(trades([5] * 12))]
    offsets = list(range(12))
    random.Random(2).shuffle(offsets)
    append_ticks(lake, [tick | {"kafka_offset": offsets[n]} for n, tick in enumerate(many)])
    assert lies_in_order(planner)
    assert pages(questions, size) == [f"n{n}" for n in sorted(range(12), key=offsets.__getitem__)]


def test_what_a_sort_order_of_another_kind_wrote_is_sorted(lake, planner, questions):
    table = lake.load_table("market_data.trades")
    with table.update_sort_order() as update:
        update.desc("price", IdentityTransform())
    append_ticks(lake, trades(range(30)))
    assert not lies_in_order(planner)
    assert pages(questions, 4) == [f"BHP{n}" for n in range(30)]


def test_files_with_deleted_rows_are_sorted(lake, planner, questions):
    append_ticks(lake, trades(range(10)))
    append_ticks(lake, trades(range(10, 20)))
    table = lake.load_table("market_data.trades")
    first = min(data_files(table), key=lambda file: file.lower_bounds[6])
    delete_positions(table, [(first.file_path, 3)], first)
    assert not lies_in_order(planner)
    assert pages(questions, 4) == [f"BHP{n}" for n in range(20) if n != 3]
