"""What K2 keeps of a pod: whose it is, and what Kubernetes says of its containers. Nothing of its spec. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2_operator.spec import labels
from k2_operator.spec.objects import Object

POD = "Pod"

_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_LABELS = (labels.FEED, labels.INSTANCE)
_CONTAINER = ("name", "ready", "restartCount")
_STATES = ("waiting", "running", "terminated")
_OF_A_STATE = ("reason", "message", "exitCode", "startedAt")


def trimmed(pod: Object) -> dict[str, Any]:
    """A pod without what nobody here reads: a tenth of it, and the same through most of what its status tells."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    kept = _only(metadata, _METADATA)
    kept["labels"] = _only(metadata.get("labels") or {}, _LABELS)
    kept["ownerReferences"] = [{"uid": each["uid"]} for each in metadata.get("ownerReferences") or ()]
    told = _only(status, ("phase", "reason", "message"))
    if unscheduled := [each for each in status.get("conditions") or () if _is_unscheduled(each)]:
        told["conditions"] = [_only(each, ("type", "status", "reason", "message")) for each in unscheduled]
    if containers := status.get("containerStatuses"):
        told["containerStatuses"] = [_container(each) for each in containers]
    return {"apiVersion": pod["apiVersion"], "kind": pod["kind"], "metadata": kept, "status": told}


def same(one: Object, other: Object) -> bool:
    """Whether two trimmed pods say the same, at whatever version."""
    return _unversioned(one) == _unversioned(other)


def _container(status: Object) -> dict[str, Any]:
    kept = _only(status, _CONTAINER)
    for when in ("state", "lastState"):
        if found := _only(status.get(when) or {}, _STATES):
            kept[when] = {name: _only(each, _OF_A_STATE) for name, each in found.items()}
    return kept


def _is_unscheduled(condition: Object) -> bool:
    return condition.get("type") == "PodScheduled" and condition.get("status") == "False"


def _only(found: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: found[name] for name in names if found.get(name) is not None}


def _unversioned(pod: Object) -> dict[str, Any]:
    metadata = {name: value for name, value in pod["metadata"].items() if name != "resourceVersion"}
    return {**pod, "metadata": metadata}
