"""A short look at Kafka and at the registry, which says what stands in the way: the name, the connection, TLS or the password.

librdkafka goes on trying for ever, and tells why only beside the call; whoever asks for a diagnosis has seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import httpx2
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,  # pyright: ignore[reportPrivateImportUsage] - documented there, missing in its __all__
    ResourceType,  # pyright: ignore[reportPrivateImportUsage]
)

from k2.bus.clients import asking_consumer, quiet
from k2.model.errors import WorldError

_REQUEST_SECONDS = 3.0


class Barrier(StrEnum):
    """What stands between us and a service, in the order in which it is met."""

    ADDRESS = "address"
    CONNECTION = "connection"
    TLS = "tls"
    CREDENTIALS = "credentials"
    ANOTHER_SERVICE = "another service"


class BarredError(WorldError):
    """A service could not be looked at, and what kept us from it."""

    def __init__(self, barrier: Barrier, text: str) -> None:
        self.barrier = barrier
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class ClusterLook:
    """A Kafka cluster: its id, its number of brokers, and one broker's settings; none where reading them is not allowed."""

    cluster_id: str
    brokers: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegistryLook:
    """A registry: how many subjects it has, and its mode and compatibility for subjects without their own (empty: not told)."""

    subjects: int
    mode: str
    compatibility: str


_BARRIERS = {
    KafkaError._RESOLVE: Barrier.ADDRESS,  # noqa: SLF001 - librdkafka's own codes are public under this name
    KafkaError._TRANSPORT: Barrier.CONNECTION,  # noqa: SLF001
    KafkaError._SSL: Barrier.TLS,  # noqa: SLF001
    KafkaError._AUTHENTICATION: Barrier.CREDENTIALS,  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED: Barrier.CREDENTIALS,
    KafkaError.UNSUPPORTED_SASL_MECHANISM: Barrier.CREDENTIALS,
}
_FURTHEST = tuple(Barrier)


def look_at_cluster(kafka_config: Mapping[str, str], seconds: float) -> ClusterLook:
    """Look at a cluster.

    Args:
        kafka_config: connection settings of librdkafka.
        seconds: after which it is given up.

    Raises:
        BarredError: it cannot be reached; says what stands in the way, by what its brokers' connections have met.
    """
    told: list[KafkaError] = []
    deadline = time.monotonic() + seconds
    try:
        settings: dict[str, Any] = {**quiet(kafka_config), "error_cb": told.append}
        admin = AdminClient(settings)
    except KafkaException as error:
        raise BarredError(Barrier.TLS, f"the settings of the connection are not taken: {error}") from error
    asked = admin.describe_cluster(request_timeout=seconds)
    while not asked.done() and time.monotonic() < deadline and not _hopeless(told):
        admin.poll(0.05)
    if not asked.done() or asked.exception() is not None:
        raise _barred(told, asked.exception() if asked.done() else None, kafka_config)
    cluster = asked.result()
    nodes = [node.id for node in cluster.nodes]
    return ClusterLook(str(cluster.cluster_id), len(nodes), _broker_settings(admin, nodes, deadline))


def _hopeless(told: list[KafkaError]) -> bool:
    """Whether no broker answers any more, or one has answered and will not have us."""
    codes = {error.code() for error in told}
    sure = {KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001
    return bool(codes & sure)


def _barred(told: list[KafkaError], failed: BaseException | None, kafka_config: Mapping[str, str]) -> BarredError:
    known = [(barrier, error.str()) for error in told if (barrier := _barrier_met(error)) is not None]
    # The one that lies furthest: a connection that fails its handshake is also one that is lost.
    barrier, text = max(
        known,
        key=lambda each: _FURTHEST.index(each[0]),
        default=(Barrier.CONNECTION, str(failed) if failed is not None else "no answer"),
    )
    return BarredError(barrier, f"Kafka at {kafka_config.get('bootstrap.servers', '')}: {text}")


def _barrier_met(error: KafkaError) -> Barrier | None:
    # A listener without TLS hangs up on the handshake, which librdkafka counts as a lost connection.
    return Barrier.TLS if "SSL_HANDSHAKE" in error.str() else _BARRIERS.get(error.code())


def _broker_settings(admin: AdminClient, nodes: list[int], deadline: float) -> dict[str, str]:
    left = max(1.0, deadline - time.monotonic())
    try:
        (asked,) = admin.describe_configs(
            [ConfigResource(ResourceType.BROKER, str(nodes[0]))], request_timeout=left
        ).values()
        return {name: str(entry.value) for name, entry in asked.result(left).items() if entry.value is not None}
    except (KafkaException, TimeoutError):
        return {}


def look_at_registry(registry_config: Mapping[str, str], seconds: float) -> RegistryLook:
    """Look at a Schema Registry (Confluent's API).

    Args:
        registry_config: see `k2.bus.registry.Schemas`.
        seconds: after which a request is given up.

    Raises:
        BarredError: it cannot be asked; says what stands in the way.
    """
    url = registry_config.get("url", "").rstrip("/")
    user, _, password = registry_config.get("basic.auth.user.info", "").partition(":")
    authority = registry_config.get("ssl.ca.location", True)
    with httpx2.Client(timeout=seconds, auth=(user, password) if user else None, verify=authority) as client:
        try:
            answer = client.get(f"{url}/subjects")
            subjects = _subjects(answer, url)
            return RegistryLook(
                len(subjects),
                _word(client, f"{url}/mode", "mode"),
                _word(client, f"{url}/config", "compatibilityLevel"),
            )
        except httpx2.HTTPError as error:
            raise BarredError(_barrier_of(error), f"the registry at {url}: {error or type(error).__name__}") from error


def _subjects(answer: httpx2.Response, url: str) -> list[Any]:
    if answer.status_code in {401, 403}:
        raise BarredError(Barrier.CREDENTIALS, f"the registry at {url} answers {answer.status_code}")
    try:
        found = answer.json() if answer.status_code == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise BarredError(
            Barrier.ANOTHER_SERVICE, f"{url}/subjects answers {answer.status_code} and no list of subjects"
        )
    return found


def _word(client: httpx2.Client, url: str, name: str) -> str:
    answer = client.get(url)
    try:
        return str(answer.json()[name]) if answer.status_code == 200 else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _barrier_of(error: httpx2.HTTPError) -> Barrier:
    text = str(error).lower()
    if any(word in text for word in ("name or service", "nodename", "name resolution", "no address")):
        return Barrier.ADDRESS
    return Barrier.TLS if "ssl" in text or "certificate" in text else Barrier.CONNECTION


def retention_seconds(kafka_config: Mapping[str, str], topic: str) -> float | None:
    """How long a topic keeps its messages; None: for ever, or it does not tell.

    Raises:
        WorldError: Kafka cannot be reached.
    """
    admin = AdminClient(quiet(kafka_config))
    try:
        (asked,) = admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, topic)], request_timeout=_REQUEST_SECONDS
        ).values()
        entry = asked.result(_REQUEST_SECONDS).get("retention.ms")
    except (KafkaException, TimeoutError) as error:
        raise WorldError(f"Kafka did not tell the settings of {topic}: {error}") from error
    kept = -1 if entry is None else int(entry.value)
    return None if kept < 0 else kept / 1000


def message_time(kafka_config: Mapping[str, str], topic: str, partition: int, offset: int) -> datetime | None:
    """When the first message at or after an offset was sent; None when there is none, or it bears no time.

    Raises:
        WorldError: Kafka cannot be reached.
    """
    try:
        with asking_consumer(kafka_config, "k2-message-time") as consumer:
            consumer.assign([TopicPartition(topic, partition, offset)])
            for message in consumer.consume(1, _REQUEST_SECONDS):
                kind, sent = message.timestamp()
                if message.error() is None and kind != TIMESTAMP_NOT_AVAILABLE:
                    return datetime.fromtimestamp(sent / 1000, UTC)
    except KafkaException as error:
        raise WorldError(f"Reading {topic} failed: {error}") from error
    return None
