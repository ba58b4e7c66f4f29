"""Whose an object is, and which of its fields others have added, as `managedFields` tell it."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_operator.spec import ownership
from k2_operator.spec.objects import trimmed

MANIFEST = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "m", "labels": {"app.kubernetes.io/managed-by": "k2-operator"}},
    "spec": {
        "replicas": 1,
        "strategy": {"type": "RollingUpdate"},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "containers": [
                    {
                        "name": "sink",
                        "image": "k2:1",
                        "args": ["run", "sink"],
                        "env": [{"name": "A", "value": "1"}],
                        "ports": [{"name": "metrics", "containerPort": 9090}],
                        "resources": {},
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}


def served(*entries, **spec):
    """The manifest as the API server gives it: with defaults that nobody has set, and with who has set what."""
    live = copy.deepcopy(MANIFEST)
    live["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": list(entries)}
    live["spec"] |= {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, **spec}
    live["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": "25%", "maxUnavailable": "25%"}
    pod = live["spec"]["template"]["spec"]
    pod |= {"dnsPolicy": "ClusterFirst"}
    pod["containers"][0]["ports"][0]["protocol"] = "TCP"
    return live


def pod_of(live):
    return live["spec"]["template"]["spec"]


def by(manager, fields, **more):
    return {"manager": manager, "operation": "Update", "fieldsV1": fields, **more}


def in_pod(fields):
    return {"f:spec": {"f:template": {"f:spec": fields}}}


def in_container(fields):
    return in_pod({"f:containers": {'k:{"name":"sink"}': {".": {}, **fields}}})


def texts(live, manifest=MANIFEST):
    return {each.text: each.manager for each in ownership.additions(live, manifest)}


def patched(live, steps):
    """What a JSON patch makes of an object."""
    new = copy.deepcopy(live)
    for step in steps:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        node = new
        for part in path:
            node = node[int(part)] if isinstance(node, list) else node[part]
        at = int(last) if isinstance(node, list) else last
        if step["op"] == "remove":
            del node[at]
        else:
            node[at] = step["value"]
    return new


def owner(kind, version="k2.dev/v1alpha1"):
    return {"apiVersion": version, "kind": kind, "name": "x", "uid": "of-another-life", "controller": True}


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        ({"labels": {"app.kubernetes.io/managed-by": "k2-operator"}}, True),
        ({"ownerReferences": [owner("MarketFeed")]}, True),
        ({"ownerReferences": [owner("IcebergTable", "k2.dev/v1")]}, True),
        ({"managedFields": [by("k2-operator", {})]}, True),
        ({}, False),
        ({"labels": {"app.kubernetes.io/managed-by": "Helm"}}, False),
        ({"ownerReferences": [owner("MarketFeed", "other.dev/v1")]}, False),
        ({"ownerReferences": [owner("ReplicaSet", "apps/v1")]}, False),
        ({"managedFields": [by("kubectl", {})]}, False),
    ],
)
def test_ours_is_what_has_our_label_our_owner_or_our_manager(metadata, ours):
    assert ownership.is_ours({"kind": "ConfigMap", "metadata": {"name": "c", **metadata}}) is ours


def test_the_holder_of_a_name_is_told_as_well_as_it_can_be():
    managers = [by("later", {}, time="2026-03-02T00:00:01Z"), by("first", {}, time="2026-03-02T00:00:00Z")]
    everything = {
        "managedFields": managers,
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "ownerReferences": [owner("ReplicaSet", "apps/v1") | {"controller": False}, owner("Rollout", "argo/v1")],
    }

    def told(*names):
        return ownership.holder({"metadata": {name: everything[name] for name in names}})

    assert told("managedFields", "labels", "ownerReferences") == "it belongs to Rollout x"
    assert told("managedFields", "labels") == "it is managed by Helm"
    assert told("managedFields") == "it was made by first"
    assert told() == "nobody says whose it is"


def test_what_the_server_fills_in_is_no_addition():
    ours = by("k2-operator", {"f:spec": {"f:replicas": {}}})
    status = by("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    counted = by("kube-controller-manager", {"f:metadata": {"f:annotations": {"f:revision": {}}}})
    assert texts(served(ours, status, counted)) == {}


@pytest.mark.parametrize(
    ("change", "fields", "text"),
    [
        (lambda live: live["spec"].update(paused=True), {"f:spec": {"f:paused": {}}}, "spec.paused"),
        (
            lambda live: pod_of(live).update(nodeSelector={"disk": "fast"}),
            in_pod({"f:nodeSelector": {".": {}, "f:disk": {}}}),
            "spec.template.spec.nodeSelector",
        ),
        (
            lambda live: pod_of(live)["containers"].append({"name": "proxy", "image": "p"}),
            in_pod({"f:containers": {'k:{"name":"proxy"}': {".": {}, "f:image": {}, "f:name": {}}}}),
            "spec.template.spec.containers[proxy]",
        ),
        (
            lambda live: pod_of(live)["containers"][0]["env"].append({"name": "B", "value": "2"}),
            in_container({"f:env": {'k:{"name":"B"}': {".": {}, "f:name": {}, "f:value": {}}}}),
            "spec.template.spec.containers[sink].env[B]",
        ),
        (
            lambda live: pod_of(live)["containers"][0]["ports"].append({"containerPort": 9090, "protocol": "UDP"}),
            in_container({"f:ports": {'k:{"containerPort":9090,"protocol":"UDP"}': {".": {}, "f:containerPort": {}}}}),
            "spec.template.spec.containers[sink].ports[9090/UDP]",
        ),
        (
            lambda live: pod_of(live)["containers"][0].update(resources={"limits": {"cpu": "1"}}),
            in_container({"f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}}}}),
            "spec.template.spec.containers[sink].resources.limits",
        ),
    ],
    ids=["paused", "node-selector", "sidecar", "env", "port", "limits"],
)
def test_what_somebody_adds_is_found_and_taken_off(change, fields, text):
    live = served(by("kubectl-patch", fields))
    change(live)
    found = ownership.additions(live, MANIFEST)
    assert {each.text: each.manager for each in found} == {text: "kubectl-patch"}
    after = patched(live, ownership.removal(live, found))
    assert after["spec"] == served()["spec"]
    assert ownership.removed_before(after) == {each.mark for each in found}
    assert ownership.additions(after, MANIFEST) == []


def test_further_keys_of_a_config_map_are_additions_whatever_they_are_called():
    manifest = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"config.json": "{}"}}
    fields = {"f:data": {"f:config.json": {}, "f:a/b~c.txt": {}, "f:metadata": {}}, "f:immutable": {}}
    live = copy.deepcopy(manifest)
    live["metadata"] |= {"resourceVersion": "3", "managedFields": [by("kubectl-edit", fields)]}
    live["data"] |= {"a/b~c.txt": "x", "metadata": "y"}
    found = ownership.additions(live, manifest)
    assert {each.text for each in found} == {"data[a/b~c.txt]", "data.metadata"}
    assert patched(live, ownership.removal(live, found))["data"] == manifest["data"]


def test_labels_restarts_and_the_pods_of_an_autoscaler_are_left_alone():
    manifest = copy.deepcopy(MANIFEST)
    del manifest["spec"]["replicas"]
    live = served(
        by("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": {"f:annotations": {"f:restartedAt": {}}}}}}),
        by("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        by("linkerd", {"f:metadata": {"f:labels": {"f:x": {}}}}),
    )
    live["spec"]["template"]["metadata"]["annotations"] = {"restartedAt": "now"}
    assert texts(live, manifest) == {}


def test_what_we_ask_for_is_no_addition_whoever_has_set_it_too():
    fields = in_container(
        {
            "f:image": {},
            "f:args": {},
            "f:env": {".": {}, 'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
            "f:ports": {'k:{"containerPort":9090,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
        }
    )
    assert texts(served(by("kubectl-edit", fields))) == {}


def test_what_was_set_and_is_there_no_more_is_no_addition():
    assert texts(served(by("kubectl", in_container({"f:env": {'k:{"name":"GONE"}': {".": {}}}})))) == {}


def test_what_two_have_added_is_one_addition_and_its_words_name_who():
    fields = {"f:spec": {"f:paused": {}}}
    live = served(by("one", fields), by("two", fields), by("two", in_pod({"f:hostNetwork": {}})), paused=True)
    pod_of(live)["hostNetwork"] = True
    found = ownership.additions(live, MANIFEST)
    assert ownership.told(found) == "spec.paused by one; spec.template.spec.hostNetwork by two"


def test_the_cache_keeps_of_managed_fields_what_tells_additions_and_no_more():
    live = served(
        by("k2-operator", {"f:spec": {"f:replicas": {}}}),
        by("kube-controller-manager", {"f:status": {}}, subresource="status"),
        by("somebody", {"f:metadata": {"f:labels": {}}, "f:spec": {"f:paused": {}}}),
        paused=True,
    )
    kept = trimmed(live)
    kept["metadata"]["managedFields"] = ownership.others(live)
    assert kept["metadata"]["managedFields"] == [{"manager": "somebody", "fieldsV1": {"f:spec": {"f:paused": {}}}}]
    assert ownership.additions(kept, MANIFEST) == ownership.additions(live, MANIFEST)


@given(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8), st.sets(st.sampled_from("abcdefgh")))
def test_of_any_list_those_that_were_added_go_and_the_others_stay(names, asked):
    asked = [name for name in names if name in asked]
    manifest = copy.deepcopy(MANIFEST)
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": name} for name in asked]
    every = {f"k:{json.dumps({'name': name})}": {".": {}, "f:name": {}} for name in names}
    live = served(by("somebody", in_container({"f:env": every})))
    pod_of(live)["containers"][0]["env"] = [{"name": name} for name in names]
    found = ownership.additions(live, manifest)
    assert len(found) == len(names) - len(asked)
    after = patched(live, ownership.removal(live, found))
    assert [each["name"] for each in pod_of(after)["containers"][0]["env"]] == asked


def test_marks_of_what_was_removed_add_up():
    live = served(by("one", {"f:spec": {"f:paused": {}}}), paused=True)
    live["metadata"]["annotations"] = {"of": "somebody", "k2.dev/removed-additions": "0123456789"}
    after = patched(live, ownership.removal(live, ownership.additions(live, MANIFEST)))
    assert after["metadata"]["annotations"]["of"] == "somebody"
    assert len(ownership.removed_before(after)) == 2
