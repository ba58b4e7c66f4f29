"""Resources as a person would write them, and what becomes of them, for the cluster tests."""

from k2_testing.cluster import until

FINITE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 1}}
LIVE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 0, "eventsPerSecond": 10}}


def table(namespace, name="trades", schema=None, identifier=None, **spec):
    """An IcebergTable whose identifier no other namespace has."""
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"identifier": identifier or f"{namespace}.{name}".replace("-", "_"), "schema": schema or name, **spec},
    }


def feed(namespace, name="sim", streams=("trades",), source=None, exchange="SIM", **spec):
    """A MarketFeed with topics of one partition, into tables named after its streams."""
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": source or {"external": {}},
            "exchange": exchange,
            "streams": [
                each if isinstance(each, dict) else {"dataType": each, "tableRef": {"name": each}} for each in streams
            ],
            "topic": {"partitions": 1},
            **spec,
        },
    }


def owned(cluster, namespace, feed="sim"):
    """What the operator has made for a feed, by (kind, name)."""
    return {
        (kind, each["metadata"]["name"]): each
        for kind in ("Deployment", "Job", "ConfigMap")
        for each in cluster.list(kind, namespace, f"k2.dev/feed={feed}")
    }


def names_of(cluster, namespace, kind, feed="sim"):
    """Names of the feed's objects of a kind."""
    return sorted(name for found, name in owned(cluster, namespace, feed) if found == kind)


def make_ready(cluster, namespace, name="sim"):
    """Play the kubelet until a feed is ready."""
    until(lambda: names_of(cluster, namespace, "Deployment", name), f"no Deployment of {name}")
    until(lambda: cluster.condition("MarketFeed", namespace, name, "SinkAvailable"), f"no conditions of {name}")
    for deployment in names_of(cluster, namespace, "Deployment", name):
        cluster.run_pods(namespace, deployment)
    cluster.until_condition("MarketFeed", namespace, name, "AsAsked")


def events_of(cluster, namespace, name):
    """(reason, message) of the Events about an object."""
    return [
        (each["reason"], each["message"])
        for each in cluster.list("Event", namespace)
        if each["involvedObject"]["name"] == name and each.get("source", {}).get("component") == "k2-operator"
    ]


def remove_all(cluster, namespace, seconds=300):
    """Delete a namespace's feeds, undrained, and then its tables. An operator has to be at work."""
    for each in cluster.list("MarketFeed", namespace):
        name = each["metadata"]["name"]
        cluster.patch("MarketFeed", namespace, name, {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
        cluster.delete("MarketFeed", namespace, name)
    until(lambda: not cluster.list("MarketFeed", namespace), "feeds are left", seconds)
    for each in cluster.list("IcebergTable", namespace):
        cluster.delete("IcebergTable", namespace, each["metadata"]["name"])
    until(lambda: not cluster.list("IcebergTable", namespace), "tables are left", seconds)
