"""A planned topic in the words of Kafka's admin protocol, for both executors."""

from __future__ import annotations

from dataclasses import replace

from k2.bus.admin import TopicSpec
from k2_operator.plan.plans import TopicPlan


def topic_specs(topic: TopicPlan) -> list[TopicSpec]:
    """A topic and its dead-letter topic, which needs no order and so one partition."""
    spec = TopicSpec(
        str(topic.name),
        topic.partitions,
        topic.replication_factor,
        _retention(topic.retention_ms),
        allow_reordering=topic.allow_reordering,
    )
    dead_letters = _retention(topic.dead_letter_retention_ms)
    return [spec, replace(spec, name=topic.name.dead_letters, partitions=1, config=dead_letters)]


def _retention(milliseconds: int | None) -> dict[str, str]:
    return {} if milliseconds is None else {"retention.ms": str(milliseconds)}
