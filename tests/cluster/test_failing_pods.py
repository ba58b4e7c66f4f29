"""Pods that do not come up, on a real API server with real controllers: the feed that has them says why, at once, in their own words."""

import time

import pytest
from k2_testing.cluster import until
from k2_testing.extent import sized
from k2_testing.kubelet import ended, pods, running, say_of_pods, waiting
from k2_testing.resources import FINITE, LIVE, feed, names_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

TOLD_SECONDS = sized(240, 15)
NOT_FOUND = 'failed to pull and unpack image "k2-workloads:9": not found'
NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}
WAYS = [
    ("Unschedulable", "3 Insufficient memory", {"phase": "Pending", "conditions": [NO_ROOM]}),
    ("ImagePullFailed", NOT_FOUND, {"phase": "Pending", "state": waiting("ErrImagePull", NOT_FOUND)}),
    (
        "ContainerConfigError",
        "couldn't find key password in Secret",
        {
            "phase": "Pending",
            "state": waiting("CreateContainerConfigError", "couldn't find key password in Secret k2/kafka"),
        },
    ),
    (
        "CrashLooping",
        "ended with exit code 2: The topic is compacted",
        {
            "state": waiting("CrashLoopBackOff", "back-off 20s restarting failed container"),
            "lastState": ended(2, message='{"event": "sink.started", "level": "info"}\nerror: The topic is compacted'),
            "restartCount": 2,
        },
    ),
    (
        "OutOfMemory",
        "more memory than its limit",
        {"state": waiting("CrashLoopBackOff"), "lastState": ended(137, "OOMKilled"), "restartCount": 3},
    ),
]


def until_said(cluster, namespace, which, reason):
    return cluster.until_condition("MarketFeed", namespace, "sim", reason, which, TOLD_SECONDS)


def test_whatever_keeps_a_sinks_pod_from_its_work_is_why_the_feed_is_not_ready(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    until(lambda: len(names_of(cluster, namespace, "Deployment")) == 2, "no Deployments")
    sink, producer = sorted(names_of(cluster, namespace, "Deployment"), key=lambda name: name == "sim-producer")
    for reason, text, said in WAYS:
        say_of_pods(cluster, namespace, sink, **said)
        status, _, message = until_said(cluster, namespace, "SinkAvailable", reason)
        assert status == "False"
        assert text in message
        assert f"Deployment {sink} has 0 of 1 pods available" in message
        assert until_said(cluster, namespace, "Ready", reason)[2] == message
    say_of_pods(cluster, namespace, producer, state=waiting("ErrImagePull", NOT_FOUND), phase="Pending")
    assert NOT_FOUND in until_said(cluster, namespace, "ProducerAvailable", "ImagePullFailed")[2]
    # It runs again after its crashes, and is forgiven them.
    for name in (sink, producer):
        say_of_pods(
            cluster, namespace, name, ready=True, state=running(), lastState=ended(137, "OOMKilled"), restartCount=4
        )
    until_said(cluster, namespace, "Ready", "AsAsked")


def test_pods_that_a_quota_refuses_are_told_of(cluster, operator, namespace):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    cluster.apply(quota | {"spec": {"hard": {"pods": "0"}}})
    until(
        lambda: "pods" in cluster.get("ResourceQuota", "none", namespace).get("status", {}).get("used", {}),
        "the quota is not in force",
    )
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    _, _, message = until_said(cluster, namespace, "SinkAvailable", "PodsRefused")
    assert "exceeded quota: none" in message
    cluster.delete("ResourceQuota", namespace, "none")


def test_a_load_that_fails_says_what_it_said_from_its_first_failure_to_its_last(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=FINITE))
    make_sinks_ready(cluster, namespace)
    (job,) = until(lambda: names_of(cluster, namespace, "Job"), "no Job")
    broken = ended(2, message="error: no column price in trades.csv")
    say_of_pods(cluster, namespace, job, state=broken)
    status, _, message = until_said(cluster, namespace, "ProducerAvailable", "LoadFailing")
    assert status == "False"
    assert message.startswith("Container load ended with exit code 2: no column price in trades.csv.")
    assert "is tried again" in message
    # Another try, which has run for a while.
    say_of_pods(cluster, namespace, job, ready=True, state=running(120), lastState=broken, restartCount=1)
    until_said(cluster, namespace, "ProducerAvailable", "LoadRunning")
    # So many that the Job gives up, and Kubernetes deletes the pod with what it said.
    say_of_pods(cluster, namespace, job, state=waiting("CrashLoopBackOff"), lastState=broken, restartCount=10)
    until_said(cluster, namespace, "ProducerAvailable", "LoadFailed")
    until(lambda: not pods(cluster, namespace, job), "its pod stays")
    time.sleep(1)  # nothing may be forgotten now
    _, reason, message = cluster.condition("MarketFeed", namespace, "sim", "ProducerAvailable")
    assert reason == "LoadFailed"
    assert message.startswith("Container load ended with exit code 2: no column price in trades.csv.")
    assert "delete the Job" in message


def make_sinks_ready(cluster, namespace):
    (sink,) = until(lambda: names_of(cluster, namespace, "Deployment"), "no Deployment")
    say_of_pods(cluster, namespace, sink, ready=True, state=running())
    until_said(cluster, namespace, "SinkAvailable", "SinkAvailable")


def of_one_pod(namespace, name, policy, image):
    """A StatefulSet as those of the charts for the dev loop."""
    marks = {"app.kubernetes.io/instance": name}
    container = {"name": "part", "image": image}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceName": name,
            "replicas": 1,
            "podManagementPolicy": policy,
            "selector": {"matchLabels": marks},
            "template": {"metadata": {"labels": marks}, "spec": {"containers": [container]}},
        },
    }


def test_the_right_image_replaces_a_wrong_one_that_never_came_up(cluster, namespace):
    """With `Parallel`, which the charts have; the default waits for the pod that cannot come up."""
    policies = {"healed": "Parallel", "stuck": "OrderedReady"}
    for name, policy in policies.items():
        cluster.apply(of_one_pod(namespace, name, policy, "part:wrong"))
        say_of_pods(cluster, namespace, name, phase="Pending", state=waiting("ImagePullBackOff"))
        cluster.apply(of_one_pod(namespace, name, policy, "part:right"))
    until(lambda: pods(cluster, namespace, "healed", "part:right"), "it is not healed")

    def is_looked_at():
        found = cluster.get("StatefulSet", "stuck", namespace)
        return found["status"].get("observedGeneration") == found["metadata"]["generation"] == 2

    until(is_looked_at, "nobody has looked at the other one")
    assert pods(cluster, namespace, "stuck", "part:wrong")
