"""The closed subset of Kubernetes that the local executor understands. Anything else raises: silence would be a lie.

What only a cluster can do something with (security contexts, resources, pull policies) is named here as ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from k2.model.errors import UserError


class UnsupportedError(UserError):
    """A manifest asks for something that the local executor does not do."""

    def __init__(self, where: str, name: object) -> None:
        super().__init__(
            f"{where} cannot be run on this machine",
            found=name,
            expected="the subset that k2_local/pods/subset.py lists",
            remedy="Build it otherwise, or teach the local executor to do it",
        )


_FIELDS: dict[str, frozenset[str]] = {
    "ConfigMap": frozenset({"apiVersion", "kind", "metadata", "data"}),
    "Deployment": frozenset({"apiVersion", "kind", "metadata", "spec"}),
    "Job": frozenset({"apiVersion", "kind", "metadata", "spec"}),
    "Deployment.spec": frozenset({"replicas", "selector", "strategy", "template", "progressDeadlineSeconds"}),
    "Job.spec": frozenset({"backoffLimit", "suspend", "template"}),
    "CronJob": frozenset({"apiVersion", "kind", "metadata", "spec"}),
    "CronJob.spec": frozenset(
        {
            "schedule",
            "timeZone",
            "suspend",
            "concurrencyPolicy",
            "startingDeadlineSeconds",
            "jobTemplate",
            # Ignored: a log is kept as long as the data directory.
            "successfulJobsHistoryLimit",
            "failedJobsHistoryLimit",
        }
    ),
    "jobTemplate": frozenset({"metadata", "spec"}),
    "jobTemplate.spec": frozenset({"backoffLimit", "activeDeadlineSeconds", "template"}),
    "template": frozenset({"metadata", "spec"}),
    "pod": frozenset(
        {
            "restartPolicy",
            "terminationGracePeriodSeconds",
            "containers",
            "volumes",
            # Ignored: they bind a pod to a cluster's rules.
            "automountServiceAccountToken",
            "enableServiceLinks",
            "securityContext",
        }
    ),
    "container": frozenset(
        {
            "name",
            "command",
            "args",
            "env",
            "ports",
            "volumeMounts",
            "readinessProbe",
            "startupProbe",
            "livenessProbe",
            # Ignored: the code that runs is the code that is installed here, with what this machine has.
            "image",
            "imagePullPolicy",
            "resources",
            "securityContext",
            "terminationMessagePolicy",
        }
    ),
    "port": frozenset({"name", "containerPort"}),
    "mount": frozenset({"name", "mountPath", "readOnly"}),
    "env": frozenset({"name", "value", "valueFrom"}),
    "valueFrom": frozenset({"secretKeyRef", "configMapKeyRef", "fieldRef"}),
    "volume": frozenset({"name", "configMap", "secret", "emptyDir", "persistentVolumeClaim"}),
    "probe": frozenset({"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"}),
    "httpGet": frozenset({"path", "port"}),
}
ONLY_IN_A_CLUSTER = frozenset(
    # Ignored: addresses, evictions and scaling by lag. A sink that something else would scale runs as one pod here.
    {"Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ScaledObject"}
)
FIELD_PATHS = frozenset({"metadata.name", "metadata.namespace"})


def check(manifest: Mapping[str, Any]) -> None:
    """Raise `UnsupportedError` for the first thing in a manifest that the executor does not understand."""
    kind = str(manifest.get("kind"))
    where = f"{kind} {manifest.get('metadata', {}).get('name')}"
    if kind in ONLY_IN_A_CLUSTER:
        return
    if kind not in ("ConfigMap", "Deployment", "Job", "CronJob"):
        raise UnsupportedError(where, kind)
    _only(kind, where, manifest)
    if kind == "ConfigMap":
        return
    spec = manifest["spec"]
    _only(f"{kind}.spec", f"{where}: spec", spec)
    if kind == "CronJob":
        if spec.get("concurrencyPolicy") != "Forbid":
            raise UnsupportedError(f"{where}: concurrencyPolicy", spec.get("concurrencyPolicy"))
        _only("jobTemplate", f"{where}: jobTemplate", spec["jobTemplate"])
        spec = spec["jobTemplate"]["spec"]
        _only("jobTemplate.spec", f"{where}: jobTemplate", spec)
    _only("template", f"{where}: template", spec["template"])
    _check_pod(where, spec["template"]["spec"])


def _check_pod(where: str, pod: Mapping[str, Any]) -> None:
    _only("pod", f"{where}: pod", pod)
    if len(pod["containers"]) != 1:
        raise UnsupportedError(f"{where}: pod", f"{len(pod['containers'])} containers")
    for volume in pod.get("volumes", []):
        _only("volume", f"{where}: volume {volume.get('name')}", volume)
    container = pod["containers"][0]
    _only("container", f"{where}: container", container)
    if container.get("command") != ["k2"]:
        raise UnsupportedError(f"{where}: container", container.get("command"))
    for port in container.get("ports", []):
        _only("port", f"{where}: port", port)
    for mount in container.get("volumeMounts", []):
        _only("mount", f"{where}: mount", mount)
    for variable in container.get("env", []):
        _check_variable(f"{where}: env {variable.get('name')}", variable)
    for name in ("readinessProbe", "startupProbe", "livenessProbe"):
        if name in container:
            _only("probe", f"{where}: {name}", container[name])
            _only("httpGet", f"{where}: {name}", container[name].get("httpGet", {}))


def _check_variable(where: str, variable: Mapping[str, Any]) -> None:
    _only("env", where, variable)
    source = variable.get("valueFrom", {})
    _only("valueFrom", where, source)
    path = source.get("fieldRef", {}).get("fieldPath", "metadata.name")
    if path not in FIELD_PATHS:
        raise UnsupportedError(where, path)


def _only(what: str, where: str, found: Mapping[str, Any]) -> None:
    for name in found:
        if name not in _FIELDS[what]:
            raise UnsupportedError(where, name)
