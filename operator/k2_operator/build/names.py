"""Names of everything that is built. A sink is named after its (topic, table) pair, never after a feed: the feed may change."""

from __future__ import annotations

import hashlib

from k2.model.topics import sink_key

MAX_CRON_JOB = 52
"""Kubernetes adds eleven characters to name its Jobs."""


def sink(topic: str, table: str) -> str:
    """Deployment of the sink of (topic, table): at most 58 characters."""
    return f"k2-sink-{sink_key(topic, table)}"


def producer(feed: str) -> str:
    """Deployment of a live source."""
    return f"{feed}-producer"


def load(feed: str, source_hash: str) -> str:
    """Job of a finite source. Another source is another Job; the same one is never run again."""
    return f"{feed}-load-{source_hash}"


def config(workload: str) -> str:
    """ConfigMap with the configuration of a workload."""
    return f"{workload}-config"


def upkeep(table: str, task: str) -> str:
    """CronJob of a task of an IcebergTable's upkeep."""
    name = f"{table}-{task}"
    if len(name) <= MAX_CRON_JOB:
        return name
    digest = hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"{table[: MAX_CRON_JOB - len(task) - 10].rstrip('-')}-{digest}-{task}"
