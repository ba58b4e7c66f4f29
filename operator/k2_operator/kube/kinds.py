"""The kinds that the operator makes: those that it lists, watches and deletes when nothing asks for them any more."""

from __future__ import annotations

from k2.model.platform import Platform

_ALWAYS = (
    "Deployment",
    "Job",
    "CronJob",
    "ConfigMap",
    "Service",
    "PodDisruptionBudget",
    # Also with KEDA: those of before are removed.
    "HorizontalPodAutoscaler",
)
KEDA = ("ScaledObject", "TriggerAuthentication")


def owned_kinds(platform: Platform) -> tuple[str, ...]:
    """The kinds, with KEDA's only where the platform has chosen it: elsewhere they need not be served."""
    return _ALWAYS + (KEDA if platform.autoscaling.kind == "keda" else ())
