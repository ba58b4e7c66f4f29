"""Who is at work on a topic: the members of a consumer group."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from k2.bus.clients import quiet
from k2.model.errors import WorldError

REQUEST_SECONDS = 10.0


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
