"""A file that is gone is built again from a real topic by the command, and what retention took is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import structlog
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from k2_testing.lake import TRADES, held
from typer.testing import CliRunner

from k2.cli import app
from k2.lake.upkeep.replacing import live_files
from k2.lake.upkeep_runs import last_runs
from k2.obs.logging import structlog_to_logging

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def upkeep(pipeline, monkeypatch):
    for name, value in pipeline.environment().items():
        if name.startswith("K2_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("K2_DATA_DIR", str(pipeline.folder))
    structlog_to_logging()
    yield lambda task, *options: CliRunner().invoke(app, ["upkeep", task, "--table", TRADES, *options])
    structlog.reset_defaults()


def lose(path):
    Path(path.removeprefix("file://")).unlink()


def rows_of(catalog):
    found = catalog.load_table(TRADES).scan().to_arrow()
    return found.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")]).combine_chunks()


def test_a_file_that_is_gone_comes_back_from_the_topic_and_what_retention_took_is_said(pipeline, upkeep):
    pipeline.produce(0, 2_000)
    pipeline.finish()
    pipeline.send(b"no event")
    pipeline.produce(1_900, 3_000)  # the first hundred are duplicates
    pipeline.finish()
    before = rows_of(pipeline.catalog)
    assert len(before) == 3_000
    lost = sorted(live_files(pipeline.catalog.load_table(TRADES)).values(), key=lambda file: file.record_count)
    lose(lost[0].file_path)
    found = upkeep("scrub")
    assert found.exit_code == 1, found.output
    assert f"{lost[0].record_count:,} rows of timestamp_day=2014-03-09" in found.stdout
    dry = upkeep("restore", "--all-damaged", "--dry-run")
    assert "the topics have all offsets that may be theirs; nothing was done" in dry.stdout, dry.output
    done = upkeep("restore", "--all-damaged", "--output", "json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["whole"], told["rows"], told["found"]) == (True, lost[0].record_count, lost[0].record_count)
    assert rows_of(pipeline.catalog).equals(before)
    assert set(held(pipeline.catalog).values()) == {1}
    runs = last_runs(pipeline.catalog.load_table(TRADES).metadata)
    assert (runs["scrub"].figures["damaged"], runs["restore"].figures["rows"]) == (0, lost[0].record_count)
    assert pipeline.audit().ok

    # Retention passes what the first commit brought.
    ends = pipeline.recorded()
    admin = AdminClient(pipeline.kafka)
    taken = admin.delete_records([TopicPartition(pipeline.topic, number, end - 1) for number, end in ends.items()])
    for future in taken.values():
        future.result(30)
    lose(lost[1].file_path)
    gone = upkeep("restore", "--file", lost[1].file_path)
    assert gone.exit_code == 1, gone.output
    assert f"no topic has any more: {pipeline.topic}/" in gone.stdout
    assert "nothing was done. To go on without the others: --partial" in gone.stdout
    assert not pipeline.audit().ok
