"""What people and clusters do by hand, on a real API server: statuses, namespaces, topics, tables that others have made or changed."""

from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from confluent_kafka import Producer
from k2_testing.cluster import Operator, grant, until
from k2_testing.committed import batch
from k2_testing.extent import FULL
from k2_testing.resources import LIVE, events_of, feed, make_ready, table
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.transforms import parse_transform
from pyiceberg.types import StringType

from k2.bus.admin import TopicSpec, cluster_id, delete_topics, ensure_topics, topic_ids
from k2.lake.appends.commit import Committer, Origin
from k2.lake.catalog import load_table, open_named
from k2.lake.proof.decisions import Signature
from k2.lake.proof.reset import forget_topic
from k2.lake.tables import iceberg_schema
from k2.model.errors import K2Error
from k2.model.tables import builtin_table
from k2.model.topics import DataType

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]


@pytest.fixture
def catalog(platform):
    opened = open_named("k2", platform["catalog"]["properties"])
    yield opened
    opened.close()


def identifier(namespace):
    return f"{namespace.replace('-', '_')}.trades"


def is_made(config, topic):
    """Whether a topic could be made; the broker may still be busy with the end of the one before."""
    try:
        ensure_topics(config, [TopicSpec(topic, 1, 1, {})])
    except K2Error:
        return False
    return topic in topic_ids(config, [topic])


def warnings(cluster, namespace, name="sim"):
    return {
        each["reason"]
        for each in cluster.list("Event", namespace)
        if each["type"] == "Warning" and each["involvedObject"]["name"] == name
    }


# --- statuses -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "name", "good"), [("IcebergTable", "trades", "TableExists"), ("MarketFeed", "sim", "AsAsked")]
)
def test_a_status_that_was_edited_by_hand_is_written_again_at_once(cluster, operator, namespace, kind, name, good):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    operator.watches("MarketFeed", "IcebergTable")  # nothing but the watch tells of it in the next ten minutes
    edited = cluster.get(kind, name, namespace)["status"]["conditions"]
    edited[0] |= {"status": "False", "reason": "Edited", "message": "by hand"}
    cluster.patch(kind, namespace, name, {"status": {"conditions": edited}}, sub="status")
    cluster.until_condition(kind, namespace, name, good, seconds=60)
    cluster.patch(kind, namespace, name, {"status": None}, sub="status")
    cluster.until_condition(kind, namespace, name, good, seconds=60)


# --- what is applied in any order -----------------------------------------------------------------------------------------------
def test_a_folder_whose_feeds_come_before_their_tables_brings_no_warning(cluster, operator, namespace):
    cluster.apply(feed(namespace))
    cluster.until_condition("MarketFeed", namespace, "sim", "Reconciling", "TablesReady")
    cluster.apply(table(namespace))
    cluster.until_condition("MarketFeed", namespace, "sim", "TablesExist", "TablesReady")
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    assert warnings(cluster, namespace) <= {"SinkNotAvailable"}


def test_a_table_that_does_not_come_is_warned_of(cluster, operator, namespace):
    cluster.apply(feed(namespace))
    cluster.until_condition("MarketFeed", namespace, "sim", "TableNotFound")
    until(lambda: "TableNotFound" in warnings(cluster, namespace), "no Event")


# --- namespaces -----------------------------------------------------------------------------------------------------------------
def test_a_namespace_that_is_deleted_goes_without_waiting_for_a_drain_that_nobody_does(
    cluster, operator, namespace, kafka
):
    # A table that goes with its rows waits for its feed, and without it nobody could say what is drained.
    cluster.apply(table(namespace, deletionPolicy="Delete"))
    cluster.apply(feed(namespace, source=LIVE, assetClass="crypto", exchange="BINANCE"))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce("market.crypto.trades.binance", b"a message that no sink reads: there are no pods")
    assert producer.flush(20) == 0
    cluster.delete("Namespace", None, namespace)
    # Its drainTimeout is five minutes.
    until(lambda: cluster.get("Namespace", namespace) is None, "the namespace stays", 150, why=operator.tail)


@pytest.mark.skipif(not FULL, reason="starts three operators: make test-full")
def test_a_namespace_without_our_role_keeps_the_others_from_nothing_and_is_taken_up_when_it_is_back(
    cluster, operator, namespace, platform, unique, tmp_path
):
    other = f"k2-{unique}-b"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}})
    operator.kill()
    narrow = Operator(
        cluster,
        tmp_path,
        namespace,
        platform,
        K2_OPERATOR_NAMESPACES=f'["{namespace}", "{other}"]',
        K2_OPERATOR_RESYNC_SECONDS="5",
    )
    try:
        grant(cluster, namespace, ["k2-registry"], watched=[namespace])
        narrow.start()
        cluster.apply(table(namespace))
        cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
        assert "namespace.closed" in narrow.log.read_text()
        cluster.apply(table(other))
        grant(cluster, namespace, ["k2-registry"], watched=[other])
        until(lambda: httpx.get(f"{narrow.url}/health", trust_env=False).status_code == 503, "it goes on as it is", 60)
        narrow.kill()  # as a kubelet does then
        narrow.start()
        cluster.until_condition("IcebergTable", other, "trades", "TableExists")
    finally:
        narrow.kill()
        operator.start()
        cluster.delete("IcebergTable", other, "trades")
        cluster.delete("Namespace", None, other)


# --- topics ---------------------------------------------------------------------------------------------------------------------
def test_a_topic_that_was_deleted_and_made_again_is_told_with_the_command_that_decides(
    cluster, operator, namespace, kafka, catalog
):
    topic, config = "market.fx.trades.sim", {"bootstrap.servers": kafka.bootstrap_servers}
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="fx"))
    make_ready(cluster, namespace)
    origin = Origin(topic, topic_ids(config, [topic])[topic], cluster_id(config))
    Committer(catalog, identifier(namespace), origin, DataType.TRADES).commit(batch(0, 3))
    delete_topics(config, [topic])
    until(lambda: topic not in topic_ids(config, [topic]), "the topic stays")
    until(lambda: is_made(config, topic), "the topic is not made again")
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "TopicReplaced", "TopicsReady")
    assert status == "False"
    assert message.startswith(
        f"Topic {topic} was deleted and made again: it is {topic_ids(config, [topic])[topic]}, and "
    )
    assert f"k2 sink reset {identifier(namespace)} --topic {topic} --forget" in message
    assert cluster.condition("MarketFeed", namespace, "sim")[:2] == ("False", "TopicReplaced")
    forget_topic(
        load_table(catalog, identifier(namespace)),
        topic,
        Signature("a test", datetime.now(UTC), "the topic was made anew"),
    )
    cluster.until_condition("MarketFeed", namespace, "sim", "TopicsExist", "TopicsReady")
    cluster.until_condition("MarketFeed", namespace, "sim", "AsAsked")


# --- tables ---------------------------------------------------------------------------------------------------------------------
def test_a_table_that_was_made_wrong_is_mended_by_applying_it_right(cluster, operator, namespace, catalog):
    spec = replace(builtin_table(DataType.TRADES), identifier=identifier(namespace))
    schema = iceberg_schema(spec)
    wrong = PartitionField(schema.find_field("symbol").field_id, 1000, parse_transform("day"), "symbol_day")
    catalog.create_namespace(namespace.replace("-", "_"))
    catalog.create_table(
        spec.identifier, schema, None, PartitionSpec(wrong), properties={"commit.retry.num-retries": "banana"}
    )
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    said = until(
        lambda: [text for reason, text in events_of(cluster, namespace, "trades") if reason == "Changed"], "no Event"
    )
    assert any("symbol_day is day of symbol, which is string" in text for text in said)
    assert len(load_table(catalog, spec.identifier).specs()) == 1


def test_a_table_that_others_have_made_unwritable_is_refused_with_the_reason_and_no_catalog_is_blamed(
    cluster, operator, namespace, catalog
):
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    with load_table(catalog, identifier(namespace)).update_schema(allow_incompatible_changes=True) as update:
        update.add_column("desk", StringType(), required=True)
    cluster.apply(table(namespace, properties={"owner": "desk"}))
    status, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "TableRefused")
    assert status == "False"
    assert message.startswith(f"Nothing can be written to {identifier(namespace)} as it is: ")
    assert "desk" in message
    with load_table(catalog, identifier(namespace)).update_schema() as update:
        update.make_column_optional("desk")
    cluster.apply(table(namespace, properties={"owner": "another"}))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
