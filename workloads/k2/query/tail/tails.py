"""The tails of all tables that hybrid questions are asked about: followed while they are, released when nobody asks.

An answer is a snapshot's rows and the rows of its topics from the snapshot's offsets on. The snapshot is chosen first, so
no row is in both; the tail has no gaps, so none is in neither.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from k2.bus.admin import end_offsets_of, topic_ids
from k2.bus.registry import LOOK_SECONDS, Schemas
from k2.lake.appends.batch import Mask, OrderedBatch
from k2.lake.appends.dedup import KnownIds
from k2.lake.kept_schemas import kept_schemas
from k2.lake.offsets import OffsetMap
from k2.lake.payloads import PayloadDecoder
from k2.lake.reader import SnapshotInfo, TableReader, TableState
from k2.lake.scan import SnapshotFiles
from k2.lake.schema_ids import SchemaIds
from k2.model.errors import K2Error
from k2.model.feed_rules import FeedRules
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, as_now
from k2.query.rows.tail_blocks import Reach
from k2.query.rows.tail_view import Tail, TailView, TopicTail
from k2.query.tail.follower import Decode, Follower, RecordedTopic
from k2.query.tail.table_tail import Budget, Known, TableTail

_log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_RECHECK_SECONDS = 5.0
_EMPTY = TailView((), Reach({}, {}))


@dataclass(slots=True)
class _Followed:
    """A table that is followed. `judged_at` is the number of the snapshot whose rules its rows were judged by."""

    tail: TableTail
    data_type: DataType
    used: float
    judged_at: int = 0
    followers: dict[str, Follower] = field(default_factory=dict)
    places: dict[tuple[str, int], int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def place(self, topic_id: str, partition: int) -> int:
        """The number of a partition: the same each time, and no other's."""
        return self.places.setdefault((topic_id, partition), next(self.numbers))

    def is_outdated(self, rules: Mapping[str, FeedRules], sequence: int) -> bool:
        """Whether a sink has committed by other rules than those by which rows are held."""
        return sequence > self.judged_at and any(
            rules.get(topic, each.origin.held.rules) != each.origin.held.rules for topic, each in self.followers.items()
        )

    def close(self) -> None:
        for follower in self.followers.values():
            follower.stop()
        self.tail.close()


class Tails:
    """All tails of a process. Threads share it.

    Args:
        reader: tells of the tables' snapshots.
        load: loads a table anew, for one thread.
        kafka: connection settings of librdkafka.
        registry: the Schema Registry client's.
        budget_bytes: most memory of all tails together.
        idle_seconds: a tail that nobody asked for this long is released.
        wait_seconds: how long a question waits for a tail that has only begun to be read.
    """

    def __init__(
        self,
        reader: TableReader,
        load: Callable[[str], Any],
        kafka: ClientSettings,
        registry: ClientSettings,
        *,
        budget_bytes: int = 512 * 2**20,
        idle_seconds: float = 300.0,
        wait_seconds: float = 2.0,
    ) -> None:
        self._reader, self._load = reader, load
        self._kafka, self._registry = kafka, registry
        self._budget = Budget(budget_bytes)
        self._idle, self._wait = idle_seconds, wait_seconds
        self._lock = threading.Lock()
        self._followed: dict[str, _Followed] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._look_after, name="k2-tails", daemon=True).start()

    @contextmanager
    def held(self, identifier: str) -> Generator[None, None, None]:
        """Meanwhile choose the snapshot and take the tail after it: nothing between the two is trimmed."""
        with self._lock:
            followed = self._followed.get(identifier)
        with nullcontext() if followed is None else followed.tail.held():
            yield

    def after(
        self, state: TableState, snapshot: SnapshotInfo | None, files: SnapshotFiles, data_type: DataType
    ) -> Tail:
        """The rows of the table's topics beyond a snapshot of it, as far as they are held.

        Never fails: what cannot be had is said in `problem`. The first question about a table waits a little.
        """
        recorded = recorded_offsets(state, snapshot)
        if not recorded.topics:
            return Tail(_EMPTY, (), f"{state.identifier} records no topic: no sink has committed to it yet")
        try:
            followed = self._followed_with(state, recorded, files, data_type)
        except (K2Error, OSError) as error:
            return Tail(_EMPTY, (), str(error))
        self._await(followed)
        starts = _starts(followed, recorded)
        followed.tail.note(Known(starts, files))
        view = followed.tail.view(starts)
        if view is None:  # a sink was reset, the snapshot is an old one, or another question saw newer rules of a feed
            self._release(state.identifier, followed)
            return Tail(_EMPTY, (), "The tail is read anew: offsets of the table went back, or a feed's rules changed")
        return _told(followed, recorded, view)

    def wait(self, identifier: str, tail: Tail, timeout: float) -> bool:
        """Wait for rows beyond a tail; False when none came within `timeout` seconds."""
        with self._lock:
            followed = self._followed.get(identifier)
        if followed is None:
            self._stop.wait(timeout)
            return False
        followed.used = time.monotonic()
        return followed.tail.wait(tail.view.reach.ends, timeout)

    def ends(self, recorded: OffsetMap) -> tuple[Mapping[str, Mapping[int, int]], str | None]:
        """Topic → partition → end offset now, of the topics that are still those recorded; and why some are not known."""
        try:
            kafka = as_now(self._kafka)
            there = topic_ids(kafka, recorded.topics)
            same = [topic for topic, held in recorded.topics.items() if there.get(topic) == held.topic_id]
            return end_offsets_of(kafka, same), None
        except K2Error as error:
            return {}, str(error)

    def close(self) -> None:
        """Stop following; the threads end by themselves within a second."""
        self._stop.set()
        with self._lock:
            followed, self._followed = list(self._followed.values()), {}
        for each in followed:
            each.close()
        for each in followed:
            for follower in each.followers.values():
                follower.join(2.0)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _followed_with(
        self, state: TableState, recorded: OffsetMap, files: SnapshotFiles, data_type: DataType
    ) -> _Followed:
        # Those of the newest commit, whatever snapshot is asked for: the sink judges by them what comes next.
        rules = {topic: held.rules for topic, held in recorded_offsets(state, state.current).topics.items()}
        sequence = 0 if state.current is None else state.current.sequence
        with self._lock:
            followed = known = self._followed.get(state.identifier)
            if known is None or known.is_outdated(rules, sequence):
                followed = self._begin(state.identifier, files, data_type)
                followed.judged_at = sequence
                if known is not None:  # whoever holds a view of it knows places by these numbers
                    followed.places, followed.numbers = known.places, known.numbers
                    known.close()
                self._followed[state.identifier] = followed
            assert followed is not None
            followed.used = time.monotonic()
            for topic, at_snapshot in recorded.topics.items():
                held = replace(at_snapshot, rules=rules.get(topic, at_snapshot.rules))
                before = followed.followers.get(topic)
                if before is not None and before.origin.held.topic_id == held.topic_id:
                    continue
                if before is not None:
                    before.stop()
                follower = self._follower(state.identifier, followed, RecordedTopic(topic, held))
                followed.followers[topic] = follower
                follower.start()
            return followed

    def _begin(self, identifier: str, files: SnapshotFiles, data_type: DataType) -> _Followed:
        io = self._load(identifier).io
        known: dict[int, KnownIds] = {}

        def in_files(some: SnapshotFiles, batch: OrderedBatch, candidates: Mask, tolerance_us: int) -> Mask:
            nonlocal io
            known_ids = known.get(tolerance_us) or known.setdefault(tolerance_us, KnownIds(data_type, tolerance_us))
            first, last = known_ids.reach(batch)
            near = some.select(start_us=first, end_us=last + 1)
            try:
                return known_ids.in_files(io, [file.path for file in near], batch, candidates)
            except OSError:
                # The next try has what the catalog says then: credentials of the store are rotated.
                io = self._load(identifier).io
                raise

        _log.info("tail.started", table=identifier)
        tail = TableTail(data_type, self._budget, in_files, Known({}, files))
        return _Followed(tail, data_type, time.monotonic())

    def _follower(self, identifier: str, followed: _Followed, origin: RecordedTopic) -> Follower:
        topic_id = origin.held.topic_id

        def decoder() -> Decode:
            ids = SchemaIds(
                origin.topic,
                identifier,
                Schemas(self._registry, seconds=LOOK_SECONDS, retries=0),
                lambda: kept_schemas(self._load(identifier).metadata).of(topic_id),
                _RECHECK_SECONDS,
            )
            return PayloadDecoder(
                origin.topic,
                identifier,
                followed.data_type,
                ids,
                lambda: self._load(identifier),
                origin.held.rules.prices,
            )

        return Follower(origin, self._kafka, decoder, followed.tail, lambda each: followed.place(topic_id, each))

    def _await(self, followed: _Followed) -> None:
        """Wait for those that have only begun: a question soon after a start then has what was in the topic."""
        deadline = time.monotonic() + self._wait
        for follower in list(followed.followers.values()):
            if not follower.ready.is_set() and follower.age() < self._wait:
                follower.ready.wait(max(0.0, deadline - time.monotonic()))

    def _look_after(self) -> None:
        """Trim what newer snapshots have, also while nobody asks, and release what nobody wants."""
        while not self._stop.wait(_LOOK_SECONDS):
            with self._lock:
                all_followed = dict(self._followed)
            metrics.TAIL_BYTES.set(self._budget.used)
            for identifier, followed in all_followed.items():
                if time.monotonic() - followed.used > self._idle:
                    _log.info("tail.released", table=identifier, idle_seconds=self._idle)
                    self._release(identifier, followed)
                    continue
                metrics.TAIL_STALE.labels(identifier).set(
                    max((each.stale_or_age() for each in followed.followers.values()), default=0)
                )
                try:
                    self._note_newest(identifier, followed)
                except (K2Error, OSError) as error:  # the catalog is away: nothing is trimmed meanwhile
                    _log.info("tail.not_trimmed", table=identifier, reason=str(error))

    def _note_newest(self, identifier: str, followed: _Followed) -> None:
        state = self._reader.state(identifier)
        if state.current is None:
            return
        recorded = recorded_offsets(state, state.current)
        files = self._reader.files(state, state.current.id)
        followed.tail.note(Known(_starts(followed, recorded), files))

    def _release(self, identifier: str, followed: _Followed) -> None:
        with self._lock:
            if self._followed.get(identifier) is followed:
                del self._followed[identifier]
                metrics.TAIL_STALE.labels(identifier).set(0)  # nobody waits for it: an old figure would stay for ever
        followed.close()


def recorded_offsets(state: TableState, snapshot: SnapshotInfo | None) -> OffsetMap:
    """What the snapshot, or the nearest ancestor that K2 made, records: other engines' snapshots change no offsets."""
    return OffsetMap.from_json(state.recorded(snapshot))


def _starts(followed: _Followed, recorded: OffsetMap) -> dict[int, int]:
    """Place → where the tail of that snapshot begins; a partition that it does not name begins at its earliest."""
    starts: dict[int, int] = {}
    for topic, held in recorded.topics.items():
        for partition, part in held.partitions.items():
            starts[followed.place(held.topic_id, partition)] = part.next
        follower = followed.followers.get(topic)
        for place in () if follower is None else follower.places.values():
            if place not in starts and (floor := followed.tail.floor_of(place)) is not None:
                starts[place] = floor
    return starts


def _told(followed: _Followed, recorded: OffsetMap, view: TailView) -> Tail:
    topics: list[TopicTail] = []
    for topic in sorted(recorded.topics):
        follower = followed.followers.get(topic)
        if follower is None:
            continue
        ranges = {
            partition: (view.reach.starts[place], view.reach.ends[place])
            for partition, place in follower.places.items()
            if place in view.reach.ends
        }
        ends = follower.stable_ends
        behind = sum(max(0, ends[each] - to) for each, (_, to) in ranges.items() if each in ends) if ends else None
        problem = follower.problem
        if problem is None and not follower.ready.is_set():
            problem = f"The tail of {topic} is still being read"
        elif problem is None and behind and followed.tail.is_full:
            problem = f"The tail of {topic} is longer than the service keeps: {behind} messages are left out"
        topic_id, places = recorded.topics[topic].topic_id, dict(follower.places)
        topics.append(TopicTail(topic, topic_id, ranges, behind, places, follower.stale_seconds(), problem))
    return Tail(view, tuple(topics))
