"""What is K2's and what is not, on a real API server: names that others have, fields that others add, labels that are taken off."""

import json
import time

import pytest
from k2_testing.cluster import until
from k2_testing.kind import GIVEN
from k2_testing.resources import LIVE, events_of, feed, make_ready, names_of, table
from k2_testing.webhook import injector

from k2_operator.build import names

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

MANAGED_BY = "app.kubernetes.io/managed-by"


def sink_of(namespace):
    return names.sink("market.equities.trades.sim", f"{namespace}.trades".replace("-", "_"))


def config_map(namespace, name, labels=None):
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"theirs": "yes"}}


def service(namespace, name, labels):
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"selector": {"app": "theirs"}, "ports": [{"name": "web", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def version(cluster, kind, namespace, name):
    return cluster.get(kind, name, namespace)["metadata"]["resourceVersion"]


def generation(cluster, namespace, name):
    return cluster.get("Deployment", name, namespace)["metadata"]["generation"]


def edit(cluster, kind, namespace, name, change, manager="somebody"):
    """A strategic merge patch, as kubectl's: items of lists are known by their names."""
    cluster.request(
        "PATCH",
        cluster.path(kind, namespace, name),
        params={"fieldManager": manager},
        content=json.dumps(change),
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )


def create_as(cluster, manager, obj):
    namespace = obj["metadata"]["namespace"]
    cluster.request("POST", cluster.path(obj["kind"], namespace), params={"fieldManager": manager}, json=obj)


def messages(cluster, namespace, reason):
    return [message for found, message in events_of(cluster, namespace, "sim") if found == reason]


def delete_feed(cluster, namespace):
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: cluster.get("MarketFeed", "sim", namespace) is None, "the feed stays")


def test_a_name_that_others_have_is_left_to_them_and_nothing_runs_with_their_object(cluster, operator, namespace):
    sink = sink_of(namespace)
    cluster.apply(config_map(namespace, f"{sink}-config"))
    cluster.apply(service(namespace, "sim-producer", {MANAGED_BY: "Helm"}))
    before = version(cluster, "ConfigMap", namespace, f"{sink}-config")
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "NameTaken")
    assert status == "False"
    assert f"ConfigMap {sink}-config: it was made by person" in message
    assert "Service sim-producer: it is managed by Helm" in message
    assert names_of(cluster, namespace, "Deployment") == []
    assert messages(cluster, namespace, "NameTaken")
    delete_feed(cluster, namespace)
    assert version(cluster, "ConfigMap", namespace, f"{sink}-config") == before
    assert cluster.get("Service", "sim-producer", namespace)["spec"]["ports"][0]["port"] == 80


def test_the_rest_of_a_feed_runs_and_goes_on_when_the_name_is_handed_over(cluster, operator, namespace):
    name = f"{sink_of(namespace)}-config"
    cluster.apply(config_map(namespace, name))
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    cluster.until_condition("MarketFeed", namespace, "sim", "NameTaken")
    assert names_of(cluster, namespace, "Deployment") == ["sim-producer"]
    cluster.patch("ConfigMap", namespace, name, {"metadata": {"labels": {MANAGED_BY: "k2-operator"}}})
    until(lambda: names_of(cluster, namespace, "Deployment") == [sink_of(namespace), "sim-producer"], "no sink")
    assert "config.json" in cluster.get("ConfigMap", name, namespace)["data"]
    make_ready(cluster, namespace)


def test_a_table_says_as_well_that_a_name_is_taken_and_goes_on_when_it_is_free(cluster, operator, namespace):
    pod = {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "theirs:1"}]}
    spec = {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    metadata = {"name": "trades-compact", "namespace": namespace}
    cluster.apply({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": spec})
    cluster.apply(table(namespace, upkeep={"compaction": {"schedule": "15 3 * * *"}}))
    _, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "NameTaken")
    assert "CronJob trades-compact: it was made by person" in message
    cluster.delete("CronJob", namespace, "trades-compact")
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    assert cluster.get("CronJob", "trades-compact", namespace)["spec"]["schedule"] == "15 3 * * *"


def test_what_k2_has_made_is_known_by_its_manager_without_any_label(cluster, operator, namespace):
    name = f"{sink_of(namespace)}-config"
    create_as(cluster, "k2-operator", config_map(namespace, name))
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    found = cluster.get("ConfigMap", name, namespace)
    assert found["metadata"]["labels"][MANAGED_BY] == "k2-operator"
    assert "config.json" in found["data"]


@pytest.mark.parametrize("label", [MANAGED_BY, "k2.dev/feed"])
def test_a_label_that_was_taken_off_comes_back_and_the_object_is_still_looked_after(
    cluster, operator, namespace, label
):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    operator.watches("Deployment", "ConfigMap")
    name = sink_of(namespace)
    before = cluster.get("Deployment", name, namespace)["metadata"]

    def labels():
        return cluster.get("Deployment", name, namespace)["metadata"]["labels"]

    cluster.patch("Deployment", namespace, name, {"metadata": {"labels": {label: None}}})
    until(lambda: labels() == before["labels"], "the label stays away", 30)
    assert cluster.get("Deployment", name, namespace)["metadata"]["uid"] == before["uid"]
    cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 5}})
    until(lambda: cluster.get("Deployment", name, namespace)["spec"]["replicas"] == 1, "it is not looked after", 30)


ADDED = {
    "metadata": {"annotations": {"team": "markets"}},
    "spec": {
        "paused": True,
        "template": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-03-02T00:00:00Z"}},
            "spec": {
                "nodeSelector": {"disk": "fast"},
                "containers": [
                    {"name": "sink", "env": [{"name": "EXTRA", "value": "1"}]},
                    {"name": "proxy", "image": "proxy:1"},
                ],
            },
        },
    },
}


def added(cluster, namespace, name):
    """What of ADDED is there."""
    spec = cluster.get("Deployment", name, namespace)["spec"]
    pod = spec["template"]["spec"]
    containers = {each["name"]: each for each in pod["containers"]}
    env = {each["name"] for each in containers["sink"]["env"]}
    found = {"paused": spec.get("paused"), "nodeSelector": pod.get("nodeSelector")}
    return {key for key, value in found.items() if value} | ({"EXTRA"} & env) | ({"proxy"} & set(containers))


EVERYTHING = {"paused", "nodeSelector", "EXTRA", "proxy"}


def test_what_somebody_adds_is_taken_off_once_and_what_comes_back_is_left_and_told(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    operator.watches("Deployment", "ConfigMap")
    name = sink_of(namespace)
    edit(cluster, "Deployment", namespace, name, ADDED)
    until(lambda: added(cluster, namespace, name) == set(), "the additions stay", 30)
    found = cluster.get("Deployment", name, namespace)
    assert found["metadata"]["annotations"]["team"] == "markets"
    assert "kubectl.kubernetes.io/restartedAt" in found["spec"]["template"]["metadata"]["annotations"]
    (told,) = until(lambda: messages(cluster, namespace, "Removed"), "no Event")
    assert "spec.template.spec.containers[sink].env[EXTRA]" in told
    assert "by somebody" in told

    edit(cluster, "Deployment", namespace, name, ADDED)
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "FieldsAdded", "Degraded", 30)
    assert status == "True"
    for text in ("spec.paused", "containers[proxy]", "containers[sink].env[EXTRA]", "nodeSelector by somebody"):
        assert text in message
    assert added(cluster, namespace, name) == EVERYTHING
    assert messages(cluster, namespace, "FieldsAdded")
    left = generation(cluster, namespace, name)
    operator.kill()
    operator.start()
    # A repair of something else does not touch them either.
    cluster.patch("Deployment", namespace, name, {"spec": {"minReadySeconds": 7, "replicas": 3}})
    until(lambda: cluster.get("Deployment", name, namespace)["spec"]["replicas"] == 1, "not repaired")
    until(lambda: not cluster.get("Deployment", name, namespace)["spec"].get("minReadySeconds"), "a new one stays")
    assert added(cluster, namespace, name) == EVERYTHING
    assert generation(cluster, namespace, name) <= left + 3
    cluster.until_condition("MarketFeed", namespace, "sim", "FieldsAdded", "Degraded", 30)

    gone = {"spec": {"paused": None, "template": {"spec": {"nodeSelector": None}}}}
    drop = {"$patch": "delete"}
    gone["spec"]["template"]["spec"]["containers"] = [
        {"name": "sink", "env": [{"name": "EXTRA", **drop}]},
        {"name": "proxy", **drop},
    ]
    edit(cluster, "Deployment", namespace, name, gone)
    cluster.until_condition("MarketFeed", namespace, "sim", "AsExpected", "Degraded", 60)


def test_a_key_that_somebody_adds_to_a_config_map_is_taken_off(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    operator.watches("Deployment", "ConfigMap")
    name = f"{sink_of(namespace)}-config"
    edit(cluster, "ConfigMap", namespace, name, {"data": {"more.txt": "x"}})
    until(lambda: set(cluster.get("ConfigMap", name, namespace)["data"]) == {"config.json"}, "the key stays", 30)


def test_defaults_that_a_restore_has_brought_back_are_no_additions(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    name = sink_of(namespace)
    operator.kill()
    backup = cluster.get("Deployment", name, namespace)
    cluster.delete("Deployment", namespace, name)
    until(lambda: cluster.get("Deployment", name, namespace) is None, "it is there")
    for field in ("uid", "resourceVersion", "managedFields", "creationTimestamp", "generation"):
        backup["metadata"].pop(field, None)
    backup.pop("status")
    create_as(cluster, "restorer", backup)
    fields = cluster.get("Deployment", name, namespace)["metadata"]["managedFields"]
    assert (
        "f:progressDeadlineSeconds"
        in next(each for each in fields if each["manager"] == "restorer")["fieldsV1"]["f:spec"]
    )
    operator.start()
    make_ready(cluster, namespace)
    cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 5}})
    until(lambda: cluster.get("Deployment", name, namespace)["spec"]["replicas"] == 1, "it is not looked after")
    assert not messages(cluster, namespace, "Removed")
    degraded = cluster.condition("MarketFeed", namespace, "sim", "Degraded")
    assert degraded is None or degraded[1] != "FieldsAdded"
    settled = generation(cluster, namespace, name)
    time.sleep(2)  # nothing may happen
    assert generation(cluster, namespace, name) == settled


@pytest.fixture
def injecting(cluster, namespace, tmp_path):
    """A webhook that adds a sidecar to every Deployment of the namespace."""
    with injector(tmp_path, namespace) as configuration:
        cluster.apply(configuration)
        yield
        cluster.delete("MutatingWebhookConfiguration", None, configuration["metadata"]["name"])


@pytest.mark.skipif(bool(GIVEN), reason="the API server of KUBECONFIG cannot ask a webhook on this machine's loopback")
def test_a_webhook_that_adds_a_sidecar_does_not_roll_pods_for_ever(cluster, operator, namespace, injecting):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    name = sink_of(namespace)
    until(lambda: cluster.get("Deployment", name, namespace), "no sink")

    def containers():
        pod = cluster.get("Deployment", name, namespace)["spec"]["template"]["spec"]
        return {each["name"] for each in pod["containers"]}

    until(lambda: containers() == {"sink", "injected"}, "nothing is injected")
    make_ready(cluster, namespace)
    settled = generation(cluster, namespace, name)
    cluster.patch("Deployment", namespace, name, {"spec": {"replicas": 5}})
    until(lambda: cluster.get("Deployment", name, namespace)["spec"]["replicas"] == 1, "it is not looked after")
    assert containers() == {"sink", "injected"}
    assert generation(cluster, namespace, name) == settled + 2
    operator.kill()
    operator.start()
    time.sleep(3)  # nothing may happen
    assert generation(cluster, namespace, name) == settled + 2
    assert not messages(cluster, namespace, "Removed")
