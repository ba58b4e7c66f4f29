"""Reading one topic as a member of a consumer group, from offsets that a table says and not the group.

The group (KIP-848) only shares partitions out. Where to read comes from `on_assigned`; what was read is known by
`position`, which passes the markers of transactions. Use from one thread: the callbacks run inside `poll_block` and
`close`, and nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from k2.bus.admin import beginning_offsets, end_offsets
from k2.bus.clients import Complaints, TopicConsumer
from k2.bus.groups import member_ids
from k2.model.errors import K2Error, RefusedError, UserError, WorldError
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, as_now

log = get_logger(__name__)

ASK_SECONDS, ASK_AGAIN_SECONDS = 2.0, 30.0
"""How often a member without partitions asks whether it is one: until the group has taken it, and then."""
_REFUSED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
)
_value: Callable[[Message[Any, Any]], bytes | None] = Message.value
_partition: Callable[[Message[Any, Any]], Any] = Message.partition
_offset: Callable[[Message[Any, Any]], Any] = Message.offset
_error: Callable[[Message[Any, Any]], KafkaError | None] = Message.error


@dataclass(frozen=True, slots=True)
class Polled:
    """Messages of one poll, as columns of equal length, in each partition's order.

    Attributes:
        payloads: values as they came; None is a tombstone.
        partitions: partition of each, int32.
        offsets: offset of each, int64. Gaps are markers and aborted messages.
        messages: librdkafka's own, for what is seldom asked: keys and headers of dead letters.
    """

    payloads: list[bytes | None]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    messages: list[Message[Any, Any]]

    def __len__(self) -> int:
        return len(self.payloads)

    def key(self, index: int) -> bytes | None:
        """The key of a message."""
        return self.messages[index].key()


def columns_of(messages: list[Message[Any, Any]]) -> Polled:
    """The messages of one poll, none of them an error, as columns."""
    count = len(messages)
    return Polled(
        list(map(_value, messages)),
        np.fromiter(map(_partition, messages), np.int32, count),
        np.fromiter(map(_offset, messages), np.int64, count),
        messages,
    )


class TopicReader:
    """A consumer of one topic.

    Args:
        settings: connection settings of librdkafka. When the certificate authorities change, what is ours is given back and
            the group joined anew.
        topic: what is read.
        group_id: the group that shares its partitions.
        on_assigned: partitions were given to us; returns the offset to begin with for each. What it raises comes out
            of `poll_block`.
        on_revoked: partitions are being taken; until it returns they are still ours.
        on_lost: partitions are somebody else's already.
        queue_kbytes: most payload KiB that are fetched ahead.

    Raises:
        WorldError: the settings are not ones that librdkafka takes.
    """

    def __init__(
        self,
        settings: ClientSettings,
        topic: str,
        group_id: str,
        on_assigned: Callable[[set[int]], dict[int, int]],
        on_revoked: Callable[[set[int]], None],
        on_lost: Callable[[set[int]], None],
        *,
        queue_kbytes: int = 16_384,
    ) -> None:
        self.topic = topic
        self._settings = settings
        self._on_assigned, self._on_revoked, self._on_lost = on_assigned, on_revoked, on_lost
        self._starts: dict[int, int] = {}  # the partitions that are ours, and where each began or was sought to
        self._moved = False
        self._in_callback = False
        self._joined, self._ask_at = False, time.monotonic() + ASK_SECONDS
        self._group = group_id
        self._complaints = Complaints("consumer", topic, settings)
        options = {
            "group.protocol": "consumer",
            "queued.min.messages": 500_000,
            "queued.max.messages.kbytes": queue_kbytes,
            "on_commit": self._on_commit,
        }
        self._client = TopicConsumer(settings, group_id, options, self._complaints, self._subscribe)

    def poll_block(self, max_messages: int = 1_000, timeout: float = 0.1) -> Polled | None:
        """Up to `max_messages` (500 to 1,000 are fastest), or None when none came within `timeout` seconds.

        Raises:
            RefusedError: the offset to read is not in the topic (any more).
            CredentialsError: Kafka refuses access.
            WorldError: the consumer cannot go on.
            Exception: whatever a callback raised.
        """
        self._moved = False
        if self._client.outdated:
            self._client.make_anew()
            self._starts.clear()
            self._joined, self._ask_at = False, time.monotonic() + ASK_SECONDS
        messages = self._client.consume(max_messages, timeout)
        if self._complaints.fatal is not None:
            raise WorldError(f"The consumer of {self.topic} cannot go on: {self._complaints.fatal.str()}")
        if not messages:
            return None
        if any(map(_error, messages)):
            messages = self._without_errors(messages)
        if self._moved:
            # Messages that were fetched before a partition was taken, in the very call in which it was.
            messages = [message for message in messages if message.partition() in self._starts]
        if not messages:
            return None
        return columns_of(messages)

    def joined(self) -> bool:
        """Whether the group counts us among its members. Without partitions its coordinator is asked, every now and then.

        librdkafka calls nobody back for an assignment of nothing, and its own state is then as before it has joined.
        """
        if self._starts:
            return True
        now = time.monotonic()
        if now >= self._ask_at:
            try:
                self._joined = self._consumer.memberid() in member_ids(as_now(self._settings), self._group)
            except WorldError as error:
                self._joined = False
                log.info("consumer.group_not_asked", topic=self.topic, error=str(error))
            self._ask_at = time.monotonic() + (ASK_AGAIN_SECONDS if self._joined else ASK_SECONDS)
        return self._joined

    def assignment(self) -> set[int]:
        """The partitions that are ours."""
        return set(self._starts)

    def position(self) -> dict[int, int]:
        """Per partition that is ours, the next offset to read: markers of transactions that were reached are passed."""
        return self._client.positions(self._starts)

    def seek(self, partition: int, offset: int) -> None:
        """Read a partition from `offset` on; nothing that was fetched before comes out of `poll_block` any more."""
        if partition not in self._starts:
            return
        self._starts[partition] = offset
        there = TopicPartition(self.topic, partition, offset)
        try:
            self._consumer.seek(there)
        except KafkaException as error:
            if self._in_callback:
                return  # it is being taken from us: there is nothing to read
            log.info("consumer.seek_refused", topic=self.topic, partition=partition, offset=offset, error=str(error))
            # A partition that is not yet fetched from cannot be sought; a new assignment can begin anywhere.
            self._consumer.incremental_unassign([TopicPartition(self.topic, partition)])
            self._consumer.incremental_assign([there])

    def pause(self, partitions: Iterable[int] | None = None) -> None:
        """Fetch nothing more of these partitions (default: all that are ours); polls go on, so the group keeps us."""
        self._consumer.pause(self._those(partitions))

    def resume(self, partitions: Iterable[int] | None = None) -> None:
        """Fetch again."""
        self._consumer.resume(self._those(partitions))

    def commit_group_offsets(self, told: Mapping[int, tuple[int, str]]) -> None:
        """Tell Kafka what the table holds, for lag and status alone: not waited for, and a failure is only logged.

        Args:
            told: partition → next offset in the table, and a text that is kept beside it.
        """
        if not told:
            return
        offsets = [TopicPartition(self.topic, partition, *each) for partition, each in told.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.warning("consumer.offsets_not_committed", topic=self.topic, error=str(error))

    def seen_ends(self) -> dict[int, int]:
        """Per partition that is ours, the end of it that the last fetch has seen; asks nobody. None before the first fetch."""
        found: dict[int, int] = {}
        for partition in self._starts:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
            if high >= 0:
                found[partition] = high
        return found

    def ends(self) -> dict[int, int]:
        """The topic's last stable offsets, of all partitions."""
        return end_offsets(as_now(self._settings), self.topic)

    def close(self) -> None:
        """Leave the group; `on_revoked` is called for what is ours."""
        self._client.close()
        self._starts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _consumer(self) -> Consumer:
        return self._client.raw

    def _those(self, partitions: Iterable[int] | None) -> list[TopicPartition]:
        asked = self._starts if partitions is None else partitions
        return self._client.partitions([partition for partition in asked if partition in self._starts])

    # --- librdkafka's callbacks -------------------------------------------------------------------------------------

    def _subscribe(self, consumer: Consumer) -> None:
        consumer.subscribe([self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        given = {each.partition for each in partitions}
        if not given:
            return
        self._moved = self._in_callback = True
        try:
            starts = self._on_assigned(given)
        finally:
            self._in_callback = False
        consumer.incremental_assign([TopicPartition(self.topic, partition, starts[partition]) for partition in given])
        self._starts |= {partition: starts[partition] for partition in given}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._taken(consumer, partitions, self._on_revoked)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._taken(consumer, partitions, self._on_lost)

    def _taken(
        self, consumer: Consumer, partitions: list[TopicPartition], callback: Callable[[set[int]], None]
    ) -> None:
        taken = {each.partition for each in partitions}
        self._moved = self._in_callback = True
        try:
            callback(taken & set(self._starts))
        finally:
            self._in_callback = False
            for partition in taken:
                self._starts.pop(partition, None)
            consumer.incremental_unassign(partitions)

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        # Raised while nothing was there to commit, too; in any case the table is what counts.
        if error is not None and error.code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - public under this name
            log.warning("consumer.offsets_not_committed", topic=self.topic, error=error.str())

    def _without_errors(self, messages: list[Message[Any, Any]]) -> list[Message[Any, Any]]:
        for message in messages:
            error = message.error()
            if error is not None:
                self._consider(error, message)
        return [message for message in messages if message.error() is None]

    def _consider(self, error: KafkaError, message: Message[Any, Any]) -> None:
        """Raise what ends us; the rest librdkafka goes on from by itself."""
        code = error.code()
        if code in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001
            raise self._out_of_range(message.partition() or 0)
        if code in _REFUSED:
            raise UserError(f"Kafka at {self._complaints.address} refuses reading {self.topic}", found=error.str())
        if error.fatal() or code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise self._client.failed(error)
        self._complaints.say(error)

    def _out_of_range(self, partition: int) -> K2Error:
        start = self.position().get(partition, self._starts.get(partition, 0))
        earliest = beginning_offsets(as_now(self._settings), self.topic).get(partition, 0)
        if start < earliest:
            return RefusedError(
                f"Retention has passed the offset to read of {self.topic}/{partition}: the messages between are lost in Kafka",
                found=f"earliest offset {earliest}",
                expected=f"offset {start}",
                remedy="To go on without them: k2 sink reset with --skip-to-earliest",
            )
        end = self.ends().get(partition, 0)
        return RefusedError(
            f"{self.topic}/{partition} ends before the offset to read: the topic was made anew, or Kafka lost its end",
            found=f"end offset {end}",
            expected=f"offset {start} or more",
            remedy="Find out which, then choose where to go on with k2 sink reset",
        )
