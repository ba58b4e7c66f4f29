"""Events into a topic: idempotent, acknowledged by all replicas, every delivery report looked at, memory bounded.

Use from one thread. Reports are taken in by `send`, `poll` and `flush`, and nowhere else: a caller that does nothing for
long must poll.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from k2.bus.clients import LIBRDKAFKA, Complaints, Login
from k2.model.codec import encode
from k2.model.compute import pc
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.renewed import ClientSettings

DELIVERY_SECONDS = 120.0
# Encoded and handed over at once. Small enough to be sent while the next ones are encoded, and for the caches.
BATCH_ROWS = 2_048
_FULL_WAIT_SECONDS = 0.02
_RENEW_SECONDS = 5.0
_OTHER = "other"
_ERROR_CLASSES = {
    "_MSG_TIMED_OUT": "timed_out",
    "TOPIC_AUTHORIZATION_FAILED": "not_authorized",
    "CLUSTER_AUTHORIZATION_FAILED": "not_authorized",
    "MSG_SIZE_TOO_LARGE": "too_large",
    "NOT_ENOUGH_REPLICAS": "too_few_replicas",
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": "too_few_replicas",
}
"""librdkafka's names of errors, and what a metric's label calls them."""


class FatalProducerError(WorldError):
    """The producer can send nothing more (its sequence is lost, it was fenced). End the process and start it again."""


@dataclass(slots=True)
class Delivery:
    """What became of the messages of one `send`; it fills while the producer is polled.

    Attributes:
        rows: messages that were handed over.
        acknowledged: how many of them all in-sync replicas have.
        failed: how many were given up.
        error: why the first of those was given up, or None.
        size: payload bytes.
        counted: how many acknowledgements the metrics have.
        next_offsets: per partition, the highest acknowledged offset + 1.
    """

    rows: int
    acknowledged: int = 0
    failed: int = 0
    error: str | None = None
    error_code: str = ""
    size: int = 0
    counted: int = 0
    _last: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def done(self) -> bool:
        """Whether each message is acknowledged or given up."""
        return self.acknowledged + self.failed >= self.rows

    @property
    def next_offsets(self) -> dict[int, int]:
        """Per partition, the highest acknowledged offset + 1."""
        return {partition: offset + 1 for partition, offset in self._last.items()}

    def report(self, error: KafkaError | None, message: Message[Any, Any]) -> None:
        """Take in one delivery report. Called for every message: nothing here may be slow."""
        if error is None:
            self.acknowledged += 1
            # Reports of a partition come in the order of its offsets, so the last is the highest.
            self._last[message.partition()] = message.offset()  # pyright: ignore[reportArgumentType]
        else:
            self.fail(error)

    def fail(self, error: KafkaError) -> None:
        """Count one message as given up."""
        self.failed += 1
        if self.error is None:
            self.error, self.error_code = error.str(), error.name()


class EventProducer:
    """A producer of one topic's events.

    Args:
        settings: connection settings of librdkafka.
        topic: where to; it exists.
        data_type: what `send` takes.
        schema_id: the registry's id of that type's schema.
        decimals: of that schema; standard events are sent as wide ones where it is wide.
        queue_messages: most messages that wait for their acknowledgement.
        queue_bytes: most payload bytes that wait for it.
        linger_ms: how long a message may wait for others to share its request.
        compression: none, lz4, zstd, snappy or gzip.
        delivery_seconds: how long a message is tried before it is given up.

    Raises:
        WorldError: the settings are not ones that librdkafka takes.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        topic: str,
        data_type: DataType,
        schema_id: int,
        decimals: Decimals = Decimals.STANDARD,
        queue_messages: int = 100_000,
        queue_bytes: int = 64 * 1024 * 1024,
        linger_ms: float = 10.0,
        compression: str = "lz4",
        delivery_seconds: float = DELIVERY_SECONDS,
    ) -> None:
        self.topic = topic
        self._data_type = data_type
        self._schema_id = schema_id
        self._decimals = decimals
        self._queue_messages = queue_messages
        self._queue_bytes = queue_bytes
        self._complaints = Complaints("producer", topic, settings)
        self._login = Login(settings, "producer", topic)
        self._open: list[Delivery] = []
        self._waiting: deque[tuple[int, int]] = deque()  # (messages, bytes) handed over, oldest first
        self._waiting_messages = self._waiting_bytes = 0
        self._lost = 0
        self._lost_error = ""
        self._options: dict[str, Any] = {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",  # Java's: the same symbol goes where any other client puts it
            "compression.type": compression,
            "linger.ms": linger_ms,
            "batch.size": 1_000_000,
            "delivery.timeout.ms": int(delivery_seconds * 1000),
            # Ours are the bounds that hold: we wait for room before handing over, because a batch that is refused
            # in its middle could not be handed over again without breaking a symbol's order.
            "queue.buffering.max.messages": queue_messages + BATCH_ROWS,
            "queue.buffering.max.kbytes": 2_097_151,
            "error_cb": self._complaints,
        }
        self._producer = self._made(self._login.settings)
        # At zero from the start: Prometheus sees no increase in a counter that begins with its first event.
        for counter in (metrics.PRODUCED, metrics.PRODUCED_BYTES, metrics.PRODUCE_QUEUE_FULL):
            counter.labels(topic)
        for name in (*_ERROR_CLASSES.values(), _OTHER):
            metrics.PRODUCE_ERRORS.labels(topic, name)

    def send(self, events: pa.RecordBatch) -> Delivery:
        """Encode a batch and hand it over; returns when it is handed over, which waits while the queue is full.

        Raises:
            UserError: a value cannot be encoded; nothing of the batch was handed over.
            FatalProducerError: see there.
        """
        self._renew()
        encoded = encode(events, self._data_type, self._schema_id, self._decimals)
        keys = _keys(events)
        delivery = Delivery(len(events), size=encoded.size)
        self._open.append(delivery)
        at = 0
        for block in encoded.blocks:
            payloads = block.payloads()
            for start in range(0, len(payloads), BATCH_ROWS):
                some = payloads[start : start + BATCH_ROWS]
                self._hand_over(some, keys[at : at + len(some)], delivery)
                at += len(some)
        return delivery

    def produce(
        self,
        payload: bytes | None,
        key: str | bytes | None = None,
        headers: Sequence[tuple[str, str | bytes | None]] | None = None,
    ) -> Delivery:
        """Hand over one message as it is (a payload that is encoded already, or a dead letter)."""
        self._renew()
        size = len(payload or b"")
        delivery = Delivery(1, size=size)
        self._open.append(delivery)
        self._make_room(1, size)
        while True:
            try:
                self._producer.produce(
                    self.topic, payload, key, on_delivery=delivery.report, headers=list(headers) if headers else None
                )
            except BufferError:
                self.poll(_FULL_WAIT_SECONDS)
            except KafkaException as error:
                delivery.fail(_kafka_error(error))
                break
            else:
                self._note(1, size)
                break
        self.poll(0)
        return delivery

    def poll(self, timeout: float = 0) -> None:
        """Take in delivery reports; waits up to `timeout` seconds for the first.

        Raises:
            FatalProducerError: see there.
        """
        self.refresh()
        self._producer.poll(timeout)
        self._settle()
        if self._complaints.fatal is not None:
            raise FatalProducerError(f"The producer of {self.topic} cannot go on: {self._complaints.fatal.str()}")

    def refresh(self) -> None:
        """Take on credentials that were rotated; `poll` does it too. From any thread."""
        self._login.refresh(self._producer)

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until every message is acknowledged.

        Raises:
            WorldError: some were not, within `timeout` seconds or at all (given up since the last flush).
            FatalProducerError: see there.
        """
        deadline = time.monotonic() + timeout
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.flush(min(0.5, max(0.0, deadline - time.monotonic())))
            self.poll(0)
        self.poll(0)
        waiting, lost = len(self._producer), self._lost
        self._lost = 0
        if waiting or lost:
            why = f"; {lost} were given up: {self._lost_error}" if lost else ""
            raise WorldError(
                f"{waiting + lost} messages to {self.topic} were not acknowledged by Kafka at {self._complaints.address} "
                f"within {timeout:.0f} s{why}"
            )

    def close(self, timeout: float = 30.0) -> None:
        """Flush, then let go of the connections; what is not acknowledged then is dropped and raised as by `flush`."""
        try:
            self.flush(timeout)
        finally:
            self._producer.purge()
            self._producer.close()
            self._settle()

    @property
    def queued(self) -> int:
        """Messages that wait for their acknowledgement."""
        return len(self._producer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made(self, settings: Mapping[str, str]) -> Producer:
        try:
            return Producer({**settings, **self._options}, logger=LIBRDKAFKA)
        except KafkaException as error:
            raise WorldError(f"The producer of {self.topic} cannot be made: {error}") from error

    def _renew(self) -> None:
        """Go on with another client where only that could connect, once everything that this one was given is acknowledged."""
        if not self._login.outdated:
            return
        self._producer.flush(_RENEW_SECONDS)
        self.poll(0)
        if len(self._producer):
            return  # it has a connection, or will give these up: the next one may not overtake them
        before, self._producer = self._producer, self._made(self._login.renewed())
        before.close()

    def _hand_over(self, payloads: list[bytes], keys: list[str | None], delivery: Delivery) -> None:
        size = sum(map(len, payloads))
        self._make_room(len(payloads), size)
        messages: list[dict[str, Any]] = [
            {"value": payload, "key": key} for payload, key in zip(payloads, keys, strict=True)
        ]
        handed = self._producer.produce_batch(self.topic, messages, on_delivery=delivery.report)
        self._note(len(messages), size)
        if handed != len(messages):
            for message in messages:
                error = message.get("_error")
                if error is not None:
                    delivery.fail(error)
        self.poll(0)

    def _make_room(self, messages: int, size: int) -> None:
        """Wait until what comes next fits, or nothing is left to wait for."""
        full = False
        while True:
            waiting = len(self._producer)
            # Reports come roughly in order, so the oldest that were handed over are the ones that are done.
            while self._waiting and self._waiting_messages - self._waiting[0][0] >= waiting:
                oldest, its_size = self._waiting.popleft()
                self._waiting_messages -= oldest
                self._waiting_bytes -= its_size
            fits = waiting + messages <= self._queue_messages and self._waiting_bytes + size <= self._queue_bytes
            if fits or not waiting:
                return
            if not full:
                full = True
                metrics.PRODUCE_QUEUE_FULL.labels(self.topic).inc()
            self.poll(_FULL_WAIT_SECONDS)

    def _note(self, messages: int, size: int) -> None:
        self._waiting.append((messages, size))
        self._waiting_messages += messages
        self._waiting_bytes += size

    def _settle(self) -> None:
        """Bring the metrics up to what the deliveries say, and forget those that are done."""
        still: list[Delivery] = []
        for delivery in self._open:
            news = delivery.acknowledged - delivery.counted
            if news:
                delivery.counted += news
                metrics.PRODUCED.labels(self.topic).inc(news)
                metrics.PRODUCED_BYTES.labels(self.topic).inc(delivery.size * news / delivery.rows)
            if not delivery.done:
                still.append(delivery)
            elif delivery.failed:
                name = _ERROR_CLASSES.get(delivery.error_code, _OTHER)
                metrics.PRODUCE_ERRORS.labels(self.topic, name).inc(delivery.failed)
                self._lost += delivery.failed
                self._lost_error = delivery.error or ""
        self._open = still
        metrics.PRODUCE_QUEUE.labels(self.topic).set(len(self._producer))


def _kafka_error(error: KafkaException) -> KafkaError:
    found: Any = error.args[0] if error.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError.UNKNOWN, str(error))


def _keys(events: pa.RecordBatch) -> list[str | None]:
    """Each event's symbol; for reference data that has none, the company's id."""
    keys: Any = events.column("symbol")
    if keys.null_count:
        keys = pc.coalesce(keys, events.column("company_id"))
    # Few symbols, many rows: their Python strings are made once each.
    encoded = keys.dictionary_encode()
    names: list[str | None] = encoded.dictionary.to_pylist()
    return [names[index] for index in encoded.indices.to_pylist()]
