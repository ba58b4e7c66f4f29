"""Dead letters: payloads that are no event, as they came, with headers that say from where and why.

A letter is written before whatever it came from is called done, so a crash between the two writes it twice: readers that
count go by its origin (`k2.dlq.topic`, `k2.dlq.partition`, `k2.dlq.offset`, or file and line), once each. One that is
larger than Kafka takes is cut to its head: whoever reads on must never be held up by what it puts aside.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Any, Protocol, Self

from confluent_kafka import KafkaException, TopicPartition

from k2.bus.admin import beginning_offsets, end_offsets
from k2.bus.clients import asking_consumer
from k2.bus.producer import Delivery, EventProducer, FatalProducerError
from k2.model.errors import WorldError
from k2.model.reasons import REASON_CLASSES, reason_class
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, as_now

log = get_logger(__name__)

PREFIX = "k2.dlq."
# A reason is for a person; a parser's text may quote the whole payload.
MAX_REASON = 500
MOST_BYTES = 16 * 1024 * 1024
"""A larger letter is cut without asking the broker, which measures what is left after compression."""
HEADS = (65_536, 1_024, 0)
"""Bytes that are kept of a letter that is too large: the first of these that its topic takes."""
_LONGEST_KEY = 1_024
_BEGINNING = 1_024
_AT_ONCE = 500
Progress = Callable[[int, int], None]
"""Told now and then: letters read, letters in all (markers of transactions among them)."""
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_TOO_LARGE = "MSG_SIZE_TOO_LARGE"


Origin = tuple[str, int, int, bytes]
"""Topic, partition and offset, or file, -1 and line; and a digest of the beginning."""


class Headed(Protocol):
    """A message's key and headers."""

    def key(self) -> Any:
        """Its key, or None."""
        ...

    def headers(self) -> Any:
        """Its headers, or None."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A payload that could not be used.

    Attributes:
        payload: as it came, or its head; None for a tombstone.
        reason: why it is no event.
        key: the message's key, where there was one.
        topic, partition, offset: where it was read, if it came from a topic.
        file, line: where it was read, if it came from a file (lines count from 1).
        file_header: the header line of that file, where it has one.
        data_type: what was expected.
        schema_id: the schema that it named, where it named one.
        attempts: how often it was sent to its topic again, by `k2 dlq redrive`.
        first: partition and offset at which it was read before all attempts; None where there was none.
        size: bytes of the whole payload, where only its head is here; None when it is whole.
        time: when it was put aside; set when it is sent.
    """

    payload: bytes | None
    reason: str
    key: bytes | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    file: str | None = None
    line: int | None = None
    file_header: str | None = None
    data_type: DataType | None = None
    schema_id: int | None = None
    attempts: int = 0
    first: tuple[int, int] | None = None
    size: int | None = None
    time: datetime | None = None

    @property
    def truncated(self) -> bool:
        """Whether the payload is a head: the whole is at topic, partition and offset, for as long as the topic keeps it."""
        return self.size is not None

    @property
    def origin(self) -> Origin:
        """What all copies of a letter share: where it was read before all attempts, and how it begins.

        The beginning, because files of one name follow each other, and topics may.
        """
        digest = blake2b((self.payload or b"")[:_BEGINNING], digest_size=8).digest()
        if self.file is not None:
            return self.file, -1, self.line or 0, digest
        return self.topic or "", *(self.first or (self.partition or 0, self.offset or 0)), digest

    def of_message(self, message: Headed) -> DeadLetter:
        """The letter with the key of the message that it was, and what that message's headers say of earlier attempts."""
        return replace(self, key=message.key()).of_attempt(message.headers())

    def of_attempt(self, headers: Any) -> DeadLetter:
        """The letter with what the headers of the message that it was say of earlier attempts."""
        return replace(self, **_attempts(_texts(headers)))

    def again(self) -> list[tuple[str, str]]:
        """Headers of the letter's payload when it is sent to its topic once more."""
        partition, offset = self.first or (self.partition, self.offset)
        values = {"attempts": self.attempts + 1, "first_partition": partition, "first_offset": offset}
        return [(PREFIX + name, str(value)) for name, value in values.items()]

    def head(self, most: int) -> DeadLetter:
        """The letter with the first `most` bytes of its payload, and without a key that is long itself."""
        payload = self.payload or b""
        size = len(payload) if self.size is None else self.size
        key = self.key if self.key is None or len(self.key) <= _LONGEST_KEY else None
        return replace(self, payload=payload[:most], key=key, size=size)

    def headers(self, now: datetime) -> list[tuple[str, str]]:
        """The letter's Kafka headers."""
        values = {
            "reason": self.reason[:MAX_REASON],
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "file": self.file,
            "line": self.line,
            "file_header": self.file_header,
            "data_type": self.data_type,
            "schema_id": self.schema_id,
            "attempts": self.attempts or None,
            "first_partition": self.first and self.first[0],
            "first_offset": self.first and self.first[1],
            "size": self.size,
            "truncated": "true" if self.truncated else None,
            "time": (self.time or now).isoformat(),
        }
        said = {name: str(value) for name, value in values.items() if value is not None}
        # Names of files may hold what no text can.
        return [(PREFIX + name, text.encode("utf-8", "backslashreplace").decode()) for name, text in said.items()]

    @classmethod
    def of(cls, payload: bytes | None, key: bytes | None, headers: Any) -> DeadLetter:
        """A letter from a message of a dead-letter topic; headers of others are passed over."""
        texts = _texts(headers)
        kind = texts.get("data_type")
        return cls(
            payload=payload,
            reason=texts.get("reason", ""),
            key=key,
            topic=texts.get("topic"),
            partition=_int(texts.get("partition")),
            offset=_int(texts.get("offset")),
            file=texts.get("file"),
            line=_int(texts.get("line")),
            file_header=texts.get("file_header"),
            data_type=DataType(kind) if kind in set(DataType) else None,
            schema_id=_int(texts.get("schema_id")),
            size=_int(texts.get("size")),
            time=_moment(texts.get("time")),
            **_attempts(texts),
        )


def was_sent_again(message: Headed | None) -> bool:
    """Whether a message is a letter that a person had sent to its topic again."""
    return message is not None and bool(_attempts(_texts(message.headers()))["attempts"])


class DeadLetterWriter:
    """Writes to one dead-letter topic, which exists. Use from one thread.

    Args:
        settings: connection settings of librdkafka.
        topic: the dead-letter topic (`<topic>.dlq`).
    """

    def __init__(self, settings: ClientSettings, topic: str) -> None:
        self.topic = topic
        # Compressed as well as can be: what its topic took compressed then fits here, too, and is kept whole.
        larger = {"message.max.bytes": str(MOST_BYTES)}
        # The data type is not used: letters are handed over as they are.
        self._producer = EventProducer(
            lambda: {**as_now(settings), **larger},
            topic=topic,
            data_type=DataType.TRADES,
            schema_id=0,
            linger_ms=5,
            compression="zstd",
        )
        self._sent: list[tuple[DeadLetter, Delivery]] = []
        for reason in REASON_CLASSES:  # at zero: see `EventProducer`
            metrics.DEAD_LETTERS.labels(topic.removesuffix(".dlq"), reason)

    def refresh(self) -> None:
        """To be called now and then, from any thread: who has nothing to write for days would try an old password for as long."""
        self._producer.refresh()

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Hand letters over. They are safe when `flush` has returned, not before.

        Raises:
            FatalProducerError: the producer can send nothing more.
        """
        now = datetime.now(UTC)
        for letter in letters:
            self._sent.append((letter, self._hand_over(letter, now)))
            metrics.DEAD_LETTERS.labels(self.topic.removesuffix(".dlq"), reason_class(letter.reason)).inc()

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all that was sent is acknowledged; what Kafka finds too large is sent again as its head.

        Raises:
            WorldError: some were not, within `timeout` seconds or at all: what it came from must not be called done.
        """
        sent, self._sent = self._sent, []
        try:
            self._producer.flush(timeout)
        except FatalProducerError:
            raise
        except WorldError:
            # None of these: some of an earlier flush, which was told and still wait.
            if not sent or not all(delivery.acknowledged or too_large(delivery) for _, delivery in sent):
                raise
        for letter, delivery in sent:
            if too_large(delivery):
                self._send_alone(letter, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Flush and let go of the connections."""
        try:
            self.flush(timeout)
        finally:
            self._producer.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_over(self, letter: DeadLetter, now: datetime) -> Delivery:
        return self._producer.produce(letter.payload, letter.key, letter.headers(now))

    def _send_alone(self, letter: DeadLetter, timeout: float) -> None:
        """Send one letter by itself: whole, for a broker refuses a batch with all that is in it, then ever less of it."""
        why = ""
        for each in (letter, *map(letter.head, HEADS)):
            delivery = self._hand_over(each, datetime.now(UTC))
            try:
                self._producer.flush(timeout)
            except FatalProducerError:
                raise
            except WorldError as error:
                if not too_large(delivery):
                    raise
                why = str(error)
                continue
            if each.truncated:
                place = {"partition": letter.partition, "offset": letter.offset, "file": letter.file}
                log.warning(
                    "dead_letter.truncated", topic=self.topic, size=each.size, kept=len(each.payload or b""), **place
                )
            return
        raise WorldError(f"{self.topic} does not take even the headers of a dead letter: {why}")


def too_large(delivery: Delivery) -> bool:
    """Whether a message was given up for its size, by the client or by the broker."""
    return delivery.error_code == _TOO_LARGE


@dataclass(frozen=True, slots=True)
class BuriedLetter:
    """A letter where it lies: partition and offset of its dead-letter topic."""

    partition: int
    offset: int
    letter: DeadLetter


def buried_letters(
    kafka_config: Mapping[str, str],
    topic: str,
    starts: Mapping[int, int] | None = None,
    progress: Progress | None = None,
    patience: float = 15.0,
) -> Generator[BuriedLetter]:
    """All letters of a dead-letter topic up to its present end, oldest first in each partition.

    Args:
        kafka_config: connection settings of librdkafka.
        topic: the dead-letter topic.
        starts: partitions that are read, and the offset from which; default: all, from their beginnings.
        progress: see `Progress`.
        patience: seconds without any letter that are waited.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka cannot be reached, or gave nothing for `patience` seconds.
    """
    first, ends = beginning_offsets(kafka_config, topic), end_offsets(kafka_config, topic)
    begins = first if starts is None else {p: max(at, first[p]) for p, at in starts.items() if p in first}
    left = {partition: ends[partition] for partition, at in begins.items() if ends[partition] > at}
    total, done = sum(left[partition] - begins[partition] for partition in left), 0
    deadline = time.monotonic() + patience
    try:
        with asking_consumer(kafka_config, "k2-dead-letters") as consumer:  # the name is asked for; it joins nothing
            consumer.assign([TopicPartition(topic, partition, begins[partition]) for partition in left])
            while left:
                messages = consumer.consume(_AT_ONCE, 0.1)
                if not messages:
                    # Markers of transactions take offsets and are no messages: the position passes them, nothing else does.
                    for at in consumer.position([TopicPartition(topic, partition) for partition in left]):
                        if at.offset >= left[at.partition]:
                            del left[at.partition]
                    if left and time.monotonic() > deadline:
                        raise WorldError(f"Kafka gave none of the letters of {topic} for {patience:.0f} s")
                    continue
                for message in messages:
                    error = message.error()
                    if error is not None:
                        raise WorldError(f"Reading {topic} failed: {error.str()}")
                    partition, offset = message.partition() or 0, message.offset() or 0
                    if offset < ends[partition]:
                        letter = DeadLetter.of(message.value(), message.key(), message.headers())
                        yield BuriedLetter(partition, offset, letter)
                    if offset + 1 >= ends[partition]:
                        left.pop(partition, None)
                done += len(messages)
                if progress is not None:
                    progress(min(done, total), total)
                deadline = time.monotonic() + patience
    except KafkaException as error:
        raise WorldError(f"Reading {topic} failed: {error}") from error


def read_dead_letters(
    kafka_config: Mapping[str, str], topic: str, limit: int = 100, timeout: float = 15.0
) -> list[DeadLetter]:
    """The first `limit` letters of a dead-letter topic, oldest first in each partition, by partition.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka cannot be reached, or gave nothing for `timeout` seconds.
    """
    with closing(buried_letters(kafka_config, topic, patience=timeout)) as letters:
        found = list(islice(letters, limit))
    return [each.letter for each in sorted(found, key=lambda each: each.partition)]


def _texts(headers: Any) -> dict[str, str]:
    """K2's own among a message's headers, without their prefix."""
    pairs: Any = headers.items() if isinstance(headers, dict) else headers or ()
    return {
        name.removeprefix(PREFIX): value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in pairs
        if name.startswith(PREFIX)
    }


def _attempts(texts: Mapping[str, str]) -> dict[str, Any]:
    partition, offset = _int(texts.get("first_partition")), _int(texts.get("first_offset"))
    first = None if partition is None or offset is None else (partition, offset)
    return {"attempts": max(0, _int(texts.get("attempts")) or 0), "first": first}


def _int(text: str | None) -> int | None:
    """A number of a header; anybody may have written the header, so what is none is nothing."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _moment(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
