"""A keyed, coalescing queue: one piece of work per key at a time, any number of causes, backoff per key.

Causes say *what* should be looked at, never what to do: the work finds that out by itself. So a hundred events for a key are
one piece of work, and one that comes while the key is being worked on is one more piece afterwards.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait after the n-th failure in a row: doubling from `first` to `longest`, each less up to a quarter."""

    first: float = 0.5
    longest: float = 60.0

    def after(self, failures: int, chance: float) -> float:
        """The wait after that many failures; `chance` is in [0, 1)."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return full * (1 - chance / 4)


@dataclass(slots=True)
class WorkQueue(Generic[KeyT]):
    """The queue and its workers.

    Args:
        work: does what a key needs; a number is the seconds after which to come again. An exception is a failure: the key
            comes again after its backoff, whatever `failed` makes of the error.
        failed: is told of every failure.
        workers: pieces of work at a time.
    """

    work: Callable[[KeyT], Awaitable[float | None]]
    failed: Callable[[KeyT, Exception], None]
    workers: int = 16
    backoff: Backoff = field(default_factory=Backoff)
    chance: Callable[[], float] = random.random
    _ready: asyncio.Queue[KeyT] = field(default_factory=asyncio.Queue)
    _waiting: dict[KeyT, asyncio.TimerHandle] = field(default_factory=dict)
    _queued: set[KeyT] = field(default_factory=set)
    _running: set[KeyT] = field(default_factory=set)
    _again: dict[KeyT, float] = field(default_factory=dict)
    _failures: dict[KeyT, int] = field(default_factory=dict)

    def add(self, key: KeyT, delay: float = 0.0) -> None:
        """Have a key looked at, at the latest after `delay` seconds."""
        if key in self._running:
            self._again[key] = min(delay, self._again.get(key, delay))
            return
        if key in self._queued:
            return
        timer = self._waiting.get(key)
        loop = asyncio.get_running_loop()
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        if delay <= 0:
            self._release(key)
        else:
            self._waiting[key] = loop.call_later(delay, self._release, key)

    def __len__(self) -> int:
        return len(self._queued) + len(self._running)

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done at this moment (something may be due later)."""
        return not self._queued and not self._running

    def failures(self, key: KeyT) -> int:
        """How often a key has failed in a row."""
        return self._failures.get(key, 0)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.workers):
                group.create_task(self._worker(), name=f"k2-worker-{number}")

    def _release(self, key: KeyT) -> None:
        self._waiting.pop(key, None)
        self._queued.add(key)
        self._ready.put_nowait(key)

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._running.add(key)
            delay: float | None = None
            try:
                delay = await self.work(key)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other keys go on
                self._failures[key] = self._failures.get(key, 0) + 1
                delay = self.backoff.after(self._failures[key], self.chance())
                self.failed(key, error)
            finally:
                self._running.discard(key)
                wanted = [each for each in (delay, self._again.pop(key, None)) if each is not None]
            if wanted:
                self.add(key, min(wanted))
