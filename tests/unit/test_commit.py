"""The exactly-once commit on a real SQLite catalog: one consumer, then what others do to the table behind its back."""

from __future__ import annotations

import dataclasses

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, held, make_lake
from prometheus_client import REGISTRY
from pyiceberg.exceptions import CommitFailedException

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, FencedError, Origin
from k2.lake.appends.unwritable import TableFaultError
from k2.lake.offsets import OFFSETS, recorded_offsets, summary_of
from k2.model.errors import RefusedError
from k2.model.feed_rules import FeedRules, Prices
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


@pytest.fixture
def committer(catalog):
    return Committer(catalog, TRADES, ORIGIN, DataType.TRADES)


def test_rows_and_offsets_enter_together(catalog, committer):
    assert committer.start_offsets() == {}
    done = committer.commit(batch(5, 15))
    assert (done.rows, done.duplicates, done.offsets, done.attempts) == (10, 0, {0: 15}, 1)
    assert committer.start_offsets() == {0: 15}
    assert held(catalog) == {(0, offset): 1 for offset in range(5, 15)}
    offsets = recorded_offsets(catalog.load_table(TRADES)).topics[ORIGIN.topic].partitions[0]
    assert (offsets.first, offsets.next, offsets.rows) == (5, 15, 10)


def test_every_snapshot_carries_the_whole_map_and_its_commit_id(catalog, committer):
    committer.commit(batch(0, 3))
    committer.commit(batch(0, 4, partition=1))
    table = catalog.load_table(TRADES)
    summaries = [summary_of(snapshot) for snapshot in table.metadata.snapshots]
    assert summaries[-1][OFFSETS] == table.properties[OFFSETS]
    assert len({summary["k2.commit-id"] for summary in summaries}) == 2
    assert all(summary["k2.operation"] == "append" for summary in summaries)


def test_pyiceberg_retry_is_off_for_this_write_and_not_in_the_table(catalog, committer):
    committer.commit(batch(0, 3))
    assert "commit.retry.num-retries" not in catalog.load_table(TRADES).properties


def test_a_consumer_whose_partition_was_taken_is_fenced_and_leaves_nothing(catalog, committer, tmp_path):
    committer.commit(batch(0, 10))
    other = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    other.commit(batch(10, 20))
    files = set((tmp_path / "warehouse").rglob("*.parquet"))
    with pytest.raises(
        FencedError, match=r"holds market.equities.trades.asx/0 up to 20, this batch starts at 10"
    ) as fenced:
        committer.commit(batch(10, 15))
    assert fenced.value.offsets == {0: 20}
    assert set((tmp_path / "warehouse").rglob("*.parquet")) == files
    assert held(catalog) == {(0, offset): 1 for offset in range(20)}


class Interposed:
    """A catalog that lets a test do something at a commit; everything else goes to the real one."""

    def __init__(self, catalog, at_commit):
        self._catalog = catalog
        self._at_commit = at_commit

    def __getattr__(self, name):
        return getattr(self._catalog, name)

    def load_table(self, identifier):
        table = self._catalog.load_table(identifier)
        table.catalog = self
        return table

    def commit_table(self, table, requirements, updates):
        commit = lambda: self._catalog.commit_table(table, requirements, updates)  # noqa: E731
        act = self._at_commit.pop(0) if self._at_commit else None
        return act(commit) if act else commit()


def lost_reply(commit):
    commit()
    raise ConnectionError("connection reset by peer")


def sent_again(commit):
    commit()
    return commit()


def never_sent(commit):
    raise ConnectionError("connection refused")


@pytest.mark.parametrize("fault", [lost_reply, sent_again, never_sent], ids=lambda fault: fault.__name__)
def test_a_batch_is_in_the_table_once_whatever_became_of_the_reply(catalog, fault):
    committer = Committer(Interposed(catalog, [fault]), TRADES, ORIGIN, DataType.TRADES)
    done = committer.commit(batch(0, 10))
    assert done.rows == 10
    committer.commit(batch(10, 20))
    assert held(catalog) == {(0, offset): 1 for offset in range(20)}
    assert recorded_offsets(catalog.load_table(TRADES)).next_of(ORIGIN.topic) == {0: 20}


def somebody_was_quicker(_):
    raise CommitFailedException("somebody else was quicker")


@pytest.mark.parametrize(
    ("fault", "landed", "counted"),
    [
        (lost_reply, True, {"unanswered": 1, "conflict": 0}),
        (sent_again, True, {"unanswered": 0, "conflict": 0}),
        (never_sent, False, {"unanswered": 1, "conflict": 0}),
        (somebody_was_quicker, False, {"unanswered": 0, "conflict": 1}),
    ],
)
def test_a_try_that_came_to_nothing_is_counted_as_what_it_was_and_a_commit_that_landed_says_so(
    catalog, fault, landed, counted
):
    def tries(outcome):
        return REGISTRY.get_sample_value("k2_iceberg_commits_total", {"table": TRADES, "outcome": outcome}) or 0

    before = {outcome: tries(outcome) for outcome in counted}
    done = Committer(Interposed(catalog, [fault]), TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 10))
    assert done.landed is landed
    assert {outcome: tries(outcome) - before[outcome] for outcome in counted} == counted


def test_without_the_guard_a_commit_sent_again_makes_the_table_unreadable(catalog):
    """The control: PyIceberg takes the conflict for a failure and deletes manifests of what landed."""

    class Unguarded(Committer):
        def _guard(self, table):
            table.metadata.properties["commit.retry.num-retries"] = "0"

    committer = Unguarded(Interposed(catalog, [sent_again]), TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    with pytest.raises(FileNotFoundError):
        held(catalog)


def test_another_sinks_commit_in_between_is_a_conflict_that_is_built_again(catalog):
    other = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)

    def interleave(commit):
        other.commit(batch(0, 5, partition=1, symbol="CBA"))
        return commit()

    committer = Committer(Interposed(catalog, [interleave]), TRADES, ORIGIN, DataType.TRADES)
    done = committer.commit(batch(0, 10))
    assert done.attempts == 2
    assert recorded_offsets(catalog.load_table(TRADES)).next_of(ORIGIN.topic) == {0: 10, 1: 5}
    assert sum(held(catalog).values()) == 15


def test_events_that_another_sink_commits_in_between_are_duplicates(catalog):
    """Deduplication is decided against the snapshot that the commit asserts, not one that was current a moment ago."""
    other = Committer(catalog, TRADES, dataclasses.replace(ORIGIN, topic="other", topic_id="topic-2"), DataType.TRADES)

    def interleave(commit):
        other.commit(batch(0, 6))
        return commit()

    committer = Committer(Interposed(catalog, [interleave]), TRADES, ORIGIN, DataType.TRADES)
    done = committer.commit(batch(0, 10))
    assert (done.rows, done.duplicates, done.attempts) == (4, 6, 2)
    table = catalog.load_table(TRADES).scan(selected_fields=("message_id",)).to_arrow()
    assert len(table) == len(set(table.column("message_id").to_pylist())) == 10


def test_a_batch_of_dead_letters_alone_still_moves_the_offsets(catalog, committer):
    committer.commit(batch(0, 4))
    done = committer.commit(batch(4, 6, dead=2))
    assert (done.rows, done.files) == (0, 0)
    table = catalog.load_table(TRADES)
    assert len(table.metadata.snapshots) == 2  # an empty snapshot: a commit of properties alone would not be fenced
    counts = recorded_offsets(table).topics[ORIGIN.topic].partitions[0]
    assert (counts.next, counts.rows, counts.dead_letters, counts.non_records) == (6, 4, 2, 0)


def test_events_of_the_table_are_dropped_and_counted_at_whatever_age(catalog, committer):
    for start in range(0, 50, 10):
        committer.commit(batch(start, start + 10))
    reread = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)  # a new process: nothing in memory
    again = batch(0, 15, seed="")
    moved = Batch(again.rows, {1: (0, 15)}, {})
    rows = moved.rows.set_column(moved.rows.column_names.index("kafka_partition"), "kafka_partition", [[1] * 15])
    done = reread.commit(Batch(rows.cast(moved.rows.schema), {1: (0, 15)}, {}))
    assert (done.rows, done.duplicates) == (0, 15)
    counts = recorded_offsets(catalog.load_table(TRADES)).topics[ORIGIN.topic].partitions[1]
    assert (counts.rows, counts.duplicates, counts.non_records) == (0, 15, 0)


def test_repeats_within_a_batch_are_dropped_and_the_first_is_kept(catalog, committer):
    ids = [message_id(n) for n in (1, 2, 1, 3, 2)]
    events = trades(ids, symbols=["BHP"] * 5, times=[START_US, START_US + 1, START_US, START_US + 2, START_US + 1])
    done = committer.commit(Batch(with_lineage(events, [0] * 5, range(5)), {0: (0, 5)}, {}))
    assert (done.rows, done.duplicates) == (3, 2)
    assert set(held(catalog)) == {(0, 0), (0, 1), (0, 3)}


def test_duplicates_are_kept_when_the_feed_says_so(catalog):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES, rules=FeedRules(keeps_duplicates=True))
    events = trades([message_id(1)] * 3, symbols=["BHP"] * 3, times=[START_US] * 3)
    assert committer.commit(Batch(with_lineage(events, [0] * 3, range(3)), {0: (0, 3)}, {})).rows == 3


def test_the_rules_that_a_commit_was_made_by_are_recorded_with_its_offsets_and_other_topics_keep_theirs(catalog):
    rules = FeedRules(Prices.ANY, keeps_duplicates=True, tolerance_us=0)
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES, rules=rules).commit(batch(0, 10))
    other = Origin("market.equities.trades.nyse", "topic-2", ORIGIN.cluster_id)
    Committer(catalog, TRADES, other, DataType.TRADES).commit(batch(0, 5))
    table = catalog.load_table(TRADES)
    told = {topic: held.rules for topic, held in recorded_offsets(table).topics.items()}
    assert told == {ORIGIN.topic: rules, other.topic: FeedRules()}
    assert summary_of(table.current_snapshot())[OFFSETS] == table.metadata.properties[OFFSETS]
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(10, 12))
    assert recorded_offsets(catalog.load_table(TRADES)).topics[ORIGIN.topic].rules == FeedRules()


def test_a_rolled_back_table_is_refused_with_the_command_that_mends_it(catalog, committer):
    first = committer.commit(batch(0, 10))
    committer.commit(batch(10, 20))
    with catalog.load_table(TRADES).manage_snapshots() as manage:
        manage.rollback_to_snapshot(first.snapshot_id)
    with pytest.raises(RefusedError, match=rf"k2 sink reset market_data.trades --to-snapshot {first.snapshot_id}"):
        committer.commit(batch(20, 30))


def test_a_topic_made_anew_is_refused(catalog, committer):
    committer.commit(batch(0, 10))
    anew = Committer(catalog, TRADES, dataclasses.replace(ORIGIN, topic_id="topic-9"), DataType.TRADES)
    with pytest.raises(RefusedError, match=r"was made anew, or this is another cluster.*found 'topic id topic-9"):
        anew.start_offsets()


def test_a_field_the_table_does_not_have_is_refused_not_dropped(catalog, committer):
    rows = batch(0, 3)
    wider = Batch(rows.rows.append_column("venue_flag", [["x"] * 3]), rows.ranges, {})
    with pytest.raises(TableFaultError, match=r"no column for a field of the events: found 'venue_flag'.*IcebergTable"):
        committer.commit(wider)


def test_a_column_added_to_the_table_is_null_until_events_have_it(catalog, committer):
    from k2.lake.tables import ensure_table

    committer.commit(batch(0, 3))
    spec = builtin_table(DataType.TRADES)
    ensure_table(catalog, dataclasses.replace(spec, columns=(*spec.columns, TableColumn("venue_flag", "string"))))
    committer.commit(batch(3, 6))
    assert catalog.load_table(TRADES).scan().to_arrow().column("venue_flag").null_count == 6


def test_a_conflict_that_never_ends_is_an_error_of_the_world(catalog):
    def refuse(_):
        raise CommitFailedException("somebody else was quicker")

    committer = Committer(Interposed(catalog, [refuse] * 100_000), TRADES, ORIGIN, DataType.TRADES, retry_seconds=0.2)
    with pytest.raises(Exception, match=r"Too many others commit to market_data.trades"):
        committer.commit(batch(0, 3))
