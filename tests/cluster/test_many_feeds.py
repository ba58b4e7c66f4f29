"""Hundreds of feeds at once: how long, with how many requests, in how much memory, and what a restart costs."""

import itertools
import time

import psutil
import pytest
from k2_testing.cluster import Operator, grant, until, with_definitions
from k2_testing.extent import FULL, sized
from k2_testing.resources import LIVE, feed, table

from k2.bus.admin import partition_counts
from k2.model.exchanges import known
from k2.model.topics import AssetClass, DataType, TopicName

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(1800, func_only=True)]
FEEDS = sized(60, 300)


@pytest.fixture(scope="module")
def cluster(control_plane):
    """Without nodes also where a cluster is given: 450 pods would be scheduled again and again, and the figures are of the operator."""
    return with_definitions(control_plane)


@pytest.fixture(scope="module")
def operator(cluster, platform, tmp_path_factory):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "k2-system"}})
    grant(cluster, "k2-system", ["k2-registry"])
    folder = tmp_path_factory.mktemp("operator")
    running = Operator(cluster, folder, "k2-system", platform, K2_OPERATOR_CLUSTER_WIDE="true")
    running.start()
    yield running
    assert running.stop() == 0
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        cluster.delete(kind, None, "k2-operator-k2-system")


STREAMS = list(itertools.product(known(), AssetClass, DataType))[:FEEDS]


def table_of(exchange, data_type):
    return f"{exchange}-{data_type.value}".lower().replace("_", "-")


def tables(namespace):
    """One for each exchange and data type, as a desk would have them."""
    for exchange, data_type in sorted({(exchange, data_type) for exchange, _, data_type in STREAMS}):
        name = table_of(exchange, data_type)
        yield table(namespace, name, data_type.value, f"{namespace}.{name}".replace("-", "_"))


def feeds(namespace):
    """Each has a topic and a sink of its own, and every other one a producer too."""
    for number, (exchange, asset_class, data_type) in enumerate(STREAMS):
        stream = {"dataType": data_type.value, "tableRef": {"name": table_of(exchange, data_type)}}
        source = LIVE if number % 2 and data_type is not DataType.REFERENCE_DATA else {"external": {}}
        yield feed(namespace, f"feed-{number}", [stream], source, exchange, assetClass=asset_class.value)


def topics():
    """The topic of each feed and its dead-letter topic."""
    named = [TopicName(asset_class, data_type, exchange.lower()) for exchange, asset_class, data_type in STREAMS]
    return [name for each in named for name in (str(each), each.dead_letters)]


def saying(cluster, namespace, which, told, reason):
    """How many feeds have a condition of that status and that reason."""
    return sum(
        any(
            (found["type"], found["status"], found["reason"]) == (which, told, reason)
            for found in each.get("status", {}).get("conditions", ())
        )
        for each in cluster.list("MarketFeed", namespace)
    )


def all_say(cluster, namespace, which, told, reason):
    return saying(cluster, namespace, which, told, reason) == FEEDS


def requests(operator):
    found = operator.metrics().items()
    return sum(value for name, value in found if name.startswith("k2_operator_api_requests_total{"))


def test_hundreds_of_feeds(cluster, operator, namespace, measured, kafka):
    assert len(set(topics())) == 2 * FEEDS
    wanted = list(tables(namespace))
    for each in wanted:
        cluster.create(each)
    for each in wanted:
        cluster.until_condition("IcebergTable", namespace, each["metadata"]["name"], "TableExists", seconds=240)
    asked = requests(operator)
    started = time.monotonic()
    for each in feeds(namespace):
        cluster.create(each)
    applied = time.monotonic() - started
    until(
        lambda: all_say(cluster, namespace, "SchemasReady", "True", "SubjectsRegistered"),
        "not all have converged",
        1200,
        pause=1,
    )
    converged = time.monotonic() - started
    # Rest is when the Deployments' own controller has come to rest too.
    until(lambda: quiet(operator), "it does not come to rest", 400)
    memory = psutil.Process(operator.pid).memory_info().rss / 2**20
    each = (requests(operator) - asked) / FEEDS
    counts = partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, topics())
    assert counts == dict.fromkeys(topics(), 1)
    deployments = [each["metadata"]["name"] for each in cluster.list("Deployment", namespace)]
    assert sum(each.startswith("k2-sink-") for each in deployments) == FEEDS
    operator.kill()
    started = time.monotonic()
    operator.start()
    until(lambda: quiet(operator), "it does not come to rest", 400)
    restarted = time.monotonic() - started
    # Everything is looked at once more soon after a start; what follows is rest.
    until(lambda: operator.metrics().get("k2_operator_last_resync_timestamp_seconds"), "no resync", 180)
    until(lambda: quiet(operator), "it does not come to rest", 400)
    seconds = sized(30, 60)
    before = used(operator)
    time.sleep(seconds)  # what rest costs
    rest = (used(operator) - before) / seconds
    for name, value in (
        ("applied_seconds", applied),
        ("converged_seconds", converged),
        ("memory_mib", memory),
        ("requests_per_feed", each),
        ("restart_seconds", restarted),
        ("core_at_rest", rest),
    ):
        measured(name, round(value, 3))
    assert each <= 25
    assert memory < sized(400, 300)
    assert rest < 0.02
    if not FULL:  # seconds on the clock mean nothing beside other tests
        return
    told, outage, back = without_kafka(cluster, operator, namespace, kafka)
    for name, value in (
        ("outage_told_seconds", told),
        ("core_in_its_first_minute", outage),
        ("outage_over_seconds", back),
    ):
        measured(name, round(value, 3))
    assert converged < 60
    assert restarted < 30
    assert told < 60
    assert outage <= 0.05
    assert back < 90


def used(operator):
    """Seconds of a core that the operator has used."""
    spent = psutil.Process(operator.pid).cpu_times()
    return spent.user + spent.system


def without_kafka(cluster, operator, namespace, kafka):
    """Kafka away for a minute: seconds until all say so, the share of a core in that minute, seconds until all have taken it back."""
    kafka.stop()
    started, before = time.monotonic(), used(operator)
    try:
        until(
            lambda: all_say(cluster, namespace, "TopicsReady", "False", "KafkaUnreachable"),
            "not all say that Kafka is away",
            300,
            pause=1,
        )
        told = time.monotonic() - started
        assert saying(cluster, namespace, "Fresh", "Unknown", "KafkaUnreachable") == FEEDS
        time.sleep(max(0.0, 60.0 - told))  # what it costs
        share = (used(operator) - before) / (time.monotonic() - started)
    finally:
        kafka.start()
    started = time.monotonic()
    until(
        lambda: all_say(cluster, namespace, "TopicsReady", "True", "TopicsExist"),
        "not all have taken it back",
        300,
        pause=1,
    )
    return told, share, time.monotonic() - started


def quiet(operator):
    before = operator.metrics()
    time.sleep(2)
    after = operator.metrics()
    name = "k2_operator_queue_resources"
    return after.get(name) == 0 and total(before) == total(after)


def total(found):
    return sum(value for name, value in found.items() if name.startswith("k2_operator_reconciles_total"))
