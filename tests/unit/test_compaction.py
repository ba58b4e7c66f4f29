"""Compaction over real tables: the same rows in fewer files and in order, beside those that commit, delete and damage."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN
from k2_testing.deleting import data_files, delete_positions
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.ticks import append_ticks, trade
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.sorting import NullOrder
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table
from k2.lake.proof.deep import audit_deep
from k2.lake.upkeep import committing, compact
from k2.lake.upkeep.compact import Compactor, UnequalError
from k2.lake.upkeep.replacing import live_files
from k2.model.errors import RefusedError, StoreError, UserError, WorldError
from k2.model.times import DAY_US
from k2.model.topics import DataType
from k2.obs.logging import structlog_to_logging

MIB = 1 << 20
SYMBOLS = ("BHP", "CBA", "RIO", "")


def commits(catalog, *ranges, day=0, symbols=SYMBOLS[:3], step_us=1000):
    """One commit for each range of offsets of partition 0, `day` days after the first."""
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start, stop in ranges:
        offsets = range(start, stop)
        events = trades(
            [message_id(offset) for offset in offsets],
            symbols=[symbols[offset % len(symbols)] for offset in offsets],
            times=[START_US + day * DAY_US + offset * step_us for offset in offsets],
            trade_ids=[f"T{offset}" for offset in offsets],
            sequence=list(offsets),
        )
        committer.commit(Batch(with_lineage(events, [0] * len(offsets), offsets), {0: (start, stop)}, {}))


def tens(start, stop):
    return [(low, low + 10) for low in range(start, stop, 10)]


@pytest.fixture
def catalog(tmp_path):
    return make_lake(tmp_path)


@pytest.fixture
def compactor(catalog, tmp_path):
    return Compactor(catalog, TRADES, MIB, tmp_path / "scratch")


def rows_of(catalog, snapshot_id=None):
    """All rows of a snapshot in one order, read by PyIceberg."""
    found = catalog.load_table(TRADES).scan(snapshot_id=snapshot_id).to_arrow()
    return found.sort_by([("kafka_offset", "ascending")]).combine_chunks()


def operation(table):
    return table.current_snapshot().summary.operation


def test_many_small_files_become_one_in_order_with_the_same_rows_and_offsets(catalog, compactor):
    commits(catalog, *tens(0, 200))
    before, offsets = rows_of(catalog), recorded_offsets(catalog.load_table(TRADES))
    old = catalog.load_table(TRADES).current_snapshot().snapshot_id
    done = compactor.run()
    (group,) = done.groups
    assert (group.files_before, group.files_after, group.rows, group.tries) == (20, 1, 200, 1)
    table = catalog.load_table(TRADES)
    assert operation(table) is Operation.REPLACE
    assert table.current_snapshot().snapshot_id == group.snapshot_id
    assert rows_of(catalog).equals(before)
    assert rows_of(catalog, old).equals(before), "an earlier snapshot reads as it did"
    assert recorded_offsets(table) == offsets
    (file,) = data_files(table)
    held = pq.read_table(file.file_path.removeprefix("file://"))
    keys = list(zip(held["symbol"].to_pylist(), held["timestamp"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    summary = table.current_snapshot().summary
    assert (summary["total-data-files"], summary["total-records"]) == ("1", "200")
    assert summary["k2.operation"] == "compact"


def test_audits_find_a_compacted_table_well_and_a_sink_goes_on(catalog, compactor):
    commits(catalog, *tens(0, 200))
    compactor.run()
    commits(catalog, *tens(200, 230))
    table = catalog.load_table(TRADES)
    audit = audit_table(table, {ORIGIN.topic: {0: 230}})
    assert audit.ok
    assert (audit.partitions[0].rows, audit.gaps) == (230, [])
    deep = audit_deep(table)
    assert deep.ok
    assert deep.by_digest == 4, "each file has the digest of its bytes"


def test_an_event_that_comes_again_is_a_duplicate_of_a_compacted_one(catalog, compactor):
    commits(catalog, *tens(0, 200))
    compactor.run()
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    again = trades(
        [message_id(offset) for offset in (17, 18)],
        symbols=[SYMBOLS[17 % 3], SYMBOLS[18 % 3]],
        times=[START_US + 17_000, START_US + 18_000],
        trade_ids=["T17", "T18"],
        sequence=[17, 18],
    )
    done = committer.commit(Batch(with_lineage(again, [0, 0], [200, 201]), {0: (200, 202)}, {}))
    assert done.duplicates == 2


def test_what_is_done_is_not_done_again(catalog, compactor):
    commits(catalog, *tens(0, 200))
    assert len(compactor.run().groups) == 1
    again = compactor.run()
    assert again.groups == ()
    assert again.left == {"as few as can be": 1}


def test_closed_partitions_come_newest_first_and_one_that_grows_waits_for_more(catalog, compactor):
    today = (int(datetime.now(UTC).timestamp() * 1_000_000) - START_US) // DAY_US
    commits(catalog, *tens(0, 30), day=0)
    commits(catalog, *tens(30, 60), day=1)
    commits(catalog, *tens(60, 90), day=today + 1)
    choice = compactor.chosen()
    assert [group.name for group in choice.groups] == ["timestamp_day=2014-03-10", "timestamp_day=2014-03-09"]
    assert choice.left == {"few, of a partition that still grows": 3}
    only = compactor.run("2014-03-09")
    assert [group.partition for group in only.groups] == ["timestamp_day=2014-03-09"]
    assert [group.name for group in compactor.chosen().groups] == ["timestamp_day=2014-03-10"]


@settings(max_examples=10)
@given(st.data())
def test_files_of_any_rows_are_sorted_whole_however_little_memory_there_is(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("lake")
    catalog = make_lake(folder)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    at = 0
    for size in data.draw(st.lists(st.integers(1, 30), min_size=2, max_size=6), "sizes"):
        offsets = range(at, at + size)
        minutes = data.draw(st.lists(st.integers(0, 5), min_size=size, max_size=size), "minutes")
        events = trades(
            [message_id(offset) for offset in offsets],
            symbols=data.draw(
                st.lists(st.sampled_from(("B", "A", "Ω", "AA")), min_size=size, max_size=size), "symbols"
            ),
            times=[START_US + 60_000_000 * minute for minute in minutes],
            trade_ids=[f"T{offset}" for offset in offsets],
            sequence=data.draw(st.lists(st.none() | st.integers(0, 3), min_size=size, max_size=size), "sequence"),
        )
        committer.commit(Batch(with_lineage(events, [0] * size, offsets), {0: (at, at + size)}, {}))
        at += size
    before = rows_of(catalog)
    rows_at_once = data.draw(st.integers(1, 40), "rows at once")
    compactor = Compactor(catalog, TRADES, MIB, folder / "scratch", rows_at_once=rows_at_once)
    (group,) = compactor.run().groups
    assert (group.files_after, group.rows) == (1, at)
    assert rows_of(catalog).equals(before)
    (file,) = data_files(catalog.load_table(TRADES))
    held = pq.read_table(file.file_path.removeprefix("file://"))
    last = 2**62
    keys = [
        (symbol, time, last if sequence is None else sequence, offset)
        for symbol, time, sequence, offset in zip(
            *(held[name].to_pylist() for name in ("symbol", "timestamp", "source_sequence", "kafka_offset")),
            strict=True,
        )
    ]
    assert keys == sorted(keys)
    assert not (folder / "scratch").exists() or not list((folder / "scratch").iterdir())


def test_a_large_partition_becomes_as_many_files_as_its_size_asks_for(catalog, tmp_path):
    commits(catalog, *[(low, low + 3000) for low in range(0, 60_000, 3000)])
    whole = sum(file.file_size_in_bytes for file in live_files(catalog.load_table(TRADES)).values())
    catalog.load_table(TRADES).transaction().set_properties(
        {"write.parquet.row-group-limit": "1000"}
    ).commit_transaction()
    done = Compactor(catalog, TRADES, whole // 4, tmp_path / "scratch", rows_at_once=7_000).run()
    (group,) = done.groups
    assert group.files_after == 4
    sizes = [file.file_size_in_bytes for file in live_files(catalog.load_table(TRADES)).values()]
    assert min(sizes) > 0.5 * max(sizes), "never a full file and a crumb"
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 60_000}}).ok


def test_a_table_with_an_order_of_its_own_has_files_in_that_order(catalog, tmp_path):
    commits(catalog, *tens(0, 100))
    table = catalog.load_table(TRADES)
    with table.update_sort_order() as update:
        update.desc("kafka_offset", IdentityTransform(), NullOrder.NULLS_LAST)
    Compactor(catalog, TRADES, MIB, tmp_path / "scratch", rows_at_once=40).run()
    found = []
    for file in data_files(catalog.load_table(TRADES)):
        offsets = pq.read_table(file.file_path.removeprefix("file://"))["kafka_offset"].to_pylist()
        assert offsets == sorted(offsets, reverse=True)
        found += offsets
    assert sorted(found) == list(range(100))


class Interrupted(Compactor):
    """Something happens between what was written and its commit."""

    def between(self):
        raise NotImplementedError

    def _commit(self, *arguments):
        self.between()
        return super()._commit(*arguments)


def test_a_sink_that_commits_in_between_costs_nothing(catalog, tmp_path):
    class BesideASink(Interrupted):
        def between(self):
            commits(catalog, (200, 210))

    commits(catalog, *tens(0, 200))
    (group,) = BesideASink(catalog, TRADES, MIB, tmp_path / "s").run().groups
    assert group.tries == 1
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 210}}).ok


def test_a_commit_that_is_beaten_is_tried_again_without_writing_anew(catalog, tmp_path, monkeypatch):
    commits(catalog, *tens(0, 200))
    real, beaten = committing.replace_files, []

    def slow(table, *arguments, **named):
        if len(beaten) < 3:
            beaten.append(commits(catalog, (200 + 10 * len(beaten), 210 + 10 * len(beaten))))
        return real(table, *arguments, **named)

    monkeypatch.setattr(committing, "replace_files", slow)
    (group,) = Compactor(catalog, TRADES, MIB, tmp_path / "s").run().groups
    assert group.tries == 4
    table = catalog.load_table(TRADES)
    assert audit_table(table, {ORIGIN.topic: {0: 230}}).ok
    assert set(on_disk(tmp_path)) >= set(live_files(table))


def test_without_the_look_at_the_asserted_snapshot_deleted_rows_would_come_back(catalog, tmp_path, monkeypatch):
    """The control of the next test: what it guards against happens when the guard is off."""
    commits(catalog, *tens(0, 200))
    monkeypatch.setattr(committing.Replacement, "_unchanged", lambda _self, table, *_: live_files(table))
    deleting(catalog, tmp_path).run()
    assert len(rows_of(catalog)) == 200


def deleting(catalog, tmp_path):
    class BesideADelete(Interrupted):
        def between(self):
            table = catalog.load_table(TRADES)
            first = data_files(table)[0]
            delete_positions(table, [(first.file_path, 0)], first)

    return BesideADelete(catalog, TRADES, MIB, tmp_path / "s")


def test_rows_that_another_engine_deletes_in_between_stay_deleted(catalog, tmp_path):
    commits(catalog, *tens(0, 200))
    done = deleting(catalog, tmp_path).run()
    assert (done.groups, done.overtaken) == ((), ("timestamp_day=2014-03-09",))
    assert len(rows_of(catalog)) == 199
    assert_no_orphans(catalog, tmp_path)


def test_files_with_deleted_rows_are_left_with_the_reason(catalog, compactor):
    commits(catalog, *tens(0, 50))
    table = catalog.load_table(TRADES)
    first = data_files(table)[0]
    delete_positions(table, [(first.file_path, 0)], first)
    done = compactor.run()
    assert [group.files_before for group in done.groups] == [4]
    (reason,) = [reason for reason in done.left if "delete files" in reason]
    assert done.left[reason] == 1
    assert len(rows_of(catalog)) == 49


def test_files_that_others_replaced_in_between_are_chosen_again(catalog, tmp_path):
    commits(catalog, *tens(0, 200))

    class BesideAnother(Interrupted):
        def between(self):
            Compactor(catalog, TRADES, MIB, tmp_path / "other").run()

    done = BesideAnother(catalog, TRADES, MIB, tmp_path / "s").run()
    assert (done.groups, done.overtaken) == ((), ("timestamp_day=2014-03-09",))
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 200}}).ok


def test_a_damaged_file_is_never_written_anew_as_a_good_one(catalog, compactor, tmp_path):
    commits(catalog, *tens(0, 50))
    table = catalog.load_table(TRADES)
    path = Path(data_files(table)[2].file_path.removeprefix("file://"))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StoreError, match=rf"{path.name} is not what was written"):
        compactor.run()
    assert catalog.load_table(TRADES).current_snapshot().snapshot_id == table.current_snapshot().snapshot_id
    assert_no_orphans(catalog, tmp_path)


@pytest.mark.parametrize("fault", ["a row lost", "a value changed"])
def test_rows_that_are_not_what_was_read_are_never_committed(catalog, tmp_path, monkeypatch, fault):
    commits(catalog, *tens(0, 50))
    before = catalog.load_table(TRADES).current_snapshot().snapshot_id
    real = compact.LongFiles.put

    def faulty(self, rows, order):
        if fault == "a row lost":
            return real(self, rows, order[1:])
        place = rows.column_names.index("quantity")
        other = pa.array([Decimal(7)] * len(rows), rows.schema.field(place).type)
        return real(self, rows.set_column(place, rows.schema.field(place), other), order)

    monkeypatch.setattr(compact.LongFiles, "put", faulty)
    with pytest.raises(UnequalError, match="Nothing was committed"):
        Compactor(catalog, TRADES, MIB, tmp_path / "s").run()
    assert catalog.load_table(TRADES).current_snapshot().snapshot_id == before
    assert_no_orphans(catalog, tmp_path)


def test_a_commit_whose_answer_was_lost_is_known_by_its_id(catalog, tmp_path, monkeypatch):
    commits(catalog, *tens(0, 50))
    real = committing.replace_files

    def lost(*arguments, **named):
        real(*arguments, **named)
        raise TimeoutError("no answer")

    monkeypatch.setattr(committing, "replace_files", lost)
    (group,) = Compactor(catalog, TRADES, MIB, tmp_path / "s").run().groups
    assert group.tries == 2
    assert group.snapshot_id == catalog.load_table(TRADES).current_snapshot().snapshot_id
    assert len(data_files(catalog.load_table(TRADES))) == 1


def test_one_who_is_stopped_leaves_the_partition_as_it_was(catalog, tmp_path):
    commits(catalog, *tens(0, 50))
    stop = threading.Event()
    compactor = Compactor(catalog, TRADES, MIB, tmp_path / "s", progress=lambda *_: stop.set(), stop=stop)
    with pytest.raises(WorldError, match="Stopped"):
        compactor.run()
    assert len(data_files(catalog.load_table(TRADES))) == 5
    assert_no_orphans(catalog, tmp_path)


def test_a_table_that_was_rolled_back_waits_for_a_person(catalog, compactor):
    commits(catalog, *tens(0, 50))
    table = catalog.load_table(TRADES)
    commits(catalog, (50, 60))
    table = catalog.load_table(TRADES)
    older = next(each for each in table.metadata.snapshots if each.sequence_number == 5)
    table.manage_snapshots().rollback_to_snapshot(older.snapshot_id).commit()
    with pytest.raises(RefusedError, match="rolled back"):
        compactor.run()


def test_rows_of_a_writer_without_offsets_are_kept_as_they_are(catalog, compactor):
    for number in range(5):
        append_ticks(catalog, [trade(number, symbol="BHP"), trade(number, symbol="AAA")])
    before = rows_of(catalog)
    (group,) = compactor.run().groups
    assert (group.files_before, group.files_after) == (5, 1)
    assert rows_of(catalog).equals(before)


def test_new_columns_are_empty_in_rows_from_before_them(catalog, compactor):
    commits(catalog, *tens(0, 30))
    with catalog.load_table(TRADES).update_schema() as update:
        update.add_column("venue_number", LongType())
        update.rename_column("trade_conditions", "conditions")
    commits_before = rows_of(catalog)
    compactor.run()
    assert rows_of(catalog).equals(commits_before)
    assert rows_of(catalog).column("venue_number").null_count == 30
    assert rows_of(catalog).column("conditions").null_count == 0


def test_a_scratch_directory_without_room_is_told_before_anything_is_written(catalog, tmp_path, monkeypatch):
    commits(catalog, *tens(0, 50))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(UserError, match="Too little room to sort"):
        Compactor(catalog, TRADES, MIB, tmp_path / "s", rows_at_once=10).run()
    assert_no_orphans(catalog, tmp_path)


def test_a_table_of_another_kind_is_refused(catalog, tmp_path):
    catalog.create_table("market_data.other", pa.schema([("n", pa.int64())]))
    with pytest.raises(UserError, match="no table of market data"):
        Compactor(catalog, "market_data.other", MIB, tmp_path).chosen()


def on_disk(folder):
    return [f"file://{path}" for path in (folder / "warehouse").rglob("*.parquet")]


def assert_no_orphans(catalog, folder):
    """Every data file in the folder is one that the table has."""
    table = catalog.load_table(TRADES)
    known = {
        entry.data_file.file_path
        for snapshot in table.metadata.snapshots
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    }
    assert set(on_disk(folder)) == known


def test_others_who_commit_each_time_make_it_give_up_and_leave_nothing(catalog, tmp_path, monkeypatch):
    commits(catalog, *tens(0, 50))
    monkeypatch.setattr(committing, "TRIES", 3)

    def beaten(*_, **__):
        raise CommitFailedException("another was quicker")

    monkeypatch.setattr(committing, "replace_files", beaten)
    done = Compactor(catalog, TRADES, MIB, tmp_path / "s").run()
    assert done.overtaken == ("timestamp_day=2014-03-09",)
    assert_no_orphans(catalog, tmp_path)


def test_ties_stay_in_the_order_of_their_topic(catalog, compactor):
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in range(0, 40, 10):
        offsets = range(start, start + 10)
        events = trades(
            [message_id(offset) for offset in offsets],
            symbols=["BHP"] * 10,
            times=[START_US] * 10,
            trade_ids=[f"T{offset}" for offset in offsets],
            sequence=[None] * 10,
        )
        committer.commit(Batch(with_lineage(events, [0] * 10, offsets), {0: (start, start + 10)}, {}))
    compactor.run()
    (file,) = data_files(catalog.load_table(TRADES))
    offsets = pq.read_table(file.file_path.removeprefix("file://"))["kafka_offset"].to_numpy()
    assert (np.diff(offsets) == 1).all()


@pytest.fixture
def command(catalog, tmp_path, monkeypatch):
    """`k2 upkeep compact` over the test's table."""
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    structlog_to_logging()  # as the command's entry point does: its output is no log's
    yield lambda *options: CliRunner().invoke(app, ["upkeep", "compact", "--table", TRADES, *options])
    structlog.reset_defaults()


def test_the_command_shows_what_it_would_do_and_then_what_it_did(catalog, command):
    commits(catalog, *tens(0, 50))
    commits(catalog, (50, 60), day=1)
    plan = command("--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "timestamp_day=2014-03-09: 5 files of 0.0 MiB with 50 rows would become 1\n" in plan.stdout
    assert "1 file left: as few as can be; nothing was done" in plan.stdout
    assert len(data_files(catalog.load_table(TRADES))) == 6
    done = command("--output", "json")
    told = json.loads(done.stdout)
    assert [(each["files_before"], each["files_after"], each["rows"]) for each in told["groups"]] == [(5, 1, 50)]
    assert command().stdout == f"{TRADES}: 0 partitions compacted, 0 files became 0; 2 files left: as few as can be\n"


def test_the_command_takes_what_a_cron_job_of_the_operator_gives_it(command):
    made = command("--target-file-bytes", str(64 * MIB))
    assert made.exit_code == 0, made.output
    assert "0 partitions compacted" in made.stdout
