"""The samples' upkeep on this machine: `k2 up` runs the compaction of its schedule, and the table tells what it came to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.sinks import eventually

from k2.lake.appends.commit import Committer
from k2.lake.layout import LookFor, layouts
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.topics import DataType
from k2_local import manifests
from k2_local.pods.executor import Executor
from k2_operator.build import cronjob
from k2_operator.plan.planning import plan
from k2_operator.report import table_figures

SAMPLES = Path(__file__).parents[2] / "manifests" / "samples" / "tables.yaml"
AT_EIGHT = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

TABLES = ("trades", "quotes", "reference-data", "gaps")


@pytest.fixture
def crons(tmp_path):
    """The CronJobs of the samples' tables, over a catalog in the test's own folder."""
    platform = Platform(
        kafka=KafkaPlatform(bootstrap_servers="127.0.0.1:1"),
        registry=RegistryPlatform(url="http://127.0.0.1:1"),
        catalog=CatalogPlatform(properties=catalog_properties(tmp_path)),
    )
    tables = plan(manifests.read([SAMPLES]), platform).tables
    return {made["metadata"]["name"]: made for each in tables for made in cronjob.upkeep(each, platform)}


def test_each_table_of_the_samples_has_all_of_it(crons):
    tasks = ("compact", "expire", "orphans", "metadata", "scrub")
    assert set(crons) == {f"{table}-{task}" for table in TABLES for task in tasks}
    assert not [each for each in crons.values() if each["spec"]["suspend"]]


@pytest.mark.timeout(300)
def test_the_compaction_of_the_samples_runs_at_its_time_and_the_table_tells_of_it(crons, tmp_path):
    catalog = make_lake(tmp_path)
    committer = Committer(catalog, TRADES, ORIGIN, DataType.TRADES)
    for start in range(0, 50, 10):
        committer.commit(batch(start, start + 10))
    now = [AT_EIGHT]
    executor = Executor(tmp_path / "data", today=lambda: now[0])
    executor.apply([crons["trades-compact"]])
    try:
        executor.step()
        assert executor.statuses()[0].message == "next at 2026-11-21 20:10 UTC"
        now[0] += timedelta(minutes=10)

        def completed():
            executor.step()
            return executor.statuses()[0].phase == "Completed"

        eventually(completed, lambda: str(executor.statuses()), 240)
    finally:
        executor.stop()
    (told,) = table_figures.fields(layouts(catalog, {TRADES: LookFor()})[TRADES])["upkeep"]
    assert (told["task"], told["filesBefore"], told["filesAfter"], told["tries"]) == ("compact", 5, 1, 1)
    assert told["bytesBefore"] > told["bytesAfter"] > 0
