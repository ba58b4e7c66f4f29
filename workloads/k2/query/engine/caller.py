"""Who waits for an answer. When they go away, what runs for them is stopped."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from k2.query.rows.errors import AbandonedError


class Stoppable(Protocol):
    """Something under way that can be stopped from another thread, more than once."""

    def abandon(self) -> None:
        """Stop it: nobody waits for it."""
        ...


class Caller:
    """One who waits for answers. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: set[Stoppable] = set()
        self._gone = False

    def leave(self) -> None:
        """They went away. Called again until everything has ended: DuckDB forgets an interrupt that came a moment early."""
        with self._lock:
            self._gone = True
            working = tuple(self._working)
        for work in working:
            work.abandon()

    @contextmanager
    def awaits(self, work: Stoppable) -> Generator[None, None, None]:
        """While the work is done for them. Raises `AbandonedError` where they are gone already."""
        with self._lock:
            if self._gone:
                raise AbandonedError("The client went away before its query began")
            self._working.add(work)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(work)


CALLER: ContextVar[Caller | None] = ContextVar("k2_caller", default=None)
"""Who waits for what this task, and the threads that work for it, does."""
