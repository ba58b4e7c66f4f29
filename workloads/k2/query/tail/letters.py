"""The newest letters of a dead-letter topic, read from Kafka when they are asked for: one reader at a time."""

from __future__ import annotations

import threading

from k2.bus.admin import beginning_offsets, end_offsets, topic_ids
from k2.bus.redrive import LetterFilter, known_letters
from k2.model.letters import counted
from k2.model.topics import TopicName
from k2.obs.renewed import ClientSettings, as_now
from k2.query.rows.errors import NotFoundError
from k2.query.rows.letters import LetterCounts


class TopicLetters:
    """Reads dead-letter topics. Threads may share it.

    Args:
        kafka: connection settings of librdkafka.
    """

    def __init__(self, kafka: ClientSettings) -> None:
        self._kafka = kafka
        self._turn = threading.Lock()

    def newest(self, topic: TopicName, most: int, reason: str | None) -> LetterCounts:
        """The newest of a topic's letters: see `LetterSource`."""
        dlq = topic.dead_letters
        with self._turn:
            kafka = as_now(self._kafka)
            if not topic_ids(kafka, [dlq]):
                raise NotFoundError(f"There is no topic {dlq}", remedy="See /v1/stats for the topics that tables know")
            first, ends = beginning_offsets(kafka, dlq), end_offsets(kafka, dlq)
            starts = {partition: max(at, ends[partition] - most) for partition, at in first.items()}
            found = known_letters(kafka, dlq, LetterFilter(reason), starts=starts)
        return LetterCounts(dlq, counted(found), starts == first)
