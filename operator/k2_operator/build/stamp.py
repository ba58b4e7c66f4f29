"""What a workload was built from, as annotations: by them a change of the platform is told from one of the feed's own spec."""

from __future__ import annotations

import hashlib
import json

from k2.model.lru import Lru
from k2.model.platform import KafkaRole, Platform
from k2_operator.build import environment, pod
from k2_operator.spec import labels
from k2_operator.spec.resources import Resources

_ROLES: tuple[KafkaRole, ...] = ("producer", "sink")

_KNOWN = Lru[str, str](16)
"""By what a platform says: an operator has one, and asks for each Deployment that it builds."""


def marks_of(generation: int, platform: Platform) -> dict[str, str]:
    """The annotations of a workload of a feed."""
    return {labels.GENERATION: str(generation), labels.PLATFORM_HASH: platform_hash(platform)}


def platform_hash(platform: Platform) -> str:
    """A hash over what every pod gets from the platform and from the builders: images, addresses, Secrets' names, shape."""
    said = platform.model_dump_json()
    return _KNOWN.get(said) or _KNOWN.put(said, _hash(platform))


def _hash(platform: Platform) -> str:
    templates = [
        pod.template("any", labels.of("sink", "any"), platform.images, _plain(platform, role)) for role in _ROLES
    ]
    return hashlib.sha256(json.dumps(templates, sort_keys=True).encode()).hexdigest()[:16]


def _plain(platform: Platform, role: KafkaRole) -> pod.Workload:
    return pod.Workload(
        args=(),
        env=pod.config_env() + pod.base_env() + pod.metrics_env() + environment.connections(platform, role),
        ports={"metrics": pod.METRICS_PORT},
        probed="metrics",
        resources=Resources(),
        mounts=environment.volumes(platform, role),
    )
