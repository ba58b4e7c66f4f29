"""Threads for what is long: they leave the processor to whatever is short.

A stream of a table's whole history and a desk's summary share two cores. At equal rights each summary waits for the stream's
turn to end (measured beside one endless stream: its median doubles); the system's own priorities put it first.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Any, TypeVar

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

T = TypeVar("T")

_NICENESS = 10


def _begun(readings: Iterator[Generator[T]]) -> tuple[Generator[T] | None, list[T]]:
    """The next reading that has any item, and its first one; no reading at the end."""
    for reading in readings:
        if items := list(islice(reading, 1)):
            return reading, items
    return None, []


class Background:
    """A few threads of low priority. Threads that their work starts have it too."""

    def __init__(self, threads: int) -> None:
        self._here = threading.local()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="k2-long", initializer=self._begin)

    def run(self, work: Callable[[], T]) -> T:
        """Do the work there and wait for it."""
        if getattr(self._here, "began", False):
            return work()
        return self._threads.submit(contextvars.copy_context().run, work).result()

    async def iterate(self, items: Iterator[T]) -> AsyncIterator[T]:
        """The items, each made there."""
        context = contextvars.copy_context()

        def advance() -> list[T]:
            return list(islice(items, 1))

        while found := await self._awaited(lambda: context.run(advance)):
            yield found[0]

    async def finish(self, *items: Iterator[Any]) -> None:
        """Close what was iterated, there: it may have to wait for what runs."""

        def close() -> None:
            for each in items:
                if isinstance(each, Generator):
                    each.close()

        try:
            closing = asyncio.get_running_loop().run_in_executor(self._threads, close)
        except RuntimeError:  # the service is ending: there are no threads any more, and nothing runs
            close()
            return
        with CancelScope(shield=True):
            await closing

    def chain(self, readings: Iterator[Generator[T]]) -> Generator[T]:
        """The items of all readings in their order. While one reading is taken the first item of the next is made there.

        Closing it closes the readings.
        """
        reading, items = _begun(readings)
        while reading is not None:
            following = self._threads.submit(contextvars.copy_context().run, _begun, readings)
            try:
                yield from items
                yield from reading
            except BaseException:
                reading.close()
                if not following.cancel():
                    with suppress(Exception):
                        begun, _ = following.result()
                        if begun is not None:
                            begun.close()
                raise
            # Where all threads are taken, by others that wait here too, nobody would ever begin it.
            reading, items = _begun(readings) if following.cancel() else following.result()

    def close(self) -> None:
        """Take no more work; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _awaited(self, work: Callable[[], T]) -> T:
        await checkpoint_if_cancelled()
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # A generator cannot be closed while it runs: one that is not wanted any more is waited for.
        with CancelScope(shield=True):
            await done
        return done.result()

    def _begin(self) -> None:
        self._here.began = True
        if sys.platform == "linux":  # elsewhere priorities are of processes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
