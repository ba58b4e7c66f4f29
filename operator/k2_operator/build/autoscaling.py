"""What scales a sink by lag: a HorizontalPodAutoscaler on a metric of its pods, or KEDA's ScaledObject, which asks Prometheus.

The lag is K2's own, from the table's offsets. A consumer group's offsets are no measure of a sink: it commits them for the eye alone, and
behind a transaction's marker they never reach the topic's end.
"""

from __future__ import annotations

from collections.abc import Mapping

from k2.model.platform import Platform, PrometheusPlatform
from k2_operator.build.types import (
    Autoscaler,
    HorizontalPodAutoscaler,
    MetricTarget,
    ObjectMeta,
    PrometheusTrigger,
    ScaledObject,
    ScaleTarget,
)
from k2_operator.plan.plans import AutoscalingPlan, SinkPlan

CALM_SECONDS = 300
"""Lag has to be low for this long before a pod goes: each change of pods moves partitions, and that costs a commit."""
SETTLED = "1m"


def of_sink(
    name: str, namespace: str, marks: Mapping[str, str], plan: SinkPlan, platform: Platform
) -> list[Autoscaler]:
    """The objects that scale the sink's Deployment; none for a sink without autoscaling."""
    if plan.autoscaling is None:
        return []
    metadata: ObjectMeta = {"name": name, "namespace": namespace, "labels": dict(marks)}
    # Settings that say keda and no Prometheus are refused when they are read.
    if platform.autoscaling.kind == "keda" and platform.autoscaling.prometheus is not None:
        return [_keda(metadata, plan.autoscaling, platform.autoscaling.prometheus)]
    return [_hpa(metadata, plan.autoscaling, platform.autoscaling.metric)]


def _target(name: str) -> ScaleTarget:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}


def _hpa(metadata: ObjectMeta, bounds: AutoscalingPlan, metric: str) -> HorizontalPodAutoscaler:
    target: MetricTarget = {"type": "AverageValue", "averageValue": quantity(bounds.target_lag)}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": _target(metadata["name"]),
            "minReplicas": bounds.least,
            "maxReplicas": bounds.most,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": CALM_SECONDS}},
        },
    }


def _keda(metadata: ObjectMeta, bounds: AutoscalingPlan, prometheus: PrometheusPlatform) -> ScaledObject:
    trigger: PrometheusTrigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": prometheus.url.rstrip("/"),
            "query": lag_query(metadata["namespace"], metadata["name"]),
            "threshold": str(bounds.target_lag),
            # A lag that nobody knows is not a lag of 0: the number of pods stands.
            "ignoreNullValues": "false",
        },
    }
    if prometheus.authentication is not None:
        trigger["authenticationRef"] = {"kind": "ClusterTriggerAuthentication", "name": prometheus.authentication}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": _target(metadata["name"]),
            "minReplicaCount": bounds.least,
            "maxReplicaCount": bounds.most,
            "advanced": {
                "horizontalPodAutoscalerConfig": {
                    "behavior": {"scaleDown": {"stabilizationWindowSeconds": CALM_SECONDS}}
                }
            },
            "triggers": [trigger],
        },
    }


def lag_query(namespace: str, name: str) -> str:
    """PromQL for the messages that a sink's pods are behind together: one number, or nothing while nobody knows it.

    A pod counts when it has told its lag for a minute. One that has just started tells the whole topic's until it has its
    partitions, and would call for pods that nobody needs.
    """
    lag = f'k2_sink_lag_messages{{namespace="{namespace}",pod=~"{name}-.+"}}'
    return f"sum({lag} and {lag} offset {SETTLED})"


def quantity(number: int) -> str:
    """A number as the API server writes it back, so that nothing seems to differ: 100000 → 100k."""
    for scale, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number % scale == 0:
            return f"{number // scale}{suffix}"
    return str(number)
