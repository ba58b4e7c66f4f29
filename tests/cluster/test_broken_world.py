"""What is wrong outside: each case has its words in a condition, is tried again with backoff, and is gone when the cause is."""

import time

import pytest
from confluent_kafka import Producer
from k2_testing.cluster import QUICK, Operator, grant, until
from k2_testing.guarded import Store
from k2_testing.resources import LIVE, events_of, feed, owned, remove_all, table

from k2.bus.admin import partition_counts
from k2.bus.registry import Schemas
from k2.lake.catalog import open_named
from k2.lake.tables import drop_table
from k2.model.errors import WorldError

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]


@pytest.fixture
def store(tmp_path):
    running = Store(tmp_path)
    running.start("first-password")
    running.make_bucket("first-password")
    yield running
    running.stop()


@pytest.fixture
def with_store(cluster, namespace, platform, store, tmp_path):
    """An operator of one namespace, whose catalog's store has another password. None other is at work."""
    grant(cluster, namespace, ["k2-registry"], watched=[namespace])
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path / 'catalog.db'}",
        "warehouse": "s3://lake/warehouse",
        "s3.endpoint": store.endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": "k2-lake",
        "s3.secret-access-key": "second-password",
    }
    own = platform | {"catalog": {"properties": properties}}
    environment = {"K2_OPERATOR_NAMESPACES": f'["{namespace}"]', **QUICK}
    running = Operator(cluster, tmp_path / "operator", namespace, own, **environment)
    running.start()
    yield running
    remove_all(cluster, namespace)
    assert running.stop() == 0


def condition(cluster, namespace, name, which, kind="MarketFeed"):
    found = cluster.get(kind, name, namespace)["status"]["conditions"]
    return next(each for each in found if each["type"] == which)


def says(cluster, namespace, name, *texts, kind="MarketFeed"):
    """Ready's message, once it is there and has one of the texts."""
    message = (cluster.condition(kind, namespace, name) or ("", "", ""))[2]
    return message if any(text in message for text in texts) else None


def errors(operator, kind="MarketFeed"):
    return operator.metrics().get(f'k2_operator_reconciles_total{{kind="{kind}",outcome="error"}}', 0)


def asked(operator, part):
    """1 when a part of the world has answered last, 0 when it is away, None when it was never seen."""
    return operator.metrics().get(f'k2_operator_world_reachable{{part="{part}"}}')


def replicas(cluster, namespace):
    return [each["spec"]["replicas"] for each in cluster.list("Deployment", namespace)]


def watches_are_quiet(operator):
    """Whether the watches bring nothing for three seconds."""

    def brought():
        found = operator.metrics().items()
        return sum(value for name, value in found if name.startswith("k2_operator_watch_events_total"))

    before = brought()
    time.sleep(3)
    return brought() == before


def test_credentials_that_the_store_does_not_take_are_said_and_it_goes_on_when_it_does(
    cluster, namespace, store, with_store
):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    status, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "StoreUnreachable", seconds=90)
    assert status == "False"
    assert message.startswith("The store of the tables does not do as asked")
    # Another try says it, where the first found no answer at all.
    signs = ("ACCESS_DENIED", "SignatureDoesNotMatch", "403")
    message = until(lambda: says(cluster, namespace, "trades", *signs, kind="IcebergTable"), "not what the store says")
    assert "lake" in message
    assert "s3.* among the catalog's properties and in its Secret" in message
    assert "second-password" not in message
    shown = "IcebergTable trades: The store of the tables"
    until(lambda: (says(cluster, namespace, "sim", shown) or "").startswith(shown), "the feed does not say it")
    assert condition(cluster, namespace, "sim", "Ready")["reason"] == "StoreUnreachable"
    since = condition(cluster, namespace, "trades", "Ready", "IcebergTable")["lastTransitionTime"]
    tried = errors(with_store, "IcebergTable")
    until(lambda: errors(with_store, "IcebergTable") > tried, "it is not tried again", 300)
    assert condition(cluster, namespace, "trades", "Ready", "IcebergTable")["lastTransitionTime"] == since
    store.stop()
    store.start("second-password")
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists", seconds=300)
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    until(lambda: asked(with_store, "store") == 1, "it is not looked at")
    store.stop()
    cluster.until_condition("MarketFeed", namespace, "sim", "StoreUnreachable", "TablesReady")
    assert condition(cluster, namespace, "trades", "Ready", "IcebergTable")["reason"] == "StoreUnreachable"
    store.start("second-password")
    cluster.until_condition("MarketFeed", namespace, "sim", "TablesExist", "TablesReady")


def send(kafka, topic, count=1):
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(count):
        producer.produce(topic, b"a message that no sink reads: there are no pods")
    assert producer.flush(20) == 0


def is_there(kafka, topic):
    """Whether it is; a broker that has just started knows of none yet, or does not answer."""
    try:
        return bool(partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, [topic]))
    except WorldError:
        return False


def gone(cluster, namespace, name="sim"):
    return cluster.get("MarketFeed", name, namespace) is None


def test_a_feed_whose_table_was_deleted_first_still_ends(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, assetClass="fx", exchange="TSE", topic=topic, source=LIVE))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    send(kafka, "market.fx.trades.tse")
    cluster.delete("IcebergTable", namespace, "trades")
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "TableNotFound")
    assert "no usable IcebergTable of that name" in message
    assert owned(cluster, namespace)  # what runs goes on as it was
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: gone(cluster, namespace), "the feed stays")
    until(lambda: owned(cluster, namespace) == {}, "objects stay")
    skipped = [text for reason, text in events_of(cluster, namespace, "sim") if reason == "DrainSkipped"]
    assert len(skipped) == 1
    assert skipped[0].startswith("Not drained: its spec was not usable: ")
    assert "no usable IcebergTable of that name" in skipped[0]
    # What was not drained is never deleted, whatever the policy.
    assert partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, ["market.fx.trades.tse"])


def test_a_feed_whose_rows_have_nowhere_to_go_any_more_ends_in_the_middle_of_its_drain(
    cluster, operator, namespace, kafka, platform
):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="fx", exchange="LSE"))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    send(kafka, "market.fx.trades.lse", 3)
    cluster.delete("MarketFeed", namespace, "sim")
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "Draining")
    assert message == "3 messages are not in the tables yet."
    catalog = open_named("k2", platform["catalog"]["properties"])
    try:
        assert drop_table(catalog, f"{namespace.replace('-', '_')}.trades")
    finally:
        catalog.close()
    until(lambda: gone(cluster, namespace), "the feed stays")
    skipped = [text for reason, text in events_of(cluster, namespace, "sim") if reason == "DrainSkipped"]
    assert len(skipped) == 1
    assert f"There is no table {namespace.replace('-', '_')}.trades" in skipped[0]


def test_a_feed_that_is_deleted_while_kafka_is_away_is_let_go_and_its_topic_stays(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, assetClass="futures", exchange="LSE", topic=topic))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    kafka.stop()
    try:
        cluster.delete("MarketFeed", namespace, "sim")
        until(lambda: gone(cluster, namespace), "the feed stays", 240)
        until(lambda: owned(cluster, namespace) == {}, "objects stay")
    finally:
        kafka.start()
    skipped = [text for reason, text in events_of(cluster, namespace, "sim") if reason == "DrainSkipped"]
    assert len(skipped) == 1
    assert skipped[0].startswith(f"Not drained: Kafka at {kafka.bootstrap_servers} ")
    until(lambda: is_there(kafka, "market.futures.trades.lse"), "the topic is gone")


def test_what_is_away_is_asked_for_by_no_feed_and_the_condition_says_since_when(cluster, operator, namespace, registry):
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    registry.stop()
    try:
        cluster.apply(feed(namespace, assetClass="options", exchange="NYSE"))
        status, _, message = cluster.until_condition(
            "MarketFeed", namespace, "sim", "RegistryUnreachable", "SchemasReady", seconds=60
        )
        assert status == "False"
        assert registry.url in message
        since = condition(cluster, namespace, "sim", "SchemasReady")["lastTransitionTime"]
        until(lambda: asked(operator, "registry") == 0, "the registry is not known to be away")
        until(lambda: watches_are_quiet(operator), "its Deployment's controller does not come to rest")
        tried = errors(operator)
        cluster.patch("MarketFeed", namespace, "sim", {"spec": {"suspend": True}})
        until(lambda: replicas(cluster, namespace) == [0], "what needs no registry waits for it")
        assert errors(operator) == tried, "a try that fails is an error"
        assert condition(cluster, namespace, "sim", "SchemasReady")["reason"] == "RegistryUnreachable"
        assert condition(cluster, namespace, "sim", "SchemasReady")["lastTransitionTime"] == since
    finally:
        registry.start()
    cluster.until_condition("MarketFeed", namespace, "sim", "SubjectsRegistered", "SchemasReady", seconds=300)


def test_what_the_registry_refuses_is_not_tried_again(cluster, operator, namespace, registry):
    old = '{"type": "record", "name": "Trade", "fields": [{"name": "price", "type": "string"}]}'
    Schemas({"url": registry.url}).register("market.options.trades.cme-value", old)
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    cluster.apply(feed(namespace, assetClass="options", exchange="CME"))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "SchemaRefused", "SchemasReady")
    assert "market.options.trades.cme-value" in message
    assert "not backward compatible" in message
    assert_not_tried_again(operator, namespace)


def test_more_partitions_than_a_topic_has_are_refused_and_not_tried_again(cluster, operator, namespace, kafka):
    """Somebody has made the topic already, with one partition."""
    from k2.bus.admin import TopicSpec, ensure_topics

    name = "market.options.trades.tse"
    ensure_topics({"bootstrap.servers": kafka.bootstrap_servers}, [TopicSpec(name, partitions=1)])
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    cluster.apply(feed(namespace, assetClass="options", exchange="TSE", topic={"partitions": 4}))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "TopicRefused", "TopicsReady")
    assert f"{name} has 1 partitions, and more would move symbols to other partitions: found 4, expected 1" in message
    assert "allowReordering: true" in message
    assert_not_tried_again(operator, namespace)


def assert_not_tried_again(operator, namespace):
    """A mistake waits for whoever made it: no reconcile fails, and each that is to be repeated is a line that names it."""
    before, said = errors(operator), operator.log.stat().st_size
    time.sleep(6)  # nothing may happen: there is no event to wait for
    assert errors(operator) == before
    assert f"MarketFeed {namespace}/sim" not in operator.said_since(said)
