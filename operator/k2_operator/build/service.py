"""The Service of a workload: headless, for whoever looks for metrics by Services. Nothing of K2 speaks to it."""

from __future__ import annotations

from collections.abc import Mapping

from k2_operator.build.pod import METRICS_PORT
from k2_operator.build.types import HeadlessService
from k2_operator.spec import labels


def metrics(component: labels.Component, name: str, namespace: str, marks: Mapping[str, str]) -> HeadlessService:
    """A headless Service over a workload's pods, those that are not ready as well: their metrics tell why."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(marks)},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels.selector(component, name),
            "ports": [{"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"}],
        },
    }
