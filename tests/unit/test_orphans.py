"""Files that nothing refers to are noted, and deleted by a later run: exactly those, whatever else lies in a table's folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from k2_testing.committed import ORIGIN, batch
from k2_testing.deleting import data_files, delete_positions
from k2_testing.lake import TRADES, catalog_properties, make_lake
from pyiceberg.table.statistics import StatisticsFile
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.appends.commit import Committer
from k2.lake.proof.audit import audit_table
from k2.lake.snapshots import trim_snapshots
from k2.lake.upkeep import orphans
from k2.lake.upkeep.compact import Compactor
from k2.lake.upkeep.expire import expire, expire_with_files
from k2.lake.upkeep.orphans import remove_orphans
from k2.lake.upkeep.referred import keys_of
from k2.model.errors import StoreError, UserError
from k2.model.topics import DataType
from k2.obs.logging import structlog_to_logging

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in range(0, 50, 10):
        committer.commit(batch(start, start + 10))
    return catalog


@pytest.fixture
def folder(catalog):
    return Path(catalog.load_table(TRADES).location().removeprefix("file://"))


def aged(path, days=10.0):
    """The file, as old as that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"planted")
    at = time.time() - days * 86_400
    os.utime(path, (at, at))
    return path


def age_all(folder, days=10.0):
    for path in folder.rglob("*"):
        if path.is_file():
            aged(path, days)


def run(catalog, **options):
    return remove_orphans(catalog, TRADES, 3 * DAY_US, options.pop("delay_us", 0), **options)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def planted(folder):
    """Files that nothing refers to, of every kind, old enough."""
    return {
        str(aged(folder / name).relative_to(folder))
        for name in (
            "data/timestamp_day=2014-03-09/11111111.parquet",
            "data/deletes-1.parquet",
            "data/stats-1.puffin",
            "metadata/00000-old.metadata.json",
            "metadata/snap-1-old.avro",
            "metadata/old-m0.avro",
            "data/a b%41/%2525.parquet",
            "stray.txt",
        )
    }


def test_exactly_what_nothing_refers_to_is_noted_and_goes_with_the_next_run(catalog, folder):
    table = catalog.load_table(TRADES)
    first = data_files(table)[0]
    delete_positions(table, [(first.file_path, 0)], first)
    kept = files(folder)
    age_all(folder)
    lost = planted(folder)
    noted = run(catalog)
    assert {str(Path(file.path).relative_to(folder)) for file in noted.noted} == lost
    assert (noted.emptied.deleted, noted.young) == (0, 0)
    assert files(folder) >= kept | lost, "the first run deletes nothing"
    gone = run(catalog)
    assert (gone.emptied.deleted, gone.noted) == (len(lost), ())
    assert files(folder) == kept
    assert audit_table(catalog.load_table(TRADES), {}).deleted == 1
    again = run(catalog)
    assert (again.emptied.deleted, again.noted) == (0, ())


def test_a_list_can_be_read_and_undone(catalog, folder):
    planted(folder)
    noted = run(catalog)
    listed = Path(noted.list_path.removeprefix("file://"))
    content = json.loads(listed.read_text())
    assert content["table"] == TRADES
    assert "before the next run" in content["undo"]
    spared = content["files"].pop()
    listed.write_text(json.dumps(content))
    run(catalog)
    assert Path("/" + spared["path"].lstrip("/")).exists()
    listed.write_text("{")
    with pytest.raises(StoreError, match=r"cannot be read.*Mend it, or delete it"):
        run(catalog)


def test_what_is_noted_waits_for_its_time(catalog, folder):
    lost = planted(folder)
    run(catalog)
    early = run(catalog, delay_us=HOUR_US)
    assert (early.emptied.deleted, early.noted, early.waiting) == (0, (), len(lost))
    assert files(folder) >= lost


def test_a_dry_run_says_both_and_does_neither(catalog, folder):
    lost = planted(folder)
    before = files(folder)
    assert len(run(catalog, dry_run=True).noted) == len(lost)
    assert files(folder) == before
    run(catalog)
    before = files(folder)
    told = run(catalog, dry_run=True)
    assert (told.emptied.deleted, told.emptied.bytes) == (len(lost), 7 * len(lost))
    assert files(folder) == before


def test_young_files_and_those_of_unknown_age_stay(catalog, folder, monkeypatch):
    aged(folder / "data/young.parquet", days=2.9)
    assert (run(catalog).noted, run(catalog).young) == ((), 1)
    old = aged(folder / "data/old.parquet")
    real = orphans.Folder.files

    def without_times(self, below=""):
        return [orphans.StoredFile(file.path, file.bytes, None) for file in real(self, below)]

    monkeypatch.setattr(orphans.Folder, "files", without_times)
    assert run(catalog).noted == ()
    run(catalog)
    assert old.exists()


def test_a_noted_file_that_is_written_again_or_referred_to_stays(catalog, folder):
    again, lost = aged(folder / "data/again.parquet"), aged(folder / "data/lost.parquet")
    run(catalog)
    again.write_bytes(b"another")
    table = catalog.load_table(TRADES)
    statistics = StatisticsFile(
        **{"snapshot-id": table.current_snapshot().snapshot_id, "statistics-path": f"file://{lost}"},
        **{"file-size-in-bytes": 7, "file-footer-size-in-bytes": 1, "blob-metadata": []},
    )
    with table.update_statistics() as update:
        update.set_statistics(statistics)
    done = run(catalog)
    assert (done.emptied.deleted, done.emptied.kept) == (0, 2)
    assert again.exists()
    assert lost.exists()


def test_statistics_and_the_log_of_metadata_are_referred_to(catalog, folder):
    table = catalog.load_table(TRADES)
    path = aged(folder / "metadata/kept.stats")
    statistics = StatisticsFile(
        **{"snapshot-id": table.current_snapshot().snapshot_id, "statistics-path": f"file://{path}"},
        **{"file-size-in-bytes": 7, "file-footer-size-in-bytes": 1, "blob-metadata": []},
    )
    with table.update_statistics() as update:
        update.set_statistics(statistics)
    age_all(folder)
    assert run(catalog).noted == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket//a//b.parquet", "bucket/a/b.parquet"),
        ("file:///w/a%20b/c.parquet", "/w/a b/c.parquet"),
        ("file:/w/./c.parquet", "/w/c.parquet"),
        ("/w/x=%2541/c.parquet", "file:///w/x=%41/c.parquet"),
    ],
)
def test_paths_that_may_be_the_same_file_are_taken_for_it(one, other):
    assert set(keys_of(one)) & set(keys_of(other))


def test_a_folder_that_holds_another_table_is_left_alone(catalog, folder):
    lost = planted(folder)
    other = aged(folder / "nested/other/metadata/00000-x.metadata.json")
    with pytest.raises(UserError, match=r"another table lies in its folder.*00000-x\.metadata\.json"):
        run(catalog)
    assert files(folder) >= lost
    shutil.rmtree(other.parents[2])
    assert len(run(catalog).noted) == len(lost)


def test_a_table_whose_files_lie_elsewhere_too_is_left_alone(catalog, folder, tmp_path):
    table = catalog.load_table(TRADES)
    table.transaction().set_properties({"write.data.path": f"file://{tmp_path}/elsewhere"}).commit_transaction()
    Committer(catalog, TRADES, ORIGIN, DataType.TRADES).commit(batch(50, 60))
    planted(folder)
    with pytest.raises(UserError, match="some lie outside of its folder"):
        run(catalog)


def test_a_manifest_that_cannot_be_read_stops_it(catalog, folder):
    planted(folder)
    table = catalog.load_table(TRADES)
    manifest = table.current_snapshot().manifests(table.io)[0].manifest_path
    Path(manifest.removeprefix("file://")).write_bytes(b"broken")
    with pytest.raises(StoreError, match=r"A manifest of market_data\.trades cannot be read"):
        run(catalog)


def test_small_files_go_after_compaction_and_expiry_and_the_table_is_well(catalog, folder, tmp_path):
    Compactor(catalog, TRADES, 1 << 20, tmp_path / "scratch").run()
    small = {path for path in files(folder) if path.endswith(".parquet")}
    assert len(small) == 6
    later = datetime.now(UTC) + timedelta(days=8)
    done = expire(catalog, TRADES, 1, timedelta(days=7), later)
    assert (done.expired, done.kept) == (5, 1)
    age_all(folder)
    run(catalog)
    assert run(catalog).emptied.deleted > 0
    table = catalog.load_table(TRADES)
    assert audit_table(table, {ORIGIN.topic: {0: 50}}).ok
    for snapshot in table.metadata.snapshots:
        assert len(table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()) == 50


def test_expiry_notes_the_files_that_only_the_expired_had_and_a_later_run_deletes_them(catalog, folder, tmp_path):
    Compactor(catalog, TRADES, 1 << 20, tmp_path / "scratch").run()
    week, later = timedelta(days=7), datetime.now(UTC) + timedelta(days=8)
    done = expire_with_files(catalog, TRADES, 1, week, timedelta(days=1), later)
    assert (done.expired, done.emptied.deleted) == (5, 0)
    assert done.noted > 4
    before = files(folder)
    early = expire_with_files(catalog, TRADES, 1, week, timedelta(days=1), later + timedelta(hours=23))
    assert (early.expired, early.noted, early.emptied.deleted) == (0, 0, 0)
    assert files(folder) >= before
    last = expire_with_files(catalog, TRADES, 1, week, timedelta(days=1), later + timedelta(hours=25))
    assert last.emptied.deleted == done.noted
    table = catalog.load_table(TRADES)
    assert audit_table(table, {ORIGIN.topic: {0: 50}}).ok
    for snapshot in table.metadata.snapshots:
        assert len(table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()) == 50


@pytest.fixture
def command(catalog, tmp_path, monkeypatch):
    """`k2 upkeep` over the test's table."""
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    structlog_to_logging()  # as the command's entry point does: its output is no log's
    yield lambda task, *options: CliRunner().invoke(app, ["upkeep", task, "--table", TRADES, *options])
    structlog.reset_defaults()


def test_the_commands_say_what_they_found_and_did(command, folder):
    lost = planted(folder)
    told = command("orphans", "--dry-run", "--older-than-seconds", "259200")
    assert told.exit_code == 0, told.output
    assert told.stdout.count("would be noted: ") == len(lost)
    assert told.stdout.endswith("; nothing was done\n")
    noted = command("orphans", "--delete-after-seconds", "0")
    assert f"; {len(lost)} files noted in file://" in noted.stdout
    done = json.loads(command("orphans", "--delete-after-seconds", "0", "--output", "json").stdout)
    assert done["emptied"] == {"deleted": len(lost), "bytes": 7 * len(lost), "kept": 0}
    expired = command("expire", "--retain-last", "1", "--older-than-seconds", "3600")
    assert expired.stdout == f"{TRADES}: 0 snapshots expired, 5 stay; 0 files noted, 0 of 0.0 MiB deleted\n"
    assert (
        command("expire", "--dry-run").stdout == f"{TRADES}: 0 snapshots would be expired, 5 stay; nothing was done\n"
    )


def test_expiry_keeps_the_newest_the_young_and_what_is_held(catalog):
    table = catalog.load_table(TRADES)
    ids = [snapshot.snapshot_id for snapshot in sorted(table.metadata.snapshots, key=lambda each: each.sequence_number)]
    table.manage_snapshots().create_tag(ids[0], "mine").commit()
    now = datetime.now(UTC)
    assert expire(catalog, TRADES, 1, timedelta(days=7), now).expired == 0, "all are young"
    later = now + timedelta(days=8)
    told = expire(catalog, TRADES, 2, timedelta(days=7), later, dry_run=True)
    assert (told.expired, told.kept) == (2, 3)
    assert len(catalog.load_table(TRADES).metadata.snapshots) == 5
    done = expire(catalog, TRADES, 2, timedelta(days=7), later)
    left = {snapshot.snapshot_id for snapshot in catalog.load_table(TRADES).metadata.snapshots}
    assert (done.expired, left) == (2, {ids[0], ids[3], ids[4]})
    trim_snapshots(catalog.load_table(TRADES), 300, later)
    assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 50}}).ok
