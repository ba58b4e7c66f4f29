"""The operator on a real API server, with real Kafka, registry and catalog. There are no nodes: the tests say when pods run."""

import pytest
from k2_testing.cluster import until

pytestmark = [pytest.mark.real, pytest.mark.timeout(300, func_only=True)]


def table(namespace, name="trades", schema=None, identifier=None, **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"identifier": identifier or f"{namespace.replace('-', '_')}.{name}", "schema": schema or name, **spec},
    }


def feed(namespace, name="sim", streams=("trades",), source=None, exchange="SIM", **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": source or {"external": {}},
            "exchange": exchange,
            "streams": [{"dataType": each, "tableRef": {"name": each}} for each in streams],
            "topic": {"partitions": 1},
            **spec,
        },
    }


FINITE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 1}}
LIVE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 0, "eventsPerSecond": 10}}


def owned(cluster, namespace, feed="sim"):
    kinds = ("Deployment", "Job", "ConfigMap")
    return {
        (kind, each["metadata"]["name"]): each
        for kind in kinds
        for each in cluster.list(kind, namespace, f"k2.dev/feed={feed}")
    }


def names_of(cluster, namespace, kind, feed="sim"):
    return sorted(name for found, name in owned(cluster, namespace, feed) if found == kind)


def test_a_feed_gets_all_its_objects_and_its_conditions_tell_the_truth(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    until(lambda: len(owned(cluster, namespace)) == 4, "objects")
    status, _reason, message = cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    assert status == "False"
    assert "has 0 of 1 pods available" in message
    for which, good in (
        ("TopicsReady", "TopicsExist"),
        ("SchemasReady", "SubjectsRegistered"),
        ("TablesReady", "TablesExist"),
    ):
        assert cluster.until_condition("MarketFeed", namespace, "sim", good, which)[0] == "True"
    assert cluster.condition("IcebergTable", namespace, "trades") == ("True", "TableExists", "")
    for name in names_of(cluster, namespace, "Deployment"):
        cluster.run_pods(namespace, name)
