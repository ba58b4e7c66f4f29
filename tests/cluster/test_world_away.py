"""A part of the world goes away and comes back: each resource that needs it says so, and takes it back, without anybody's help."""

import pytest
from confluent_kafka import Producer
from k2_testing.cluster import QUICK, cluster_wide_operator, until
from k2_testing.gateway import USER, Gateway
from k2_testing.parts import forget_subjects
from k2_testing.resources import LIVE, events_of, feed, make_ready, table

from k2.bus.admin import end_offsets
from k2.bus.registry import Schemas

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

SECONDS = 120
"""For what is said after two questions, of ten seconds each at most, on a machine that is five times slower."""

TOPIC = "market.crypto.trades.binance"
FIGURES = {"lag", "rate", "lastEventTime", "gaps"}
TABLE_FIGURES = {"lastSnapshot", "lastCommitTime", "rows", "bytes", "files"}


@pytest.fixture(scope="module")
def gateway(registry):
    """The registry asks for a password here."""
    before_it = Gateway(registry.url, takes="first")
    yield before_it
    before_it.close()


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A catalog's file and a warehouse in folders of their own, which can be taken away."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("catalog", "store"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def platform(kafka, gateway, lake):
    """The platform of this file's operator."""
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{lake / 'catalog' / 'catalog.db'}",
        "warehouse": f"file://{lake / 'store' / 'warehouse'}",
    }
    return {
        "kafka": {"bootstrapServers": kafka.bootstrap_servers},
        "registry": {"url": gateway.url, "secretName": "k2-registry"},
        "catalog": {"properties": properties},
    }


@pytest.fixture(scope="module")
def operator(cluster, platform, tmp_path_factory):
    """The operator at work, with the password that the registry takes at first."""
    own = {"K2_REGISTRY_USERNAME": USER, "K2_REGISTRY_PASSWORD": "first", **QUICK}
    with cluster_wide_operator(cluster, tmp_path_factory.mktemp("operator"), platform, **own) as running:
        yield running


@pytest.fixture
def flowing(cluster, operator, namespace, kafka, gateway):
    """A feed that is ready and measured; returns its lag, for there are no pods whose sinks would take its messages."""
    cluster.apply(table(namespace))
    # A sink that commits so seldom is not said to have stalled as long as these tests last.
    cluster.apply(feed(namespace, source=LIVE, exchange="BINANCE", assetClass="crypto", sink={"commitInterval": "10m"}))
    make_ready(cluster, namespace)
    config = {"bootstrap.servers": kafka.bootstrap_servers}
    send(config)
    lag = sum(end_offsets(config, TOPIC).values())
    until(lambda: status(cluster, namespace).get("lag") == lag, "never measured")
    until(lambda: "rows" in status(cluster, namespace, "IcebergTable", "trades"), "the table was never measured")
    yield lag
    gateway.takes = "first"


def send(config):
    """One message, by a producer that is gone afterwards."""
    producer = Producer(config)
    producer.produce(TOPIC, b"a message")
    assert producer.flush(20) == 0


def status(cluster, namespace, kind="MarketFeed", name="sim"):
    return cluster.get(kind, name, namespace).get("status", {})


def until_says(cluster, namespace, which, told, reason, kind="MarketFeed", name="sim"):
    """Wait until a condition has that status and that reason; returns its message."""

    def probe():
        found = cluster.condition(kind, namespace, name, which)
        return found if found and found[:2] == (told, reason) else None

    def why():
        return str(status(cluster, namespace, kind, name))

    return until(probe, f"{which} is not {told}/{reason}", SECONDS, why=why)[2]


def unreachable(cluster, namespace):
    """What the feed or the table says that it cannot reach."""
    both = status(cluster, namespace), status(cluster, namespace, "IcebergTable", "trades")
    return [each["reason"] for found in both for each in found["conditions"] if each["reason"].endswith("Unreachable")]


def until_back(cluster, namespace):
    """Wait until all is as it was before."""
    cluster.until_condition("MarketFeed", namespace, "sim", "AsAsked", seconds=SECONDS)
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists", seconds=SECONDS)
    until(lambda: status(cluster, namespace).keys() >= {"lag", "rate"}, "not measured again", SECONDS)
    until(lambda: "rows" in status(cluster, namespace, "IcebergTable", "trades"), "not measured again", SECONDS)
    until(lambda: not unreachable(cluster, namespace), "something is still said to be away", SECONDS)


def test_without_kafka_a_feed_says_so_and_its_figures_are_gone_until_it_is_back(cluster, namespace, kafka, flowing):
    kafka.stop()
    try:
        message = until_says(cluster, namespace, "Ready", "False", "KafkaUnreachable")
        assert f"Kafka at {kafka.bootstrap_servers} cannot be reached" in message
        until_says(cluster, namespace, "TopicsReady", "False", "KafkaUnreachable")
        for which in ("Fresh", "Degraded"):
            assert message in until_says(cluster, namespace, which, "Unknown", "KafkaUnreachable")
        assert FIGURES.isdisjoint(status(cluster, namespace))
        assert status(cluster, namespace).get("sinks", []) == []
        (row,) = cluster.table("MarketFeed", namespace)
        assert (row["Ready"], row["Lag"], row["Rate"], row["Freshness"]) == ("False", None, None, None)
        assert cluster.condition("MarketFeed", namespace, "sim", "SchemasReady")[0] == "True"
        assert cluster.condition("MarketFeed", namespace, "sim", "TablesReady")[0] == "True"
        assert ("KafkaUnreachable", message) in events_of(cluster, namespace, "sim")
    finally:
        kafka.start()
    until_back(cluster, namespace)
    until(lambda: status(cluster, namespace)["lag"] == flowing, "the lag is not measured again")


def test_without_the_registry_a_feed_says_so_until_it_is_back(cluster, namespace, gateway, registry, flowing):
    registry.stop()
    try:
        assert gateway.url in until_says(cluster, namespace, "Ready", "False", "RegistryUnreachable")
        until_says(cluster, namespace, "SchemasReady", "False", "RegistryUnreachable")
        assert status(cluster, namespace)["lag"] == flowing
    finally:
        registry.start()
    until_back(cluster, namespace)


def test_a_password_that_is_taken_no_more_is_an_outage_also_for_who_comes_then(cluster, namespace, gateway, flowing):
    gateway.takes = "second"
    assert "does not take the credentials" in until_says(cluster, namespace, "Ready", "False", "RegistryUnreachable")
    cluster.apply(feed(namespace, "late", exchange="KRAKEN", assetClass="crypto"))
    until_says(cluster, namespace, "SchemasReady", "False", "RegistryUnreachable", name="late")
    gateway.takes = "first"
    until_back(cluster, namespace)
    until_says(cluster, namespace, "SchemasReady", "True", "SubjectsRegistered", name="late")


def test_subjects_that_a_registry_has_forgotten_are_registered_again(cluster, namespace, registry, flowing):
    subject = f"{TOPIC}-value"
    latest = Schemas({"url": registry.url}).latest
    assert latest(subject) is not None
    forget_subjects(registry)
    until(lambda: latest(subject), "it is not registered again", SECONDS)
    said = f"registered {subject} again, which the registry had no more"
    until(lambda: ("Changed", said) in events_of(cluster, namespace, "sim"), "no Event tells of it")
    assert cluster.condition("MarketFeed", namespace, "sim", "SchemasReady")[1] == "SubjectsRegistered"


@pytest.mark.parametrize(("part", "reason"), [("catalog", "CatalogUnreachable"), ("store", "StoreUnreachable")])
def test_without_a_part_of_the_lake_tables_and_their_feeds_say_so_until_it_is_back(
    cluster, operator, namespace, lake, flowing, part, reason
):
    asked = f'k2_operator_world_reachable{{part="{part}"}}'
    until(lambda: operator.metrics().get(asked) == 1, "it was never asked")
    (lake / part).rename(lake / "away")
    try:
        message = until_says(cluster, namespace, "Ready", "False", reason, "IcebergTable", "trades")
        assert "is not there: " in message
        for which in ("Compacted", "FilesPresent"):
            until_says(cluster, namespace, which, "Unknown", reason, "IcebergTable", "trades")
        assert TABLE_FIGURES.isdisjoint(status(cluster, namespace, "IcebergTable", "trades"))
        told = until_says(cluster, namespace, "TablesReady", "False", reason)
        assert told == f"IcebergTable trades: {message}"
        until_says(cluster, namespace, "Ready", "False", reason)
        assert status(cluster, namespace)["lag"] == flowing, "Kafka is there"
        assert operator.metrics()[asked] == 0
        assert not (lake / part).exists(), "nobody has made another one"
    finally:
        (lake / "away").rename(lake / part)
    until_back(cluster, namespace)
