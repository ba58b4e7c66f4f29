"""A range of offsets of one partition, read once from its begin to its end, by nobody's group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import KafkaException, TopicPartition

from k2.bus.clients import asking_consumer
from k2.bus.consumer import Polled, columns_of
from k2.model.errors import WorldError

_AT_ONCE = 10_000


def read_range(
    kafka_config: Mapping[str, str], topic: str, partition: int, start: int, stop: int, timeout: float = 60.0
) -> Iterator[Polled]:
    """The messages at [start, stop) that are there, in their order; markers and aborted ones are passed.

    Args:
        kafka_config: connection settings of librdkafka.
        topic: the topic.
        partition: of it.
        start: an offset that retention has left.
        stop: an offset up to the partition's end.
        timeout: seconds without any message after which it is given up.

    Raises:
        WorldError: Kafka could not be reached, or gave nothing for so long.
    """
    where = TopicPartition(topic, partition, start)
    try:
        with asking_consumer(kafka_config, "k2-ranges") as consumer:
            consumer.assign([where])
            heard, at = time.monotonic(), start
            while at < stop:
                messages = consumer.consume(_AT_ONCE, 0.2)
                for message in messages:
                    error = message.error()
                    if error is not None:
                        raise WorldError(f"Reading {topic}/{partition} failed: {error.str()}")
                wanted = [message for message in messages if (message.offset() or 0) < stop]
                if wanted:
                    yield columns_of(wanted)
                (position,) = consumer.position([where])
                if messages or position.offset > at:
                    heard = time.monotonic()
                # The position passes the markers of transactions, and what compaction took away.
                at = max(at, position.offset)
                if time.monotonic() - heard > timeout:
                    raise WorldError(f"Kafka gave none of {topic}/{partition} from {at} on for {timeout:.0f} s")
    except KafkaException as error:
        raise WorldError(f"Reading {topic}/{partition} failed: {error}") from error
