"""Reading all partitions of one topic from given offsets, without a group: for whoever only looks at what is there.

Nothing is committed and nobody is joined, so any number may read beside the sink. What the broker said last (last stable
offsets, and when it said anything) comes from librdkafka's own statistics: asking costs no round trip.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from k2.bus.clients import Complaints, TopicConsumer
from k2.bus.consumer import Polled, columns_of
from k2.model.errors import WorldError
from k2.obs.renewed import ClientSettings

STATISTICS_MS = 500


class PartitionsReader:
    """A consumer of some partitions of a topic, read_committed. Use from one thread.

    Args:
        settings: connection settings of librdkafka.
        topic: what is read.
        starts: partition → offset to begin with.
        queue_kbytes: most payload KiB that are fetched ahead.

    Raises:
        WorldError: the settings are not ones that librdkafka takes.
    """

    def __init__(
        self, settings: ClientSettings, topic: str, starts: Mapping[int, int], *, queue_kbytes: int = 16_384
    ) -> None:
        self.topic = topic
        self._starts = dict(starts)
        self._heard: float | None = None
        self._looked = 0.0
        self._partitions = frozenset(starts)
        self._ends: dict[int, int] = {}
        self._complaints = Complaints("reader", topic, settings, logging.INFO)
        options = {
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": queue_kbytes,
            "reconnect.backoff.max.ms": 1_000,
            "topic.metadata.refresh.interval.ms": 10_000,
            "statistics.interval.ms": STATISTICS_MS,
            "stats_cb": self._on_statistics,
        }
        where = [TopicPartition(topic, number, offset) for number, offset in starts.items()]
        # The client asks for a group's name; it joins nothing.
        self._consumer = TopicConsumer(
            settings, "k2-tail", options, self._complaints, lambda consumer: consumer.assign(where)
        )

    def poll_block(self, max_messages: int, timeout: float) -> Polled | None:
        """Up to `max_messages`, or None when none came within `timeout` seconds.

        Raises:
            WorldError: the topic cannot be read on: an offset is not there (any more), or Kafka refuses.
        """
        messages = self._consumer.consume(max_messages, timeout)
        for message in messages:
            error = message.error()
            if error is not None:
                self._consider(error, message.partition())
        good = [message for message in messages if message.error() is None]
        return columns_of(good) if good else None

    def positions(self) -> dict[int, int]:
        """Per partition the next offset to read: markers of transactions that were reached are passed."""
        return self._consumer.positions(self._starts)

    def stable_ends(self) -> dict[int, int]:
        """Per partition the last stable offset as the broker said last; a partition of which it said none is absent."""
        return dict(self._ends)

    def partitions(self) -> frozenset[int]:
        """The partitions that the topic has, as the client learnt last: also those that are not read."""
        return self._partitions

    def silence(self) -> float | None:
        """Seconds for which a broker that holds partitions has not answered, as of the last statistics; None: it never did."""
        return None if self._heard is None else self._looked - self._heard

    @property
    def outdated(self) -> bool:
        """Whether only another reader could connect: the certificate authorities have changed."""
        return self._consumer.outdated

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def _on_statistics(self, text: str) -> None:
        said: dict[str, Any] = json.loads(text)
        self._looked = time.monotonic()
        partitions: dict[str, Any] = said.get("topics", {}).get(self.topic, {}).get("partitions", {})
        self._partitions |= {int(number) for number in partitions if int(number) >= 0}  # -1 is the client's own
        leaders = {part["leader"] for number, part in partitions.items() if int(number) in self._starts}
        idle = [
            max(0, broker["rxidle"]) / 1e6
            for broker in said.get("brokers", {}).values()
            if broker["nodeid"] in leaders and broker["state"] == "UP"
        ]
        # One leader that is silent leaves its partitions behind: the answer is as old as the oldest of them.
        if leaders and len(idle) == len(leaders):
            self._heard = self._looked - max(idle)
        for number, part in partitions.items():
            if int(number) in self._starts and part["ls_offset"] >= 0:
                self._ends[int(number)] = part["ls_offset"]

    def _consider(self, error: KafkaError, partition: int | None) -> None:
        code = error.code()
        if code in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - public under this name
            raise WorldError(f"{self.topic}/{partition} does not have the offset to read (any more): {error.str()}")
        if error.fatal() or code in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
            raise self._consumer.failed(error)
        self._complaints.say(error)
