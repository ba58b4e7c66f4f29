"""Three hundred feeds at once: how long, with how many requests, in how much memory, and what a restart costs."""

import itertools
import sys
import time

import psutil
import pytest
from k2_testing.cluster import until
from k2_testing.resources import LIVE, feed, table

from k2.model.exchanges import EXCHANGES
from k2.model.topics import AssetClass, DataType

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(600, func_only=True)]


@pytest.fixture
def measured(capsys):
    """Takes a figure by name; all are shown at the end of the test."""
    found = {}
    yield found.__setitem__
    with capsys.disabled():
        sys.stdout.write(f"\n{found}\n")


def feeds(namespace):
    """147 feeds that own a topic and its sink (nearly all there can be), and 153 that send to the same topics."""
    topics = [
        (exchange, asset_class, data_type)
        for exchange, asset_class, data_type in itertools.product(EXCHANGES, AssetClass, DataType)
        if (exchange, asset_class) != ("SIM", AssetClass.OPTIONS)  # another test needs its subject unused
    ]
    for number, (exchange, asset_class, data_type) in enumerate(itertools.islice(itertools.cycle(topics), 300)):
        own = number < len(topics)
        stream = {"dataType": data_type.value, "tableRef": {"name": data_type.value.replace("_", "-")}}
        stream["sink"] = {"enabled": own}
        source = {"external": {}} if own else LIVE
        yield feed(namespace, f"feed-{number}", [stream], source, exchange, assetClass=asset_class.value)


def done(cluster, namespace):
    return [
        each["metadata"]["name"]
        for each in cluster.list("MarketFeed", namespace)
        if any(
            found["type"] == "SchemasReady" and found["status"] == "True"
            for found in each.get("status", {}).get("conditions", ())
        )
    ]


def requests(operator):
    found = operator.metrics().items()
    return sum(value for name, value in found if name.startswith("k2_operator_api_requests_total{"))


def test_three_hundred_feeds(cluster, operator, namespace, measured):
    for data_type in DataType:
        name = data_type.value.replace("_", "-")
        identifier = f"{namespace.replace('-', '_')}.{data_type.value}"
        cluster.apply(table(namespace, name, data_type.value, identifier))
        cluster.until_condition("IcebergTable", namespace, name, "TableExists")
    asked = requests(operator)
    started = time.monotonic()
    for each in feeds(namespace):
        cluster.create(each)
    applied = time.monotonic() - started
    until(lambda: len(done(cluster, namespace)) == 300, "not all have converged", 400, pause=1)
    converged = time.monotonic() - started
    until(lambda: quiet(operator), "it does not come to rest", 60)
    memory = psutil.Process(operator.pid).memory_info().rss / 2**20
    each = (requests(operator) - asked) / 300
    operator.kill()
    started = time.monotonic()
    operator.start()
    until(lambda: quiet(operator), "it does not come to rest", 100)
    restarted = time.monotonic() - started
    # Everything is looked at once more soon after a start; what follows is rest.
    until(lambda: operator.metrics().get("k2_operator_last_resync_timestamp_seconds"), "no resync", 60)
    until(lambda: quiet(operator), "it does not come to rest", 100)
    process = psutil.Process(operator.pid)
    before = process.cpu_times()
    time.sleep(60)  # what rest costs
    after = process.cpu_times()
    rest = (after.user + after.system - before.user - before.system) / 60
    for name, value in (
        ("applied_seconds", applied),
        ("converged_seconds", converged),
        ("memory_mib", memory),
        ("requests_per_feed", each),
        ("restart_seconds", restarted),
        ("core_at_rest", rest),
    ):
        measured(name, round(value, 3))
    # The targets are 60 s, 300 MiB, 25 requests and 30 s; time is asked less strictly: the machine is shared.
    assert each <= 25
    assert memory < 400
    assert converged < 240
    assert restarted < 90


def quiet(operator):
    before = operator.metrics()
    time.sleep(2)
    after = operator.metrics()
    name = "k2_operator_queue_resources"
    return after.get(name) == 0 and total(before) == total(after)


def total(found):
    return sum(value for name, value in found.items() if name.startswith("k2_operator_reconciles_total"))
