"""The way into Kafka for feeds: a producer for each data type's topic, and the dead-letter topics beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Self

import pyarrow as pa

from k2.bus.admin import cluster_id, topic_ids
from k2.bus.dead_letters import DeadLetter, DeadLetterWriter
from k2.bus.producer import Delivery, EventProducer
from k2.bus.registry import ensure_subjects
from k2.feeds.formats.csv_blocks import Rejected
from k2.model.errors import UserError, WorldError
from k2.model.events import Decimals
from k2.model.settings import Settings
from k2.model.topics import DataType, TopicName

ALL_STANDARD: Mapping[DataType, Decimals] = MappingProxyType({})
"""No data type goes into a topic of wide decimals."""

_CLOSE_SECONDS = 1.0
_QUEUE_MESSAGES = 60_000  # with what is parsed ahead, a load stays below 300 MiB


def topic_identities(settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    """Kafka's id of each topic, with the cluster's; a `UserError` names those that, or whose dead letters', do not exist."""
    kafka = settings.kafka_config()
    needed = [*topics, *(TopicName.parse(topic).dead_letters for topic in topics)]
    found = topic_ids(kafka, needed)
    missing = [topic for topic in needed if topic not in found]
    if missing:
        raise UserError(
            f"There is no topic {', '.join(missing)} in Kafka at {kafka['bootstrap.servers']}",
            remedy="Apply a MarketFeed of that exchange and data type, or start `k2 up` with one: feeds make the topics",
        )
    cluster = cluster_id(kafka)
    return {topic: f"{cluster}/{found[topic]}" for topic in topics}


class KafkaOutlet:
    """Producers and dead letters of a load (an `Outlet`). Use as a context manager.

    Args:
        settings: addresses and credentials.
        topics: the topic of each data type; they exist.
        decimals: of the topics that have other than standard ones.

    Raises:
        UserError: the registry holds a schema that ours cannot replace.
        WorldError: Kafka or the registry cannot be reached.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[DataType, str],
        decimals: Mapping[DataType, Decimals] = ALL_STANDARD,
    ) -> None:
        schemas = ensure_subjects(
            settings.registry_config(),
            {topic: kind for kind, topic in topics.items()},
            {topics[kind]: each for kind, each in decimals.items()},
        )
        self._topics = dict(topics)
        self._dead_letters: dict[str, DeadLetterWriter] = {}
        self._kafka = settings.kafka_config  # asked again by those who live long: credentials are rotated
        self._producers = {
            kind: EventProducer(
                self._kafka,
                topic=topic,
                data_type=kind,
                schema_id=schemas[topic],
                decimals=decimals.get(kind, Decimals.STANDARD),
                queue_messages=_QUEUE_MESSAGES,
                delivery_seconds=settings.delivery_seconds,
            )
            for kind, topic in topics.items()
        }

    def topic(self, data_type: DataType) -> str:
        """The topic of that data type."""
        return self._topics[data_type]

    def send(self, data_type: DataType, events: pa.RecordBatch) -> Delivery:
        """Hand a batch to its topic's producer."""
        return self._producers[data_type].send(events)

    def reject(self, file: str, header: bytes | None, rejected: Sequence[Rejected]) -> None:
        """Put rows into the dead-letter topic of the (only) topic of the load; returns when they are acknowledged."""
        data_type, letters = self._letters()
        letters.send([_letter(file, header, bad, data_type) for bad in rejected])
        letters.flush()

    def put_aside(self, messages: Sequence[tuple[bytes, str]]) -> None:
        """See `LiveOutlet`: into the dead-letter topic of the feed's first topic."""
        data_type, letters = self._letters()
        letters.send([DeadLetter(raw, reason, data_type=data_type) for raw, reason in messages])
        letters.flush()

    def _letters(self) -> tuple[DataType, DeadLetterWriter]:
        data_type, topic = next(iter(self._topics.items()))
        letters = self._dead_letters.get(topic)
        if letters is None:
            letters = self._dead_letters[topic] = DeadLetterWriter(self._kafka, TopicName.parse(topic).dead_letters)
        return data_type, letters

    def poll(self, seconds: float) -> None:
        """Take in delivery reports, for at most that long in sum."""
        for producer in self._producers.values():
            producer.poll(seconds / len(self._producers))
        for letters in self._dead_letters.values():
            letters.refresh()

    def flush(self, seconds: float) -> None:
        """Wait for outstanding reports."""
        for producer in self._producers.values():
            producer.flush(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever sent has looked at the deliveries by now: there is nothing to wait for, or no use in waiting.
        for each in (*self._producers.values(), *self._dead_letters.values()):
            with suppress(WorldError):
                each.close(_CLOSE_SECONDS)


def _letter(file: str, header: bytes | None, bad: Rejected, data_type: DataType) -> DeadLetter:
    names = None if header is None else header.decode("utf-8", "replace")
    return DeadLetter(bad.raw, bad.reason, file=file, line=bad.line, file_header=names, data_type=data_type)
