"""A thread that reads one topic into the tail of a table, from where the table's snapshot ends, for as long as it is wanted.

What the world does (Kafka away, the registry away, a table that lacks a column, an offset that retention has passed) is
kept as `problem` and tried again; questions meanwhile say up to where they are complete.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from k2.bus.admin import beginning_offsets, cluster_id, end_offsets, topic_ids
from k2.bus.consumer import Polled
from k2.bus.partitions import PartitionsReader
from k2.lake.offsets import TopicOffsets
from k2.lake.payloads import PausedError, compact
from k2.model.codec.decode import Decoded
from k2.model.errors import K2Error, WorldError
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, as_now
from k2.query.tail.table_tail import TableTail, with_lineage

_log = get_logger(__name__)

Decode = Callable[[Sequence[bytes | None]], Decoded]

POLL_MESSAGES = 8_192
POLL_SECONDS = 0.05
"""Time in which messages gather: most of what passes between a send and its being in an answer."""

SILENT_SECONDS = 3.0
"""A broker that is there answers twenty times a second, also when it has nothing new."""

_RETRY_SECONDS = 2.0
_FULL_SECONDS = 0.05
_ENDS_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_FAR_BEHIND = 100_000


@dataclass(frozen=True, slots=True)
class RecordedTopic:
    """A topic as a table records it: its name, what the table's snapshot holds of it, and the rules of its feed."""

    topic: str
    held: TopicOffsets


class Follower:
    """Reads one topic into a tail.

    Args:
        origin: the topic, as the snapshot that the tail begins after records it.
        kafka: connection settings of librdkafka.
        decoder: makes what decodes the payloads; called in the thread.
        tail: where the rows go.
        place_of: gives each partition its place in the tail.
    """

    def __init__(
        self,
        origin: RecordedTopic,
        kafka: ClientSettings,
        decoder: Callable[[], Decode],
        tail: TableTail,
        place_of: Callable[[int], int],
    ) -> None:
        self.origin = origin
        self.problem: str | None = None
        self.places: Mapping[int, int] = {}
        self.ready = threading.Event()  # it holds what was in the topic when it began, or cannot
        self.stable_ends: Mapping[int, int] = {}
        self._kafka, self._decoder, self._tail, self._place_of = kafka, decoder, tail, place_of
        self._complete_at: float | None = None
        self._targets: Mapping[int, int] = {}
        self._asked = 0.0
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"k2-tail {origin.topic}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._started = time.monotonic()
        self._thread.start()

    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def stop(self) -> None:
        """Stop reading; returns at once."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout)

    def stale_seconds(self) -> float | None:
        """Seconds since the tail held all that the topic had; None: it never did."""
        return None if self._complete_at is None else max(0.0, time.monotonic() - self._complete_at)

    def stale_or_age(self) -> float:
        """The same; of one that never held all, seconds since it began."""
        stale = self.stale_seconds()
        return self.age() if stale is None else stale

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (K2Error, OSError) as error:
                if self.problem != str(error):
                    _log.warning("tail.interrupted", topic=self.origin.topic, reason=str(error))
                self.problem = str(error)
            except Exception as error:  # noqa: BLE001 - a thread that dies in silence would leave answers old without a word
                _log.exception("tail.failed_unforeseen", topic=self.origin.topic)
                self.problem = f"{type(error).__name__}: {error}"
            self.ready.set()
            self._stop.wait(_RETRY_SECONDS)

    def _follow(self) -> None:
        """Read until told to stop, or until the reader must be made anew."""
        starts = self._starts()
        decode = self._decoder()
        reader = PartitionsReader(self._kafka, self.origin.topic, starts)
        looked = time.monotonic()
        try:
            while not self._stop.is_set():
                if time.monotonic() - looked > _LOOK_SECONDS:
                    looked = time.monotonic()
                    if self._must_begin_anew(reader):
                        return
                if self._tail.is_full:
                    self._wait_for_room()
                    continue
                polled = reader.poll_block(POLL_MESSAGES, POLL_SECONDS)
                self._take(polled, reader.positions(), decode)
                self._look(reader, drained=polled is None or len(polled) < POLL_MESSAGES)
        finally:
            reader.close()

    def _wait_for_room(self) -> None:
        """Nothing is read; how far the topic has gone meanwhile is asked now and then, to be told."""
        self.ready.set()
        if time.monotonic() - self._asked > _ENDS_SECONDS:
            self._asked = time.monotonic()
            self.stable_ends = end_offsets(as_now(self._kafka), self.origin.topic)
        self._stop.wait(_FULL_SECONDS)

    def _starts(self) -> dict[int, int]:
        """Where to begin: where the tail ends, else where the snapshot does, else at the topic's beginning."""
        topic, held, kafka = self.origin.topic, self.origin.held, as_now(self._kafka)
        found = topic_ids(kafka, [topic]).get(topic)
        if found != held.topic_id or cluster_id(kafka) != held.cluster_id:
            raise WorldError(
                f"Topic {topic} is not the one whose offsets the table holds"
                if found
                else f"There is no topic {topic} any more"
            )
        earliest = beginning_offsets(kafka, topic)
        self._targets = end_offsets(kafka, topic)
        recorded = {partition: part.next for partition, part in held.partitions.items()}
        places = {partition: self._place_of(partition) for partition in earliest}
        starts = {
            partition: self._tail.begin(places[partition], recorded.get(partition, first))
            for partition, first in earliest.items()
        }
        self.places = places
        return starts

    def _must_begin_anew(self, reader: PartitionsReader) -> bool:
        """Whether there are new partitions, the snapshots have gone far ahead of what was read, or Kafka has another authority."""
        if reader.outdated or reader.partitions() - set(self.places):
            return True
        positions = reader.positions()
        return any(
            self._tail.next_of(place) > positions[partition] + _FAR_BEHIND for partition, place in self.places.items()
        )

    def _take(self, polled: Polled | None, positions: Mapping[int, int], decode: Decode) -> None:
        next_offsets = {self.places[partition]: offset for partition, offset in positions.items()}
        if polled is None:
            self._tail.insert(_NOTHING, np.zeros(0, np.int32), next_offsets)
            return
        rows = self._decoded(polled, decode)
        if rows is None:
            return
        metrics.TAIL_ROWS.labels(self.origin.topic).inc(rows.num_rows)
        partitions = rows.column("kafka_partition").to_numpy()
        places = np.array([self.places[int(each)] for each in np.unique(partitions)], np.int32)
        of_rows = places[np.searchsorted(np.unique(partitions), partitions)]
        self._tail.insert(rows, of_rows, next_offsets, self.origin.held.rules)

    def _decoded(self, polled: Polled, decode: Decode) -> pa.Table | None:
        """The good rows; None when it was stopped while it waited for what decoding needs."""
        while not self._stop.is_set():
            try:
                decoded = decode(polled.payloads)
            except PausedError as paused:  # nothing is passed over: it is the same for the sink
                self.problem = str(paused)
                self.ready.set()
                self._stop.wait(_RETRY_SECONDS)
                continue
            rows = decoded.rows
            return with_lineage(
                compact(decoded.events), self.origin.held.topic_id, polled.partitions[rows], polled.offsets[rows]
            )
        return None

    def _look(self, reader: PartitionsReader, *, drained: bool) -> None:
        """Note how far the tail has come."""
        self.stable_ends = reader.stable_ends() or self.stable_ends
        silence = reader.silence()
        now = time.monotonic()
        held = {partition: self._tail.next_of(place) for partition, place in self.places.items()}
        if not self.ready.is_set() and all(held[partition] >= end for partition, end in self._targets.items()):
            self.ready.set()
            self._complete_at = now
            self.problem = None
        if silence is None or silence > SILENT_SECONDS:
            if self.ready.is_set() and silence is not None:
                self.problem = f"Kafka has not answered for {silence:.0f} s"
            return
        if drained and all(held[partition] >= end for partition, end in self.stable_ends.items() if partition in held):
            self._complete_at = now
            self.problem = None


_NOTHING = pa.table({"kafka_offset": pa.array([], pa.int64())})
