"""Dead letters sent to their topic again: each once, with its attempts counted, and parked after five.

What a letter is goes by its origin: of the copies of one letter (each failed attempt leaves one, and a crash may) the last
stands for all. An attempt that succeeds leaves no trace here, so a letter may be sent again; its event's id then makes it a
duplicate, which the table drops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import Self

from k2.bus.admin import beginning_offsets, end_offsets
from k2.bus.dead_letters import (
    MOST_BYTES,
    BuriedLetter,
    DeadLetter,
    Origin,
    Progress,
    buried_letters,
    too_large,
)
from k2.bus.producer import Delivery, EventProducer, FatalProducerError
from k2.bus.single_messages import Original, read_single_messages
from k2.model.errors import WorldError
from k2.model.letters import MOST_ATTEMPTS, KnownLetter
from k2.model.reasons import reason_class
from k2.model.topics import DataType, TopicName

_FETCH_SECONDS = 15.0
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; what is None says nothing.

    Attributes:
        reason: a class of reasons, or a part of the reason's text, in any case.
        since, until: when it was put aside; `until` is not meant any more.
        partition: of the dead-letter topic.
        first, last: offsets of the dead-letter topic, both of them meant.
    """

    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    partition: int | None = None
    first: int | None = None
    last: int | None = None

    def takes(self, buried: BuriedLetter) -> bool:
        """Whether a letter is one of them. A letter without a time is in no range of times."""
        when, reason = buried.letter.time, buried.letter.reason
        return (
            self.partition in {None, buried.partition}
            and (self.first is None or self.first <= buried.offset)
            and (self.last is None or buried.offset <= self.last)
            and (self.since is None or (when is not None and self.since <= when))
            and (self.until is None or (when is not None and when < self.until))
            and (self.reason is None or self.reason == reason_class(reason) or self.reason.lower() in reason.lower())
        )


def known_letters(
    kafka_config: Mapping[str, str],
    topic: str,
    wanted: LetterFilter,
    progress: Progress | None = None,
    starts: Mapping[int, int] | None = None,
) -> list[KnownLetter]:
    """The letters of a dead-letter topic of which any copy is wanted: one for each origin, its last copy.

    Args:
        kafka_config: connection settings of librdkafka.
        topic: the dead-letter topic.
        wanted: see `LetterFilter`.
        progress: see `Progress`.
        starts: partitions that are read, and the offset from which; default: all, from their beginnings.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka cannot be reached.
    """
    last: dict[Origin, KnownLetter] = {}
    chosen: set[Origin] = set()
    for buried in buried_letters(kafka_config, topic, starts, progress):
        origin = buried.letter.origin
        found, before = _known(buried), last.get(origin)
        if before is None or (before.attempts, before.offset) < (found.attempts, found.offset):
            last[origin] = found
        if wanted.takes(buried):
            chosen.add(origin)
    return [last[origin] for origin in last if origin in chosen]


def letters_at(
    kafka_config: Mapping[str, str], topic: str, places: Iterable[KnownLetter], progress: Progress | None = None
) -> Iterator[BuriedLetter]:
    """These letters with their payloads, read from the dead-letter topic again."""
    wanted: dict[int, set[int]] = {}
    for each in places:
        wanted.setdefault(each.partition, set()).add(each.offset)
    starts = {partition: min(offsets) for partition, offsets in wanted.items()}
    for buried in buried_letters(kafka_config, topic, starts, progress):
        if buried.offset in wanted[buried.partition]:
            yield buried


@dataclass(slots=True)
class RedriveTally:
    """What became of letters: how many were sent, and why others were not.

    Attributes:
        sent: sent to their topic again and acknowledged; in a dry run those that would be.
        parked: failed five times; left alone.
        from_files: rows of files, which no topic takes.
        gone: only their heads are left: their topic does not keep the whole any more.
        foreign: they name another topic as theirs than the one whose letters these are.
        refused: their topic does not take them, for their size.
    """

    sent: int = 0
    parked: int = 0
    from_files: int = 0
    gone: int = 0
    foreign: int = 0
    refused: int = 0

    @property
    def left(self) -> int:
        """Letters that were not sent."""
        return self.parked + self.from_files + self.gone + self.foreign + self.refused


@dataclass(slots=True)
class Redriver:
    """Sends letters to the topic that they came from. Use as a context manager, from one thread.

    Args:
        kafka_config: connection settings of librdkafka.
        topic: the topic; letters that name another one are left.
        parked: those that failed five times are sent, too.
        dry_run: nothing is sent, all else is done.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka cannot be reached.
    """

    kafka_config: Mapping[str, str]
    topic: TopicName
    parked: bool = False
    dry_run: bool = False
    tally: RedriveTally = field(default_factory=RedriveTally)
    _producer: EventProducer | None = field(init=False, default=None)
    _sent: list[Delivery] = field(init=False, default_factory=list[Delivery])

    def __post_init__(self) -> None:
        end_offsets(self.kafka_config, str(self.topic))  # there is such a topic: to send would wait for it
        if not self.dry_run:
            # As letters are written: what the topic took compressed it takes again.
            config = {**self.kafka_config, "message.max.bytes": str(MOST_BYTES)}
            self._producer = EventProducer(
                config, topic=str(self.topic), data_type=DataType.TRADES, schema_id=0, compression="zstd"
            )

    def send(self, letter: DeadLetter) -> None:
        """Send one letter's payload with its key, or count why not. It is safe after `flush`.

        Raises:
            WorldError: Kafka cannot be reached, or did not take it.
        """
        tally = self.tally
        if letter.file is not None:
            tally.from_files += 1
        elif letter.topic != str(self.topic) or letter.partition is None or letter.offset is None:
            tally.foreign += 1
        elif letter.attempts >= MOST_ATTEMPTS and not self.parked:
            tally.parked += 1
        elif letter.truncated:
            original = original_of(self.kafka_config, str(self.topic), letter)
            if original is None:
                tally.gone += 1
            else:
                self._hand_over(letter, original.key, original.payload)
        else:
            self._hand_over(letter, letter.key, letter.payload)

    def flush(self) -> None:
        """Wait until what was sent is acknowledged.

        Raises:
            WorldError: some was not, and not for its size.
        """
        sent, self._sent = self._sent, []
        if self._producer is None:
            return
        try:
            self._producer.flush()
        except FatalProducerError:
            raise
        except WorldError:
            if not all(delivery.acknowledged or too_large(delivery) for delivery in sent):
                raise
        self.tally.refused += sum(map(too_large, sent))
        self.tally.sent += sum(delivery.acknowledged for delivery in sent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
        finally:
            if self._producer is not None:
                self._producer.close()

    def _hand_over(self, letter: DeadLetter, key: bytes | None, payload: bytes | None) -> None:
        if self._producer is None:
            self.tally.sent += 1
            return
        self._sent.append(self._producer.produce(payload, key, letter.again()))
        if len(self._sent) >= _AT_ONCE:
            self.flush()


def original_of(kafka_config: Mapping[str, str], topic: str, letter: DeadLetter) -> Original | None:
    """The message of a topic that became this letter, of which only the head was kept; None when it is not there any more.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka cannot be reached.
    """
    partition, offset = letter.partition, letter.offset
    if letter.topic != topic or partition is None or offset is None:
        return None
    first, end = beginning_offsets(kafka_config, topic), end_offsets(kafka_config, topic)
    if not first.get(partition, offset + 1) <= offset < end.get(partition, 0):
        return None
    found = read_single_messages(kafka_config, topic, {partition: [offset]}, _FETCH_SECONDS).get((partition, offset))
    payload = b"" if found is None else found.payload or b""
    # Another topic of the same name has another message there.
    same = len(payload) == letter.size and payload.startswith(letter.payload or b"")
    return found if same else None


def _known(buried: BuriedLetter) -> KnownLetter:
    letter = buried.letter
    return KnownLetter(
        partition=buried.partition,
        offset=buried.offset,
        reason=reason_class(letter.reason),
        example=intern(letter.reason),
        attempts=letter.attempts,
        from_file=letter.file is not None,
        truncated=letter.truncated,
        time=letter.time,
    )
