"""Pods: what is kept of them, what is wrong with them in their own words, and how far a rollout is."""

import json

import pytest

from k2_operator.kube.cache import Cache, Change
from k2_operator.report import pods, rollouts, status
from k2_operator.report.pods import PodTrouble
from k2_operator.spec import labels
from k2_operator.spec import pods as kept
from k2_operator.spec.conditions import Reason
from k2_operator.spec.objects import Ref
from k2_operator.spec.resources import KINDS

NOW = "2026-03-02T11:00:00Z"


def pod(*containers, phase="Running", version=1, deleted=False, conditions=(), name="k2-sink-x-1"):
    """A pod as the API server gives it, with much that nobody reads."""
    metadata = {
        "name": name,
        "namespace": "m",
        "uid": name,
        "resourceVersion": str(version),
        "labels": {labels.FEED: "sim", labels.INSTANCE: "k2-sink-x", "pod-template-hash": "6d4f5"},
        "annotations": {"k2.dev/config-hash": "1" * 64},
        "managedFields": [{"manager": "kubelet"}],
        "ownerReferences": [{"kind": "ReplicaSet", "name": "k2-sink-x-6d4f5", "uid": "rs"}],
    }
    if deleted:
        metadata["deletionTimestamp"] = NOW
    told = {"phase": phase, "conditions": list(conditions), "hostIP": "10.0.0.1", "podIPs": [{"ip": "10.1.0.7"}]}
    if containers:
        told["containerStatuses"] = list(containers)
    spec = {"containers": [{"name": "sink", "image": "k2-workloads:1", "env": [{"name": "K2_LOG_FORMAT"}] * 20}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": told}


def container(ready=False, restarts=0, last=None, **state):
    found = {"name": "sink", "ready": ready, "restartCount": restarts, "image": "k2-workloads:1", "imageID": "sha256:1"}
    found["state"] = {key: {"containerID": "containerd://1", **value} for key, value in state.items()}
    return found | ({"lastState": {"terminated": last}} if last else {})


def ended(code=1, reason="Error", message=""):
    return {"exitCode": code, "reason": reason, "message": message, "finishedAt": NOW}


def waits(reason, message="", **more):
    return container(waiting={"reason": reason, "message": message}, **more)


RUNS = container(ready=True, running={"startedAt": "2026-03-02T10:58:00Z"})


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_of_a_pod_little_is_kept_and_what_is_wrong_with_it_is_part_of_that():
    whole = pod(waits("CrashLoopBackOff", "back-off 40s", last=ended(2, message="error: no such topic"), restarts=3))
    trimmed = kept.trimmed(whole)
    assert len(json.dumps(trimmed)) < len(json.dumps(whole)) / 2
    assert "spec" not in trimmed
    assert pods.trouble(trimmed) == pods.trouble(whole)
    assert pods.last_failure(trimmed) == pods.last_failure(whole)


def test_news_of_a_pod_that_says_nothing_new_wakes_nobody():
    cache, where = Cache(), Ref("Pod", "m", "k2-sink-x-1")
    assert cache.put(pod(phase="Pending")) is Change.SPEC
    scheduled = {"type": "PodScheduled", "status": "True"}
    assert cache.put(pod(phase="Pending", version=2, conditions=[scheduled])) is Change.NONE
    assert cache.get(where)["metadata"]["resourceVersion"] == "2"
    assert cache.put(pod(waits("ErrImagePull"), phase="Pending", version=3)) is Change.STATUS
    assert cache.put(pod(version=2)) is Change.NONE
    assert cache.put(pod(RUNS, version=4)) is Change.STATUS


def test_a_feeds_pods_are_none_of_the_objects_that_it_owns():
    cache, feed = Cache(), Ref("MarketFeed", "m", "sim")
    cache.put(pod(RUNS))
    assert cache.owned("m", "sim") == []
    assert [each["metadata"]["name"] for each in cache.pods_of(feed)] == ["k2-sink-x-1"]
    cache.remove(Ref("Pod", "m", "k2-sink-x-1"))
    assert cache.pods_of(feed) == []
    assert "Pod" not in KINDS


# --- what is wrong --------------------------------------------------------------------------------------------------

NOT_FOUND = 'failed to pull and unpack image "k2-workloads:9": not found'


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (waits("ErrImagePull", NOT_FOUND), "ImagePullFailed", f"the image does not come: {NOT_FOUND}"),
        (
            waits("ImagePullBackOff", f'Back-off pulling image "k2-workloads:9": ErrImagePull: {NOT_FOUND}'),
            "ImagePullFailed",
            f"the image does not come: {NOT_FOUND}",
        ),
        (waits("InvalidImageName"), "ImagePullFailed", "the image does not come: InvalidImageName"),
        (
            waits("CreateContainerConfigError", "couldn't find key password in Secret m/k2-kafka"),
            "ContainerConfigError",
            "container sink cannot be made: couldn't find key password in Secret m/k2-kafka",
        ),
        (
            waits(
                "CrashLoopBackOff", "back-off 5m0s", restarts=7, last=ended(2, message="error: the topic is compacted.")
            ),
            "CrashLooping",
            "container sink ended with exit code 2: the topic is compacted",
        ),
        (container(terminated=ended(1)), "CrashLooping", "container sink ended with exit code 1"),
        # Started again, and not ready yet.
        (
            container(running={"startedAt": NOW}, restarts=1, last=ended(1, message="Killed")),
            "CrashLooping",
            "container sink ended with exit code 1: Killed",
        ),
        # It ends well, where it should not end at all.
        (
            waits("CrashLoopBackOff", last=ended(0, "Completed")),
            "CrashLooping",
            "container sink ended with exit code 0",
        ),
        (
            waits("CrashLoopBackOff", last=ended(137, "OOMKilled")),
            "OutOfMemory",
            "container sink was killed because it needs more memory than its limit; give it more in `resources`",
        ),
    ],
)
def test_why_a_container_does_not_come_up(status, reason, said):
    assert pods.trouble(kept.trimmed(pod(status))) == PodTrouble(Reason(reason), said)


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory.",
}


def test_a_pod_that_no_node_takes():
    found = pods.trouble(kept.trimmed(pod(phase="Pending", conditions=[UNSCHEDULABLE])))
    assert found == PodTrouble(
        Reason.UNSCHEDULABLE, "no node takes the pod: 0/3 nodes are available: 3 Insufficient memory"
    )


@pytest.mark.parametrize(
    "well",
    [
        pod(phase="Pending"),
        pod(waits("ContainerCreating"), phase="Pending"),
        pod(RUNS),
        pod(container(ready=True, restarts=4, running={"startedAt": NOW}, last=ended(1))),
        pod(container(running={"startedAt": NOW})),
        pod(waits("ErrImagePull"), deleted=True),
        pod(container(terminated=ended(1)), phase="Failed"),
        pod(container(terminated=ended(0, "Completed")), phase="Succeeded"),
    ],
)
def test_pods_with_which_nothing_is_wrong(well):
    assert pods.trouble(kept.trimmed(well)) is None


def test_of_several_the_first_to_mend_is_told_and_always_the_same():
    bad_image = pod(waits("ErrImagePull", "not found"), name="a")
    crashed = pod(container(terminated=ended(1)), name="b")
    full = pod(phase="Pending", conditions=[UNSCHEDULABLE], name="c")
    assert pods.worst([full, crashed, bad_image]) == pods.worst([bad_image, full, crashed])
    assert pods.worst([full, crashed, bad_image]).reason is Reason.IMAGE_PULL_FAILED
    assert pods.worst([full, crashed]).reason is Reason.CRASH_LOOPING
    assert pods.worst([]) is None


def test_a_quota_that_refuses_pods_is_told_by_the_deployment():
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: desk."}
    assert pods.worst([], deployment(conditions=[refused])) == PodTrouble(
        Reason.PODS_REFUSED, "its pods are refused: exceeded quota: desk"
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", ""),
        ("one\ntwo\n", "two"),
        ('{"event": "sink.started", "level": "info"}\nerror: The topic is compacted', "The topic is compacted"),
        (
            'error: Kafka refuses access\n  found: user k2\n{"event": "sink.stopped", "level": "info"}',
            "Kafka refuses access found: user k2",
        ),
        (
            '"cut": 1}\n{"event": "load.failed", "level": "error", "error": "line 7: no price"}\n{"event": "bye", "level": "info"}',
            "line 7: no price",
        ),
        (
            '{"event": "task.ended", "level": "error", "exception": "Traceback:\\n  line 1\\nValueError: 7"}',
            "ValueError: 7",
        ),
        ('{"event": "sink.started", "level": "info"', '{"event": "sink.started", "level": "info"'),
        ("x" * 3000, "x" * 399 + "…"),
    ],
)
def test_what_a_container_said_last(message, expected):
    assert pods.last_words(message) == expected


# --- rollouts -------------------------------------------------------------------------------------------------------


def deployment(name="k2-sink-x", *, wanted=1, replicas=1, updated=1, reason="NewReplicaSetAvailable", **found):
    conditions = [{"type": "Progressing", "status": "True", "reason": reason}]
    counts = {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": 1, "observedGeneration": 2}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": wanted},
        "status": counts | {"conditions": conditions} | found,
    }


ROLLING = deployment(replicas=2, updated=1, reason="ReplicaSetUpdated")
LATE = deployment(replicas=2, updated=1, reason="ProgressDeadlineExceeded")
BAD_IMAGE = {"k2-sink-x": PodTrouble(Reason.IMAGE_PULL_FAILED, "the image does not come: not found")}


@pytest.mark.parametrize(
    ("found", "troubles", "expected"),
    [
        ([], {}, "AsConfigured"),
        ([deployment()], {}, "AsConfigured"),
        ([deployment(), ROLLING], {}, "RollingOut"),
        ([deployment(observedGeneration=1)], {}, "RollingOut"),
        # All old pods are gone and a new one is not there yet: Recreate.
        ([deployment(replicas=0, updated=0, reason="ReplicaSetUpdated")], {}, "RollingOut"),
        ([ROLLING], BAD_IMAGE, "ImagePullFailed"),
        ([LATE], {}, "ProgressDeadlineExceeded"),
        ([LATE], BAD_IMAGE, "ImagePullFailed"),
        # More pods of the same kind, or a pod that fails later, are no rollout.
        ([deployment(wanted=3, replicas=1, updated=1)], {}, "AsConfigured"),
        ([deployment(availableReplicas=0)], BAD_IMAGE, "AsConfigured"),
        # A first installation: all pods that there are were built from what is asked for.
        ([deployment(reason="ReplicaSetUpdated", availableReplicas=0)], BAD_IMAGE, "AsConfigured"),
        ([deployment(wanted=0, replicas=1, updated=0)], {}, "AsConfigured"),
    ],
)
def test_how_far_a_rollout_is(found, troubles, expected):
    said = rollouts.up_to_date(found, troubles)
    assert said.reason == expected
    assert said.good is (expected == "AsConfigured")


def test_while_the_old_pod_works_a_bad_image_is_degraded_and_takes_nothing_away():
    assert status.sinks([(ROLLING, 1)], suspended=False, troubles=BAD_IMAGE).good
    found = rollouts.stuck(BAD_IMAGE)
    assert (found.status, found.reason) == ("True", "ImagePullFailed")
    assert "others do their work: the image does not come: not found" in found.message
    assert rollouts.stuck({}) is None


def test_without_a_pod_that_works_it_is_why_the_sink_is_not_available():
    alone = deployment(availableReplicas=0, reason="ReplicaSetUpdated")
    found = status.sinks([(alone, 1)], suspended=False, troubles=BAD_IMAGE)
    assert (found.status, found.reason) == ("False", "ImagePullFailed")
    assert found.message == "Deployment k2-sink-x has 0 of 1 pods available: the image does not come: not found."
    held_up = status.no(Reason.SINK_STALLED, "nothing is committed")
    assert status.sinks([(alone, 1)], suspended=False, held_up=held_up, troubles=BAD_IMAGE).reason == "ImagePullFailed"
    assert status.sinks([(ROLLING, 1)], suspended=False, held_up=held_up, troubles=BAD_IMAGE).reason == "SinkStalled"
    assert status.live_producer(alone, suspended=False, troubles=BAD_IMAGE).reason == "ImagePullFailed"


def test_pods_of_a_new_generation_that_is_not_seen_yet_are_available_as_long_as_they_are_there():
    assert status.sinks([(deployment(observedGeneration=1), 1)], suspended=False).good


# --- loads ----------------------------------------------------------------------------------------------------------


def job(ready=0, **conditions):
    found = [{"type": kind, "status": value, "message": "why"} for kind, value in conditions.items()]
    return {
        "metadata": {"name": "sim-load-1"},
        "spec": {"backoffLimit": 10},
        "status": {"conditions": found, "ready": ready},
    }


def said_of(pod_of_it, made=None, before=None):
    found = [] if pod_of_it is None else [kept.trimmed(pod_of_it)]
    return status.load(made or job(), completed=False, suspended=False, pods=found, before=before, now=NOW)


BROKEN = ended(2, message="error: no column price in trades.csv")


def test_a_load_fails_from_its_first_failure_on_and_is_tried_again():
    found = said_of(pod(container(terminated=BROKEN)))
    assert (found.status, found.reason) == ("False", "LoadFailing")
    assert found.message.startswith(
        "Container sink ended with exit code 2: no column price in trades.csv. Job sim-load-1 "
    )
    assert said_of(pod(waits("CrashLoopBackOff", last=BROKEN, restarts=1))) == found
    # Just started again: it may fail again at once.
    again = pod(container(ready=True, restarts=2, running={"startedAt": "2026-03-02T10:59:30Z"}, last=BROKEN))
    assert said_of(again, job(ready=1)) == found


def test_a_load_that_has_run_for_a_minute_since_is_said_to_run():
    calm = pod(container(ready=True, restarts=2, running={"startedAt": "2026-03-02T10:58:59Z"}, last=BROKEN))
    assert said_of(calm, job(ready=1)).reason == "LoadRunning"


def test_a_load_that_was_given_up_says_what_it_said_last_although_its_pod_is_gone():
    failing = said_of(pod(waits("CrashLoopBackOff", last=BROKEN, restarts=10)))
    before = {"type": "ProducerAvailable", "reason": failing.reason.value, "message": failing.message}
    assert said_of(None, job(), before) == failing  # the pod goes before the Job says that it has failed
    given_up = said_of(None, job(Failed="True"), before)
    assert (given_up.status, given_up.reason) == ("False", "LoadFailed")
    assert "no column price in trades.csv" in given_up.message
    assert "delete the Job" in given_up.message
    still = {"type": "ProducerAvailable", "reason": given_up.reason.value, "message": given_up.message}
    assert said_of(None, job(Failed="True"), still) == given_up
    assert said_of(None, job(Failed="True")).message.startswith("Job sim-load-1 has failed (why).")


def test_a_load_whose_pod_cannot_begin_says_why():
    assert said_of(pod(waits("ErrImagePull", "not found"), phase="Pending")).reason == "ImagePullFailed"
    assert said_of(pod(phase="Pending", conditions=[UNSCHEDULABLE])).reason == "Unschedulable"
    assert said_of(pod(waits("ContainerCreating"), phase="Pending")).reason == "LoadStarting"
