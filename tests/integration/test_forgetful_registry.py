"""A registry that forgot (in memory and restarted, or restored): real sinks go on by what the table keeps, or wait and say why."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US, message_id, trades
from k2_testing.foreign import foreign_trades
from k2_testing.lake import TRADES, catalog_properties
from k2_testing.parts import begin_anew
from k2_testing.sinks import Pipeline, eventually, reason
from typer.testing import CliRunner

from k2.bus.dead_letters import DeadLetter, DeadLetterWriter, read_dead_letters
from k2.bus.registry import Schemas, ensure_subjects
from k2.cli import app
from k2.lake.kept_schemas import kept_schemas
from k2.lake.offsets import recorded_offsets
from k2.model.codec.encode import encode
from k2.model.events import avro_schema
from k2.model.topics import DataType, subject_of
from k2.query.asked.requests import At, EventsQuery
from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

PLAIN = json.dumps(avro_schema(DataType.TRADES))


def swapped():
    """Trades whose price stands where the quantity does: read by K2's own schema each message is a trade, and a wrong one."""
    schema = avro_schema(DataType.TRADES)
    at = {field["name"]: place for place, field in enumerate(schema["fields"])}
    fields = list(schema["fields"])
    fields[at["price"]], fields[at["quantity"]] = fields[at["quantity"]], fields[at["price"]]
    return schema | {"fields": fields}


@pytest.fixture(scope="module", autouse=True)
def few_ids(registry):
    """Numbers begin with 1: a test counts up to the one that it wants."""
    begin_anew(registry)


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    made = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1)
    yield made
    made.close()


@pytest.fixture
def port():
    return ports.choose(None, None, what="the sink's metrics", option="")


@pytest.fixture
def k2(pipeline, monkeypatch):
    """The commands, with the pipeline's catalog, registry and Kafka."""
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(pipeline.folder)))
    monkeypatch.setenv("K2_REGISTRY_URL", pipeline.registry["url"])
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", pipeline.kafka["bootstrap.servers"])

    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.stdout

    return run


def fill(pipeline, before):
    """Register schemas of other subjects until the next one gets that id."""
    schemas = Schemas(pipeline.registry)
    for number in range(before):
        text = {"type": "record", "name": f"Filler{number}", "fields": []}
        if schemas.register(f"filler-{number}-value", json.dumps(text)) == before - 1:
            return
    raise AssertionError(f"the registry counts in another way: there is no id before {before}")


def forgets(registry, pipeline):
    """The registry begins anew, and its next id is the one by which the pipeline's producer writes."""
    begin_anew(registry)
    if pipeline.schema_id > 1:
        fill(pipeline, pipeline.schema_id)


def committed(pipeline, offsets, seconds=240):
    eventually(
        lambda: sum(pipeline.recorded().values()) == offsets,
        lambda: f"{offsets} offsets: {pipeline.recorded()} {pipeline.log()[-2000:]}",
        seconds,
    )


def end(sink, pipeline):
    sink.terminate()
    assert sink.wait(90) == 0, pipeline.log()[-2000:]


def all_are_right(pipeline, rows):
    """Each event is there once, with the price that it was sent with, and none was put aside."""
    audit = pipeline.audit()
    assert audit.ok
    (part,) = audit.partitions
    assert (part.rows, part.offsets.duplicates, part.offsets.dead_letters) == (rows, 0, 0)
    prices = pipeline.catalog.load_table(TRADES).scan(selected_fields=("price",)).to_arrow()["price"].to_pylist()
    assert len(prices) == rows
    assert {price for price in prices if not 37 <= price < Decimal("37.1")} == set()
    assert read_dead_letters(pipeline.kafka, f"{pipeline.topic}.dlq") == []


def kept_ids(pipeline):
    table = pipeline.catalog.load_table(TRADES)
    topic_id = recorded_offsets(table).topics[pipeline.topic].topic_id
    return set(kept_schemas(table.metadata).of(topic_id).schemas)


def test_a_registry_that_is_emptied_under_a_stream_loses_and_doubles_nothing(pipeline, registry):
    old = pipeline.schema_id
    pipeline.produce(0, 1_000)
    sink = pipeline.sink()
    committed(pipeline, 1_000)
    begin_anew(registry)
    pipeline.produce(1_000, 2_000)  # by a producer that runs on: it sends under the id that it remembers
    committed(pipeline, 2_000)
    end(sink, pipeline)
    sink = pipeline.sink()  # which remembers nothing
    pipeline.produce(2_000, 3_000)
    committed(pipeline, 3_000)
    # One that starts now is given another id. The old one's number is somebody else's by then, which is nothing to this topic.
    fill(pipeline, old + 1)
    (pipeline.schema_id,) = ensure_subjects(pipeline.registry, {pipeline.topic: DataType.TRADES}).values()
    assert pipeline.schema_id == old + 1
    pipeline.produce(3_000, 4_000)
    committed(pipeline, 4_000)
    end(sink, pipeline)
    all_are_right(pipeline, 4_000)
    assert kept_ids(pipeline) == {old, old + 1}


def test_without_a_registry_sinks_tails_and_people_read_by_what_the_table_keeps(pipeline, registry, k2):
    pipeline.produce(0, 500)
    pipeline.finish()
    event = trades([message_id(1)], symbols=["BHP"], times=[START_US])
    payload = next(iter(encode(event, DataType.TRADES, pipeline.schema_id).payloads()))
    letter = DeadLetter(payload, "some reason", topic=pipeline.topic, partition=0, offset=1)
    registry.stop()
    try:
        pipeline.produce(500, 900)
        with hybrid_questions_of(pipeline) as questions:
            found = questions.events(EventsQuery(DataType.TRADES, limit=10_000, at=At()))
            assert (found.rows.num_rows, found.provenance.tails[0].problem) == (900, None)
        pipeline.finish()
        all_are_right(pipeline, 900)
        with DeadLetterWriter(pipeline.kafka, f"{pipeline.topic}.dlq") as writer:
            writer.send([letter])
        shown = json.loads(k2("dlq", "show", pipeline.topic, 0, "--output", "json"))
        assert shown["decoded"]["symbol"] == "BHP"
    finally:
        registry.start()


def test_an_id_that_a_forgetful_registry_does_not_know_waits_and_goes_on_by_itself_when_it_does(
    pipeline, registry, port
):
    pipeline.produce(0, 100)
    pipeline.finish()
    forgets(registry, pipeline)
    late = avro_schema(DataType.TRADES) | {"namespace": "of.a.later.version"}
    pipeline.send(*foreign_trades(late, pipeline.schema_id + 1, [{}] * 5))
    pipeline.produce(100, 200)
    sink = pipeline.sink(port=port)
    eventually(
        lambda: "the registry has lost what it knew" in reason(port), lambda: f"why: {reason(port)} {pipeline.log()}"
    )
    assert f"name schema id {pipeline.schema_id + 1}, which neither" in reason(port)
    assert f"k2 sink schemas {TRADES} --topic {pipeline.topic} --keep" in reason(port)
    assert pipeline.recorded() == {0: 100}
    schemas = Schemas(pipeline.registry)
    assert schemas.register(subject_of(pipeline.topic), PLAIN) == pipeline.schema_id
    assert schemas.register("late-value", json.dumps(late)) == pipeline.schema_id + 1
    committed(pipeline, 205)
    end(sink, pipeline)
    all_are_right(pipeline, 205)


def test_a_person_can_say_that_a_new_registry_is_to_stay_and_what_it_does_not_know_is_put_aside(
    pipeline, registry, port, k2
):
    pipeline.produce(0, 100)
    pipeline.finish()
    begin_anew(registry)
    pipeline.send(*foreign_trades(avro_schema(DataType.TRADES), 999_999, [{}] * 5))
    sink = pipeline.sink(port=port)
    eventually(lambda: "k2 sink schemas" in reason(port), lambda: f"a remedy: {reason(port)} {pipeline.log()}")
    told = k2("sink", "schemas", TRADES, "--topic", pipeline.topic)
    assert f"{pipeline.schema_id}: the registry does not know it any more" in told
    k2("sink", "schemas", TRADES, "--topic", pipeline.topic, "--keep", "--reason", "there was no backup")
    committed(pipeline, 105)
    pipeline.produce(100, 200)  # what is kept is read as before
    committed(pipeline, 205)
    end(sink, pipeline)
    audit = pipeline.audit()
    assert audit.ok
    assert (audit.partitions[0].rows, audit.partitions[0].offsets.letters) == (200, 5)
    letters = read_dead_letters(pipeline.kafka, f"{pipeline.topic}.dlq")
    assert {each.reason for each in letters} == {"schema id 999999 is not known to the registry"}
    assert "(decided)" in k2("sink", "schemas", TRADES, "--topic", pipeline.topic)
    said_later = k2("audit", TRADES)
    assert "decision keep-schemas" in said_later
    assert "there was no backup" in said_later


def test_an_id_that_was_given_to_another_schema_of_the_topic_is_never_read_by_the_wrong_one(
    pipeline, registry, port, k2
):
    pipeline.produce(0, 100)
    pipeline.finish()
    forgets(registry, pipeline)
    other = swapped()
    assert Schemas(pipeline.registry).register(subject_of(pipeline.topic), json.dumps(other)) == pipeline.schema_id
    pipeline.send(*foreign_trades(other, pipeline.schema_id, [{}] * 5))
    sink = pipeline.sink(port=port)
    eventually(lambda: "has another schema under" in reason(port), lambda: f"why: {reason(port)} {pipeline.log()}")
    with hybrid_questions_of(pipeline) as questions:
        found = questions.events(EventsQuery(DataType.TRADES, limit=10_000, at=At()))
        assert found.rows.num_rows == 100
        assert "has another schema under" in found.provenance.tails[0].problem
    assert pipeline.recorded() == {0: 100}
    told = k2("sink", "schemas", TRADES, "--topic", pipeline.topic)
    assert f"{pipeline.schema_id}: the registry has another schema of this topic under it" in told
    k2("sink", "schemas", TRADES, "--topic", pipeline.topic, "--take", pipeline.schema_id, "--reason", "all are new")
    committed(pipeline, 105)
    end(sink, pipeline)
    all_are_right(pipeline, 105)
    (decision,) = pipeline.audit().decisions
    assert (decision.kind, decision.schema_ids, decision.signed.reason) == (
        "take-schema",
        (pipeline.schema_id,),
        "all are new",
    )


def test_messages_of_a_producer_that_runs_on_wait_for_a_word_when_its_id_was_given_away_in_its_topic(
    pipeline, registry, port, k2
):
    pipeline.produce(0, 100)
    pipeline.finish()
    forgets(registry, pipeline)
    Schemas(pipeline.registry).register(subject_of(pipeline.topic), json.dumps(swapped()))
    pipeline.produce(100, 200)
    sink = pipeline.sink(port=port)
    eventually(lambda: "has another schema under" in reason(port), lambda: f"why: {reason(port)} {pipeline.log()}")
    assert pipeline.recorded() == {0: 100}
    k2("sink", "schemas", TRADES, "--topic", pipeline.topic, "--keep", "--reason", "the other writer never ran")
    committed(pipeline, 200)
    end(sink, pipeline)
    all_are_right(pipeline, 200)
