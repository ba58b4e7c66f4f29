"""The pod template of every workload: the closed subset of a pod that both executors understand.

args; env (literal, secretKeyRef, configMapKeyRef, fieldRef); configMap, secret, emptyDir and claim volumes; httpGet probes.
`types` has it field by field; adding anything means teaching `k2_local.pods` the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from k2.model.platform import ImagesPlatform
from k2_operator.build import names
from k2_operator.build.configmap import FILE
from k2_operator.build.environment import literal
from k2_operator.build.types import Container, EnvVar, Mount, PodTemplate, PodVolume, RestartPolicy, VolumeMount
from k2_operator.spec import labels
from k2_operator.spec.resources import Resources

CONFIG_DIR = "/etc/k2/config"
STATE_DIR = "/var/lib/k2"
METRICS_PORT = 9090
HTTP_PORT = 8000
USER = 10001


@dataclass(frozen=True, slots=True)
class Workload:
    """What differs between the workloads.

    `ports` are by name; `probed` is the port that answers /health and /ready, None for a workload that ends by itself.
    `mounts` are volumes with the path each is mounted at, read-only. `configured`: its ConfigMap is mounted too.
    """

    args: tuple[str, ...]
    env: Sequence[EnvVar]
    ports: Mapping[str, int]
    probed: str | None
    resources: Resources
    mounts: Sequence[Mount] = ()
    grace_seconds: int = 60
    restart_policy: RestartPolicy = "Always"
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    configured: bool = True


def config_env() -> list[EnvVar]:
    """Where a workload finds its configuration."""
    return [literal("K2_CONFIG_FILE", f"{CONFIG_DIR}/{FILE}")]


def base_env() -> list[EnvVar]:
    """Variables of every workload: where its files are, who it is, how it logs."""
    return [
        literal("K2_DATA_DIR", STATE_DIR),
        literal("K2_HTTP_HOST", "0.0.0.0"),  # noqa: S104 - a pod's own network
        literal("K2_LOG_FORMAT", "json"),
        {"name": "K2_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "K2_POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]


def metrics_env() -> list[EnvVar]:
    """Where a workload without an HTTP service of its own answers /metrics, /health and /ready."""
    return [literal("K2_METRICS_PORT", str(METRICS_PORT))]


def template(name: str, pod_labels: Mapping[str, str], images: ImagesPlatform, workload: Workload) -> PodTemplate:
    """The `template` of a Deployment or Job: one container, non-root, nothing writable but its own folders."""
    volumes: list[PodVolume] = []
    mounts: list[VolumeMount] = []
    if workload.configured:
        volumes.append({"name": "config", "configMap": {"name": names.config(name)}})
        mounts.append({"name": "config", "mountPath": CONFIG_DIR, "readOnly": True})
    volumes.append({"name": "state", "emptyDir": {}})
    volumes.append({"name": "tmp", "emptyDir": {}})
    mounts.append({"name": "state", "mountPath": STATE_DIR})
    mounts.append({"name": "tmp", "mountPath": "/tmp"})  # noqa: S108 - the pod's own
    for volume, path in workload.mounts:
        volumes.append(volume)
        mounts.append({"name": volume["name"], "mountPath": path, "readOnly": True})
    return {
        "metadata": {"labels": dict(pod_labels), "annotations": dict(workload.annotations)},
        "spec": {
            "restartPolicy": workload.restart_policy,
            "terminationGracePeriodSeconds": workload.grace_seconds,
            # No workload speaks to the Kubernetes API.
            "automountServiceAccountToken": False,
            # A Service called k2-http would otherwise set K2_HTTP_PORT.
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(images, workload, pod_labels[labels.COMPONENT], mounts)],
            "volumes": volumes,
        },
    }


def _container(images: ImagesPlatform, workload: Workload, name: str, mounts: list[VolumeMount]) -> Container:
    built: Container = {
        "name": name,
        "image": images.workload,
        "imagePullPolicy": images.pull_policy,
        "command": ["k2"],
        "args": list(workload.args),
        "env": list(workload.env),
        "ports": [{"name": port, "containerPort": number} for port, number in workload.ports.items()],
        "volumeMounts": mounts,
        "resources": workload.resources.model_dump(mode="json", exclude_defaults=True),
        # What a pod said last stands in its status, and the operator tells it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    if workload.probed is not None:
        built["readinessProbe"] = {
            "httpGet": {"path": "/ready", "port": workload.probed},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        }
        # Imports alone take a minute on a node that is overbooked: nobody asks for its health before it has answered once.
        built["startupProbe"] = {
            "httpGet": {"path": "/health", "port": workload.probed},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 150,
        }
        # Slow to strike: a restart in the middle of a commit costs more than a minute of patience.
        built["livenessProbe"] = {
            "httpGet": {"path": "/health", "port": workload.probed},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        }
    return built
