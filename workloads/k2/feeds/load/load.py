"""The loader: a finite source into its topics, at most a bounded number of rows ahead of what the brokers confirmed.

1. Chunks are made in a thread; those before the ledger's position are counted and not sent.
2. A chunk is acknowledged when every delivery report of its events came back good and its dead letters are flushed.
3. The ledger's position moves over acknowledged chunks only, in order, so that whatever happens nothing is skipped.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from k2.feeds.formats.csv_blocks import Rejected
from k2.feeds.load.chunks import Chunk, FiniteSource, Position, ahead
from k2.feeds.load.ledger import Ledger
from k2.feeds.load.rejects import RejectsFile
from k2.model.errors import WorldError
from k2.model.topics import DataType

IN_FLIGHT_ROWS = 75_000
STALLED_SECONDS = 150.0  # beyond librdkafka's own delivery time-out, which reports an error first
FLUSH_SECONDS = 30.0
_SAVE_SECONDS = 1.0


class DeliveryReport(Protocol):
    """What became of a batch that was handed to the producer."""

    @property
    def rows(self) -> int:
        """Events in it."""
        ...

    @property
    def done(self) -> bool:
        """Every event has its delivery report."""
        ...

    @property
    def error(self) -> object:
        """The first bad report, or None."""
        ...

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Partition → the offset after the batch's last event there."""
        ...


class Outlet(Protocol):
    """Where a load goes: one topic per data type, and their dead-letter topics."""

    def topic(self, data_type: DataType) -> str:
        """The topic of that data type."""
        ...

    def send(self, data_type: DataType, events: pa.RecordBatch) -> DeliveryReport:
        """Hand a batch over; blocks while the producer's queue is full."""
        ...

    def reject(self, file: str, header: bytes | None, rejected: Sequence[Rejected]) -> None:
        """Put rows of a file (with that header line, if any) into the dead-letter topic and return when they are acknowledged."""
        ...

    def poll(self, seconds: float) -> None:
        """Take in delivery reports, for at most that long."""
        ...

    def flush(self, seconds: float) -> None:
        """Wait for all outstanding delivery reports, for at most that long."""
        ...


@dataclass(slots=True)
class LoadTally:
    """What a load did so far. `read` = `accepted` + `rejected`, always; `accepted` = `sent` + `already_there` at the end."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    blank: int = 0
    passed_over: int = 0
    sent: int = 0
    already_there: int = 0
    identical: int = 0
    out_of_order: int = 0
    progress: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    finished: bool = False
    reasons: list[str] = field(default_factory=list[str])

    @property
    def rows_per_second(self) -> float:
        """Rows read per second."""
        return self.read / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"rows_per_second": round(self.rows_per_second, 1)}


@dataclass(frozen=True, slots=True)
class _Pending:
    """A chunk on its way. Its events are not kept: the producer has its own copy."""

    end: Position
    rows: int
    deliveries: list[tuple[str, DeliveryReport]]


class Load:
    """One run of a load.

    Args:
        source: what is loaded.
        outlet: where it goes; None: nowhere (a dry run).
        ledger: what is already there; None for a dry run.
        rejects: where rejected rows are written.
        report: called after each chunk with the tally, for a progress bar.
        stop: set from outside to end the load after the chunk it is at.
        in_flight_rows: how many rows may wait for their delivery reports.
    """

    def __init__(
        self,
        source: FiniteSource,
        outlet: Outlet | None,
        ledger: Ledger | None,
        rejects: RejectsFile | None = None,
        *,
        report: Callable[[LoadTally], None] | None = None,
        stop: threading.Event | None = None,
        in_flight_rows: int = IN_FLIGHT_ROWS,
    ) -> None:
        self._source = source
        self._outlet = outlet
        self._ledger = ledger
        self._rejects = rejects
        self._report = report
        self._stop = stop or threading.Event()
        self._bound = in_flight_rows
        self._start = ledger.progress.position if ledger is not None else Position()
        self._pending: deque[_Pending] = deque()
        self._waiting_rows = 0
        self._saved = time.monotonic()
        self.tally = LoadTally()

    def run(self) -> LoadTally:
        """Load until the end, or until `stop` is set (`LoadTally.interrupted`).

        Raises:
            UserError: the source cannot be used (it changed while it was read, …).
            WorldError: Kafka did not take the events. In both cases the ledger says how far the load came.
        """
        began = time.monotonic()
        if self._ledger is not None and self._ledger.progress.finished:
            return self._again(self._ledger.progress.summary)
        try:
            self._send_all(began)
        except BaseException:
            # What ended the load is what is told; what was confirmed until then still counts.
            with suppress(WorldError):
                self._drain()
            self._save()
            raise
        if self.tally.interrupted:
            with suppress(WorldError):  # the next run sends what was not confirmed
                self._drain()
        self._finish(time.monotonic() - began)
        return self.tally

    def _send_all(self, began: float) -> None:
        chunks = ahead(self._source.chunks())
        try:
            for chunk in chunks:
                self._take(chunk)
                self.tally.seconds = time.monotonic() - began
                if self._report is not None:
                    self._report(self.tally)
                if self._stop.is_set():
                    self.tally.interrupted = True
                    return
            self._settle(0)
        finally:
            chunks.close()

    def _take(self, chunk: Chunk) -> None:
        self._count(chunk)
        self._write_rejects(chunk)
        if self._outlet is None:
            return
        if chunk.end <= self._start:
            self.tally.already_there += chunk.rows
            return
        if chunk.rejected:
            part = chunk.end.part
            self._outlet.reject(self._source.names[part], self._source.headers.get(part), chunk.rejected)
        self._settle(max(0, self._bound - chunk.rows))
        deliveries = [
            (self._outlet.topic(data_type), self._outlet.send(data_type, batch)) for data_type, batch in chunk.events
        ]
        self._pending.append(_Pending(chunk.end, chunk.rows, deliveries))
        self._waiting_rows += chunk.rows
        self._acknowledge()

    def _count(self, chunk: Chunk) -> None:
        tally = self.tally
        tally.accepted += chunk.rows
        tally.rejected += len(chunk.rejected)
        tally.read = tally.accepted + tally.rejected
        tally.blank += chunk.blank
        tally.passed_over += chunk.passed_over
        tally.identical, tally.out_of_order = chunk.identical, chunk.out_of_order
        tally.progress += chunk.progress
        for bad in chunk.rejected[: max(0, 5 - len(tally.reasons))]:
            tally.reasons.append(f"{self._source.names[chunk.end.part]} line {bad.line}: {bad.reason}")

    def _write_rejects(self, chunk: Chunk) -> None:
        if self._rejects is not None and chunk.rejected:
            part = chunk.end.part
            self._rejects.write(self._source.names[part], self._source.headers.get(part), chunk.rejected)

    def _settle(self, rows: int) -> None:
        """Wait until at most so many rows are unconfirmed."""
        deadline = time.monotonic() + STALLED_SECONDS
        while self._waiting_rows > rows or (rows == 0 and self._pending):
            before = self._waiting_rows
            assert self._outlet is not None
            self._outlet.poll(0.05)
            self._acknowledge()
            if self._waiting_rows < before:
                deadline = time.monotonic() + STALLED_SECONDS
            if time.monotonic() > deadline and self._pending:
                raise WorldError(
                    f"Kafka confirmed nothing for {STALLED_SECONDS:.0f} s: {self._waiting_rows:,} rows wait. "
                    "Run the same command again: it goes on from the last confirmed row"
                )

    def _acknowledge(self) -> None:
        """Move the ledger over the chunks at the front that are confirmed."""
        while self._pending and all(delivery.done for _, delivery in self._pending[0].deliveries):
            pending = self._pending[0]
            for topic, delivery in pending.deliveries:
                if delivery.error is not None:
                    raise WorldError(
                        f"{topic} did not take the events: {delivery.error}. Run the same command again when it "
                        "does: the load goes on from the last confirmed row"
                    )
            self._pending.popleft()
            self._waiting_rows -= pending.rows
            self.tally.sent += pending.rows
            assert self._ledger is not None
            progress = self._ledger.progress
            progress.position = pending.end
            progress.rows += pending.rows
            for topic, delivery in pending.deliveries:
                progress.passed(topic, delivery.next_offsets)
            if time.monotonic() - self._saved > _SAVE_SECONDS:
                self._save()

    def _drain(self) -> None:
        """Wait for what is still on its way."""
        if self._outlet is not None and self._pending:
            self._outlet.flush(FLUSH_SECONDS)
            self._acknowledge()

    def _finish(self, seconds: float) -> None:
        tally = self.tally
        tally.seconds = seconds
        tally.finished = not tally.interrupted
        if self._ledger is not None and tally.finished:
            self._ledger.progress.finished = True
            self._ledger.progress.rows = tally.accepted
            self._ledger.progress.summary = tally.as_dict()
        self._save()

    def _save(self) -> None:
        if self._ledger is not None:
            self._ledger.save()
            self._saved = time.monotonic()

    def _again(self, summary: Mapping[str, Any]) -> LoadTally:
        """The tally of a finished load that is run again."""
        known = {name: summary[name] for name in ("read", "accepted", "rejected", "blank", "identical", "out_of_order")}
        self.tally = LoadTally(
            **known,
            passed_over=summary.get("passed_over", 0),  # ledgers from before it was counted do not have it
            already_there=known["accepted"],
            finished=True,
            reasons=list(summary["reasons"]),
        )
        return self.tally
