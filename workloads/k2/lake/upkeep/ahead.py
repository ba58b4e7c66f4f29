"""Two things at once: what is read next is read while what was read is worked on. Arrow lets other threads run while it decodes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 2
"""Items that are held before they are asked for, beside the one that is worked on."""


def ahead(items: Iterable[T], most: int = MOST) -> Generator[T]:
    """The items in their order, taken from a thread of their own, at most so many before they are asked for.

    Who may stop in the middle closes it (`contextlib.closing`), which ends the thread.

    Raises:
        BaseException: what the items raise, where they raise it.
    """
    held: queue.Queue[Callable[[], Any] | None] = queue.Queue(most)
    given_up = threading.Event()

    def put(each: Callable[[], Any] | None) -> bool:
        while not given_up.is_set():
            try:
                held.put(each, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def take() -> None:
        try:
            for item in items:
                if not put(_given(item)):
                    break
            close = getattr(items, "close", None)
            if close is not None:
                close()  # of a generator: in the thread that ran it
        except BaseException as error:  # noqa: BLE001 - it comes out where the items are used
            put(_raised(error))
            return
        put(None)

    thread = threading.Thread(target=take, name="k2-ahead", daemon=True)
    thread.start()
    try:
        while (each := held.get()) is not None:
            yield each()
    finally:
        given_up.set()
        thread.join()


def _given(item: object) -> Callable[[], Any]:
    return lambda: item


def _raised(error: BaseException) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again
