"""A bounded map that forgets what was used longest ago: one class for everything that is remembered between questions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """Keeps values up to a capacity, beyond which those used longest ago go. Safe to share between threads.

    Args:
        capacity: how much is kept. The newest value is kept even where it alone is more.
        weigh: what a value counts for, the same each time; None: one each.
    """

    def __init__(self, capacity: int, weigh: Callable[[V], int] | None = None) -> None:
        self._capacity = capacity
        self._weigh = weigh or _one
        self._weight = 0
        self._items: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, or None."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
            return self._items.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep the value, and give it back."""
        with self._lock:
            if key in self._items:
                self._weight -= self._weigh(self._items.pop(key))
            self._items[key] = value
            self._weight += self._weigh(value)
            while self._weight > self._capacity and len(self._items) > 1:
                self._weight -= self._weigh(self._items.popitem(last=False)[1])
        return value


def _one(_: object) -> int:
    return 1
