"""The files of a source in its pod: a claim or a ConfigMap, and the variable that says where."""

from __future__ import annotations

from k2_operator.build import environment
from k2_operator.build.types import EnvVar, Mount, PodVolume
from k2_operator.plan.plans import VolumePlan

SOURCE_DIR = "/var/lib/k2-source"


def of_source(volume: VolumePlan | None, env: list[EnvVar], mounts: list[Mount]) -> None:
    """Add the volume to what a pod mounts, and the variable to what it is told."""
    if volume is None:
        return
    env.append(environment.literal("K2_SOURCE_DIR", SOURCE_DIR))
    mounts.append((_volume(volume), SOURCE_DIR))


def _volume(volume: VolumePlan) -> PodVolume:
    if volume.kind == "claim":
        return {"name": "source", "persistentVolumeClaim": {"claimName": volume.name}}
    return {"name": "source", "configMap": {"name": volume.name}}
