"""What every finite source gives the loader: chunks of events in order, each with the position behind it.

A position is acknowledged when all events before it are in the topic: a load that was interrupted goes on from there.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from k2.feeds.formats.csv_blocks import Rejected
from k2.model.topics import DataType


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a source: which part (a file's index in the load), and the offset in it (bytes, or events)."""

    part: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a source.

    Args:
        end: the position behind it.
        events: batches of the model's schema by data type, in the order to send them.
        progress: size of the stretch in the source's own measure (bytes, or events), for the progress bar.
        rejected: rows that are no event, in order.
        blank: blank lines.
        passed_over: rows that are no events of this kind.
        identical: rows so far (from the load's start) that repeat an earlier row; they are events like any other.
        out_of_order: rows so far that are earlier than one of their symbol before them.
    """

    end: Position
    events: tuple[tuple[DataType, pa.RecordBatch], ...]
    progress: int
    rejected: list[Rejected] = field(default_factory=list[Rejected])
    blank: int = 0
    passed_over: int = 0
    identical: int = 0
    out_of_order: int = 0

    @property
    def rows(self) -> int:
        """Events in it."""
        return sum(batch.num_rows for _, batch in self.events)


class FiniteSource(Protocol):
    """A source with an end."""

    names: list[str]
    """What each part is called (file names), for messages."""
    parts: list[str]
    """A hash of each part's content: the same parts are the same load, whatever they are called."""
    options: dict[str, str]
    """All that decides which events the parts give (format, version, symbol, …)."""
    size: int
    """Sum of `Chunk.progress`."""
    unit: str
    """The measure of `size`: `bytes` or `events`."""
    headers: dict[int, bytes]
    """Header line of the parts that have one: a rejects file repeats it, so that it can be loaded again."""

    def chunks(self) -> Iterator[Chunk]:
        """All chunks from the start, the same ones each time (but for the time of taking in)."""
        ...


def ahead(chunks: Iterator[Chunk], depth: int = 1) -> Generator[Chunk]:
    """The same chunks, made in a thread while earlier ones are being sent; at most `depth` wait.

    Closing the generator stops the thread after the chunk it is at.
    """
    ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Chunk | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the chunks are taken
            put(error)

    thread = threading.Thread(target=work, name="k2-parse", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
