"""Labels and annotations, in one place: what is built carries them, and watches and people find it by them.

Selectors hold only what never changes: a Deployment's selector is immutable.
"""

from __future__ import annotations

from typing import Literal

Component = Literal["producer", "load", "sink", "query", "upkeep"]

FEED = "k2.dev/feed"
TABLE = "k2.dev/table"
TOPIC = "k2.dev/topic"
COMPONENT, INSTANCE = "app.kubernetes.io/component", "app.kubernetes.io/instance"
MANAGED_BY, OPERATOR = "app.kubernetes.io/managed-by", "k2-operator"
CONFIG_HASH = "k2.dev/config-hash"
"""Annotation of a pod template: a hash over the rendered configuration, so that a change rolls the workload."""
GENERATION, PLATFORM_HASH = "k2.dev/generation", "k2.dev/platform-hash"
"""Annotations of a workload: the feed's spec and the platform's settings that it was built from."""
REMOVED = "k2.dev/removed-additions"
"""Annotation of an object: marks of the fields that somebody had added and the operator has taken off, once."""


def selector(component: Component, name: str) -> dict[str, str]:
    """What tells a workload's pods from all others."""
    return {"app.kubernetes.io/name": f"k2-{component}", INSTANCE: name}


def of(
    component: Component, name: str, *, feed: str | None = None, topic: str | None = None, table: str | None = None
) -> dict[str, str]:
    """Labels of a workload's objects and pods; `feed` and `table` are the resource that it belongs to."""
    labels = selector(component, name) | {
        COMPONENT: component,
        "app.kubernetes.io/part-of": "k2",
        MANAGED_BY: OPERATOR,
    }
    if feed is not None:
        labels[FEED] = feed
    if topic is not None:
        labels[TOPIC] = topic
    if table is not None:
        labels[TABLE] = table
    return labels
