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
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

T = TypeVar("T")

_NICENESS = 10


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

    async def iterate(self, items: Iterator[T]) -> AsyncGenerator[T]:
        """The items, each made there, and the next one while the one before is taken. To be closed by who does not want the rest."""
        context = contextvars.copy_context()

        def advance() -> list[T]:
            return context.run(lambda: list(islice(items, 1)))

        ahead = self._submitted(advance)
        try:
            while found := await self._awaited(ahead):
                ahead = self._submitted(advance)
                yield found[0]
        finally:
            # A generator cannot be closed while it runs: one that is not wanted any more is waited for.
            with CancelScope(shield=True):
                await asyncio.wait((ahead,))
            if not ahead.cancelled():
                ahead.exception()

    def close(self) -> None:
        """Take no more work; what runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submitted(self, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _awaited(self, done: asyncio.Future[T]) -> T:
        await checkpoint_if_cancelled()
        with CancelScope(shield=True):
            await asyncio.wait((done,))
        return done.result()

    def _begin(self) -> None:
        self._here.began = True
        if sys.platform == "linux":  # elsewhere priorities are of processes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
