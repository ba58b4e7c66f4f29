"""A stop that signals ask for, as an event that any thread can wait for.

`Event.set` in a signal handler waits for ever when the handler has come between two instructions of `Event.wait` in the main
thread, which holds the event's lock. So the handler only puts the signal into a queue that allows for that, and a thread
sets the event.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(
    told: Callable[[signal.Signals], None] = lambda _: None, *, second_ends: bool = False
) -> Generator[threading.Event]:
    """An event that SIGINT and SIGTERM set, instead of ending the process. Outside of the main thread nothing sets it.

    Args:
        told: called with the signal, in another thread, before the event is set.
        second_ends: a second signal ends the process, by `SystemExit`.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python gives signals to the main thread only
        return
    came: queue.SimpleQueue[signal.Signals | None] = queue.SimpleQueue()
    asked = False

    def handle(number: int, _: object) -> None:
        nonlocal asked
        if asked and second_ends:
            raise SystemExit(128 + number)
        asked = True
        came.put(signal.Signals(number))

    def watch() -> None:
        number = came.get()
        if number is not None:
            told(number)
            stop.set()

    before = {number: signal.signal(number, handle) for number in NUMBERS}
    threading.Thread(target=watch, name="k2-signals", daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        came.put(None)
