"""What scales a sink by lag: a HorizontalPodAutoscaler on a metric of its pods, or KEDA's ScaledObject, which asks Kafka itself."""

from __future__ import annotations

from collections.abc import Mapping

from k2.model.platform import Platform
from k2_operator.build.types import (
    Autoscaler,
    HorizontalPodAutoscaler,
    KafkaLag,
    KafkaTrigger,
    MetricTarget,
    ObjectMeta,
    ScaledObject,
    ScaleTarget,
    SecretTarget,
)
from k2_operator.plan.plans import AutoscalingPlan, SinkPlan

CALM_SECONDS = 300
"""Lag has to be low for this long before a pod goes: each change of pods moves partitions, and that costs a commit."""
_KEDA_SASL = {"PLAIN": "plaintext", "SCRAM-SHA-256": "scram_sha256", "SCRAM-SHA-512": "scram_sha512"}


def of_sink(
    name: str, namespace: str, marks: Mapping[str, str], plan: SinkPlan, platform: Platform
) -> list[Autoscaler]:
    """The objects that scale the sink's Deployment; none for a sink without autoscaling."""
    if plan.autoscaling is None:
        return []
    metadata: ObjectMeta = {"name": name, "namespace": namespace, "labels": dict(marks)}
    if platform.autoscaling.kind == "hpa":
        return [_hpa(metadata, plan.autoscaling, platform.autoscaling.metric)]
    return _keda(metadata, plan, plan.autoscaling, platform)


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


def _keda(metadata: ObjectMeta, plan: SinkPlan, bounds: AutoscalingPlan, platform: Platform) -> list[Autoscaler]:
    trigger: KafkaTrigger = {"type": "kafka", "metadata": _kafka_trigger(plan, bounds, platform)}
    built: list[Autoscaler] = []
    if secrets := _secrets(platform):
        trigger["authenticationRef"] = {"name": metadata["name"]}
        built.append(
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "TriggerAuthentication",
                "metadata": metadata,
                "spec": {"secretTargetRef": secrets},
            }
        )
    scaled: ScaledObject = {
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
    return [*built, scaled]


def _kafka_trigger(plan: SinkPlan, bounds: AutoscalingPlan, platform: Platform) -> KafkaLag:
    kafka = platform.kafka
    found: KafkaLag = {
        "bootstrapServers": kafka.bootstrap_servers,
        "consumerGroup": plan.config.group_id,
        "topic": plan.config.topic,
        "lagThreshold": str(bounds.target_lag),
        # A sink that has committed nothing yet is behind by all that there is.
        "offsetResetPolicy": "earliest",
    }
    if kafka.sasl_mechanism is not None and kafka.security_protocol.startswith("SASL_"):
        found["sasl"] = _KEDA_SASL.get(kafka.sasl_mechanism, kafka.sasl_mechanism.lower())
    if kafka.security_protocol.endswith("SSL"):
        found["tls"] = "enable"
    return found


def _secrets(platform: Platform) -> list[SecretTarget]:
    """Credentials as KEDA takes them: from the very Secrets that the sink has."""
    kafka, found = platform.kafka, list[SecretTarget]()
    if (secret := kafka.secret_of("sink")) is not None:
        found.extend({"parameter": key, "name": secret, "key": key} for key in ("username", "password"))
    if kafka.ca_secret_name is not None:
        found.append({"parameter": "ca", "name": kafka.ca_secret_name, "key": "ca.crt"})
    return found


def quantity(number: int) -> str:
    """A number as the API server writes it back, so that nothing seems to differ: 100000 → 100k."""
    for scale, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number % scale == 0:
            return f"{number // scale}{suffix}"
    return str(number)
