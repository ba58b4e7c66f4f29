"""Upkeep that is killed at any step: the table reads as before, the next run does the work, and what leaked is found.

A kill is seen from the store and the catalog: up to some step everything has happened there, and nothing afterwards. So no clean-up of the
process that was killed happens either, as it would not after SIGKILL.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.extent import sized
from k2_testing.lake import TRADES, make_lake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from k2.lake.appends.commit import Committer
from k2.lake.proof.audit import audit_table
from k2.lake.upkeep import manifests
from k2.lake.upkeep.compact import Compactor
from k2.lake.upkeep.expire import expire_with_files
from k2.lake.upkeep.manifests import rewrite_manifests
from k2.lake.upkeep.noted import FOLDER as NOTED
from k2.lake.upkeep.noted import lists_of
from k2.lake.upkeep.orphans import remove_orphans
from k2.lake.upkeep.referred import Folder, referred_files
from k2.lake.upkeep.replacing import live_files
from k2.lake.upkeep.restore import Restorer
from k2.lake.upkeep.scrub import Scrubber
from k2.model.topics import DataType

DAY_US = 86_400_000_000
COMMITS = 4
MOST_STEPS = 40


class KilledError(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(step):
    """Nothing reaches store or catalog from the step (a number, from 0 on) on; gives the list of steps that were taken."""
    taken = []

    def counted(real, name):
        def done(self, *arguments, **named):
            if len(taken) >= step:
                raise KilledError
            taken.append(name)
            return real(self, *arguments, **named)

        return done

    with pytest.MonkeyPatch.context() as patch:
        for kind, name in (
            (PyArrowFile, "create"),
            (PyArrowFileIO, "delete"),
            (Folder, "delete"),
            (SqlCatalog, "commit_table"),
        ):
            patch.setattr(kind, name, counted(getattr(kind, name), f"{kind.__name__}.{name}"))
        yield taken


class SameTopic:
    """The topic that the lake's rows came from."""

    def there(self, topic, topic_id):
        return {0: (0, 10 * COMMITS)}

    def rows(self, wanted, rules):
        yield batch(wanted.start, wanted.stop).rows


def compact(catalog, folder):
    Compactor(catalog, TRADES, 1 << 20, folder / "scratch").run()


def expire(catalog, folder):
    expire_with_files(catalog, TRADES, 1, timedelta(days=7), timedelta(0), datetime.now(UTC) + timedelta(days=8))


def orphans(catalog, folder):
    remove_orphans(catalog, TRADES, DAY_US, 0)


def metadata(catalog, folder):
    rewrite_manifests(catalog, TRADES)


def restore(catalog, folder):
    restorer = Restorer(catalog, TRADES, SameTopic())
    restorer.run(restorer.damaged())


def scrub(catalog, folder):
    Scrubber(catalog, TRADES).run()


def age(folder):
    then = time.time() - 10 * 86_400
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def rows_of(catalog):
    return catalog.load_table(TRADES).scan().to_arrow().sort_by("kafka_offset").combine_chunks()


def prepared(folder, task):
    """A lake in which the task has something to do, and its rows."""
    folder.mkdir(exist_ok=True)
    catalog = make_lake(folder)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in range(0, 10 * COMMITS, 10):
        committer.commit(batch(start, start + 10))
    before = rows_of(catalog)
    if task is expire:
        compact(catalog, folder)
    if task is orphans:
        stray = folder_of(catalog) / "data/stray.parquet"
        stray.write_bytes(b"stray")
        age(folder_of(catalog))
        orphans(catalog, folder)
    if task is restore:
        Path(min(live_files(catalog.load_table(TRADES))).removeprefix("file://")).unlink()
    return catalog, before


def folder_of(catalog):
    return Path(catalog.load_table(TRADES).location().removeprefix("file://"))


def leaked(catalog):
    """Files that nothing refers to and that are on no list, but for K2's own."""
    table = catalog.load_table(TRADES)
    referred, own, folder = referred_files(table), (f"/{NOTED}/", "/metadata/k2-scrub/"), Folder.of(table)
    listed = {file.path for each in lists_of(table, folder) for file in each.files}
    return {
        file.path
        for file in folder.files()
        if file.path not in referred and file.path not in listed and not any(each in file.path for each in own)
    }


def steps_to_try(total):
    """All of them, or some that lie far apart, the first and the last among them."""
    few = sized(4, MOST_STEPS)
    return sorted(
        {round(number * total / max(1, few - 1)) for number in range(few)} if total >= few else range(total + 1)
    )


@pytest.mark.parametrize("task", [compact, expire, orphans, metadata, restore, scrub], ids=lambda task: task.__name__)
def test_a_run_that_is_killed_at_any_step_harms_nothing_and_the_next_one_does_its_work(tmp_path, monkeypatch, task):
    monkeypatch.setattr(manifests, "LEAST", 3)
    catalog, _ = prepared(whole := tmp_path / "whole", task)
    with killed_at(MOST_STEPS) as taken:
        task(catalog, whole)
    assert 0 < len(taken) < MOST_STEPS
    for step in steps_to_try(len(taken) - 1):
        folder = tmp_path / str(step)
        catalog, before = prepared(folder, task)
        with killed_at(step), suppress(KilledError):
            task(catalog, folder)
            pytest.fail("it was not killed")
        if task is not restore:
            assert rows_of(catalog).equals(before), f"after {taken[:step]}"
        task(catalog, folder)
        assert rows_of(catalog).equals(before), f"done again after {taken[:step]}"
        assert audit_table(catalog.load_table(TRADES), {ORIGIN.topic: {0: 10 * COMMITS}}).ok
        age(folder_of(catalog))
        orphans(catalog, folder)
        orphans(catalog, folder)
        assert leaked(catalog) == set(), f"after {taken[:step]}"


def test_the_control_leaks(tmp_path):
    """What the test above looks for is there before orphans are removed."""
    catalog, _ = prepared(tmp_path, compact)
    with killed_at(4), suppress(KilledError):
        compact(catalog, tmp_path)
    assert leaked(catalog)
