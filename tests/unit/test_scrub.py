"""The scrub finds what is not as it was written, goes on where it was stopped, and outlives a file that ends its reader."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.committed import ORIGIN, batch
from k2_testing.deadly_io import DEADLY, DeadlyIO
from k2_testing.lake import TRADES, catalog_properties, make_lake
from typer.testing import CliRunner

from k2.cli import app
from k2.cli_upkeep.options import bytes_a_second
from k2.lake.appends.commit import Committer
from k2.lake.offsets import OffsetMap, PartitionOffsets, TopicOffsets
from k2.lake.proof.deep import DeepFinding, Proof, WantedFile
from k2.lake.upkeep.apart import ReadApart, Throttle
from k2.lake.upkeep.held import HeldRange, held_ranges, joined_ranges
from k2.lake.upkeep.orphans import remove_orphans
from k2.lake.upkeep.scrub import FOLDER, Scrubber, all_files, known_damaged
from k2.lake.upkeep_runs import last_runs
from k2.model.errors import StoreError, UserError
from k2.model.topics import DataType
from k2.obs.logging import structlog_to_logging

DAY_US = 86_400_000_000


@pytest.fixture
def catalog(tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in (0, 50, 100):
        committer.commit(batch(start, start + 50))
    return catalog


@pytest.fixture
def paths(catalog):
    """The data files, by the offsets that they begin with."""
    table = catalog.load_table(TRADES)
    files = all_files(table).values()
    by_start = sorted(
        files, key=lambda file: held_ranges(table, OffsetMap.from_json(table.properties["k2.offsets"]), file)[0].start
    )
    return [Path(file.file_path.removeprefix("file://")) for file in by_start]


def flip(path, at=-20):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_is_damaged_is_told_with_the_offsets_that_it_held_until_it_is_mended(catalog, paths):
    whole = paths[1].read_bytes()
    flip(paths[1])
    paths[2].rename(paths[2].with_suffix(".away"))
    found = Scrubber(catalog, TRADES).run()
    assert (found.ok, found.files, found.checked, found.fresh, found.unread) == (False, 3, 2, 0, 0)
    by_problem = {each.problem: each for each in found.damaged}
    assert set(by_problem) == {"damaged", "missing"}
    assert by_problem["damaged"].offsets == (f"{ORIGIN.topic}/0 50-99",)
    assert by_problem["missing"].offsets == (f"{ORIGIN.topic}/0 100-149",)
    assert (by_problem["missing"].rows, by_problem["missing"].partition) == (50, "timestamp_day=2014-03-09")
    assert len(known_damaged(catalog.load_table(TRADES))) == 2
    paths[1].write_bytes(whole)
    paths[2].with_suffix(".away").rename(paths[2])
    # What was well is left for its time; what was damaged is looked at each time.
    mended = Scrubber(catalog, TRADES, older_than_us=DAY_US).run()
    assert (mended.ok, mended.checked, mended.fresh) == (True, 2, 1)
    assert known_damaged(catalog.load_table(TRADES)) == {}


def test_a_run_that_is_stopped_is_gone_on_with_and_the_oldest_check_comes_first(catalog, paths):
    stop = threading.Event()
    first = Scrubber(catalog, TRADES, older_than_us=DAY_US, progress=lambda *_: stop.set(), stop=stop).run()
    assert (first.checked, first.fresh, first.unread, first.oldest_us) == (1, 0, 2, None)
    second = Scrubber(catalog, TRADES, older_than_us=DAY_US).run()
    assert (second.checked, second.fresh, second.unread) == (2, 1, 0)
    again = [each.path for each in Scrubber(catalog, TRADES).due()]
    assert set(again[1:]) == {each.path for each in Scrubber(catalog, TRADES).due()[1:]}
    (state,) = (Path(catalog.load_table(TRADES).location().removeprefix("file://")) / FOLDER).iterdir()
    checked = json.loads(state.read_text())["checked"]
    assert again == sorted(checked, key=checked.get)
    # A pod that was killed while it wrote: the state is begun anew, nothing else is wrong.
    state.write_text(state.read_text()[:50])
    assert len(Scrubber(catalog, TRADES, older_than_us=DAY_US).due()) == 3


def test_a_file_that_ends_its_reader_is_damaged_and_the_others_are_read(tmp_path):
    names = ("good-1", "deadly", "good-2")
    for name in names:
        (tmp_path / name).write_bytes(b"some bytes")
    import hashlib

    digest = hashlib.sha256(b"some bytes").digest()
    properties = {"py-io-impl": f"{DeadlyIO.__module__}.{DeadlyIO.__name__}", DEADLY: "/deadly"}
    with ReadApart(properties, f"file://{tmp_path}", 0, threading.Event()) as apart:
        found = [apart.verify(WantedFile(name, f"file://{tmp_path}/{name}", 10, digest, None)) for name in names]
        assert found[0] == DeepFinding("good-1", Proof.DIGEST)
        assert (found[1].problem, found[1].where) == (
            Proof.DAMAGED,
            "reading it ends the process that does (SIGKILL)",
        )
        assert found[2] == DeepFinding("good-2", Proof.DIGEST)
        with pytest.raises(StoreError, match="could not be read"):
            apart.verify(WantedFile("gone", f"file://{tmp_path}/gone", 10, digest, None))


@given(st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 3)), min_size=1, max_size=40), st.integers(10**5, 10**7))
def test_no_more_is_read_than_the_rate_says(reads, rate):
    now, read, began = [100.0], 0, 100.0

    def wait(seconds):
        now[0] += seconds

    throttle = Throttle(rate, clock=lambda: now[0], wait=wait)
    for size, between in reads:
        throttle(size)
        read += size
        assert now[0] - began >= read / rate - 1e-6
        now[0] += between


@pytest.mark.parametrize(
    ("text", "expected"), [("50MB/s", 5e7), ("0", 0), ("1.5 GiB/s", 1.5 * 2**30), ("200k", 2e5), ("7B/s", 7)]
)
def test_rates_are_read_as_people_write_them(text, expected):
    assert bytes_a_second(text) == expected


def test_what_is_no_rate_is_said():
    with pytest.raises(UserError, match="no rate"):
        bytes_a_second("fast")


def test_bounds_tell_which_offsets_a_file_may_have_held(catalog):
    table = catalog.load_table(TRADES)
    recorded = OffsetMap.from_json(table.properties["k2.offsets"])
    starts = {held_ranges(table, recorded, file)[0].start for file in all_files(table).values()}
    assert starts == {0, 50, 100}
    another = recorded.with_topic("market.other", TopicOffsets("zzz", "c", {0: PartitionOffsets(0, 500)}))
    file = next(iter(all_files(table).values()))
    assert [each.topic for each in held_ranges(table, another, file)] == [ORIGIN.topic]
    file.lower_bounds.clear()
    file.upper_bounds.clear()
    assert held_ranges(table, another, file) == (
        HeldRange(ORIGIN.topic, ORIGIN.topic_id, 0, 0, 150),
        HeldRange("market.other", "zzz", 0, 0, 500),
    )


def test_ranges_that_meet_are_one():
    def of(partition, start, stop):
        return HeldRange("t", "id", partition, start, stop)

    assert joined_ranges([of(0, 10, 20), of(1, 5, 6), of(0, 0, 10), of(0, 30, 31)]) == (
        of(0, 0, 20),
        of(0, 30, 31),
        of(1, 5, 6),
    )


def test_the_command_tells_the_table_and_ends_with_1_and_orphans_leave_what_it_keeps(
    catalog, paths, tmp_path, monkeypatch
):
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(tmp_path)))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    flip(paths[0])
    structlog_to_logging()
    try:
        dry = CliRunner().invoke(app, ["upkeep", "scrub", "--table", TRADES, "--dry-run"])
        done = CliRunner().invoke(app, ["upkeep", "scrub", "--table", TRADES, "--rate", "1GB/s"])
    finally:
        structlog.reset_defaults()
    assert dry.stdout.startswith(f"{TRADES}: 3 files of 0.0 MiB would be read")
    assert done.exit_code == 1, done.output
    assert f"  among {ORIGIN.topic}/0 0-49\n" in done.stdout
    assert f"k2 upkeep restore --table {TRADES} --all-damaged" in done.stdout
    run = last_runs(catalog.load_table(TRADES).metadata)["scrub"]
    assert (run.figures["files"], run.figures["checked"], run.figures["damaged"], run.figures["damaged_rows"]) == (
        3,
        3,
        1,
        50,
    )
    assert run.figures["named"][0].endswith(".parquet (damaged)")
    folder = Path(catalog.load_table(TRADES).location().removeprefix("file://"))
    then = time.time() - 10 * 86_400
    for path in folder.rglob("*"):
        os.utime(path, (then, then))
    assert remove_orphans(catalog, TRADES, DAY_US, 0).noted == ()
