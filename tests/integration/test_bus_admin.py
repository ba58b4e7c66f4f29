"""Topics, offsets and schemas against a real broker and registry."""

import io
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from k2_testing.events import varied_rows

from k2.bus import admin
from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.registry import Schemas, ensure_further, ensure_subjects, topic_decimals
from k2.model.codec import decode
from k2.model.errors import UserError, WorldError
from k2.model.events import Decimals, avro_schema
from k2.model.further import with_further
from k2.model.tables import TableColumn
from k2.model.topics import DataType, subject_of

pytestmark = pytest.mark.real
NOWHERE = {"bootstrap.servers": "127.0.0.1:1"}


@pytest.fixture
def config(kafka):
    return {"bootstrap.servers": kafka.bootstrap_servers}


@pytest.fixture
def registry_config(registry):
    return {"url": registry.url}


def test_topics_are_made_once(config, free_topic):
    topic = free_topic()
    spec = TopicSpec(topic, partitions=3, config={"retention.ms": "-1"})
    assert ensure_topics(config, [spec]) == [f"created {topic}, 3 partitions"]
    assert ensure_topics(config, [spec]) == []
    assert admin.partition_counts(config, [topic, "no.such"]) == {topic: 3}
    assert admin.end_offsets(config, topic) == {0: 0, 1: 0, 2: 0}


def test_fewer_partitions_than_there_are_is_no_change(config, free_topic):
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic, partitions=3)])
    assert ensure_topics(config, [TopicSpec(topic, partitions=2)]) == []


def test_more_partitions_are_refused_until_reordering_is_allowed(config, free_topic):
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic, partitions=1)])
    with pytest.raises(UserError, match="has 1 partitions, and more would move symbols") as refused:
        ensure_topics(config, [TopicSpec(topic, partitions=4)])
    assert "allowReordering: true" in str(refused.value)
    assert ensure_topics(config, [TopicSpec(topic, partitions=4, allow_reordering=True)]) == [
        f"{topic}: 1 → 4 partitions"
    ]
    assert admin.end_offsets(config, topic) == dict.fromkeys(range(4), 0)


def test_compacted_topics_are_refused_asked_for_or_found(config, free_topic):
    topic = free_topic()
    with pytest.raises(UserError, match=f"cleanup.policy of {topic}: found 'compact,delete', expected delete"):
        ensure_topics(config, [TopicSpec(topic, config={"cleanup.policy": "compact,delete"})])
    assert admin.topic_ids(config, [topic]) == {}
    made_by_others(config, topic, {"cleanup.policy": "compact"})
    with pytest.raises(UserError, match=f"cleanup.policy of {topic}: found 'compact'"):
        ensure_topics(config, [TopicSpec(topic)])


def made_by_others(config, topic, settings):
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient(config)  # collected before the answer comes, it would take the request with it
    client.create_topics([NewTopic(topic, 1, 1, config=settings)])[topic].result(10)
    until(lambda: admin.topic_ids(config, [topic]))


def test_a_setting_that_kafka_does_not_take_is_the_user_s_error(config, free_topic):
    with pytest.raises(UserError, match=r"retention\.ms"):
        ensure_topics(config, [TopicSpec(free_topic(), config={"retention.ms": "soon"})])


def test_a_topic_made_anew_has_another_id(config, free_topic):
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic)])
    first = admin.topic_ids(config, [topic])[topic]
    assert len(first) == 22
    assert not set(first) & set("+/=")
    assert admin.delete_topics(config, [topic, "no.such"]) == [topic]
    until(lambda: not admin.topic_ids(config, [topic]))
    ensure_topics(config, [TopicSpec(topic)])
    assert admin.topic_ids(config, [topic])[topic] != first
    assert admin.cluster_id(config) == admin.cluster_id(config)


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_ends_are_those_that_can_be_read(config, free_topic):
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic, partitions=1)])
    producer = Producer(config | {"transactional.id": topic})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(60)
    assert admin.end_offsets(config, topic) == {0: 0}
    assert admin.end_offsets(config, topic, "read_uncommitted") == {0: 1}
    producer.commit_transaction(60)
    # The commit's marker takes an offset; it is written after the producer has its answer.
    until(lambda: admin.end_offsets(config, topic) == {0: 2})
    assert admin.beginning_offsets(config, topic) == {0: 0}


def test_a_group_that_never_was_has_no_offsets(config, free_topic):
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic)])
    assert admin.committed_offsets(config, f"group-{topic}", topic) == {}


def test_a_topic_that_does_not_exist_is_named(config):
    with pytest.raises(UserError, match=r"There is no topic no\.such"):
        admin.end_offsets(config, "no.such")


def test_a_cluster_that_cannot_be_reached_is_named(monkeypatch):
    monkeypatch.setattr(admin, "REQUEST_SECONDS", 2.0)
    start = time.monotonic()
    with pytest.raises(WorldError, match=r"127\.0\.0\.1:1 cannot be reached"):
        ensure_topics(NOWHERE, [TopicSpec("market.equities.trades.asx")])
    assert time.monotonic() - start < 60


# --- registry -------------------------------------------------------------------------------------------------------


def test_subjects_are_registered_once_and_backward(registry_config, free_topic):
    topics = {free_topic(kind.value): kind for kind in DataType}
    found = ensure_subjects(registry_config, topics)
    assert ensure_subjects(registry_config, topics) == found
    schemas = Schemas(registry_config)
    for topic, kind in topics.items():
        assert json.loads(schemas.schema(found[topic]) or "") == avro_schema(kind)
        assert schemas._client.get_compatibility(subject_of(topic)) == "BACKWARD"


def test_a_subject_tells_of_the_further_columns_of_its_table_through_additions_renames_and_widenings(
    registry_config, free_topic
):
    topic = free_topic()

    def newest():
        return json.loads(Schemas(registry_config).latest(subject_of(topic))[1])  # a client remembers its answer

    plain = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    for columns in (
        (TableColumn("flag", "string", doc="Of the venue."), TableColumn("lots", "int")),
        (TableColumn("flag", "string"), TableColumn("lots", "long"), TableColumn("edge", "decimal(9, 4)")),
        (
            TableColumn("venue_flag", "string", was="flag"),
            TableColumn("lots", "long"),
            TableColumn("tags", "list<string>"),
        ),
        (TableColumn("at", "timestamptz"), TableColumn("on", "date"), TableColumn("map", "map<string, string>")),
    ):
        for _ in range(2):
            ensure_further(registry_config, {topic: with_further(avro_schema(DataType.TRADES), columns)})
        fields = newest()["fields"][-len(columns) :]
        assert [each["name"] for each in fields] == [each.name for each in columns]
        assert all(each["default"] is None for each in fields)
        assert ensure_subjects(registry_config, {topic: DataType.TRADES}) == {topic: plain}, "our producers go on"
        assert newest()["fields"][-len(columns) :] == fields
    assert len(Schemas(registry_config)._client.get_versions(subject_of(topic))) == 5


def test_an_id_that_the_registry_does_not_know_is_none_and_asked_again(registry_config, free_topic):
    schemas = Schemas(registry_config)
    assert schemas.schema(987_654) is None
    topic = free_topic()
    schema_id = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    assert schemas.schema(schema_id)


def test_a_known_id_needs_no_registry(registry, registry_config, free_topic):
    schemas = Schemas(registry_config)
    topic = free_topic()
    schema_id = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    text = schemas.schema(schema_id)
    schemas._clients = None  # asking would fail
    assert schemas.schema(schema_id) == text


def test_a_schema_that_takes_types_from_other_subjects_is_read_whole(registry_config, free_topic):
    topic = free_topic()
    subject, side_of, amount_of = subject_of(topic), f"{topic}-side", f"{topic}-amount"
    client = SchemaRegistryClient(registry_config)
    whole = avro_schema(DataType.TRADES)
    fields = {field["name"]: field for field in whole["fields"]}
    side, places = fields["side"]["type"] | {"namespace": "venue.shared"}, {"precision": 18, "scale": 8}
    amount = {
        "type": "fixed",
        "name": "Amount",
        "namespace": "venue.shared",
        "size": 8,
        "logicalType": "decimal",
    } | places
    fields["side"]["type"] = "venue.shared.Side"
    fields["price"]["type"] = fields["quantity"]["type"] = "venue.shared.Amount"
    client.register_schema(side_of, Schema(json.dumps(side), "AVRO"))
    client.register_schema(amount_of, Schema(json.dumps(amount), "AVRO"))
    references = [
        SchemaReference("venue.shared.Side", side_of, 1),
        SchemaReference("venue.shared.Amount", amount_of, 1),
    ]
    number = client.register_schema(subject, Schema(json.dumps(whole), "AVRO", references))
    text = Schemas(registry_config).schema(number)
    row = varied_rows(1)[0] | {"message_id": str(uuid.UUID(int=7)), "price": Decimal("37.01"), "quantity": Decimal(5)}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(text)), row)
    found = decode([b"\0" + number.to_bytes(4, "big") + out.getvalue()], DataType.TRADES, lambda _: text)
    assert found.bad == []
    (event,) = found.events.to_pylist(maps_as_pydicts="strict")
    assert (event["side"], event["price"], event["quantity"]) == (row["side"], Decimal("37.01"), Decimal(5))


def test_an_incompatible_schema_is_refused_and_the_running_one_stays(registry_config, free_topic):
    topic = free_topic()
    before = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    schemas = Schemas(registry_config)
    changed = avro_schema(DataType.TRADES)
    changed["fields"][1]["type"] = "long"
    changed["fields"].append({"name": "venue", "type": "string"})
    with pytest.raises(UserError) as refused:
        schemas.register(subject_of(topic), json.dumps(changed))
    text = str(refused.value)
    assert f"The schema for subject {topic}-value is not backward compatible" in text
    assert "LONG not compatible with writer type: STRING at /fields/1/type" in text
    assert "venue" in text
    assert "expected new fields with a default" in text
    latest = schemas.latest(subject_of(topic))
    assert latest is not None
    assert latest[0] == before


def test_a_new_field_with_a_default_is_taken(registry_config, free_topic):
    topic = free_topic()
    before = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    schemas = Schemas(registry_config)
    changed = avro_schema(DataType.TRADES)
    changed["fields"].append({"name": "venue", "type": ["null", "string"], "default": None})
    assert schemas.register(subject_of(topic), json.dumps(changed)) != before


def test_a_topic_goes_to_wide_decimals_and_back_and_says_which_it_is_sent(registry_config, free_topic):
    topic = free_topic()
    asked = registry_config, topic, DataType.TRADES
    assert topic_decimals(*asked) is Decimals.STANDARD  # there is no subject yet
    standard = ensure_subjects(registry_config, {topic: DataType.TRADES})[topic]
    assert topic_decimals(*asked) is Decimals.STANDARD
    with pytest.raises(UserError, match=r"has no schema with such decimals: found 'wide', expected standard\. Let the"):
        topic_decimals(*asked, Decimals.WIDE)
    wide = ensure_subjects(registry_config, {topic: DataType.TRADES}, {topic: Decimals.WIDE})[topic]
    assert wide != standard
    schemas = Schemas(registry_config)
    assert json.loads(schemas.schema(wide) or "") == avro_schema(DataType.TRADES, Decimals.WIDE)
    assert topic_decimals(*asked) is Decimals.WIDE
    assert topic_decimals(*asked, Decimals.STANDARD) is Decimals.STANDARD
    assert ensure_subjects(registry_config, {topic: DataType.TRADES}) == {topic: standard}


def test_a_topic_of_which_no_decimals_can_be_told_is_standard_until_it_is_registered(registry_config, free_topic):
    topic = free_topic()
    other = Schema('syntax = "proto3"; message Trade { string price = 1; }', "PROTOBUF")
    SchemaRegistryClient(registry_config).register_schema(subject_of(topic), other)
    assert topic_decimals(registry_config, topic, DataType.TRADES) is Decimals.STANDARD


def test_processes_that_register_the_same_new_subject_at_once_all_get_its_id(registry_config, free_topic):
    schema = json.dumps(avro_schema(DataType.TRADES))
    for _ in range(20):
        begin, subject = threading.Barrier(6), f"{free_topic()}-value"

        def register(subject=subject, begin=begin):
            schemas = Schemas(registry_config)
            begin.wait()
            return schemas.register(subject, schema)

        with ThreadPoolExecutor(6) as pool:
            assert len({found.result() for found in [pool.submit(register) for _ in range(6)]}) == 1


def test_a_registry_that_cannot_be_reached_is_named():
    with pytest.raises(WorldError, match=r"The Schema Registry at http://127\.0\.0\.1:1 cannot be reached"):
        Schemas({"url": "http://127.0.0.1:1"}).schema(1)
