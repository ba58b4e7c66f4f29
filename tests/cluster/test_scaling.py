"""Sinks scaled by lag, their Services and budgets, on a real API server: who owns the number of pods, and when."""

import json

import pytest
from k2_testing.cluster import Operator, RefusedError, grant, until
from k2_testing.resources import LIVE, feed, make_ready, names_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

SCALED = {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetLag": 50_000}, "replicas": 3}


def sink_of(cluster, namespace):
    found = until(lambda: names_of(cluster, namespace, "Deployment"), "no sink")
    return next(name for name in found if name.startswith("k2-sink"))


def pods_asked_for(cluster, namespace, name):
    return cluster.get("Deployment", name, namespace)["spec"]["replicas"]


def owners_of_replicas(cluster, namespace, name):
    entries = cluster.get("Deployment", name, namespace)["metadata"]["managedFields"]
    return {each["manager"] for each in entries if "f:replicas" in each["fieldsV1"].get("f:spec", {})}


def built_from(cluster, namespace, name):
    return cluster.get("Deployment", name, namespace)["metadata"]["annotations"]["k2.dev/generation"]


def names(cluster, namespace, kind):
    return {each["metadata"]["name"] for each in cluster.list(kind, namespace)}


def wide(namespace, **spec):
    return feed(namespace, topic={"partitions": 4}, **spec)


def test_the_number_of_pods_stands_when_an_autoscaler_takes_over(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(wide(namespace, sink={"replicas": 3}))
    name = sink_of(cluster, namespace)
    assert pods_asked_for(cluster, namespace, name) == 3
    assert owners_of_replicas(cluster, namespace, name) == {"k2-operator"}
    cluster.apply(wide(namespace, sink=SCALED))
    until(lambda: name in names(cluster, namespace, "HorizontalPodAutoscaler"), "no autoscaler")
    until(lambda: "k2-operator" not in owners_of_replicas(cluster, namespace, name), "the operator still owns replicas")
    # A field that its only owner drops would have fallen back to 1, and nobody here would raise it again.
    assert pods_asked_for(cluster, namespace, name) == 3
    # From now on an autoscaler says how many, and the operator lets it.
    cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 4}}, sub="scale")
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"sink": {"commitInterval": "7s"}}})

    def interval():
        text = cluster.get("ConfigMap", f"{name}-config", namespace)["data"]["config.json"]
        return json.loads(text)["commit_interval_seconds"]

    until(lambda: interval() == 7, "not applied")
    until(lambda: built_from(cluster, namespace, name) == "3", "the Deployment is not applied")
    assert pods_asked_for(cluster, namespace, name) == 4
    scaler = cluster.get("HorizontalPodAutoscaler", name, namespace)["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 4)
    assert scaler["metrics"][0]["pods"]["target"]["averageValue"] == "50k"


def test_a_sink_that_slept_wakes_up_with_its_autoscaler_and_goes_back_to_a_number(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(wide(namespace, sink=SCALED))
    name = sink_of(cluster, namespace)
    until(lambda: name in names(cluster, namespace, "HorizontalPodAutoscaler"), "no autoscaler")
    # One, or the least that the autoscaler's own controller has asked for by now; never the three of `replicas`.
    assert pods_asked_for(cluster, namespace, name) in (1, 2)
    cluster.apply(wide(namespace, sink=SCALED, suspend=True))
    until(lambda: pods_asked_for(cluster, namespace, name) == 0, "it does not sleep")
    until(lambda: not names(cluster, namespace, "HorizontalPodAutoscaler"), "an autoscaler that would wake it")
    cluster.apply(wide(namespace, sink=SCALED))
    # An autoscaler leaves alone what has no pods.
    until(lambda: pods_asked_for(cluster, namespace, name) >= 1, "it does not wake up")
    until(lambda: name in names(cluster, namespace, "HorizontalPodAutoscaler"), "no autoscaler")
    cluster.apply(wide(namespace, sink={"replicas": 2}))
    until(lambda: pods_asked_for(cluster, namespace, name) == 2, "not the number that was asked for")
    until(lambda: not names(cluster, namespace, "HorizontalPodAutoscaler"), "two say how many")


def test_a_scaled_feed_is_ready_with_its_least_pods_and_can_be_asked_for_its_scale(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(wide(namespace, sink=SCALED))
    name = sink_of(cluster, namespace)
    cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 2}}, sub="scale")
    until(lambda: len(cluster.list("Pod", namespace, f"app.kubernetes.io/instance={name}")) == 2, "no pods")
    make_ready(cluster, namespace)
    until(lambda: cluster.get("MarketFeed", "sim", namespace)["status"].get("sinkReplicas") == 2, "pods are not told")
    scale = cluster.request("GET", cluster.path("MarketFeed", namespace, "sim", "scale"))
    assert scale["status"]["replicas"] == 2
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"replicas": 4}}, sub="scale")
    until(lambda: generation_seen(cluster, namespace) == 2, "the operator has not seen it")
    assert pods_asked_for(cluster, namespace, name) == 2


def generation_seen(cluster, namespace):
    return cluster.get("MarketFeed", "sim", namespace)["status"]["observedGeneration"]


def test_a_budget_comes_and_goes_with_the_second_pod(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(wide(namespace, sink={"replicas": 2}))
    name = sink_of(cluster, namespace)
    until(lambda: names(cluster, namespace, "PodDisruptionBudget") == {name}, "no budget")
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"replicas": 1}}, sub="scale")
    until(lambda: not names(cluster, namespace, "PodDisruptionBudget"), "a budget that blocks every drain")


def test_every_workload_that_stays_has_a_service_for_its_metrics(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    until(lambda: len(names_of(cluster, namespace, "Deployment")) == 2, "no Deployments")
    wanted = set(names_of(cluster, namespace, "Deployment"))
    until(lambda: names(cluster, namespace, "Service") == wanted, "no Services")
    operator.watches("Service")
    cluster.delete("Service", namespace, "sim-producer")
    until(lambda: "sim-producer" in names(cluster, namespace, "Service"), "it is not back")
    cluster.apply(feed(namespace))
    until(lambda: "sim-producer" not in names(cluster, namespace, "Service"), "a Service that nobody asks for")


@pytest.mark.parametrize(
    ("autoscaling", "text"),
    [
        ({"maxReplicas": 5}, "sink.autoscaling.maxReplicas: too many; expected at most topic.partitions"),
        ({"minReplicas": 3, "maxReplicas": 2}, "too many; expected at most maxReplicas"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(cluster, namespace, autoscaling, text):
    with pytest.raises(RefusedError) as failure:
        cluster.create(wide(namespace, sink={"autoscaling": autoscaling}), dry_run=True)
    assert text in str(failure.value)


@pytest.fixture
def with_keda(cluster, operator, namespace, platform, tmp_path):
    """An operator of this namespace alone whose platform scales by KEDA."""
    operator.kill()
    grant(cluster, namespace, ["k2-registry"], watched=[namespace], templates=("rules", "kedaRules"))
    settings = platform | {"autoscaling": {"kind": "keda", "prometheus": {"url": "http://prometheus:9090"}}}
    running = Operator(cluster, tmp_path, namespace, settings, K2_OPERATOR_NAMESPACES=f'["{namespace}"]')
    yield running
    assert running.stop() == 0
    operator.start()


def define_keda(cluster):
    """A definition of KEDA's kind; its operator is not here."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": schema}
    names = {
        "kind": "ScaledObject",
        "plural": "scaledobjects",
        "singular": "scaledobject",
        "listKind": "ScaledObjectList",
    }
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "scaledobjects.keda.sh"},
            "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )

    def served():
        try:
            return [cluster.list("ScaledObject", "default")]
        except RefusedError:
            return None

    until(served, "KEDA's kind is not served")


def test_keda_scales_where_it_is_chosen_and_is_missed_where_it_is_not_there(cluster, with_keda, namespace):
    if cluster.get("CustomResourceDefinition", "scaledobjects.keda.sh") is None:
        with_keda.start()
        cluster.apply(table(namespace))
        cluster.apply(wide(namespace, sink=SCALED))
        # What else the feed needs is there all the same.
        sink_of(cluster, namespace)
        until(lambda: "install KEDA" in with_keda.log.read_text(), "the operator does not miss KEDA")
        with_keda.stop()
    define_keda(cluster)
    with_keda.start()
    cluster.apply(table(namespace))
    cluster.apply(wide(namespace, sink=SCALED))
    name = sink_of(cluster, namespace)
    until(lambda: names(cluster, namespace, "ScaledObject") == {name}, "no ScaledObject")
    scaled = cluster.get("ScaledObject", name, namespace)["spec"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 4)
    asked = scaled["triggers"][0]["metadata"]
    assert (asked["serverAddress"], asked["threshold"]) == ("http://prometheus:9090", "50000")
    assert f'namespace="{namespace}",pod=~"{name}-.+"' in asked["query"]
    assert not names(cluster, namespace, "HorizontalPodAutoscaler")
    with_keda.watches("ScaledObject")
    cluster.delete("ScaledObject", namespace, name)
    until(lambda: names(cluster, namespace, "ScaledObject") == {name}, "it is not back")
    cluster.apply(wide(namespace, sink={"replicas": 1}))
    until(lambda: not names(cluster, namespace, "ScaledObject"), "a ScaledObject that nobody asks for")
