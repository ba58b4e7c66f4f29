"""Single messages of a topic by their offsets, as they came: what became a dead letter after it was decoded, or was cut."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from k2.bus.clients import asking_consumer
from k2.model.errors import WorldError


class Original(NamedTuple):
    """A message as it came; `headers` are None where it has none."""

    payload: bytes | None
    key: bytes | None
    headers: Any = None


_READ_AT_ONCE = 10_000
_FAR = 5_000
"""Offsets between two messages from which on it is quicker to seek than to read what lies between."""


def read_single_messages(
    kafka_config: Mapping[str, str],
    topic: str,
    offsets: Mapping[int, Collection[int]],
    timeout: float = 60.0,
) -> dict[tuple[int, int], Original]:
    """(partition, offset) → the message. A message that the topic does not hold any more is not in the answer.

    Args:
        kafka_config: connection settings of librdkafka.
        topic: the topic.
        offsets: partition → which of its messages.
        timeout: seconds without any message after which it is given up.

    Raises:
        WorldError: Kafka could not be reached, or gave nothing for so long.
    """
    found: dict[tuple[int, int], Original] = {}
    try:
        with asking_consumer(kafka_config, "k2-single-messages") as consumer:
            for partition, wanted in offsets.items():
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout)
                held = sorted(offset for offset in set(wanted) if low <= offset < high)
                for near in _stretches(held):
                    _read(consumer, TopicPartition(topic, partition, near[0]), set(near), found, timeout)
    except KafkaException as error:
        raise WorldError(f"Reading {topic} failed: {error}") from error
    return found


def _stretches(offsets: list[int]) -> list[list[int]]:
    parts: list[list[int]] = []
    for offset in offsets:
        if parts and offset - parts[-1][-1] < _FAR:
            parts[-1].append(offset)
        else:
            parts.append([offset])
    return parts


def _read(
    consumer: Consumer,
    start: TopicPartition,
    wanted: set[int],
    found: dict[tuple[int, int], Original],
    timeout: float,
) -> None:
    consumer.assign([start])
    last, heard = max(wanted), time.monotonic()
    while True:
        messages = consumer.consume(_READ_AT_ONCE, 0.2)
        for message in messages:
            error = message.error()
            if error is not None:
                raise WorldError(f"Reading {start.topic} failed: {error.str()}")
            offset = message.offset()
            if offset in wanted:
                found[start.partition, offset] = Original(message.value(), message.key(), message.headers())
        if messages:
            heard = time.monotonic()
        # The position passes the markers of transactions, and what compaction took away.
        (at,) = consumer.position([start])
        if at.offset > last:
            return
        if time.monotonic() - heard > timeout:
            raise WorldError(
                f"Kafka gave none of {start.topic}/{start.partition} from {start.offset} for {timeout:.0f} s"
            )
