"""How far the clocks of other machines are from ours: by the Date that an HTTP server answers with, by the time that a broker stamps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from k2.bus.clients import quiet
from k2.model.errors import WorldError

Clock = Callable[[], float]
"""Seconds since 1970 by this machine, as `time.time` gives them."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Seconds that another clock is ahead of ours (negative: behind), and how far from that it may be."""

    seconds: float
    within: float

    @property
    def beyond_doubt(self) -> float:
        """The seconds that the two are apart at least."""
        return max(0.0, abs(self.seconds) - self.within)


def http_clock(
    url: str, seconds: float, *, authority: str | bool = True, clock: Clock = time.time
) -> ClockOffset | None:
    """The clock of an HTTP server, whatever it answers; None where it gives no Date.

    Args:
        url: asked once, without credentials.
        seconds: after which it is given up.
        authority: file of the authorities that its certificate may be signed by; True: those of this machine.
        clock: ours.

    Raises:
        WorldError: it cannot be asked.
    """
    try:
        with httpx2.Client(timeout=seconds, verify=authority) as client:
            client.get(url)  # a connection and a handshake are in no measurement
            before = clock()
            answer = client.get(url)
            after = clock()
    except httpx2.HTTPError as error:
        raise WorldError(f"{url} cannot be asked for its time: {error or type(error).__name__}") from error
    try:
        said = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        return None
    # A Date has whole seconds: the moment it was written lies up to one later.
    return ClockOffset(said + 0.5 - (before + after) / 2, 0.5 + (after - before) / 2)


def broker_clock(kafka_config: Mapping[str, str], seconds: float, *, clock: Clock = time.time) -> ClockOffset:
    """The clock of the broker that leads a topic made for the purpose, which is deleted again.

    Args:
        kafka_config: connection settings of librdkafka.
        seconds: for the whole of it; deleting aside.
        clock: ours.

    Raises:
        WorldError: Kafka cannot be reached, or does not let us make a topic.
    """
    name = f"market.k2-doctor.clock-{secrets.token_hex(4)}"
    admin, deadline = AdminClient(quiet(kafka_config)), time.monotonic() + seconds
    try:
        config = {"message.timestamp.type": "LogAppendTime"}
        (made,) = admin.create_topics([NewTopic(name, 1, config=config)], request_timeout=seconds).values()
        made.result(seconds)
        try:
            return _stamped(kafka_config, name, deadline, clock)
        finally:
            (gone,) = admin.delete_topics([name], request_timeout=seconds).values()
            gone.result(seconds)
    except (KafkaException, FutureTimeoutError) as error:
        raise WorldError(f"a topic to ask a broker for its time could not be made or used: {error}") from error


def _stamped(kafka_config: Mapping[str, str], topic: str, deadline: float, clock: Clock) -> ClockOffset:
    """The offset by a message that the broker stamps: the second one, for the first waits for connection and leader."""
    producer = Producer({**quiet(kafka_config), "linger.ms": 0})
    told: list[tuple[KafkaError | None, int, int]] = []

    def took(error: KafkaError | None, message: Message) -> None:
        kind, stamp = message.timestamp()
        told.append((error, kind, stamp))

    before = after = 0.0
    for _ in range(2):
        told.clear()
        before = clock()
        producer.produce(topic, b"", on_delivery=took)
        while not told and time.monotonic() < deadline:
            producer.poll(0.02)
        after = clock()
    if not told or told[0][0] is not None or told[0][1] != TIMESTAMP_LOG_APPEND_TIME:
        raise WorldError(f"{topic} took no message: {told[0][0] if told else 'no answer'}")
    # A stamp has whole milliseconds: the moment it was given lies up to one later.
    return ClockOffset((told[0][2] + 0.5) / 1000 - (before + after) / 2, 0.0005 + (after - before) / 2)
