"""Playing kubelet and scheduler on a control plane without nodes: what they say of pods, written as they write it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from k2_testing.cluster import Cluster, RefusedError, until


def say_of_pods(
    cluster: Cluster,
    namespace: str,
    workload: str,
    *,
    phase: str = "Running",
    ready: bool = False,
    image: str = "",
    conditions: Sequence[dict] = (),
    **container,
) -> None:
    """Say how a workload's pods are (only those of an image), and their one container.

    `container` are fields of its status: `state`, `lastState`, `restartCount`; none: there is no such status yet.
    """
    now = stamp()
    said = [{"type": "Ready", "status": "True" if ready else "False"}, *conditions]
    kinds = {each["type"] for each in said}
    for pod in until(lambda: pods(cluster, namespace, workload, image), f"no pods of {workload}"):
        others = [each for each in pod["status"].get("conditions", ()) if each["type"] not in kinds]
        of = {name: pod["spec"]["containers"][0][name] for name in ("name", "image")}
        status = {
            "phase": phase,
            "startTime": now,
            "conditions": [*others, *({**each, "lastTransitionTime": now} for each in said)],
            "containerStatuses": [{**of, "imageID": "", "ready": ready, "restartCount": 0, **container}]
            if container
            else None,
        }
        try:
            cluster.patch("Pod", namespace, pod["metadata"]["name"], {"status": status}, sub="status")
        except RefusedError as error:
            if error.status != 404:  # it has gone since
                raise


def pods(cluster: Cluster, namespace: str, workload: str, image: str = "") -> list[dict]:
    """A workload's pods that are not on their way out, only those of an image if one is named."""
    found = cluster.list("Pod", namespace, f"app.kubernetes.io/instance={workload}")
    return [
        each
        for each in found
        if "deletionTimestamp" not in each["metadata"] and image in ("", each["spec"]["containers"][0]["image"])
    ]


def waiting(reason: str, message: str = "") -> dict:
    """The state of a container that does not run."""
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict:
    """The state of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": stamp()}}


def running(seconds_ago: float = 0.0) -> dict:
    """The state of a container that was started so long ago."""
    return {"running": {"startedAt": stamp(seconds_ago)}}


def stamp(seconds_ago: float = 0.0) -> str:
    """The time, or that of so many seconds ago, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds_ago))
