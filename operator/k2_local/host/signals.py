"""SIGINT, SIGTERM and SIGHUP as a wish to stop that is never lost, and never waited for with a lock.

A handler runs between any two instructions of the main thread. `threading.Event.set` there waits for ever when it has come
between two instructions of `Event.wait`, which holds the event's lock; so a pipe tells instead. An exception that is raised
there ends whatever is under way, a download too, but a finalizer swallows it, and it would lose a process that has just been
started; so the wish is also remembered, and `held` puts the exception off.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Generator
from types import FrameType
from typing import Any, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """Takes the signals between `with` and its end; enter it in the main thread.

    A second Ctrl-C ends the process at once, as a person expects. A second SIGTERM or SIGHUP changes nothing: the stop that is
    under way has its own time limits.
    """

    def __init__(self) -> None:
        self._asked = False
        self._raising = False
        self._before: dict[signal.Signals, Any] = {}
        self._reader = self._writer = -1

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        # `nohup` ignores SIGHUP for what it starts, and wants that kept.
        taken = [each for each in NUMBERS if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in taken}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, at most that long; whether one has come, now or before."""
        if not self._asked:
            select.select([self._reader], [], [], seconds)
        return self._asked

    @contextlib.contextmanager
    def interrupting(self) -> Generator[None]:
        """In here the first signal is a KeyboardInterrupt, wherever the main thread is; at the end at the latest."""
        _held.raises.append(self._raise)
        self._raising = True
        try:
            self._raise()
            yield
            self._raise()
        finally:
            self._raising = False
            _held.raises.remove(self._raise)

    def _raise(self) -> None:
        if self._asked and self._raising and not _held.depth:
            self._raising = False
            raise KeyboardInterrupt

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"!")
        self._raise()


class _Held:
    """Signals belong to the process, and so does this: how deep in `held` the main thread is, and who raises afterwards."""

    def __init__(self) -> None:
        self.depth = 0
        self.raises: list[Any] = []


_held = _Held()


@contextlib.contextmanager
def held() -> Generator[None]:
    """In here nothing is raised; what was put off is raised at the end. For short steps that must not be cut in two."""
    _held.depth += 1
    try:
        yield
    finally:
        _held.depth -= 1
    for each in tuple(_held.raises):
        each()
