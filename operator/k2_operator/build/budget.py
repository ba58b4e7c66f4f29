"""PodDisruptionBudgets: only where another pod can take over; one of a single pod would block every drain of its node."""

from __future__ import annotations

from collections.abc import Mapping

from k2_operator.build.types import PodDisruptionBudget
from k2_operator.spec import labels


def one_at_a_time(
    component: labels.Component, name: str, namespace: str, marks: Mapping[str, str]
) -> PodDisruptionBudget:
    """At most one pod of a workload is evicted at a time; a pod that is broken anyway may always go."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(marks)},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels.selector(component, name)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
