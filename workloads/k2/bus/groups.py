"""Who is at work on a topic: the members of a consumer group; and what is told of one that has none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from k2.bus.clients import quiet
from k2.model.errors import WorldError

REQUEST_SECONDS = 10.0

_OTHERS_AT_WORK = frozenset(
    {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}
)


def active_members(kafka_config: Mapping[str, str], group: str) -> int:
    """How many members a consumer group has now; 0 for a group that does not exist.

    Raises:
        WorldError: Kafka cannot be reached.
    """
    return len(member_ids(kafka_config, group))


def member_ids(kafka_config: Mapping[str, str], group: str) -> frozenset[str]:
    """The members of a consumer group, with partitions or without; none of a group that does not exist.

    Raises:
        WorldError: Kafka cannot be reached.
    """
    admin = AdminClient(quiet(kafka_config))
    try:
        future = admin.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)[group]
        found = future.result(REQUEST_SECONDS + 5).members or ()
        return frozenset(str(each.member_id) for each in found)
    except KafkaException as error:
        kafka_error = error.args[0] if error.args else None
        if isinstance(kafka_error, KafkaError) and kafka_error.code() == KafkaError.GROUP_ID_NOT_FOUND:
            return frozenset()
        raise WorldError(
            f"Kafka at {kafka_config.get('bootstrap.servers')} did not tell of group {group}: {error}"
        ) from error
    except TimeoutError as error:
        raise WorldError(f"Kafka did not tell of group {group} in time") from error


def known_groups(kafka_config: Mapping[str, str]) -> set[str]:
    """The groups that Kafka knows: those with members, or with offsets.

    Raises:
        WorldError: Kafka cannot be reached.
    """
    admin = AdminClient(quiet(kafka_config))
    try:
        found = admin.list_consumer_groups(request_timeout=REQUEST_SECONDS).result(REQUEST_SECONDS + 5)
    except KafkaException as error:
        raise WorldError(
            f"Kafka at {kafka_config.get('bootstrap.servers')} did not tell its groups: {error}"
        ) from error
    except TimeoutError as error:
        raise WorldError("Kafka did not tell its groups in time") from error
    return {each.group_id for each in found.valid or ()}


def tell_for_group(
    kafka_config: Mapping[str, str], group: str, topic: str, told: Mapping[int, tuple[int, str]]
) -> bool:
    """Commit offsets with what is to stand beside them for a group in which nobody is at work. Joins nothing.

    Args:
        kafka_config: connection settings of librdkafka.
        group: the group.
        topic: the topic of the partitions.
        told: partition → offset and the text.

    Returns:
        False where the group has members (Kafka refuses it then): they tell for themselves.

    Raises:
        WorldError: Kafka does not take it, or does not answer.
    """
    heard: list[KafkaError | None] = []

    def on_commit(error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        heard.append(error or next((each.error for each in partitions if each.error is not None), None))

    settings = {**quiet(kafka_config), "group.id": group, "enable.auto.commit": False, "on_commit": on_commit}
    try:
        consumer = Consumer(settings)
        try:
            consumer.commit(offsets=[TopicPartition(topic, number, *each) for number, each in told.items()])
            deadline = time.monotonic() + REQUEST_SECONDS
            while not heard and time.monotonic() < deadline:
                consumer.poll(0.1)
        finally:
            consumer.close()
    except KafkaException as error:
        raise WorldError(f"Group {group} could not be told for: {error}") from error
    if not heard:
        raise WorldError(f"Kafka did not answer about group {group} within {REQUEST_SECONDS:.0f} s")
    (error, *_) = heard
    if error is None:
        return True
    if error.code() in _OTHERS_AT_WORK:
        return False
    raise WorldError(f"Group {group} could not be told for: {error.str()}")
