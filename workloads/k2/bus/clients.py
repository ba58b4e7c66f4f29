"""librdkafka's consumers and what its clients say of themselves: made, asked and let go in one way.

No consumer of K2's commits by itself or starts anywhere but at the offset that it was given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from k2.model.errors import WorldError
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, Watched, as_now

log = get_logger(__name__)

LIBRDKAFKA = logging.getLogger("k2.bus.librdkafka")
"""Takes librdkafka's own lines. It asks for a logger of the standard module; they come out with all others."""

_NO_POSITION = -1001  # librdkafka's "nothing consumed since the assignment"
_SETTINGS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # An offset that is not there is a question for a person: starting anywhere else would lose or double rows.
    "auto.offset.reset": "error",
}


def quiet(kafka_config: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a client for one request. Without a log callback librdkafka writes on our stderr; errors come back anyway."""
    return {**kafka_config, "log_level": 0}


def quiet_consumer(kafka_config: Mapping[str, str], name: str) -> Consumer:
    """A consumer that joins no group, for whoever closes it; librdkafka asks for a name."""
    return Consumer({**quiet(kafka_config), **_SETTINGS, "group.id": name})


@contextmanager
def asking_consumer(kafka_config: Mapping[str, str], group_id: str) -> Generator[Consumer]:
    """A consumer for one request, which joins no group; closed in the end."""
    consumer = quiet_consumer(kafka_config, group_id)
    try:
        yield consumer
    finally:
        consumer.close()


class Complaints:
    """Takes a client's errors (librdkafka's `error_cb`): it mends connections by itself, and only a fatal one ends it.

    Args:
        client: what it is: a consumer, a reader, a producer.
        topic: of the client.
        settings: connection settings of librdkafka.
        level: of the lines about errors that it goes on from.
    """

    def __init__(self, client: str, topic: str, settings: ClientSettings, level: int = logging.WARNING) -> None:
        self.client, self.topic = client, topic
        self.address = as_now(settings).get("bootstrap.servers", "")
        self.fatal: KafkaError | None = None
        self._level = level

    def __call__(self, error: KafkaError) -> None:
        """Remember a fatal error, say any other."""
        if error.fatal():
            self.fatal = error
        else:
            self.say(error)

    def say(self, error: KafkaError) -> None:
        """Log an error that the client goes on from."""
        log.log(
            self._level,
            "kafka.client_complained",
            client=self.client,
            topic=self.topic,
            address=self.address,
            error=error.str(),
        )


class Login:
    """Gives a living client the credentials of now: connections that stand go on, the next one is made with them.

    That is all that a rotated password needs: no connection is cut, no group rebalances, nothing is lost. A certificate
    authority is read when a client is made, and never again: `outdated` says that another client is needed.

    Args:
        settings: connection settings of librdkafka.
        client: what it is, for the log.
        topic: of the client.

    Attributes:
        outdated: whether the authorities that a server may be vouched for by have changed since the client was made.
    """

    def __init__(self, settings: ClientSettings, client: str, topic: str) -> None:
        self._watched = Watched(settings)
        self._told = self.settings
        self._trusted = _content(self.settings)
        self._client, self._topic = client, topic
        self.outdated = False

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings as of the last look."""
        return self._watched.now

    def refresh(self, client: Consumer | Producer) -> None:
        """Look whether there are others, where it is time."""
        if not self._watched.look():
            return
        now = self._watched.now
        if now != self._told:
            client.set_sasl_credentials(now.get("sasl.username", ""), now.get("sasl.password", ""))
            self._told = now
            log.info("kafka.credentials_renewed", client=self._client, topic=self._topic)
        if not self.outdated and _content(now) != self._trusted:
            self.outdated = True
            log.info("kafka.authorities_changed", client=self._client, topic=self._topic)

    def renewed(self) -> Mapping[str, str]:
        """The settings for another client, which is not outdated."""
        self._trusted, self.outdated = _content(self.settings), False
        self._told = self.settings
        return self.settings


def _content(settings: Mapping[str, str]) -> bytes:
    """What the file of certificate authorities says; empty where there is none (now)."""
    try:
        return Path(settings["ssl.ca.location"]).read_bytes()
    except (KeyError, OSError):
        return b""


class TopicConsumer:
    """librdkafka's consumer of one topic.

    Args:
        settings: connection settings of librdkafka.
        group_id: the group that it joins, or the name that librdkafka asks for.
        options: of librdkafka, beyond those that all consumers have.
        complaints: takes its errors, and says of which topic it is.
        begin: subscribes or assigns.

    Raises:
        WorldError: the settings are not ones that librdkafka takes.
    """

    def __init__(
        self,
        settings: ClientSettings,
        group_id: str,
        options: Mapping[str, Any],
        complaints: Complaints,
        begin: Callable[[Consumer], None],
    ) -> None:
        self._complaints = complaints
        self._login = Login(settings, complaints.client, complaints.topic)
        self._options: dict[str, Any] = {
            **_SETTINGS,
            # Measured: 561 → 720 K messages a second by the backoff alone, whose default is a second.
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 50,
            **options,
            "group.id": group_id,
            "error_cb": complaints,
        }
        self._begin = begin
        self.raw = self._made(self._login.settings)

    @property
    def outdated(self) -> bool:
        """Whether only another client could connect: see `Login`."""
        return self._login.outdated

    def make_anew(self) -> None:
        """Another client in the place of this one, which leaves its group first; what was assigned or sought is forgotten."""
        self.raw.close()
        self.raw = self._made(self._login.renewed())

    def consume(self, max_messages: int, timeout: float) -> list[Message[Any, Any]]:
        """What came, errors of partitions among it. Raises a `WorldError` when nothing can be read."""
        self._login.refresh(self.raw)
        try:
            return self.raw.consume(max_messages, timeout)
        except KafkaException as error:
            raise self.failed(error) from error

    def failed(self, error: KafkaException | KafkaError) -> WorldError:
        """Reading cannot go on."""
        text = error.str() if isinstance(error, KafkaError) else error
        return WorldError(f"Reading {self._complaints.topic} from Kafka at {self._complaints.address} failed: {text}")

    def positions(self, starts: Mapping[int, int]) -> dict[int, int]:
        """Per partition the next offset to read: markers of transactions that were reached are passed."""
        found = self.raw.position(self.partitions(starts)) if starts else []
        return {
            each.partition: starts[each.partition] if each.offset == _NO_POSITION else each.offset for each in found
        }

    def partitions(self, numbers: Collection[int]) -> list[TopicPartition]:
        """Partitions of the topic, as librdkafka names them."""
        return [TopicPartition(self._complaints.topic, number) for number in numbers]

    def close(self) -> None:
        """Leave the group and let go of the connections."""
        self.raw.close()

    def _made(self, settings: Mapping[str, str]) -> Consumer:
        try:
            made = Consumer({**settings, **self._options}, logger=LIBRDKAFKA)
            self._begin(made)
        except KafkaException as error:
            raise WorldError(
                f"The {self._complaints.client} of {self._complaints.topic} cannot be made: {error}"
            ) from error
        return made
