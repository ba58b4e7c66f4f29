"""Strimzi KafkaTopics: a topic and its dead letters, in the Kafka cluster's namespace.

No owner reference: it cannot cross namespaces, and the garbage collector would delete the data with the feed.
"""

from __future__ import annotations

import hashlib

from k2.model.platform import Platform
from k2_operator.build.types import KafkaTopic
from k2_operator.plan.plans import FeedPlan, TopicPlan
from k2_operator.spec import labels


def kafka_topics(feed: FeedPlan, plan: TopicPlan, platform: Platform) -> list[KafkaTopic]:
    """KafkaTopics of a topic and of its dead-letter topic."""
    return [
        _kafka_topic(feed, platform, str(plan.name), plan.partitions, plan.replication_factor, plan.retention_ms),
        _kafka_topic(feed, platform, plan.name.dead_letters, 1, plan.replication_factor, plan.dead_letter_retention_ms),
    ]


def resource_name(topic: str) -> str:
    """A topic's name as an object's: Kubernetes has no '_', and two topics that differ in it must not meet."""
    plain = topic.replace("_", "-")
    return plain if plain == topic else f"{plain}-{hashlib.sha256(topic.encode()).hexdigest()[:8]}"


def _kafka_topic(
    feed: FeedPlan, platform: Platform, topic: str, partitions: int, replicas: int, retention_ms: int | None
) -> KafkaTopic:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {
            "name": resource_name(topic),
            "namespace": platform.kafka.strimzi_namespace or feed.namespace,
            "labels": {
                "strimzi.io/cluster": platform.kafka.strimzi_cluster,
                "app.kubernetes.io/part-of": "k2",
                labels.MANAGED_BY: labels.OPERATOR,
            },
        },
        "spec": {
            "topicName": topic,
            "partitions": partitions,
            "replicas": replicas,
            "config": {} if retention_ms is None else {"retention.ms": retention_ms},
        },
    }
