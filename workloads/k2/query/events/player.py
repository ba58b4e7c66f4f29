"""A replay that is played: read ahead in a thread, given out when it is due, and told to pause, go on, seek or change its pace.

One thread takes the batches; any may give commands.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from k2.query.asked.cursor import Cursor
from k2.query.asked.pace import Pace, Schedule
from k2.query.events.replay import Replay, ReplayBatch

_READ_AHEAD = 4
_POLL_SECONDS = 0.1
_NO_TIMES = np.zeros(0, np.int64)


@dataclass(slots=True)
class _Reading:
    """A replay that is read ahead, in a thread of its own."""

    replay: Replay
    stop: threading.Event = field(default_factory=threading.Event)
    batches: queue.Queue[ReplayBatch | BaseException | None] = field(default_factory=lambda: queue.Queue(_READ_AHEAD))

    def start(self) -> None:
        # What is known of the one who waits (their queries stop when they leave) is known in the thread too.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="k2-replay", daemon=True).start()

    def _run(self) -> None:
        last: ReplayBatch | BaseException | None = None
        try:
            # The generator is closed in the thread that runs it: its query ends with it.
            with contextlib.closing(self.replay.batches(self.stop)) as batches:
                for batch in batches:
                    if batch.rows.num_rows and not self._put(batch):
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the batches are taken
            last = error
        self._put(last)

    def _put(self, item: ReplayBatch | BaseException | None) -> bool:
        while not self.stop.is_set():
            with contextlib.suppress(queue.Full):
                self.batches.put(item, timeout=_POLL_SECONDS)
                return True
        return False


class Player:
    """Plays a replay.

    Args:
        replay: what is played; it is not read before the first `take`.
        pace: how fast.
        clock: seconds that only grow.
    """

    def __init__(self, replay: Replay, pace: Pace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pace = pace
        self._changed = threading.Condition()
        self._reading = _Reading(replay)
        self._started = False
        self._schedule: Schedule | None = None
        self._paused_at: float | None = None
        self._batch: ReplayBatch | None = None
        self._times = _NO_TIMES
        self._given = 0
        self._cursor = replay.start
        self._ended = False
        self._turn = 0

    @property
    def turn(self) -> int:
        """How often it was told to seek: what was given before the last time is of another place."""
        return self._turn

    @property
    def cursor(self) -> Cursor:
        """Where to go on after what was taken."""
        return self._cursor

    @property
    def ended(self) -> bool:
        """Whether there is nothing more."""
        return self._ended

    def take(self, timeout: float, most_rows: int) -> ReplayBatch | None:
        """The rows that are due, at most so many; None when none is within `timeout` seconds, or at the end (`ended`).

        Raises what reading raised.
        """
        deadline = self._clock() + timeout
        while True:
            with self._changed:
                reading = self._begun()
                wait = self._due(deadline, most_rows)
                if isinstance(wait, ReplayBatch):
                    return wait
                if wait is not None:
                    if self._clock() >= deadline or self._ended:
                        return None
                    self._changed.wait(min(wait, deadline - self._clock()))
                    continue
            if not self._fetch(reading, max(0.0, deadline - self._clock())):
                return None

    def pause(self) -> None:
        """Give nothing until `resume`."""
        with self._changed:
            if self._paused_at is None:
                self._paused_at = self._clock()
            self._changed.notify_all()

    def resume(self) -> None:
        """Go on; the time of the pause does not count."""
        with self._changed:
            if self._paused_at is not None and self._schedule is not None:
                self._schedule = self._schedule.held_up(self._clock() - self._paused_at)
            self._paused_at = None
            self._changed.notify_all()

    def change_pace(self, pace: Pace) -> None:
        """Go on at another pace from where it stands."""
        with self._changed:
            self._pace, self._schedule = pace, None
            self._changed.notify_all()

    def seek(self, start_us: int) -> None:
        """Go on from another time, in the same snapshots."""
        with self._changed:
            self._reading.stop.set()
            self._reading = _Reading(self._reading.replay.from_time(start_us))
            self._started = self._ended = False
            self._turn += 1
            self._batch, self._schedule = None, None
            self._cursor = self._reading.replay.start
            self._changed.notify_all()

    def close(self) -> None:
        """Stop reading."""
        with self._changed:
            self._reading.stop.set()
            self._ended = True
            self._changed.notify_all()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _begun(self) -> _Reading:
        if not self._started and not self._ended:
            self._started = True
            self._reading.start()
        return self._reading

    def _due(self, deadline: float, most_rows: int) -> ReplayBatch | float | None:
        """The due rows of the batch at hand, or seconds to wait for them; None: there is no batch at hand."""
        if self._ended:
            return 0.0
        if self._paused_at is not None:
            return max(0.0, deadline - self._clock())
        if self._batch is None:
            return None
        times = self._times[self._given :]
        if self._schedule is None:
            self._schedule = Schedule(self._pace, self._clock(), int(times[0]))
        ready, wait = self._schedule.due(times, self._clock())
        if not ready:
            return wait
        return self._give(min(ready, most_rows))

    def _give(self, rows: int) -> ReplayBatch:
        assert self._batch is not None
        assert self._schedule is not None
        part = replace(self._batch.slice(self._given, rows), turn=self._turn)
        self._given += rows
        self._schedule = self._schedule.after(rows)
        if self._given == self._batch.rows.num_rows:
            self._batch = None
        self._cursor = part.cursor
        return part

    def _fetch(self, reading: _Reading, timeout: float) -> bool:
        """Take the next batch that was read ahead; False when none came in time, or there is none."""
        try:
            item = reading.batches.get(timeout=timeout)
        except queue.Empty:
            return False
        with self._changed:
            if reading is not self._reading:  # sought elsewhere meanwhile
                return True
            if item is None:
                self._ended = True
                return False
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._batch, self._given = item, 0
            self._times = item.rows.column("timestamp").cast(pa.int64()).to_numpy()
            if item.is_live:
                self._schedule = Schedule(Pace(), self._clock(), 0)  # what comes in now is due now
            return True
