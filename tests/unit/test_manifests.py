"""Manifests written anew, and old metadata files that go: the table says the same afterwards, in fewer files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import structlog
from k2_testing.committed import ORIGIN, batch
from k2_testing.deleting import data_files, delete_positions
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, catalog_properties, held, make_lake
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.snapshots import Operation
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer
from k2.lake.digest import digest_of
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import audit_table
from k2.lake.proof.deep import audit_deep
from k2.lake.upkeep import manifests as manifests_module
from k2.lake.upkeep.manifests import rewrite_manifests, small_manifests
from k2.lake.upkeep.orphans import OLD_METADATA, remove_orphans
from k2.lake.upkeep.replacing import UnequalError, live_files
from k2.model.errors import UserError, WorldError
from k2.model.times import DAY_US
from k2.model.topics import DataType
from k2.obs.logging import structlog_to_logging

COMMITS = 14


def commit_days(catalog, numbers):
    """Ten trades a commit, of two days that take turns."""
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for number in numbers:
        offsets = range(10 * number, 10 * number + 10)
        events = trades(
            [message_id(offset) for offset in offsets],
            symbols=["BHP"] * 10,
            times=[START_US + number % 2 * DAY_US + offset * 1000 for offset in offsets],
            trade_ids=[f"T{offset}" for offset in offsets],
        )
        committer.commit(Batch(with_lineage(events, [0] * 10, offsets), {0: (offsets[0], offsets[-1] + 1)}, {}))


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    commit_days(catalog, range(COMMITS))
    return catalog


def manifests_of(catalog):
    table = catalog.load_table(TRADES)
    return table.current_snapshot().manifests(table.io)


def entries_of(catalog):
    table = catalog.load_table(TRADES)
    return {
        entry.data_file.file_path: (
            entry.snapshot_id,
            entry.sequence_number,
            entry.file_sequence_number,
            digest_of(entry.data_file),
        )
        for manifest in manifests_of(catalog)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    }


def test_many_manifests_become_few_that_say_the_same(catalog):
    before, offsets = entries_of(catalog), recorded_offsets(catalog.load_table(TRADES))
    done = rewrite_manifests(catalog, TRADES)
    assert (done.before, done.after, done.entries, done.tries) == (COMMITS, 1, COMMITS, 1)
    assert entries_of(catalog) == before
    table = catalog.load_table(TRADES)
    snapshot = table.current_snapshot()
    assert (snapshot.snapshot_id, snapshot.summary.operation) == (done.snapshot_id, Operation.REPLACE)
    assert snapshot.summary["manifests-replaced"] == str(COMMITS)
    assert (snapshot.summary["total-records"], snapshot.summary["total-data-files"]) == ("140", str(COMMITS))
    assert recorded_offsets(table) == offsets
    commit_days(catalog, [COMMITS])
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 150}}).ok
    assert audit_deep(catalog.load_table(TRADES)).by_digest == COMMITS + 1


def test_they_are_cut_by_partition(catalog):
    table = catalog.load_table(TRADES)
    size = sum(each.manifest_length for each in manifests_of(catalog))
    table.transaction().set_properties({"commit.manifest.target-size-bytes": str(size // 2 + 1)}).commit_transaction()
    rewrite_manifests(catalog, TRADES)
    found = manifests_of(catalog)
    assert len(found) == 2
    for manifest in found:
        days = {entry.data_file.partition[0] for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)}
        assert len(days) == 1


def test_few_manifests_stay_and_a_second_run_has_nothing_to_do(catalog):
    assert rewrite_manifests(catalog, TRADES).entries == COMMITS
    again = rewrite_manifests(catalog, TRADES)
    assert (again.before, again.after, again.entries, again.snapshot_id) == (1, 1, 0, None)


def test_a_run_takes_no_more_than_it_may(catalog):
    done = rewrite_manifests(catalog, TRADES, most_entries=manifests_module.LEAST)
    assert (done.before, done.after, done.entries) == (COMMITS, COMMITS - manifests_module.LEAST + 1, 10)


def test_delete_manifests_of_another_engine_stay_and_still_apply(catalog):
    table = catalog.load_table(TRADES)
    first = data_files(table)[0]
    delete_positions(table, [(first.file_path, 0)], first)
    before = held(catalog)
    assert before.total() == 139
    assert rewrite_manifests(catalog, TRADES).entries == COMMITS
    assert held(catalog) == before


def test_a_sink_that_is_quicker_costs_another_try(catalog, monkeypatch):
    real, commits = manifests_module.guard, iter([COMMITS, COMMITS + 1])

    def after_a_commit(table):
        real(table)
        for number in commits:
            commit_days(catalog, [number])
            return

    monkeypatch.setattr(manifests_module, "guard", after_a_commit)
    done = rewrite_manifests(catalog, TRADES)
    assert (done.tries, done.entries) == (3, COMMITS + 2)
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 160}}).ok


def test_others_who_commit_each_time_leave_it_undone(catalog, monkeypatch):
    def refused(*_):
        raise CommitFailedException("another was quicker")

    monkeypatch.setattr(manifests_module, "_replace", refused)
    with pytest.raises(WorldError, match="each of 40 times: its manifests stay as they are"):
        rewrite_manifests(catalog, TRADES)


def test_a_difference_never_commits_and_leaves_nothing(catalog, monkeypatch):
    current = catalog.load_table(TRADES).metadata.current_snapshot_id
    folder = Path(catalog.load_table(TRADES).location().removeprefix("file://"))
    before = {path for path in folder.rglob("*") if path.is_file()}
    real = manifests_module._in_order
    monkeypatch.setattr(manifests_module, "_in_order", lambda entries: real(entries)[1:])
    real_counter = manifests_module._identity
    counted = iter(range(10**6))
    # What is read back differs from what was read, as when a writer drops a bound.
    monkeypatch.setattr(manifests_module, "_identity", lambda entry: (next(counted), real_counter(entry)))
    with pytest.raises(UnequalError, match="entries would differ"):
        rewrite_manifests(catalog, TRADES)
    assert catalog.load_table(TRADES).metadata.current_snapshot_id == current
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_a_size_that_is_none_is_said(catalog):
    table = catalog.load_table(TRADES)
    table.transaction().set_properties({"commit.manifest.target-size-bytes": "huge"}).commit_transaction()
    with pytest.raises(UserError, match="is no size"):
        small_manifests(catalog.load_table(TRADES))


def test_metadata_files_that_the_log_does_not_name_go_in_two_steps(catalog, tmp_path, aged):
    table = catalog.load_table(TRADES)
    folder = Path(table.location().removeprefix("file://")) / "metadata"
    current = Path(table.metadata_location.removeprefix("file://")).read_bytes()
    (folder / "00000-failed.metadata.json").write_bytes(current)
    (folder / "00001-zipped.gz.metadata.json").write_bytes(gzip.compress(current))
    (folder / "00002-others.metadata.json").write_text(json.dumps({"table-uuid": "of another table"}))
    (folder / "00003-broken.metadata.json").write_text("{")
    (folder.parent / "data/stray.parquet").write_bytes(b"an orphan of another kind")
    aged(folder.parent)
    kept = {path.name for path in folder.iterdir()}
    noted = remove_orphans(catalog, TRADES, DAY_US, 0, kind=OLD_METADATA)
    gone = {"00000-failed.metadata.json", "00001-zipped.gz.metadata.json"}
    assert {Path(file.path).name for file in noted.noted} == gone
    assert json.loads(Path(noted.list_path.removeprefix("file://")).read_text())["reason"].startswith("metadata that")
    done = remove_orphans(catalog, TRADES, DAY_US, 0, kind=OLD_METADATA)
    assert (done.emptied.deleted, done.noted) == (2, ())
    assert {path.name for path in folder.iterdir() if path.is_file()} == kept - gone
    assert len(live_files(catalog.load_table(TRADES))) == COMMITS


@pytest.fixture
def aged():
    import os
    import time

    def age(folder):
        then = time.time() - 10 * 86_400
        for path in folder.rglob("*"):
            if path.is_file():
                os.utime(path, (then, then))

    return age


def test_the_command_says_what_it_did(catalog, tmp_path, monkeypatch):
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    structlog_to_logging()
    try:
        dry = CliRunner().invoke(app, ["upkeep", "metadata", "--table", TRADES, "--dry-run"])
        done = CliRunner().invoke(app, ["upkeep", "metadata", "--table", TRADES])
        told = CliRunner().invoke(app, ["upkeep", "metadata", "--table", TRADES, "--output", "json"])
    finally:
        structlog.reset_defaults()
    expected = (
        f"{TRADES}: {COMMITS} manifests {{}} 1, {COMMITS} entries written anew; 0 files noted, 0 of 0.0 MiB deleted"
    )
    assert dry.stdout == expected.format("would become") + "; nothing was done\n"
    assert done.stdout == expected.format("became") + "\n"
    assert json.loads(told.stdout)["manifests"]["entries"] == 0


def test_an_empty_table_has_nothing_to_do(tmp_path):
    catalog = make_lake(tmp_path)
    done = rewrite_manifests(catalog, TRADES)
    assert (done.before, done.after, done.entries) == (0, 0, 0)
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 10))
    assert rewrite_manifests(catalog, TRADES).before == 1
