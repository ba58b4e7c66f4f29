"""At rest nothing is written: feeds without data stand still, while everything is looked at again and again."""

import time
from collections import Counter

import pytest
from k2_testing.cluster import Operator, grant, until
from k2_testing.extent import sized
from k2_testing.resources import FINITE, LIVE, feed, make_ready, remove_all, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]
RESYNC_SECONDS = 20

KINDS = ("MarketFeed", "IcebergTable", "Deployment", "ConfigMap", "Job", "CronJob", "Event", "Pod")


@pytest.fixture
def looking(cluster, namespace, platform, tmp_path):
    """An operator that looks at everything every twenty seconds, and measures and looks whether the world is there every two."""
    grant(cluster, namespace, ["k2-registry"], watched=[namespace])
    own = {
        "K2_OPERATOR_NAMESPACES": f'["{namespace}"]',
        "K2_OPERATOR_RESYNC_SECONDS": str(RESYNC_SECONDS),
        "K2_OPERATOR_COLLECT_SECONDS": "2",
        "K2_OPERATOR_LOOK_SECONDS": "2",
    }
    running = Operator(cluster, tmp_path, namespace, platform, **own)
    running.start()
    yield running
    remove_all(cluster, namespace)
    assert running.stop() == 0


@pytest.fixture
def feeds(cluster, looking, namespace):
    """One feed of each sort, as far as it gets without data: ready ones, a wrong one, one that waits, one that is suspended."""
    for name in ("trades", "quotes"):
        cluster.apply(table(namespace, name))
    round_the_clock = {"exchange": "BINANCE"}  # no session begins or ends while we look
    cluster.apply(feed(namespace, "live", ("trades", "quotes"), LIVE, **round_the_clock))
    cluster.apply(feed(namespace, "external", assetClass="fx", **round_the_clock))
    cluster.apply(feed(namespace, "load", source=FINITE, assetClass="futures", **round_the_clock))
    cluster.apply(feed(namespace, "off", assetClass="options", suspend=True, **round_the_clock))
    cluster.apply(feed(namespace, "wrong", exchange="NOWHERE"))
    nowhere = {"dataType": "trades", "tableRef": {"name": "not-there"}}
    cluster.apply(feed(namespace, "waits", [nowhere], **round_the_clock))
    for name in ("live", "external"):
        make_ready(cluster, namespace, name)
    for name, reason in (("wrong", "InvalidSpec"), ("waits", "TableNotFound"), ("off", "Suspended")):
        cluster.until_condition("MarketFeed", namespace, name, reason)
    for name in ("live", "external", "load"):
        until(lambda name=name: "lag" in status(cluster, namespace, name), f"{name} was never measured", 240)
    for name in ("trades", "quotes"):
        until(lambda name=name: "rows" in status(cluster, namespace, name, "IcebergTable"), f"{name} not measured", 240)


def status(cluster, namespace, name, kind="MarketFeed"):
    return cluster.get(kind, name, namespace).get("status", {})


def versions(cluster, namespace):
    return {
        (kind, each["metadata"]["name"]): each["metadata"]["resourceVersion"]
        for kind in KINDS
        for each in cluster.list(kind, namespace)
        # Where there are nodes, the scheduler says again and again that none has room for these pods.
        if each.get("source", {}).get("component") != "default-scheduler"
        and each.get("reportingComponent") != "default-scheduler"
    }


def writes(operator):
    return {
        name: value
        for name, value in operator.metrics().items()
        if name.startswith("k2_operator_api_requests_total{") and "GET" not in name
    }


def looks(operator):
    """How often each thing has been looked at."""
    found = operator.metrics()
    return Counter(
        reconciles=sum(value for name, value in found.items() if name.startswith("k2_operator_reconciles_total{")),
        collections=found.get('k2_operator_collections_total{outcome="ok"}', 0),
        resync=found.get("k2_operator_last_resync_timestamp_seconds", 0),
    )


def stands_still(cluster, operator, namespace, seconds):
    time.sleep(5)  # the last events
    before, written, looked = versions(cluster, namespace), writes(operator), looks(operator)
    assert {"MarketFeed", "IcebergTable", "Deployment", "Job"} <= {kind for kind, _ in before}
    time.sleep(seconds)
    until(lambda: enough(looks(operator), looked, seconds), "not everything is looked at again and again", 300)
    assert versions(cluster, namespace) == before
    assert writes(operator) == written


def enough(after, before, seconds):
    """Collections twice; resyncs for as long as we waited, which move their time, and look at eight resources each."""
    return (
        after["collections"] - before["collections"] >= 2
        and after["resync"] - before["resync"] >= seconds - 2 * RESYNC_SECONDS
        and after["reconciles"] - before["reconciles"] >= 8
    )


def test_at_rest_nothing_is_written(cluster, looking, namespace, feeds):
    stands_still(cluster, looking, namespace, sized(50, 300))
