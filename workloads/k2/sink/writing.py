"""The second thread of a sink: takes batches that were cut off and brings them into the table, one at a time.

While it sorts, writes and commits (work that does not hold the interpreter's lock), the first thread reads and decodes
the next batch. What went wrong is handed back to the first thread, which alone decides what to do about it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from k2.lake.appends.attempt import Committed
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, FencedError
from k2.lake.payloads import PausedError
from k2.lake.snapshots import trim_snapshots
from k2.model.dead_share import DeadShare
from k2.model.events import EVENT_TIME
from k2.model.times import SECOND_US
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.sink.dead_tracker import DeadTracker, places_among
from k2.sink.held import HeldBatch, Poison
from k2.sink.sequences import Sequences, SequenceTracker

log = get_logger(__name__)

SendDeadLetters = Callable[[list[Poison]], None]
"""Sends messages to the dead-letter topic and returns when every one is acknowledged."""

RECEIVED = "ingestion_timestamp"
"""Column of the time at which K2 took an event in, where its kind has one."""

TRIM_EVERY = 10
"""Commits between two looks at the number of snapshots."""


@dataclass(frozen=True, slots=True)
class Written:
    """A batch that is in the table.

    Attributes:
        committed: what the commit did.
        newest_event_us: time of its newest event (microseconds UTC); None when it had no row.
        seconds: from the batch to its snapshot.
        dead: how many of the last messages were dead letters.
        sequences: what the source's numbers showed; None where they are not looked at.
    """

    committed: Committed
    newest_event_us: int | None
    seconds: float
    dead: DeadShare
    sequences: Sequences | None = None


class Writing:
    """At most one batch on its way into the table.

    Args:
        make_committer: called once, in the writing thread: catalogs and tables belong to one thread.
        send_dead_letters: see `SendDeadLetters`; called before the commit that moves past them.
        max_snapshots: untagged snapshots kept.
        stop: set when the sink must end; waiting for the world then ends soon.
        tracker: sees every batch that was committed; None: the source's numbers are not looked at.
    """

    def __init__(
        self,
        make_committer: Callable[[], Committer],
        send_dead_letters: SendDeadLetters,
        max_snapshots: int,
        stop: threading.Event,
        tracker: SequenceTracker | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="k2-writing")
        self._send = send_dead_letters
        self._max_snapshots = max_snapshots
        self._stop = stop
        self._tracker = tracker
        self._dead = DeadTracker()
        self._commits = 0
        self._make_committer = make_committer
        self._committer: Committer | None = None
        self._running: Future[Written] | None = None
        self._held: HeldBatch | None = None
        self._buried: HeldBatch | None = None

    @property
    def unwritten(self) -> bool:
        """Whether there is a batch that the table, as it is, does not take: `again` tries it once more."""
        return self._running is None and self._held is not None

    @property
    def trouble(self) -> str:
        """Why the batch under way was not committed yet; empty when nothing is known to be wrong."""
        return "" if self._committer is None else self._committer.trouble

    @property
    def busy(self) -> bool:
        """Whether a batch is on its way."""
        return self._running is not None and not self._running.done()

    @property
    def finished(self) -> bool:
        """Whether a result waits to be taken."""
        return self._running is not None and self._running.done()

    def wait(self, seconds: float) -> None:
        """Wait for the batch under way, for so long at most: `finished` tells."""
        if self._running is not None:
            wait([self._running], seconds)

    def start(self, held: HeldBatch) -> None:
        """Begin to write a batch. The result of the one before must have been taken."""
        assert self._running is None
        self._held = held
        self._running = self._thread.submit(self._write, held)

    def again(self) -> None:
        """Try the batch once more that was not taken."""
        assert self._held is not None
        self.start(self._held)

    def result(self) -> Written | None:
        """Wait for the batch under way and take its result (None: there is none). Raises what `Committer.commit` does.

        After a `PausedError` the batch is kept; after everything else it is done with.
        """
        if self._running is None:
            return None
        running, self._running = self._running, None
        try:
            written = running.result()
        except PausedError:
            raise
        except BaseException:
            self._held = None
            raise
        self._held = None
        return written

    def close(self) -> None:
        """Wait for the batch under way and end the thread; its result is left to the table."""
        self._thread.shutdown(wait=True)

    def _write(self, held: HeldBatch) -> Written:
        started = time.monotonic()
        if self._committer is None:
            self._committer = self._make_committer()
        committer = self._committer
        table = committer.identifier
        try:
            if held.poison and held is not self._buried:  # a batch that is tried again for hours has its letters once
                committer.check(held.batch)
                self._send(list(held.poison))
                self._buried = held
            done = committer.commit(held.batch)
        except PausedError:
            metrics.COMMITS.labels(table, "paused").inc()
            raise
        except FencedError:
            metrics.COMMITS.labels(table, "fenced").inc()
            raise
        except Exception:
            metrics.COMMITS.labels(table, "failed").inc()
            raise
        seconds = time.monotonic() - started
        _count(table, done, seconds)
        _observe_freshness(table, held.batch.rows, done)
        self._trim(committer)
        times = held.batch.rows.column(EVENT_TIME[committer.data_type]).cast(pa.int64()).to_numpy()
        newest = int(times.max()) if len(times) else None
        dead = self._counted(committer.origin.topic, held, done)
        return Written(done, newest, seconds, dead, self._followed(held.batch, done))

    def _counted(self, topic: str, held: HeldBatch, done: Committed) -> DeadShare:
        """The dead letters among the last messages. Of a batch that is fenced off they are somebody else's to count."""
        before = np.fromiter((each.rows_before for each in held.poison), np.int64, len(held.poison))
        places, reasons = places_among(before, done.dead, [each.reason for each in held.poison])
        share = self._dead.see(len(held.batch.rows) + len(held.poison), places, reasons)
        for name, count in self._dead.classes.items():
            metrics.RECENT_DEAD.labels(topic, name).set(count)
        metrics.DEAD_IN_A_ROW.labels(topic).set(share.in_a_row)
        return share

    def _followed(self, batch: Batch, done: Committed) -> Sequences | None:
        """What the batch's numbers show, once it is in the table: one that is fenced off is somebody else's to judge."""
        if self._tracker is None:
            return None
        rows = batch.rows
        if len(done.left_out):  # what is sent again from the middle of a day would look like a new beginning
            rows = rows.take(np.delete(np.arange(len(rows)), done.left_out))
        return self._tracker.see(rows, batch.ranges)

    def _trim(self, committer: Committer) -> None:
        self._commits += 1
        if self._commits % TRIM_EVERY:
            return
        try:
            table = committer.catalog.load_table(committer.identifier)
            trimmed = trim_snapshots(table, self._max_snapshots, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - housekeeping must not hide that the batch is in the table
            log.warning("snapshots.not_trimmed", table=committer.identifier, error=repr(error))
            return
        metrics.SNAPSHOTS.labels(committer.identifier).set(len(table.metadata.snapshots) - trimmed.expired)
        metrics.SNAPSHOTS_EXPIRED.labels(committer.identifier).inc(trimmed.expired)


def _count(table: str, done: Committed, seconds: float) -> None:
    metrics.COMMITS.labels(table, "landed" if done.landed else "committed").inc()
    metrics.ROWS_WRITTEN.labels(table).inc(done.rows)
    metrics.BYTES_WRITTEN.labels(table).inc(done.bytes)
    metrics.FILES_WRITTEN.labels(table).inc(done.files)
    metrics.SNAPSHOTS.labels(table).set(len(done.metadata.snapshots))
    metrics.DUPLICATES.labels(table).inc(done.duplicates)
    metrics.SINK_BATCH_ROWS.labels(table).observe(done.rows)
    metrics.WRITE_DURATION.labels(table).observe(seconds)
    metrics.SINK_LAST_COMMIT.labels(table).set_to_current_time()


def _observe_freshness(table: str, rows: pa.Table, done: Committed) -> None:
    """How long ago K2 received what is in the table now; of data that says no such time, nothing."""
    if RECEIVED not in rows.column_names:
        return
    received = rows.column(RECEIVED).cast(pa.int64())
    kept = np.delete(received.to_numpy(), done.left_out) if len(done.left_out) else received.to_numpy()
    if len(kept):
        # A producer whose clock is ahead makes nothing fresher than new.
        metrics.SINK_FRESHNESS.observe((table,), np.maximum(time.time() - kept / SECOND_US, 0.0))
