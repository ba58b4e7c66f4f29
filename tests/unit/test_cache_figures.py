"""What the operator says of what it looks after is what its cache holds at that moment."""

from k2_operator.kube.cache import Cache
from k2_operator.reconcile.cache_figures import CacheFigures


def obj(kind, name, version=1, component=None, spec=None, **status):
    labels = {"app.kubernetes.io/component": component, "k2.dev/feed": "sim"} if component else {}
    metadata = {
        "name": name,
        "namespace": "m",
        "uid": f"{kind}-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec or {}, "status": status}


def condition(name, status):
    return {"type": name, "status": status, "reason": "Told", "message": ""}


def figures(cache):
    return {
        (family.name.removeprefix("k2_operator_"), *sample.labels.values()): sample.value
        for family in CacheFigures(cache).collect()
        for sample in family.samples
    }


def test_an_empty_cache_has_every_figure_at_zero():
    found = figures(Cache())
    assert set(found.values()) == {0}
    assert {("resources", "MarketFeed", "false"), ("load_jobs", "failed"), ("workload_pods", "sink", "wanted")} <= set(
        found
    )


def test_resources_and_their_conditions_are_counted_as_they_are_now():
    cache = Cache()
    cache.put(obj("MarketFeed", "a", conditions=[condition("Ready", "True"), condition("Fresh", "False")]))
    cache.put(obj("MarketFeed", "b", conditions=[condition("Ready", "False"), condition("Fresh", "Unknown")]))
    cache.put(obj("MarketFeed", "new"))
    found = figures(cache)
    assert (found["resources", "MarketFeed", "true"], found["resources", "MarketFeed", "false"]) == (1, 2)
    fresh = [found["conditions_resources", "MarketFeed", "Fresh", status] for status in ("True", "False", "Unknown")]
    assert fresh == [0, 1, 1]
    cache.put(obj("MarketFeed", "b", 2, conditions=[condition("Ready", "True"), condition("Fresh", "True")]))
    found = figures(cache)
    assert (found["resources", "MarketFeed", "true"], found["resources", "MarketFeed", "false"]) == (2, 1)


def test_pods_are_those_that_deployments_ask_for_and_have():
    cache = Cache()
    cache.put(obj("Deployment", "s", component="sink", spec={"replicas": 3}, availableReplicas=2))
    cache.put(obj("Deployment", "autoscaled", component="sink", availableReplicas=1))
    cache.put(obj("Deployment", "p", component="producer", spec={"replicas": 1}))
    found = figures(cache)
    assert (found["workload_pods", "sink", "wanted"], found["workload_pods", "sink", "available"]) == (4, 3)
    assert (found["workload_pods", "producer", "wanted"], found["workload_pods", "producer", "available"]) == (1, 0)


def test_loads_are_told_of_by_their_jobs_and_upkeep_is_none():
    cache = Cache()
    cache.put(obj("Job", "runs", component="load", active=1))
    cache.put(obj("Job", "done", component="load", conditions=[condition("Complete", "True")]))
    cache.put(obj("Job", "bad", component="load", conditions=[condition("Failed", "True")]))
    cache.put(obj("Job", "compaction", component="upkeep", conditions=[condition("Failed", "True")]))
    found = figures(cache)
    assert [found["load_jobs", state] for state in ("running", "succeeded", "failed")] == [1, 1, 1]
