"""The operator is killed again and again while feeds are applied: what it left half done is whole in the end, and once."""

import itertools
import random
import time
from collections import Counter

import pytest
from k2_testing.cluster import until
from k2_testing.extent import sized
from k2_testing.resources import LIVE, feed, names_of, owned, table

from k2.bus.admin import partition_counts
from k2.model.topics import AssetClass

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]
FEEDS, AT_A_TIME = sized(8, 20), 4
EXCHANGES = ("ASX", "NYSE", "NASDAQ", "LSE", "TSE", "CME", "BINANCE", "COINBASE", "KRAKEN")


def manifests(namespace):
    """Feeds of one shape with topics of their own: each gets the same objects under other names."""
    pairs = itertools.product(EXCHANGES, (AssetClass.FX, AssetClass.FUTURES, AssetClass.CRYPTO))
    for number, (exchange, asset_class) in enumerate(itertools.islice(pairs, FEEDS + 1)):
        yield feed(namespace, f"feed-{number}", ("trades",), LIVE, exchange, assetClass=asset_class.value)


def shape(cluster, namespace, name):
    return Counter(kind for kind, _ in owned(cluster, namespace, name))


def is_done(cluster, namespace, name):
    reasons = {"TopicsReady": "TopicsExist", "SchemasReady": "SubjectsRegistered", "TablesReady": "TablesExist"}
    return all(
        (cluster.condition("MarketFeed", namespace, name, which) or ("", ""))[1] == reason
        for which, reason in reasons.items()
    )


def applied(operator):
    return sum(
        value for name, value in operator.metrics().items() if name.startswith("k2_operator_objects_applied_total{")
    )


def test_killed_at_random_moments_it_ends_with_each_feed_once(cluster, operator, namespace, kafka):
    chance = random.Random(20_261_121)  # the same moments in each run, as far as the machine allows
    cluster.apply(table(namespace))
    waiting = list(manifests(namespace))
    undisturbed = waiting.pop()
    half_done = 0
    while waiting:
        batch, waiting = waiting[:AT_A_TIME], waiting[AT_A_TIME:]
        for each in batch:
            cluster.apply(each)
        # Whatever the machine, the first is killed before it can be done.
        time.sleep(chance.uniform(0.0, 0.8) if half_done else 0.0)
        operator.kill()
        half_done += sum(not is_done(cluster, namespace, each["metadata"]["name"]) for each in batch)
        operator.start()
    # The control: had every batch been done before its kill, nothing would have been tested.
    assert half_done > 0
    names = [f"feed-{number}" for number in range(FEEDS)]
    for name in names:
        until(lambda name=name: is_done(cluster, namespace, name), f"{name} does not come to its end", 300, pause=0.3)
    cluster.apply(undisturbed)
    last = undisturbed["metadata"]["name"]
    until(lambda: is_done(cluster, namespace, last), f"{last} does not come to its end", 300)
    wanted = shape(cluster, namespace, last)
    assert wanted["Deployment"] == 2
    for name in names:
        assert shape(cluster, namespace, name) == wanted, name
    deployments = cluster.list("Deployment", namespace)
    assert len(deployments) == 2 * (FEEDS + 1)
    assert {len(each["metadata"]["ownerReferences"]) for each in deployments} == {1}
    sinks = [
        each
        for name in names
        for each in names_of(cluster, namespace, "Deployment", name)
        if each.startswith("k2-sink")
    ]
    assert len(set(sinks)) == FEEDS
    topics = [
        f"market.{each['spec']['assetClass']}.trades.{each['spec']['exchange'].lower()}"
        for each in manifests(namespace)
    ]
    counts = partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, [*topics, *(f"{t}.dlq" for t in topics)])
    assert counts == dict.fromkeys([*topics, *(f"{t}.dlq" for t in topics)], 1)
    done = applied(operator)
    time.sleep(5)  # nothing is applied again
    assert applied(operator) == done
