"""The kinds beside our own two: those that the operator makes, watches and deletes, and the pods that come of them, which it watches."""

from __future__ import annotations

from k2.model.platform import Platform
from k2_operator.spec import labels
from k2_operator.spec.pods import POD

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
KEDA = ("ScaledObject",)


def owned_kinds(platform: Platform) -> tuple[str, ...]:
    """The kinds, with KEDA's only where the platform has chosen it: elsewhere they need not be served."""
    return _ALWAYS + (KEDA if platform.autoscaling.kind == "keda" else ())


def watched_kinds(platform: Platform) -> tuple[str, ...]:
    """The kinds that are listed and watched: what is made, and pods, of which nothing is ever written."""
    return (*owned_kinds(platform), POD)


def selector(kind: str) -> str:
    """Which objects of a kind are listed and watched: K2's, and of pods those of feeds."""
    ours = f"{labels.MANAGED_BY}={labels.OPERATOR}"
    return f"{ours},{labels.FEED}" if kind == POD else ours
