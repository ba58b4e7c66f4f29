"""Ordering, deduplication and data files against plain Python over random batches."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, make_lake

from k2.lake.appends.batch import Batch, OrderedBatch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.appends.same_event import contained
from k2.lake.appends.writer import write_files
from k2.lake.tables import ensure_table
from k2.model.tables import PartitionBy, SortBy, builtin_table
from k2.model.topics import DataType

DAY_US = 86_400_000_000
rows = st.lists(
    st.tuples(
        st.sampled_from(["BHP", "CBA", "Z", "ÆØ", "BHP1"]),
        st.integers(0, 3).map(lambda n: START_US + n * DAY_US // 2),
        st.one_of(st.none(), st.integers(0, 4)),
        st.integers(0, 12),
    ),
    max_size=40,
)


def table_of(drawn):
    events = trades(
        [message_id(symbol, time, identity) for symbol, time, _, identity in drawn],
        symbols=[symbol for symbol, *_ in drawn],
        times=[time for _, time, *_ in drawn],
        sequence=[sequence for _, _, sequence, _ in drawn],
    )
    return with_lineage(events, [0] * len(drawn), range(len(drawn)))


def expected_order(drawn):
    last = 2**63
    return sorted(
        range(len(drawn)),
        key=lambda i: (drawn[i][0].encode(), drawn[i][1], last if drawn[i][2] is None else drawn[i][2], i),
    )


@given(rows)
def test_file_order_is_symbol_time_sequence_arrival(drawn):
    ordered = OrderedBatch(table_of(drawn), DataType.TRADES)
    assert ordered.order.tolist() == expected_order(drawn)
    assert [run.symbol for run in ordered.runs] == sorted({row[0] for row in drawn}, key=str.encode)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=rows, second=rows, third=rows)
def test_the_table_holds_each_id_once_however_batches_overlap(tmp_path_factory, first, second, third):
    catalog = make_lake(tmp_path_factory.mktemp("lake"))
    next_offset, total = 0, 0
    for drawn in (first, second, third):
        # Each batch by a new process: what is known of older files is what stands in them.
        committer = Committer(catalog, TRADES, Origin("t", "1", "c"), DataType.TRADES)
        if not drawn:
            continue
        done = committer.commit(Batch(table_of(drawn), {0: (next_offset, next_offset + len(drawn))}, {}))
        assert done.rows + done.duplicates == len(drawn)
        next_offset += len(drawn)
        total += done.rows
    ids = catalog.load_table(TRADES).scan().to_arrow().column("message_id").to_pylist()
    wanted = {message_id(s, t, i) for drawn in (first, second, third) for s, t, _, i in drawn}
    assert sorted(identity.bytes for identity in ids) == sorted(wanted)
    assert total == len(wanted)


def test_a_live_feed_is_deduplicated_without_reading_a_file(tmp_path):
    committer = Committer(make_lake(tmp_path), TRADES, Origin("t", "1", "c"), DataType.TRADES)
    for number in range(5):  # each batch begins at the instant at which the one before ended, as live feeds do
        times = [START_US + number * 10 + i for i in range(11)]
        ids = [message_id("x", number, i) for i in range(11)]
        events = trades(ids, symbols=["BHP"] * 11, times=times)
        offsets = range(number * 11, number * 11 + 11)
        done = committer.commit(Batch(with_lineage(events, [0] * 11, offsets), {0: (offsets[0], offsets[-1] + 1)}, {}))
        assert done.duplicates == 0
    assert committer.known.files_read == 0


@pytest.fixture
def table(tmp_path):
    return make_lake(tmp_path).load_table(TRADES)


def test_files_are_split_by_day_and_sorted_with_small_row_groups(table):
    drawn = [("CBA" if i % 2 else "BHP", START_US + i * DAY_US // 100, i, i) for i in range(200)]
    ordered = OrderedBatch(table_of(drawn), DataType.TRADES)
    rows = ordered.rows.append_column("kafka_topic_id", [["1"] * len(drawn)])
    files = write_files(table, rows, ordered.order)
    assert sum(file.rows for file in files) == 200
    assert [file.data_file.partition[0] for file in files] == [16138, 16139, 16140]  # days since 1970
    assert all("timestamp_day=2014-03-" in file.path for file in files)
    first = pq.read_table(files[0].path.removeprefix("file://"))
    keys = list(zip(first.column("symbol").to_pylist(), first.column("timestamp").to_pylist(), strict=True))
    assert keys == sorted(keys)
    bounds = files[0].data_file.lower_bounds
    assert bounds[table.schema().find_field("symbol").field_id] == b"BHP"


def test_the_tables_own_partition_and_sort_order_are_obeyed(tmp_path):
    catalog = make_lake(tmp_path)
    spec = builtin_table(DataType.TRADES)
    by_exchange = (*spec.partition_by, PartitionBy("exchange", "identity", "exchange"))
    ensure_table(
        catalog, dataclasses.replace(spec, partition_by=by_exchange, sort_by=(SortBy("timestamp", descending=True),))
    )
    table = catalog.load_table(TRADES)
    ordered = OrderedBatch(table_of([("BHP", START_US + i, i, i) for i in range(50)]), DataType.TRADES)
    files = write_files(table, ordered.rows.append_column("kafka_topic_id", [["1"] * 50]), ordered.order)
    assert [list(file.data_file.partition) for file in files] == [[16138, "ASX"]]
    times = pq.read_table(files[0].path.removeprefix("file://")).column("timestamp").to_pylist()
    assert times == sorted(times, reverse=True)


halves = st.integers(0, 3).map(lambda n: n * 7)


@given(st.lists(st.tuples(halves, halves), max_size=30), st.lists(st.tuples(halves, halves), max_size=30))
def test_ids_are_compared_whole_also_when_their_first_halves_are_alike(ids, have):
    def as_words(pairs):
        return np.array(pairs, dtype=np.uint64).reshape(-1, 2)

    assert contained(as_words(ids), as_words(have)).tolist() == [pair in have for pair in ids]


def test_a_copy_of_metadata_can_be_changed_without_its_original(table):
    copied = copy.deepcopy(table.metadata)
    assert copied == table.metadata
    copied.properties["x"] = "y"
    copied.snapshots.append(None)
    copied.refs["x"] = None
    assert "x" not in table.metadata.properties
    assert table.metadata.snapshots == []
    assert "x" not in table.metadata.refs
