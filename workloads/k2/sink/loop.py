"""A sink's loop: read, hold, cut, write; and what it does when partitions move, a commit is fenced, or it must end.

Nothing here talks to Kafka or to a catalog by itself: the reader and the writing thread are given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from k2.lake.appends.commit import FencedError
from k2.lake.payloads import PausedError
from k2.model.dead_share import DeadShare
from k2.model.errors import RefusedError, WorldError
from k2.model.held_up import HeldUpBy
from k2.model.times import SECOND_US
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.sink.held import Holding, PolledColumns
from k2.sink.notes import Notes, letters_of, of_written
from k2.sink.reading import Reader, Starts
from k2.sink.sequence_metrics import count_sequences
from k2.sink.sequences import Sequences
from k2.sink.telling import STALL_SECONDS, Telling, TooManyDeadError, in_words, of_commits
from k2.sink.writing import Writing, Written

log = get_logger(__name__)

POLL_MESSAGES = 1_000
POLL_SECONDS = 0.1
PAUSE_SECONDS = 5.0
GAUGE_SECONDS = 1.0
REST_SECONDS = 10.0
STAND_BY_SECONDS = 30.0
"""Who has got no partition by then stands by, and has nothing to show of going on."""


class SinkPhase(StrEnum):
    """What a sink is doing; the values are what a probe is told."""

    WAITING = "waiting for the consumer group"
    STANDING_BY = "stand by: no partitions"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(slots=True)
class SinkLoop:
    """One consumer of one (topic, table) pair.

    Args:
        holding: accumulates what is read.
        writing: brings batches into the table.
        starts: where partitions begin.
        notes: what is left beside the group's offsets.
        telling: what holds it up, and when that is to be told.
        topic, table: names, for logs and metrics.
        interval: seconds after which what is held is committed.
        most_bytes: payload bytes after which it is committed at once.
        stop: set by a signal: what is held is committed, then the loop ends.
        ends: for `--until-end`: the offsets at which to stop once the table holds them. None: run for ever.
        settled: for `--until-end`: what the table records now, of all partitions.
        phase, paused_by, paused_kind: what it is doing, and why it is paused.
        stop_above: more dead letters than this among the last 10,000 messages, and nothing more is read. None: on it goes.
        numbered: whether the source's numbers are looked at.
        refused: what ended the sink's last run: it is said until this one has brought something into the table, or has nothing to do.
        look_after: called each second: for clients that nothing else uses for long.
        rested: called once when nothing has come for a while: what a load needed is not kept for the next one.
    """

    holding: Holding
    writing: Writing
    starts: Starts
    notes: Notes
    telling: Telling
    topic: str
    table: str
    interval: float
    most_bytes: int
    stop: threading.Event
    ends: Mapping[int, int] | None = None
    settled: Callable[[], dict[int, int]] | None = None
    stop_above: int | None = None
    numbered: bool = False
    refused: tuple[HeldUpBy, str] | None = None
    look_after: Callable[[], None] = lambda: None
    rested: Callable[[], None] = lambda: None
    reader: Reader | None = None
    phase: SinkPhase = SinkPhase.WAITING
    paused_by: str = ""
    paused_kind: HeldUpBy = HeldUpBy.TABLE
    _oldest: float | None = field(default=None, init=False)
    _checked: float = field(default=0.0, init=False)
    _ended: bool = field(default=False, init=False)
    _in_table: dict[int, int] = field(default_factory=dict[int, int], init=False)
    _joined: bool = field(default=False, init=False)
    _gauged: float = field(default=0.0, init=False)
    _behind: int = field(default=0, init=False)
    _dead: DeadShare = field(default=DeadShare(), init=False)
    _moved: float = field(default_factory=time.monotonic, init=False)
    _came: float | None = field(default=None, init=False)
    _stands_by: float = field(default_factory=lambda: time.monotonic() + STAND_BY_SECONDS, init=False)

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether it goes on, and what it is doing: while it is paused or stalled, why. For any thread.

        A member of the group without partitions is ready: it takes over when another one ends.
        """
        if self.phase is SinkPhase.PAUSED:
            return False, self.paused_by
        seconds = self.stalled_seconds
        if seconds > 2 * self.interval + STALL_SECONDS:
            why = self.writing.trouble or "its log tells more"
            return False, f"stalled: nothing was committed for {seconds:.0f} s although there is work ({why})"
        if self._in_table:
            return True, SinkPhase.RUNNING.value
        # Ready all the same: in a rollout the pod that has the partitions waits for this one, and leaves them to it.
        return self._joined, (SinkPhase.STANDING_BY if self._joined else SinkPhase.WAITING).value

    @property
    def held_up(self) -> tuple[HeldUpBy | None, str]:
        """What holds it up, and in a person's words; None while it goes on."""
        if self.phase is SinkPhase.PAUSED and self.holding.next:
            return self.paused_kind, self.paused_by
        trouble = self.writing.trouble if self.writing.busy else None
        found = of_commits(self.table, self.interval, self.stalled_seconds, trouble)
        return found or self.refused or (None, "")

    @property
    def warning(self) -> str:
        """What is wrong although it goes on; empty when nothing is. For any thread."""
        return self._dead.said(self.topic) if self._dead.many else ""

    @property
    def stalled_seconds(self) -> float:
        """For how long it has had work and committed nothing."""
        at_work = self._behind > 0 or self.holding.has_news or self.writing.busy or self.writing.unwritten
        return time.monotonic() - self._moved if at_work else 0.0

    # --- called by the reader while it polls -------------------------------------------------------------------------

    def assigned(self, partitions: set[int]) -> dict[int, int]:
        """Partitions were given to this consumer; says where to begin."""
        starts = self.starts.of(partitions)
        for partition, offset in starts.items():
            self.holding.begin(partition, offset)
        self._in_table.update(starts)
        self.notes.take_over(partitions)
        metrics.REBALANCES.labels(self.topic, "assigned").inc()
        log.info("sink.assigned", topic=self.topic, table=self.table, starts=starts)
        if not self.writing.unwritten:
            self.phase = SinkPhase.RUNNING
        return starts

    def revoked(self, partitions: set[int]) -> None:
        """Partitions are being taken in good order: what is held of them is committed first, as we still own them."""
        metrics.REBALANCES.labels(self.topic, "revoked").inc()
        log.info("sink.revoked", topic=self.topic, table=self.table, partitions=sorted(partitions))
        try:
            if not self._ended:
                self.flush()
        except WorldError as error:  # the next owner reads it again, from where the table says
            log.warning("sink.dropped_at_revoke", topic=self.topic, error=str(error))
        self._drop(partitions)

    def lost(self, partitions: set[int]) -> None:
        """Partitions belong to somebody else already: what is held of them is not ours to commit."""
        metrics.REBALANCES.labels(self.topic, "lost").inc()
        log.warning("sink.lost", topic=self.topic, table=self.table, partitions=sorted(partitions))
        self._drop(partitions)

    def _drop(self, partitions: set[int]) -> None:
        self.holding.drop(partitions)
        for partition in partitions:
            self._in_table.pop(partition, None)
        self.notes.drop(partitions)
        if not self._in_table and not self.writing.unwritten:
            self.phase = SinkPhase.WAITING  # what it was paused by went with them

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self, reader: Reader) -> None:
        """Run until `stop` is set, or until the table holds the ends.

        Raises:
            RefusedError: a person has to decide; nothing was lost or doubled.
            WorldError: Kafka, the registry, the catalog or the store failed for too long.
        """
        self.reader = reader
        if self.numbered:
            # A counter that begins with its first gap shows Prometheus no increase.
            count_sequences(Sequences(), self.topic, self.table)
        try:
            while not self.stop.is_set() and not self._at_end():
                try:
                    self._step(reader)
                except PausedError as paused:
                    self._pause(paused, reader)
            try:
                self.flush()
            except PausedError as paused:
                log.warning("sink.dropped_at_stop", topic=self.topic, reason=str(paused))
        finally:
            self._ended = True  # closing the reader revokes what is ours; there is nothing more to commit
            self.writing.close()
            reader.close()

    def _step(self, reader: Reader) -> None:
        self._gauge(reader)
        if self._dead.above(self.stop_above) and not self.writing.unwritten:
            self._stop_reading()
        if self.phase is not SinkPhase.RUNNING and self.holding.next:
            # Both raise again while the reason for the pause lasts.
            if self.writing.unwritten:
                self.writing.again()
                self._take()
            self.holding.decode_pending()
            self.phase = SinkPhase.RUNNING
            reader.resume()
        self._read(reader)
        if self.writing.finished:
            self._take()
        if self.stop_above is not None and self.holding.dead > self.stop_above:
            self.flush()  # whether to read on is known when they are counted
        elif self._due():
            self._cut()

    def _stop_reading(self) -> None:
        """More of the last messages are dead letters than a person allows: what was read is committed, and no more is read.

        Raises:
            PausedError: always, unless what was read has brought the share down.
            RefusedError: instead of it where the sink is to end by itself.
        """
        self.flush()
        if self.stop_above is None or not self._dead.above(self.stop_above):
            return
        said = self._dead.stop_said(self.topic, self.stop_above)
        if self.ends is not None:
            raise RefusedError(said)
        raise TooManyDeadError(said)

    def _gauge(self, reader: Reader) -> None:
        """Say how far behind the table is, of the partitions that are ours, and what is held of that."""
        now = time.monotonic()
        if now - self._gauged < GAUGE_SECONDS:
            return
        self._gauged = now
        self._joined = reader.joined()
        self.look_after()
        ends = reader.seen_ends()
        behind = sum(max(0, ends.get(partition, 0) - offset) for partition, offset in self._in_table.items())
        self._behind = behind
        if not (behind or self.holding.has_news or self.writing.busy):
            self._moved = now  # there is nothing to do
            if self._came is not None and now - self._came > REST_SECONDS:
                self._came = None
                self.rested()
                log.info("sink.rested", topic=self.topic, table=self.table)
            if self._in_table or now > self._stands_by:
                self.refused = None
        metrics.SINK_LAG.labels(self.topic).set(behind)
        metrics.SINK_BUFFERED.labels(self.table).set(self.holding.bytes)
        self._tell(reader)

    def _tell(self, reader: Reader) -> None:
        """Leave beside the offsets what holds it up, when that has changed; and that nothing does, where something stands there."""
        due = self.telling.see(*self.held_up, datetime.now(UTC))
        if due or self.telling.held is None:
            reader.commit_group_offsets(self.notes.standing(self.telling.held, self._in_table))

    def _pause(self, paused: PausedError, reader: Reader) -> None:
        """Nothing is dropped and nothing is read: what cannot be decoded or written now is tried again, until it can."""
        before = (self.phase, self.paused_by)
        self.paused_kind, self.paused_by = in_words(paused)
        self.phase = SinkPhase.PAUSED  # after the words: a probe may ask between the two
        if before != (self.phase, self.paused_by):
            log.warning("sink.paused", topic=self.topic, table=self.table, reason=self.paused_by)
        self._tell(reader)
        # Polled all the while: a consumer that does not ask for minutes is put out of its group.
        until = time.monotonic() + PAUSE_SECONDS
        while time.monotonic() < until and not self.stop.is_set():
            reader.pause()  # partitions that were given to us meanwhile, too
            polled = reader.poll_block(POLL_MESSAGES, POLL_SECONDS)
            try:
                self._keep(reader, polled)
            except PausedError:  # it is kept, and the reason comes up again when this pause is over
                continue

    def flush(self) -> None:
        """Commit what is held, and wait for it. After a fence, or behind a batch that is not taken, there is nothing to."""
        if not self.writing.unwritten and self._take() and self.holding.has_news:
            self.writing.start(self.holding.cut())
            self._oldest = None
            self._take()

    def _read(self, reader: Reader) -> None:
        if self.holding.bytes >= self.most_bytes and self.writing.busy:
            # Memory is bounded: nothing is read while one batch is written and the next is full.
            self.writing.wait(GAUGE_SECONDS)
            return
        polled = reader.poll_block(POLL_MESSAGES, POLL_SECONDS)
        if polled is None and self.holding.messages == 0:
            self.holding.reached(reader.position())
        self._keep(reader, polled)
        if self._oldest is None and self.holding.has_news:
            self._oldest = time.monotonic()

    def _keep(self, reader: Reader, polled: PolledColumns | None) -> None:
        if polled is None:
            return
        self._came = time.monotonic()
        metrics.CONSUMED.labels(self.topic).inc(len(polled.payloads))
        metrics.CONSUMED_BYTES.labels(self.topic).inc(sum(map(len, filter(None, polled.payloads))))
        for partition, offset in self.holding.add(polled).items():
            reader.seek(partition, offset)

    def _due(self) -> bool:
        if self.writing.busy or not self.holding.has_news:
            return False
        full = self.holding.bytes >= self.most_bytes
        old = self._oldest is not None and time.monotonic() - self._oldest >= self.interval
        return full or old or self._read_to_the_ends()

    def _read_to_the_ends(self) -> bool:
        if self.ends is None:
            return False
        return all(self.holding.next[p] >= self.ends.get(p, 0) for p in self.holding.next)

    def _cut(self) -> None:
        if self._take():
            self.writing.start(self.holding.cut())
            self._oldest = None

    def _take(self) -> bool:
        """Take the result of the batch under way, waiting for it. False: it was fenced, and all that was held is gone."""
        try:
            written = self.writing.result()
        except FencedError as fenced:
            self._start_over(fenced)
            return False
        if written is not None:
            self._report(written)
        return True

    def _start_over(self, fenced: FencedError) -> None:
        log.warning("sink.fenced", topic=self.topic, table=self.table, reason=str(fenced))
        assert self.reader is not None
        for partition, offset in self.starts.of(set(self.holding.next)).items():
            self.holding.begin(partition, offset)
            self._in_table[partition] = offset
            self.reader.seek(partition, offset)
        self._oldest = None

    def _report(self, written: Written) -> None:
        self._moved, self.refused = time.monotonic(), None
        self._count_dead(written.dead)
        done = written.committed
        newest = written.newest_event_us
        log.info(
            "sink.committed",
            table=self.table,
            snapshot=done.snapshot_id,
            rows=done.rows,
            duplicates=done.duplicates,
            files=done.files,
            seconds=round(written.seconds, 3),
            attempts=done.attempts,
        )
        if newest is not None:
            metrics.SINK_NEWEST_EVENT.labels(self.table).set(newest / SECOND_US)
        assert self.reader is not None
        mine = {partition: offset for partition, offset in done.offsets.items() if partition in self.holding.next}
        self._in_table.update(mine)
        seen = written.sequences
        if seen is not None:
            count_sequences(seen, self.topic, self.table)
        gaps, letters = None if seen is None else seen.gaps, letters_of(written, self.topic)
        told = self.notes.after(of_written(written), mine, self._in_table, gaps, letters)
        self.reader.commit_group_offsets(told)

    def _count_dead(self, dead: DeadShare) -> None:
        """Keep what is known of the dead letters, and say when there begin to be many of them, or no longer are."""
        before, self._dead = self._dead, dead
        if dead.many and not before.many:
            log.warning("sink.many_dead_letters_found", topic=self.topic, table=self.table, **asdict(dead))
        elif before.many and not dead.many:
            log.info("sink.dead_letters_became_few", topic=self.topic, table=self.table, **asdict(dead))

    def _at_end(self) -> bool:
        if self.ends is None or self.settled is None or self.writing.busy or self.holding.has_news:
            return False
        now = time.monotonic()
        if now - self._checked < 0.5:  # other consumers of the group may still be at work: ask the table, not too often
            return False
        self._checked = now
        recorded = self.settled()
        return all(recorded.get(partition, 0) >= end for partition, end in self.ends.items() if end > 0)
