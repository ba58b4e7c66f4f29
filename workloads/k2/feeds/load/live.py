"""A live producer: events as they come, delivery reports checked, and whether all is well."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from k2.feeds.load.load import DeliveryReport, Outlet
from k2.model.errors import WorldError
from k2.model.topics import DataType
from k2.obs import metrics

UNREADY_SECONDS = 60.0  # nothing confirmed for so long: /ready says so
FLUSH_SECONDS = 30.0


Batches = tuple[tuple[DataType, pa.RecordBatch], ...]
"""Events that came together, by data type."""


class LiveSource(Protocol):
    """A source without an end, as `k2.feeds.sources` opens it."""

    def events(self) -> Iterator[Batches]:
        """Events as they come, until the event is set that it was opened with; each piece is sent at once."""
        ...


class LiveProducer:
    """Sends what a live source gives. The client reconnects by itself; `ready` tells when the brokers stay silent.

    Args:
        exchange: the exchange's code, for metrics.
    """

    def __init__(self, exchange: str) -> None:
        self.sent = 0
        self._exchange = exchange
        self._running = False
        self._waiting: deque[tuple[float, DeliveryReport]] = deque()

    def ready(self) -> tuple[bool, str]:
        """Whether it produces and the brokers confirm, and the reason when not."""
        if not self._running:
            return False, "waiting for the topics"
        oldest = self._waiting[0][0] if self._waiting else None
        if oldest is not None and time.monotonic() - oldest > UNREADY_SECONDS:
            return False, f"Kafka confirmed nothing for {UNREADY_SECONDS:.0f} s"
        return True, "producing"

    def run(self, events: Iterator[Batches], outlet: Outlet) -> None:
        """Send until the source stops; then wait for what is outstanding.

        Raises:
            WorldError: events were given up by the client, or not confirmed before the end.
        """
        self._running = True
        for batches in events:
            for kind, batch in batches:
                self._waiting.append((time.monotonic(), outlet.send(kind, batch)))
                self.sent += batch.num_rows
                metrics.FEED_EVENTS.labels(self._exchange, str(kind)).inc(batch.num_rows)
            outlet.poll(0)
            self._settle()
        outlet.flush(FLUSH_SECONDS)
        self._settle()
        if self._waiting:
            lost = sum(delivery.rows for _, delivery in self._waiting)
            raise WorldError(f"Kafka did not confirm the last {lost:,} events within {FLUSH_SECONDS:.0f} s")

    def _settle(self) -> None:
        while self._waiting and self._waiting[0][1].done:
            _, delivery = self._waiting.popleft()
            if delivery.error is not None:
                raise WorldError(f"Kafka did not take events: {delivery.error}")
