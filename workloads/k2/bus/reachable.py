"""Whether Kafka and the registry answer: one cheap question each, by who watches them for many others.

Neither is asked twice here, and whatever stands in the way is the world's, also credentials that are not taken: they may be right
again a moment later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx2
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2.bus.clients import quiet
from k2.model.errors import WorldError

ANSWER_SECONDS = 10.0
"""How long either may take for such a question."""

REFUSED_SECONDS = 1.0
"""After so long connections that are refused are taken for an answer. A name may have a first address at which nobody listens."""

_UNAUTHORIZED = 401
_ALL_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - librdkafka's own codes are public under this name


def ask_kafka(kafka_config: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> None:
    """Ask Kafka for its brokers, over a connection of its own: an old one says nothing of credentials.

    Raises:
        WorldError: no broker has answered within so many seconds, or none takes the credentials.
    """
    address = kafka_config.get("bootstrap.servers", "")
    complaints: list[KafkaError] = []
    settings: dict[str, Any] = {**quiet(kafka_config), "error_cb": complaints.append}
    try:
        admin = AdminClient(settings)
        answer, began = admin.describe_cluster(request_timeout=seconds), time.monotonic()
        while not answer.done():
            admin.poll(0.05)
            # Refused connections are tried again until the time is over; there is no need to wait for that.
            is_early = time.monotonic() - began < REFUSED_SECONDS
            if not is_early and any(each.code() == _ALL_DOWN for each in complaints):
                raise WorldError(f"Kafka at {address} cannot be reached: {complaints[0].str()}")
        answer.result()
    except (KafkaException, TimeoutError) as error:
        found = [*complaints, *(each for each in error.args if isinstance(each, KafkaError))]
        text = found[0].str() if found else str(error)
        raise WorldError(f"Kafka at {address} cannot be reached: {text}") from error


def subjects_of(registry_config: Mapping[str, str], seconds: float = ANSWER_SECONDS) -> frozenset[str] | None:
    """The registry's subjects; None when it answers and does not list them to us.

    Raises:
        WorldError: it has not answered within so many seconds, is not well, or does not take the credentials.
    """
    url = registry_config.get("url", "")
    client = SchemaRegistryClient({**registry_config, "timeout": seconds, "max.retries": 0})
    try:
        return frozenset(client.get_subjects())
    except httpx2.HTTPError as error:
        raise WorldError(f"The Schema Registry at {url} cannot be reached: {error!r}") from error
    except SchemaRegistryError as error:
        if error.http_status_code == _UNAUTHORIZED:
            raise WorldError(
                f"The Schema Registry at {url} does not take the credentials ({error.error_message}). Look at the Secret that "
                "registry.secretName names."
            ) from error
        if error.http_status_code < 500:
            return None
        raise WorldError(f"The Schema Registry at {url} is not well: {error}") from error
    finally:
        client.close()
