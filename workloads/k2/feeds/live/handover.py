"""From the thread that hears to the one that sends: events and dead letters, so many at most. The one that hears never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from k2.feeds.venues.venue import Unreadable
from k2.model.topics import DataType

MOST_ROWS = 200_000
"""Events that wait for Kafka: some 60 MiB, and a second or two of the busiest markets."""


@dataclass(slots=True)
class Taken:
    """What came since the last look, in its order."""

    events: list[tuple[DataType, pa.RecordBatch]] = field(default_factory=list[tuple[DataType, pa.RecordBatch]])
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])


class Handover:
    """A queue between two threads.

    Args:
        most: events that it holds before it is full.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self.most = most
        self._changed = threading.Condition()
        self._events: deque[tuple[DataType, pa.RecordBatch]] = deque()
        self._unreadable: deque[Unreadable] = deque()
        self._rows = 0
        self._closed = False

    @property
    def rows(self) -> int:
        """Events and dead letters that wait."""
        return self._rows

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be heard until some of it is sent. What is put in all the same is kept."""
        return self._rows >= self.most

    def put(self, events: Sequence[tuple[DataType, pa.RecordBatch]], unreadable: Sequence[Unreadable] = ()) -> None:
        """Hand over; never waits."""
        with self._changed:
            self._events.extend(events)
            self._unreadable.extend(unreadable)
            self._rows += sum(batch.num_rows for _, batch in events) + len(unreadable)
            self._changed.notify()

    def close(self) -> None:
        """Nothing more will be put in."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, seconds: float, most: int) -> Taken | None:
        """What waits, about `most` events of it: at once, or what comes first within so long. None: there will be nothing more."""
        with self._changed:
            if not self._rows and not self._closed:
                self._changed.wait(seconds)
            if not self._rows and self._closed:
                return None
            taken, rows = Taken(), 0
            while self._events and rows < most:
                taken.events.append(self._events.popleft())
                rows += taken.events[-1][1].num_rows
            while self._unreadable and rows < most:
                taken.unreadable.append(self._unreadable.popleft())
                rows += 1
            self._rows -= rows
            return taken


def together(events: Sequence[tuple[DataType, pa.RecordBatch]]) -> tuple[tuple[DataType, pa.RecordBatch], ...]:
    """Events with one batch for each data type, each in its order."""
    by_type: dict[DataType, list[pa.RecordBatch]] = {}
    for data_type, batch in events:
        by_type.setdefault(data_type, []).append(batch)
    return tuple(
        (kind, batches[0] if len(batches) == 1 else pa.concat_batches(batches)) for kind, batches in by_type.items()
    )
