"""The first rows of a symbol are the first of the order, however its files lie: in order, over each other, or in none."""

import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.asking import TABLES, questions_of
from k2_testing.deleting import data_files, delete_positions
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import OPEN, append_ticks
from pyiceberg.transforms import IdentityTransform

from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.model.topics import DataType
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.requests import CURRENT, EventsQuery, Window
from k2.query.events import first_rows
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


def bars(questions):
    rows = questions.bars(BarsQuery(("BHP",), Interval.MINUTE)).rows.to_pylist()
    return [(row["open"], row["close"], row["trade_count"]) for row in rows]


def test_rows_without_numbers_come_as_their_files_were_loaded(lake, questions):
    plain = [
        tick | {"source_sequence": None, "trade_id": f"n{n}"} for n, tick in enumerate(trades([0, 1, 5, 5, 5, 5, 9]))
    ]
    priced = [tick | {"price": Decimal(n + 1)} for n, tick in enumerate(plain)]
    append_ticks(lake, priced[:4])
    append_ticks(lake, priced[4:6])
    append_ticks(lake, priced[6:])
    assert pages(questions, 2) == [f"n{n}" for n in range(7)]
    assert bars(questions) == [(1, 7, 7)]


def test_rows_with_the_number_of_their_line_stand_before_those_without(lake, questions):
    append_ticks(lake, [tick | {"trade_id": f"old{n}"} for n, tick in enumerate(trades([5, 5, 5]))])
    append_ticks(
        lake, [tick | {"trade_id": f"new{n}", "source_sequence": None} for n, tick in enumerate(trades([5, 5]))]
    )
    assert pages(questions, 2) == ["old0", "old1", "old2", "new0", "new1"]


TICK = st.tuples(
    st.integers(0, 3),
    st.none() | st.integers(0, 2),
    st.sampled_from(["topic-of-before", "topic-of-now"]),
    st.integers(0, 1),
)


@settings(max_examples=sized(25, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 4), st.lists(TICK, min_size=1, max_size=12)), min_size=1, max_size=3),
    st.sampled_from([0, 1, 3, 256]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_however_rows_tie_pages_and_bars_have_the_total_order(monkeypatch, files, beyond, one_partition, chance):
    """Files lie one after the other or over each other; offsets lie in files as they came, or as another writer left them."""
    monkeypatch.setattr(first_rows, "_BEYOND", beyond)
    offsets = list(range(sum(len(ticks) for _, ticks in files)))
    if chance.random() < 0.5:
        chance.shuffle(offsets)
    with TemporaryDirectory() as name:
        folder = Path(name)
        catalog, rows = make_lake(folder), []
        for hours, ticks in files:
            made = [
                {
                    "timestamp": OPEN + timedelta(hours=hours, seconds=seconds),
                    "source_sequence": sequence,
                    "kafka_topic_id": "topic" if one_partition else topic,
                    "kafka_partition": 0 if one_partition else partition,
                    "kafka_offset": offsets[len(rows) + number],
                    "trade_id": f"n{len(rows) + number}",
                    "price": Decimal(len(rows) + number + 1),
                }
                for number, (seconds, sequence, topic, partition) in enumerate(ticks)
            ]
            append_ticks(catalog, made)
            rows += made
        rows.sort(
            key=lambda row: (
                row["timestamp"],
                9 if row["source_sequence"] is None else row["source_sequence"],
                row["kafka_topic_id"],
                row["kafka_partition"],
                row["kafka_offset"],
            )
        )
        by_hour = {}
        for row in rows:
            by_hour.setdefault(row["timestamp"].hour, []).append(row["price"])
        with questions_of(folder) as questions:
            for size in (1, 2, 5, 50):
                assert pages(questions, size) == [row["trade_id"] for row in rows], size
            assert bars(questions) == [(prices[0], prices[-1], len(prices)) for prices in by_hour.values()]
