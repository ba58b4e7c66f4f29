"""What flows: whether the topics are those that the tables know, whether sinks are at work, and how long until something is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf

from k2.bus.admin import beginning_offsets, cluster_id, end_offsets_of, topic_ids
from k2.bus.groups import active_members
from k2.bus.look import message_time, retention_seconds
from k2.doctor.checks import Check, DoubtfulError, Group, SkippedError, WrongError
from k2.doctor.lake import REACHED, recorded
from k2.lake.offsets import TopicOffsets
from k2.model.settings import Settings
from k2.model.topics import sink_group_id

SOON_SECONDS = 6 * 3600.0
"""A sink that is behind and whose oldest message goes within this time is told of before it has gone."""

_NEEDS = ("kafka-cluster", *REACHED, "tables-readable")
_MANY_SECONDS = 30.0
"""There may be hundreds of topics, each a request or two."""


@dataclass(frozen=True, slots=True)
class _Flow:
    """A topic as a table has it."""

    topic: str
    table: str
    held: TopicOffsets


def pipelines(settings: Settings) -> Group:
    """Checks of the topics that tables hold rows of."""
    found = _Pipelines(settings)
    return Group(
        "Pipelines",
        [
            Check(
                "topics-are-those-read",
                found.same_topics,
                _NEEDS,
                "Look who deleted the topic or moved the platform to another cluster, then decide: `k2 sink reset --help`.",
                _MANY_SECONDS,
            ),
            Check(
                "sinks-at-work",
                found.at_work,
                _NEEDS,
                "Start the sink (`k2 up`, or the feed's Deployment; `kubectl describe marketfeed` tells what keeps it).",
                _MANY_SECONDS,
            ),
            Check(
                "time-to-loss",
                found.time_to_loss,
                _NEEDS,
                "Give the topic a longer retention now, then mend its sink; what went is decided by `k2 sink reset --help`.",
                _MANY_SECONDS,
            ),
        ],
    )


@dataclass(frozen=True, slots=True)
class _Pipelines:
    settings: Settings

    def same_topics(self) -> str:
        """A topic that was deleted and made again has another id, and its offsets mean other messages."""
        flows, kafka = self._flows(), self.settings.kafka_config()
        here, ids = cluster_id(kafka), topic_ids(kafka, {flow.topic for flow in flows})
        others = [
            f"{flow.topic} of {flow.table}"
            for flow in flows
            if flow.topic in ids and (ids[flow.topic], here) != (flow.held.topic_id, flow.held.cluster_id)
        ]
        if others:
            raise WrongError(f"another topic has the name of the one that was read: {', '.join(others)}")
        return f"{len(flows)} topics are those that the tables have read"

    def at_work(self) -> str:
        kafka = self.settings.kafka_config()
        idle = [
            f"{flow.topic} → {flow.table} ({behind:,} messages wait)"
            for flow, behind in _behind(self.settings, self._flows())
            if behind and not active_members(kafka, sink_group_id(flow.topic, flow.table))
        ]
        if idle:
            raise WrongError(f"no sink reads {', '.join(idle)}")
        return "where messages wait a sink is at work"

    def time_to_loss(self) -> str:
        lost, soon = list[str](), list[str]()
        for flow, behind in _behind(self.settings, self._flows()):
            earliest = beginning_offsets(self.settings.kafka_config(), flow.topic)
            for partition, held in flow.held.partitions.items():
                place = f"{flow.topic}/{partition} of {flow.table}"
                if (gone := earliest.get(partition, 0) - held.next) > 0:
                    lost.append(f"{place}: {gone:,} messages went unread")
                elif behind and (left := self._left(flow.topic, partition, held.next)) < SOON_SECONDS:
                    soon.append(f"{place}: its oldest unread message goes in {max(0.0, left) / 60:,.0f} minutes")
        if lost:
            raise WrongError("; ".join(lost))
        if soon:
            raise DoubtfulError("; ".join(soon))
        return "nothing that waits goes within six hours"

    def _left(self, topic: str, partition: int, offset: int) -> float:
        """Seconds until retention takes the message at an offset."""
        kafka = self.settings.kafka_config()
        kept, sent = retention_seconds(kafka, topic), message_time(kafka, topic, partition, offset)
        return inf if kept is None or sent is None else kept - (datetime.now(UTC) - sent).total_seconds()

    def _flows(self) -> list[_Flow]:
        held = recorded(self.settings)
        found = [_Flow(topic, table, each) for table, topics in held.items() for topic, each in topics.items()]
        if not found:
            raise SkippedError("no table has rows of a topic yet")
        return found


def _behind(settings: Settings, flows: list[_Flow]) -> Iterator[tuple[_Flow, int]]:
    """Each topic that is there, with how many of its messages its table lacks."""
    ends = end_offsets_of(settings.kafka_config(), {flow.topic for flow in flows})
    for flow in flows:
        if flow.topic in ends:
            held = flow.held.partitions
            yield flow, sum(max(0, end - (held[p].next if p in held else 0)) for p, end in ends[flow.topic].items())
