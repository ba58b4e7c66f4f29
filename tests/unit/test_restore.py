"""Rows of files that are damaged or gone come back from the topics, each exactly once, or nothing is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.deleting import delete_positions
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.extent import sized
from k2_testing.lake import TRADES, make_lake
from pyiceberg.table.snapshots import Operation

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table
from k2.lake.upkeep.compact import Compactor
from k2.lake.upkeep.replacing import live_files
from k2.lake.upkeep.restore import Restorer
from k2.lake.upkeep.scrub import Scrubber
from k2.model.errors import RefusedError, UserError
from k2.model.events import arrow_schema
from k2.model.times import DAY_US
from k2.model.topics import DataType

MARKER, POISON = -1, -2
"""What an offset holds that holds no event; an event is a number, the same each time."""


@dataclass
class KeptLog:
    """A topic as a list of events by partition, of which retention may have taken the first."""

    partitions: dict[int, list[int]] = field(default_factory=dict)
    first: int = 0
    topic_id: str = ORIGIN.topic_id
    asked: int = 0

    def table(self, partition: int, offsets: Sequence[int]) -> pa.Table:
        numbers = [self.partitions[partition][offset] for offset in offsets]
        events = [  # one by one: what is derived from a row's place is then the same wherever it stands
            trades(
                [message_id(partition, number)],
                symbols=[f"S{partition}{number % 3}"],
                times=[START_US + number % 2 * DAY_US + number * 1000],
                trade_ids=[f"T{number}"],
                sequence=[number],
            )
            for number in numbers
        ]
        whole = pa.Table.from_batches(events, arrow_schema(DataType.TRADES)).combine_chunks()
        rows = whole.to_batches()[0] if numbers else trades([], symbols=[], times=[])
        return with_lineage(rows, [partition] * len(offsets), offsets)

    def good(self, partition: int, start: int, stop: int) -> list[int]:
        return [offset for offset in range(start, stop) if self.partitions[partition][offset] >= 0]

    def there(self, topic, topic_id):
        if (topic, topic_id) != (ORIGIN.topic, self.topic_id):
            return {}
        return {number: (self.first, len(each)) for number, each in self.partitions.items()}

    def rows(self, wanted, rules):
        for start in range(wanted.start, wanted.stop, 7):
            offsets = self.good(wanted.partition, start, min(start + 7, wanted.stop))
            self.asked += len(offsets)
            if offsets:
                yield self.table(wanted.partition, offsets)


def commit(catalog, log, partition, values):
    """The next offsets of a partition, as a sink commits them."""
    before = log.partitions.setdefault(partition, [])
    start, stop = len(before), len(before) + len(values)
    before.extend(values)
    rows = log.table(partition, log.good(partition, start, stop))
    dead = sum(value == POISON for value in values)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(Batch(rows, {partition: (start, stop)}, {partition: dead}))


def rows_of(catalog):
    found = catalog.load_table(TRADES).scan().to_arrow()
    return found.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")]).combine_chunks()


def lose(path):
    Path(path.removeprefix("file://")).unlink()


values = st.lists(st.integers(0, 25) | st.just(MARKER) | st.just(POISON), min_size=1, max_size=12)


@settings(max_examples=sized(12, 300))
@given(st.data())
def test_any_files_come_back_row_for_row(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("lake")
    catalog, log = make_lake(folder), KeptLog()
    for partition, some in data.draw(st.lists(st.tuples(st.integers(0, 1), values), min_size=1, max_size=5), "batches"):
        commit(catalog, log, partition, some)
    if data.draw(st.booleans(), "compacted"):
        Compactor(catalog, TRADES, 1 << 20, folder / "scratch").run()
    before, offsets = rows_of(catalog), recorded_offsets(catalog.load_table(TRADES))
    live = sorted(live_files(catalog.load_table(TRADES)))
    lost = data.draw(st.lists(st.sampled_from(live), unique=True), "lost") if live else []
    for path in lost:
        lose(path)
    restorer = Restorer(catalog, TRADES, log, rows_at_once=data.draw(st.integers(1, 30), "rows at once"))
    assert restorer.damaged() == sorted(lost)
    done = restorer.run(lost)
    assert done.whole
    assert rows_of(catalog).equals(before)
    table = catalog.load_table(TRADES)
    assert recorded_offsets(table) == offsets
    assert audit_table(table, {}).ok
    if lost:
        assert table.current_snapshot().summary.operation is Operation.REPLACE


@pytest.fixture
def log():
    return KeptLog()


@pytest.fixture
def catalog(tmp_path, log):
    """Three commits of ten offsets, of which the second has a duplicate, a dead letter and a marker."""
    catalog = make_lake(tmp_path)
    commit(catalog, log, 0, list(range(0, 20, 2)))
    commit(catalog, log, 0, [20, 22, 2, POISON, MARKER, 24, 26, 28, 30, 32])
    commit(catalog, log, 0, list(range(40, 60, 2)))
    return catalog


def file_of(catalog, offset):
    """The live file that holds an offset."""
    (found,) = {
        path
        for path in live_files(catalog.load_table(TRADES))
        if offset in pq.read_table(path.removeprefix("file://"))["kafka_offset"].to_pylist()
    }
    return found


def test_only_what_no_other_file_holds_is_read_and_the_sink_goes_on(catalog, log):
    before, lost = rows_of(catalog), file_of(catalog, 11)
    lose(lost)
    assert Scrubber(catalog, TRADES).run().damaged[0].rows == 7
    restorer = Restorer(catalog, TRADES, log)
    dry = restorer.run([lost], dry_run=True)
    assert (dry.whole, dry.snapshot_id, dry.rows, log.asked) == (True, None, 7, 0)
    done = restorer.run(restorer.named([lost]))
    assert (done.rows, done.found, done.tries, done.gone) == (7, 7, 1, ())
    assert log.asked <= 10, "the ranges of the other commits are not read"
    assert rows_of(catalog).equals(before)
    assert restorer.damaged() == []
    commit(catalog, log, 0, [60, 20])
    audit = audit_table(catalog.load_table(TRADES), {})
    assert audit.ok
    assert audit.partitions[0].offsets.duplicates == 2


def test_what_the_topic_has_no_more_is_told_by_range_and_committed_only_when_asked(catalog, log):
    lost = file_of(catalog, 11)
    lose(lost)
    log.first = 15
    restorer = Restorer(catalog, TRADES, log)
    current = catalog.load_table(TRADES).metadata.current_snapshot_id
    done = restorer.run([lost])
    assert (done.whole, done.rows, done.found, done.snapshot_id) == (False, 7, 5, None)
    assert [str(each) for each in done.gone] == [f"{ORIGIN.topic}/0 10-14"]
    assert catalog.load_table(TRADES).metadata.current_snapshot_id == current
    written = set(Path(catalog.load_table(TRADES).location().removeprefix("file://")).rglob("*.parquet"))
    assert len(written) == 2, "what was not committed is deleted"
    partial = restorer.run([lost], partial=True)
    assert partial.snapshot_id is not None
    table = catalog.load_table(TRADES)
    assert table.current_snapshot().summary.operation is Operation.OVERWRITE
    found = audit_table(table, {})
    assert (found.missing, found.open_files) == (2, ())


def test_a_topic_that_was_made_anew_has_nothing_of_it(catalog, log):
    lost = file_of(catalog, 11)
    lose(lost)
    log.topic_id = "another"
    done = Restorer(catalog, TRADES, log).run([lost])
    assert (done.found, [str(each) for each in done.gone]) == (0, [f"{ORIGIN.topic}/0 10-19"])


def test_rows_that_another_engine_deleted_from_other_files_do_not_come_back(catalog, log):
    table = catalog.load_table(TRADES)
    kept = file_of(catalog, 0)
    delete_positions(table, [(kept, 0)], live_files(table)[kept])
    before, lost = rows_of(catalog), file_of(catalog, 11)
    lose(lost)
    Restorer(catalog, TRADES, log).run([lost])
    assert rows_of(catalog).equals(before)
    with pytest.raises(UserError, match="Delete files of another engine"):
        Restorer(catalog, TRADES, log).run([kept])


def test_another_file_that_cannot_be_read_is_to_be_built_again_too(catalog, log, tmp_path):
    Compactor(catalog, TRADES, 1 << 20, tmp_path / "scratch").run()
    commit(catalog, log, 0, [1, 3])  # of the other day: a file of its own
    commit(catalog, log, 0, [5, 62])
    before = rows_of(catalog)
    lost = sorted(live_files(catalog.load_table(TRADES)))
    for path in lost:
        Path(path.removeprefix("file://")).write_bytes(b"no Parquet at all")
    restorer = Restorer(catalog, TRADES, log)
    with pytest.raises(UserError, match="Another file that may hold the same events cannot be read"):
        restorer.run([file for file in lost if "2014-03-10" in file][:1])
    assert restorer.damaged() == lost
    assert restorer.run(lost).whole
    assert rows_of(catalog).equals(before)


def test_as_many_rows_but_others_are_refused(catalog, log):
    lost = file_of(catalog, 11)
    lose(lost)
    # Not what was sent: what was an event is a marker, and the other way round.
    log.partitions[0][19], log.partitions[0][14] = MARKER, 34
    with pytest.raises(RefusedError, match="as many rows as the files held, but others"):
        Restorer(catalog, TRADES, log).run([lost])


def test_more_rows_than_there_were_are_refused(catalog, log):
    lost = file_of(catalog, 11)
    lose(lost)
    log.partitions[0][14] = 34
    with pytest.raises(RefusedError, match="more rows than the files held"):
        Restorer(catalog, TRADES, log).run([lost])
    assert len(list(Path(catalog.load_table(TRADES).location().removeprefix("file://")).rglob("*.parquet"))) == 2


def test_a_file_that_the_table_does_not_have_is_said(catalog, log):
    with pytest.raises(UserError, match="no such file in its current snapshot"):
        Restorer(catalog, TRADES, log).named(["data/none.parquet"])
    assert Restorer(catalog, TRADES, log).run([]).files == ()
