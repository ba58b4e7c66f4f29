"""The promise on data, with real processes: real Kafka, real registry, real catalog, SIGKILL, SIGSTOP and rebalances."""

from __future__ import annotations

import signal

import pytest
from k2_testing.sinks import Pipeline, eventually, gave_up, ready, reason

from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

EVENTS = 20_000


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic())
    yield pipeline
    pipeline.close()


def assert_exactly_once(pipeline, events=EVENTS):
    audit = pipeline.audit()
    assert audit.ok, audit
    assert sum(part.rows for part in audit.partitions) == events
    assert all(part.behind == 0 for part in audit.partitions)
    ids = pipeline.catalog.load_table(pipeline.table).scan(selected_fields=("message_id",)).to_arrow()
    assert len(set(ids.column("message_id").to_pylist())) == len(ids) == events


@pytest.mark.parametrize("point", ["before", "during", "after"])
def test_killed_at_a_point_of_a_commit_it_goes_on_without_loss_or_double(pipeline, point):
    killed = pipeline.sink(kill=f"{point}:2", commit_bytes=200_000)
    pipeline.produce(0, EVENTS)
    assert killed.wait(120) == -signal.SIGKILL, pipeline.log()
    pipeline.finish()
    assert_exactly_once(pipeline)


def test_three_kills_at_any_time_while_events_flow(pipeline):
    for number in range(3):
        sink = pipeline.sink(interval=0.1)
        before = pipeline.snapshots()
        pipeline.produce(number * 5_000, number * 5_000 + 5_000, per_batch=500)
        eventually(lambda before=before: pipeline.snapshots() > before, lambda: f"a commit; {pipeline.log()[-2000:]}")
        sink.kill()
        sink.wait()
    pipeline.produce(15_000, EVENTS)
    pipeline.finish()
    assert_exactly_once(pipeline)


def test_a_consumer_that_slept_through_a_rebalance_is_fenced(pipeline):
    pipeline.produce(0, 5_000)
    sleeper = pipeline.sink(interval=5.0)  # long: it holds rows that it has not committed
    eventually(lambda: "sink.assigned" in pipeline.log(0), "an assignment")
    pipeline.produce(5_000, 10_000)
    eventually(lambda: sum(pipeline.recorded().values()) >= 5_000, lambda: f"a first commit {pipeline.log(0)[-2000:]}")
    pipeline.produce(10_000, 15_000)  # these it reads now, and holds
    eventually(lambda: pipeline.snapshots() >= 1, "a commit")
    sleeper.send_signal(signal.SIGSTOP)
    pipeline.produce(15_000, EVENTS)
    pipeline.finish()  # the group gives the partitions to this one, which reads to the end
    after = pipeline.snapshots()
    sleeper.send_signal(signal.SIGCONT)
    pipeline.produce(EVENTS, EVENTS + 1_000)
    eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"the sleeper goes on {pipeline.log(0)[-2000:]}")
    assert pipeline.snapshots() > after
    sleeper.terminate()
    assert sleeper.wait(60) == 0
    assert_exactly_once(pipeline, EVENTS + 1_000)


def test_sigterm_commits_what_is_held_within_its_grace(pipeline):
    sink = pipeline.sink(interval=600.0)  # nothing would be committed for ten minutes
    pipeline.produce(0, 5_000)
    eventually(lambda: "sink.assigned" in pipeline.log(), lambda: f"an assignment {pipeline.log()[-2000:]}")
    eventually(lambda: consumed(pipeline) == 5_000, "all events read")
    sink.terminate()
    assert sink.wait(25) == 0, pipeline.log()
    assert pipeline.snapshots() == 1
    assert_exactly_once(pipeline, 5_000)


def test_partitions_move_between_sinks_that_come_and_go(pipeline):
    first = pipeline.sink(interval=0.2)
    pipeline.produce(0, 5_000)
    # Whoever joins first has all partitions and gives some up: without this wait it may be the second.
    eventually(lambda: "sink.assigned" in pipeline.log(0), lambda: f"an assignment {pipeline.log(0)[-2000:]}")
    second = pipeline.sink(interval=0.2)
    pipeline.produce(5_000, 10_000, per_batch=500)
    eventually(lambda: gave_up(pipeline.log(0)), lambda: f"a rebalance {pipeline.log(0)[-2000:]}")
    pipeline.produce(10_000, 15_000, per_batch=500)
    first.terminate()
    assert first.wait(60) == 0
    pipeline.produce(15_000, EVENTS, per_batch=500)
    eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"the second goes on {pipeline.log(1)[-2000:]}")
    second.terminate()
    assert second.wait(60) == 0
    assert_exactly_once(pipeline)


def test_a_sink_without_partitions_stands_by_ready_and_takes_over_when_the_other_goes(
    tmp_path, kafka, registry, free_topic
):
    """As in a rollout: the old pod has every partition, and leaves when the new one is ready."""
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1)
    old_port, new_port = (ports.choose(None, None, what="the sink's metrics", option="") for _ in range(2))
    try:
        pipeline.produce(0, 5_000)
        old = pipeline.sink(port=old_port)
        eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"commits {pipeline.log(0)[-2000:]}")
        new = pipeline.sink(port=new_port)
        eventually(
            lambda: ready(new_port), lambda: f"ready as a stand-by: {reason(new_port)} {pipeline.log(1)[-2000:]}"
        )
        assert reason(new_port) == "stand by: no partitions"
        assert "sink.assigned" not in pipeline.log(1)
        assert ready(old_port)
        pipeline.produce(5_000, 10_000, per_batch=500)
        old.terminate()
        pipeline.produce(10_000, EVENTS, per_batch=500)
        assert old.wait(60) == 0
        eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"takes over {pipeline.log(1)[-2000:]}")
        assert reason(new_port) == "running"
        new.terminate()
        assert new.wait(60) == 0
        assert_exactly_once(pipeline)
    finally:
        pipeline.close()


def test_sinks_of_two_topics_share_a_table_and_the_events_that_both_carry_are_there_once(
    pipeline, tmp_path, kafka, registry, free_topic
):
    other = Pipeline(tmp_path, kafka, registry, free_topic())
    other.sinks = pipeline.sinks  # one folder, one list: both are ended together
    first, second = pipeline.sink(interval=0.1), other.sink(interval=0.1)
    for low in range(0, 10_000, 1_000):
        pipeline.produce(low, low + 1_000, per_batch=250)
        other.produce(low + 500, low + 1_500, per_batch=250)  # half of it the other topic has, or will have
    eventually(lambda: pipeline.recorded() == pipeline.ends(), lambda: f"the first reads on {pipeline.log(0)[-2000:]}")
    eventually(lambda: other.recorded() == other.ends(), lambda: f"the second reads on {pipeline.log(1)[-2000:]}")
    for sink in (first, second):
        sink.terminate()
        assert sink.wait(60) == 0
    audit = pipeline.audit()
    assert audit.ok, audit
    assert sum(part.rows for part in audit.partitions) == 10_500
    assert sum(part.offsets.duplicates for part in audit.partitions) == 9_500
    ids = pipeline.catalog.load_table(pipeline.table).scan(selected_fields=("message_id",)).to_arrow()
    assert len(set(ids.column("message_id").to_pylist())) == len(ids) == 10_500


def consumed(pipeline) -> int:
    """Messages that the last sink has read, by its own metrics."""
    import json
    import re
    import urllib.request

    ports = [json.loads(line).get("port") for line in pipeline.log().splitlines() if '"sink.started"' in line]
    with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=60) as answer:
        found = re.search(rb"^k2_kafka_messages_consumed_total\{[^}]*\} ([0-9.e+]+)", answer.read(), re.MULTILINE)
    return int(float(found[1])) if found else 0
