"""Many dead letters: a real sink tells of them until good messages have pushed them out, and stops where it was asked to."""

from decimal import Decimal

import pytest
from k2_testing.events import START_US, message_id, trades
from k2_testing.sinks import Pipeline, asked, eventually, readiness

from k2.bus.admin import committed_with_metadata
from k2.model.codec.encode import encode
from k2.model.dead_share import WINDOW, DeadShare
from k2.model.held_up import HeldUpBy
from k2.model.reasons import REASON_CLASSES
from k2.model.topics import DataType, sink_group_id
from k2_local.host import ports
from k2_operator.report.figures import Reading

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]
NO_EVENT = b'{"price": 1}'


@pytest.fixture
def one(tmp_path, kafka, registry, free_topic):
    """A pipeline of one partition: messages are read in the order in which they were sent."""
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1)
    yield pipeline
    pipeline.close()


@pytest.fixture
def port():
    return ports.choose(None, None, what="a sink", option="")


def told(pipeline, number, price):
    """A message about a trade with an id of its own."""
    events = trades(
        [message_id("told", number)],
        symbols=["BHP"],
        times=[START_US + 10_000_000],
        trade_ids=[f"N{number}"],
        prices=[Decimal(price)],
    )
    return next(iter(encode(events, DataType.TRADES, pipeline.schema_id).payloads()))


def gauges(port, pipeline, name="k2_sink_recent_dead_messages"):
    """A gauge's values by class of reason, of those that are not zero: all are there from the start."""
    _, text = asked(port, "metrics")
    lines = (line for line in text.splitlines() if line.startswith(f"{name}{{") and f'"{pipeline.topic}"' in line)
    found = {line.split('reason="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert not text or found.keys() == set(REASON_CLASSES)
    return {reason: value for reason, value in found.items() if value}


def reading(pipeline):
    """What the operator sees of the sink."""
    group = sink_group_id(pipeline.topic, pipeline.table)
    return Reading(0.0, pipeline.ends(), committed_with_metadata(pipeline.kafka, group, pipeline.topic))


def in_table(pipeline):
    return sum(pipeline.recorded().values())


def test_many_dead_letters_are_told_with_the_commonest_reason_until_good_ones_have_pushed_them_out(pipeline, port):
    pipeline.produce(0, 3_000)
    pipeline.sink(port=port)
    eventually(lambda: in_table(pipeline) == 3_000, "the good ones in the table")
    first = told(pipeline, 1, 10)
    pipeline.send(first, *[NO_EVENT] * 90, first[:40], first[:40])
    eventually(lambda: gauges(port, pipeline) == {"framing": 90, "truncated": 2}, "dead letters by class")
    assert readiness(port) == {"status": 200, "ready": True, "reason": "running"}, "not many yet"
    # The same id with another price is found to be a dead letter only against the table.
    pipeline.send(*[NO_EVENT] * 9, first, told(pipeline, 1, 11))
    whole = {"framing": 99, "truncated": 2, "conflict": 1}
    eventually(lambda: gauges(port, pipeline) == whole, lambda: f"a conflict among them: {gauges(port, pipeline)}")
    many = DeadShare(102, 1, "not Confluent framing")
    eventually(lambda: reading(pipeline).dead == many, lambda: f"beside the offsets: {reading(pipeline).notes}")
    warned = readiness(port)
    assert (warned["status"], warned["reason"]) == (200, "running"), "it goes on"
    assert warned["warning"] == many.said(pipeline.topic)
    assert "sink.many_dead_letters_found" in pipeline.log()

    pipeline.produce(3_000, 3_000 + WINDOW)
    eventually(
        lambda: asked(port, "metrics")[1] and gauges(port, pipeline) == {},
        lambda: f"none left: {gauges(port, pipeline)}",
    )
    eventually(lambda: reading(pipeline).dead == DeadShare(), lambda: f"nor beside offsets: {reading(pipeline).notes}")
    assert readiness(port) == {"status": 200, "ready": True, "reason": "running"}
    assert "sink.dead_letters_became_few" in pipeline.log()
    audit = pipeline.audit()
    assert audit.ok
    assert sum(part.offsets.dead_letters for part in audit.partitions) == 102


def test_above_the_share_that_is_allowed_the_sink_reads_no_more_and_lifted_it_goes_on_without_a_loss(one, port):
    one.produce(0, 1_000)
    one.send(*[NO_EVENT] * 300)
    sink = one.sink(port=port, dead_letters_stop_above=299)
    eventually(lambda: readiness(port).get("status") == 503 and "stopAbove" in readiness(port)["reason"], "it stops")
    assert readiness(port)["reason"] == DeadShare(300, 300, "not Confluent framing").stop_said(one.topic, 299)
    assert in_table(one) == 1_300, "what was read is committed"
    eventually(lambda: reading(one).held is not None, lambda: f"beside the offsets, at its end: {reading(one)}")
    assert (reading(one).held.by, reading(one).lag, reading(one).letters) == (HeldUpBy.DEAD_LETTERS, 0, 300)
    assert readiness(port)["warning"] == reading(one).held.said
    one.produce(1_000, 6_000)
    eventually(lambda: (reading(one).lag, reading(one).dead.dead) == (5_000, 300), lambda: f"{reading(one)}")
    assert f'k2_kafka_messages_consumed_total{{topic="{one.topic}"}} 1300.0' in asked(port, "metrics")[1]
    assert readiness(port)["status"] == 503
    sink.terminate()
    assert sink.wait(90) == 0
    assert in_table(one) == 1_300

    # Somebody has mended what sends them and starts it anew: it counts anew, and goes on where it was.
    one.sink(port=port, dead_letters_stop_above=299)
    eventually(lambda: in_table(one) == 6_300, lambda: f"it goes on {one.log()[-2000:]}")
    eventually(lambda: readiness(port).get("status") == 200, "ready")
    eventually(lambda: reading(one).held is None, lambda: f"no more: {reading(one)}")
    audit = one.audit()
    assert audit.ok
    assert [(part.rows, part.offsets.dead_letters, part.behind) for part in audit.partitions] == [(6_000, 300, 0)]


def test_a_sink_that_is_to_end_by_itself_ends_instead_of_waiting_for_somebody(one):
    one.send(*[NO_EVENT] * 300)
    one.produce(0, 5_000)
    sink = one.sink("--until-end", dead_letters_stop_above=200, commit_bytes=1)
    assert sink.wait(120) == 2, one.log()
    assert f"k2 dlq list {one.topic}" in one.log()
    assert in_table(one) < 5_300
    one.finish()  # nobody is asked without the setting
    assert [(part.rows, part.offsets.dead_letters) for part in one.audit().partitions] == [(5_000, 300)]
