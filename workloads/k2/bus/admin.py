"""Topics and offsets over Kafka's admin protocol: what both executors, the sink, the loader and the audit ask.

Every call is blocking and bounded. A cluster that cannot be reached is a `WorldError` naming its address; a wish that
Kafka or K2 refuses is a `UserError`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage] - documented there, missing in its __all__
    NewPartitions,  # pyright: ignore[reportPrivateImportUsage]
    NewTopic,  # pyright: ignore[reportPrivateImportUsage]
    OffsetSpec,  # pyright: ignore[reportPrivateImportUsage]
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
    TopicDescription,  # pyright: ignore[reportPrivateImportUsage]
)

from k2.bus.clients import asking_consumer, quiet
from k2.model.errors import CredentialsError, K2Error, UserError, WorldError

REQUEST_SECONDS = 15.0
Isolation = Literal["read_committed", "read_uncommitted"]

_REFUSED_BY_KAFKA = frozenset(
    {
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_REPLICA_ASSIGNMENT,
        KafkaError.INVALID_REQUEST,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError._INVALID_ARG,  # noqa: SLF001 - librdkafka's own codes are public under this name
    }
)
_NO_ACCESS = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)
T = TypeVar("T")
_NOT_READY_YET = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError._WAIT_CACHE,  # noqa: SLF001
    }
)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be.

    Args:
        name: the topic's name.
        partitions: how many there should be at least. More than there are is refused unless `allow_reordering`.
        replication_factor: copies of each partition, for a topic that is made here.
        config: Kafka's topic settings, for a topic that is made here.
        allow_reordering: partitions may be added to a topic that exists: keys move, and the order of a symbol's
            events across that moment is lost.
    """

    name: str
    partitions: int = 6
    replication_factor: int = 1
    config: Mapping[str, str] = field(default_factory=dict[str, str])
    allow_reordering: bool = False


def ensure_topics(kafka_config: Mapping[str, str], specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that are absent; add partitions where that is asked for and allowed. Idempotent.

    Returns:
        What was done, one sentence each (`created market.equities.trades.asx, 6 partitions`); empty when all was well.

    Raises:
        UserError: a compacted topic (asked for or found), more partitions without `allow_reordering`, or a setting
            that Kafka refuses.
        WorldError: Kafka cannot be reached or did not answer in time.
    """
    for spec in specs:
        _refuse_compaction(spec.name, spec.config.get("cleanup.policy", "delete"))
        if spec.partitions < 1:
            raise UserError(f"Partitions of {spec.name}", found=spec.partitions, expected="1 or more")
    with _admin(kafka_config) as admin:
        found = _describe(admin, [spec.name for spec in specs])
        existing = [spec for spec in specs if spec.name in found]
        _refuse_compacted(admin, existing)
        _refuse_reordering(existing, found)
        absent = [spec for spec in specs if spec.name not in found]
        made = [spec for spec in absent if _create(admin, spec)]
        done = [f"created {spec.name}, {spec.partitions} partitions" for spec in made]
        for spec in existing:
            have = len(found[spec.name].partitions)
            if spec.partitions > have:
                _result(admin.create_partitions([NewPartitions(spec.name, spec.partitions)])[spec.name], spec.name)
                done.append(f"{spec.name}: {have} → {spec.partitions} partitions")
        if done:
            _await_usable(admin, specs)
    return done


def topic_ids(kafka_config: Mapping[str, str], topics: Iterable[str]) -> dict[str, str]:
    """Kafka's own id of each topic that exists; a topic that was deleted and made again has another."""
    with _admin(kafka_config) as admin:
        return {name: _topic_id(topic) for name, topic in _describe(admin, list(topics)).items()}


def partition_counts(kafka_config: Mapping[str, str], topics: Iterable[str]) -> dict[str, int]:
    """How many partitions each topic that exists has."""
    with _admin(kafka_config) as admin:
        return {name: len(topic.partitions) for name, topic in _describe(admin, list(topics)).items()}


def cluster_id(kafka_config: Mapping[str, str]) -> str:
    """The id of the cluster, which every broker and restart shares."""
    with _admin(kafka_config) as admin:
        found = _result(admin.describe_cluster(request_timeout=REQUEST_SECONDS), "the cluster").cluster_id
    return str(found)


def end_offsets(kafka_config: Mapping[str, str], topic: str, isolation: Isolation = "read_committed") -> dict[int, int]:
    """The offset after the last readable one, per partition; with `read_committed` that is the last stable offset."""
    return _offsets(kafka_config, topic, OffsetSpec.latest(), isolation)


def end_offsets_of(kafka_config: Mapping[str, str], topics: Iterable[str]) -> dict[str, dict[int, int]]:
    """`end_offsets` of many topics in two requests; topics that do not exist are left out."""
    with _admin(kafka_config) as admin:
        found = _describe(admin, list(topics))
        spec: Any = OffsetSpec.latest()
        asked = {TopicPartition(name, each.id): spec for name, topic in found.items() for each in topic.partitions}
        if not asked:
            return {}
        level = IsolationLevel.READ_COMMITTED
        ends: dict[str, dict[int, int]] = {name: {} for name in found}
        answers = admin.list_offsets(asked, isolation_level=level, request_timeout=REQUEST_SECONDS)
        for each, future in answers.items():
            ends[each.topic][each.partition] = int(_result(future, each.topic).offset)
    return ends


def beginning_offsets(kafka_config: Mapping[str, str], topic: str) -> dict[int, int]:
    """The earliest offset that retention has left, per partition."""
    return _offsets(kafka_config, topic, OffsetSpec.earliest(), "read_uncommitted")


def offsets_at(kafka_config: Mapping[str, str], topic: str, at_us: int) -> dict[int, int]:
    """Per partition the first offset of a message that was sent at that time (microseconds since 1970) or later; else its end."""
    # To the millisecond before: what Kafka keeps is rounded down.
    found = _offsets(kafka_config, topic, OffsetSpec.for_timestamp(max(0, at_us // 1000)), "read_uncommitted")
    ends = end_offsets(kafka_config, topic)
    return {partition: ends.get(partition, 0) if offset < 0 else offset for partition, offset in found.items()}


def committed_offsets(kafka_config: Mapping[str, str], group: str, topic: str) -> dict[int, int]:
    """The offsets that a group has committed for a topic: partitions without one are left out, an unknown group is {}."""
    return {partition: offset for partition, (offset, _) in committed_with_metadata(kafka_config, group, topic).items()}


def committed_with_metadata(kafka_config: Mapping[str, str], group: str, topic: str) -> dict[int, tuple[int, str]]:
    """The group's committed offset and its metadata text, per partition."""
    with _admin(kafka_config) as admin:
        description = _existing(admin, topic)
        partitions = [TopicPartition(topic, each.id) for each in description.partitions]
        # A consumer that never joins, not the admin client's list_consumer_group_offsets: on a coordinator that is
        # still loading (NOT_COORDINATOR) that one dereferences a null pointer and takes the process with it.
        with asking_consumer(kafka_config, group) as consumer:
            found = _waiting(lambda: consumer.committed(partitions, timeout=REQUEST_SECONDS))
    return {
        each.partition: (each.offset, each.metadata or "") for each in found if each.offset >= 0 and each.error is None
    }


def delete_topics(kafka_config: Mapping[str, str], topics: Iterable[str]) -> list[str]:
    """Delete topics with all that is in them; returns those that existed."""
    with _admin(kafka_config) as admin:
        existing = list(_describe(admin, list(topics)))
        if existing:
            for name, future in admin.delete_topics(existing, operation_timeout=REQUEST_SECONDS).items():
                _result(future, name)
    return existing


def topics_ending(kafka_config: Mapping[str, str], ending: str) -> list[str]:
    """Names of the topics that end so, in order."""
    with _admin(kafka_config) as admin:
        return sorted(name for name in admin.list_topics(timeout=REQUEST_SECONDS).topics if name.endswith(ending))


def delete_before(kafka_config: Mapping[str, str], topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
    """Delete the messages before an offset, per partition; returns the first offset that each has afterwards."""
    with _admin(kafka_config) as admin:
        asked = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        if not asked:
            return {}
        answers = admin.delete_records(asked, request_timeout=REQUEST_SECONDS, operation_timeout=REQUEST_SECONDS)
        return {each.partition: int(_result(future, topic).low_watermark) for each, future in answers.items()}


@contextmanager
def _admin(kafka_config: Mapping[str, str]) -> Generator[AdminClient]:
    """An admin client whose errors come out as K2's, with the cluster's address."""
    address = kafka_config.get("bootstrap.servers", "")
    admin = AdminClient(quiet(kafka_config))
    try:
        yield admin
    except K2Error:
        raise
    except KafkaException as error:
        raise _translate(error, address) from error
    except TimeoutError as error:
        raise WorldError(f"Kafka at {address} did not answer within {REQUEST_SECONDS:.0f} s") from error


def _translate(error: KafkaException, address: str) -> K2Error:
    kafka_error: Any = error.args[0] if error.args else None
    text = kafka_error.str() if isinstance(kafka_error, KafkaError) else str(error)
    if _code(error) in _NO_ACCESS:
        return CredentialsError(
            f"Kafka at {address} refuses access: {text}. Look at the user and password (K2_KAFKA_SECRET_DIR, or K2_KAFKA_USERNAME and "
            "K2_KAFKA_PASSWORD), and at what that user may do"
        )
    if _code(error) in _REFUSED_BY_KAFKA:
        return UserError(f"Kafka at {address} refuses it", found=text, expected="settings that it takes")
    return WorldError(f"Kafka at {address} cannot be reached or did not do as asked: {text}")


def _code(error: KafkaException) -> int:
    kafka_error: Any = error.args[0] if error.args else None
    return kafka_error.code() if isinstance(kafka_error, KafkaError) else KafkaError.UNKNOWN


def _result(future: Future[Any], what: str) -> Any:
    """A future's result; the wait is a little longer than the request's own, so that its error comes first."""
    try:
        return future.result(REQUEST_SECONDS + 5)
    except TimeoutError as error:
        raise WorldError(f"Kafka did not answer about {what} within {REQUEST_SECONDS + 5:.0f} s") from error


def _describe(admin: AdminClient, topics: list[str]) -> dict[str, TopicDescription]:
    """The topics of these names that exist."""
    found: dict[str, TopicDescription] = {}
    if not topics:
        return found
    answers = admin.describe_topics(TopicCollection(topics), request_timeout=REQUEST_SECONDS)
    for name, future in answers.items():
        try:
            found[name] = _result(future, name)
        except KafkaException as error:
            if _code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def _create(admin: AdminClient, spec: TopicSpec) -> bool:
    """Create one topic; False when someone else was faster."""
    new = NewTopic(
        spec.name,
        num_partitions=spec.partitions,
        replication_factor=spec.replication_factor,
        config=dict(spec.config),
    )
    try:
        answers = admin.create_topics([new], operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS)
        _result(answers[spec.name], spec.name)
    except KafkaException as error:
        if _code(error) == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise
    return True


def _await_usable(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Wait (bounded) until brokers know all partitions and each has a leader: whoever asks next must not see less.

    The controller answers when it has written the topic down, which is before any broker has read it.
    """
    deadline = time.monotonic() + REQUEST_SECONDS
    left = {spec.name: spec.partitions for spec in specs}
    while left:
        found = _describe(admin, list(left))
        left = {name: count for name, count in left.items() if name not in found or len(found[name].partitions) < count}
        if left:
            if time.monotonic() > deadline:
                raise WorldError(f"Kafka made {', '.join(left)} but did not show it within {REQUEST_SECONDS:.0f} s")
            time.sleep(0.05)
    for spec in specs:
        _list_offsets(admin, spec.name, OffsetSpec.latest(), "read_uncommitted")


def _refuse_compaction(topic: str, policy: str) -> None:
    if "compact" in policy:
        raise UserError(
            f"cleanup.policy of {topic}",
            found=policy,
            expected="delete: compaction keeps only the newest event of a symbol and drops the rest",
            remedy="Leave cleanup.policy out and set retention.ms instead",
        )


def _refuse_compacted(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Refuse topics that are there already and compacted: what they dropped cannot be told from what never was."""
    resources = [ConfigResource(ResourceType.TOPIC, spec.name) for spec in specs]
    if not resources:
        return
    for resource, future in admin.describe_configs(resources, request_timeout=REQUEST_SECONDS).items():
        entry = _result(future, str(resource.name)).get("cleanup.policy")
        _refuse_compaction(str(resource.name), str(entry.value) if entry else "delete")


def _refuse_reordering(specs: Sequence[TopicSpec], found: Mapping[str, TopicDescription]) -> None:
    for spec in specs:
        have = len(found[spec.name].partitions)
        if spec.partitions > have and not spec.allow_reordering:
            raise UserError(
                f"{spec.name} has {have} partitions, and more would move symbols to other partitions",
                found=spec.partitions,
                expected=str(have),
                remedy="Set allowReordering: true when the order of a symbol's events across that moment may be lost",
            )


def _topic_id(topic: TopicDescription) -> str:
    """Kafka's text of a topic id (URL-safe base64), as its own tools print it; the client's has '+' and '/'."""
    raw = base64.b64decode(str(topic.topic_id) + "==")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _existing(admin: AdminClient, topic: str) -> TopicDescription:
    found = _describe(admin, [topic]).get(topic)
    if found is None:
        raise UserError(f"There is no topic {topic}", remedy="Apply the feed that makes it, or check its name")
    return found


def _offsets(kafka_config: Mapping[str, str], topic: str, spec: Any, isolation: Isolation) -> dict[int, int]:
    with _admin(kafka_config) as admin:
        return _list_offsets(admin, topic, spec, isolation)


def _list_offsets(admin: AdminClient, topic: str, spec: Any, isolation: Isolation) -> dict[int, int]:
    """Offsets of all partitions of a topic."""
    level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    asked = {TopicPartition(topic, each.id): spec for each in _existing(admin, topic).partitions}

    def ask() -> dict[int, int]:
        answers = admin.list_offsets(asked, isolation_level=level, request_timeout=REQUEST_SECONDS)
        return {each.partition: int(_result(future, topic).offset) for each, future in answers.items()}

    return dict(sorted(_waiting(ask).items()))


def _waiting(ask: Callable[[], T]) -> T:
    """Ask again (bounded) while leader or coordinator are being chosen, which follows the making of a topic."""
    deadline = time.monotonic() + REQUEST_SECONDS
    while True:
        try:
            return ask()
        except KafkaException as error:
            if _code(error) not in _NOT_READY_YET or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
