"""Planned topics in the words of Kafka's admin protocol and of the schema registry, for both executors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from k2.bus.admin import TopicSpec
from k2.bus.registry import ensure_further, ensure_subjects
from k2.model.events import avro_schema
from k2.model.further import with_further
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


def ensure_planned_subjects(registry_config: Mapping[str, str], topics: Sequence[TopicPlan]) -> None:
    """Register the schema of each topic, and the one with the further columns of its table; see `ensure_subjects`."""
    types = {str(topic.name): topic.name.data_type for topic in topics}
    ensure_subjects(registry_config, types, {str(topic.name): topic.decimals for topic in topics})
    plain = {topic.name: avro_schema(topic.name.data_type, topic.decimals) for topic in topics if topic.further}
    further = {str(topic.name): with_further(plain[topic.name], topic.further) for topic in topics if topic.further}
    ensure_further(registry_config, further)


def _retention(milliseconds: int | None) -> dict[str, str]:
    return {} if milliseconds is None else {"retention.ms": str(milliseconds)}
