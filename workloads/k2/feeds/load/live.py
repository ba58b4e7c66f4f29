"""A live producer: events as they come, delivery reports checked, and whether all is well.

What Kafka does not take in time is given up, counted and told, and the source is followed on: what the market says next is
lost for certain only if nobody listens, and a process that ends takes its counters with it before anybody has read them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from k2.bus.producer import FatalProducerError
from k2.feeds.load.load import DeliveryReport, Outlet
from k2.feeds.load.unreadable import Unreadable
from k2.model.errors import WorldError
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger

UNREADY_SECONDS = 60.0  # nothing confirmed for so long: /ready says so
FLUSH_SECONDS = 30.0

_log = get_logger(__name__)


Batches = tuple[tuple[DataType, pa.RecordBatch], ...]
"""Events that came together, by data type."""


class LiveSource(Protocol):
    """A source without an end, as `k2.feeds.sources` opens it."""

    def events(self) -> Iterator[Batches]:
        """Events as they come, until the event is set that it was opened with; each piece is sent at once."""
        ...

    def unreadable(self) -> Sequence[Unreadable]:
        """What came since this was last asked, should have been an event and is none."""
        ...

    def ready(self) -> tuple[bool, str]:
        """Whether events can come, and what they come from; why they cannot. Asked from any thread."""
        ...

    def lost(self, data_type: DataType, events: pa.RecordBatch, why: str) -> None:
        """Kafka did not take these events, and never will."""
        ...


class LiveOutlet(Outlet, Protocol):
    """The way into Kafka of a live source."""

    def put_aside(self, messages: Sequence[tuple[bytes, str]]) -> None:
        """Put messages that are no events, each with its reason, into the dead-letter topic; returns when they are acknowledged.

        Raises:
            WorldError: they were not.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Sent:
    """Events and what became of them; without a delivery they wait for those before them."""

    at: float
    kind: DataType
    batch: pa.RecordBatch
    delivery: DeliveryReport | None

    @property
    def rows(self) -> int:
        """How many they are."""
        return len(self.batch) if self.delivery is None else self.delivery.rows

    @property
    def is_done(self) -> bool:
        """Whether those after it need not wait for it."""
        return self.delivery is None or self.delivery.done


class LiveProducer:
    """Sends what a live source gives. The client reconnects by itself; `ready` tells when the brokers stay silent.

    Args:
        exchange: the exchange's code, for metrics.
        source_ready: whether the source gives events, and why not.
        lost: told of what Kafka did not take.
    """

    def __init__(
        self,
        exchange: str,
        source_ready: Callable[[], tuple[bool, str]] = lambda: (True, "producing"),
        lost: Callable[[DataType, pa.RecordBatch, str], None] = lambda *_: None,
    ) -> None:
        self.sent = 0
        self._lost = lost
        self._exchange = exchange
        self._source_ready = source_ready
        self._running = False
        self._refusal = ""
        self._given_up = 0
        self._waiting: deque[_Sent] = deque()

    def ready(self) -> tuple[bool, str]:
        """Whether it produces and the brokers confirm, and the reason when not."""
        if not self._running:
            return False, "waiting for the topics"
        oldest = self._waiting[0].at if self._waiting else None
        if oldest is not None and time.monotonic() - oldest > UNREADY_SECONDS:
            return False, f"Kafka confirmed nothing for {UNREADY_SECONDS:.0f} s"
        if self._refusal:
            return False, f"Kafka did not take events: {self._refusal}"
        return self._source_ready()

    def run(
        self, events: Iterator[Batches], outlet: LiveOutlet, unreadable: Callable[[], Sequence[Unreadable]] = tuple
    ) -> None:
        """Send until the source stops; then wait for what is outstanding.

        Args:
            events: of the source.
            outlet: the way into Kafka.
            unreadable: what the source found and is no event: dead letters.

        Raises:
            WorldError: the last events were given up, or not confirmed before the end; or nothing can be sent any more.
        """
        self._running = True
        for batches in events:
            for kind, batch in sorted(batches, key=lambda each: each[0] is DataType.GAPS):
                # What is said of trades is sent when Kafka has them: who reads the one finds the others.
                delivery = None if kind is DataType.GAPS else outlet.send(kind, batch)
                self._waiting.append(_Sent(time.monotonic(), kind, batch, delivery))
                self.sent += batch.num_rows
                metrics.FEED_EVENTS.labels(self._exchange, str(kind)).inc(batch.num_rows)
            self._put_aside(unreadable(), outlet)
            outlet.poll(0)
            self._settle(outlet)
        self._flush(outlet)
        if self._waiting:
            lost = sum(each.rows for each in self._waiting)
            raise WorldError(f"Kafka did not confirm the last {lost:,} events within {FLUSH_SECONDS:.0f} s")
        if self._refusal:
            raise WorldError(f"Kafka did not take events: {self._refusal}")

    def _put_aside(self, found: Sequence[Unreadable], outlet: LiveOutlet) -> None:
        if not found:
            return
        _log.warning("messages.unreadable", exchange=self._exchange, messages=len(found), reason=found[0].reason[:200])
        try:
            outlet.put_aside([(each.raw, each.reason) for each in found])
        except FatalProducerError:
            raise
        except WorldError as error:
            _log.error("dead_letters.given_up", exchange=self._exchange, messages=len(found), error=str(error))
            self._refusal = str(error)

    def _flush(self, outlet: LiveOutlet) -> None:
        told = self._given_up
        for _ in range(2):  # what is said of the last trades is sent when those are there
            try:
                outlet.flush(FLUSH_SECONDS)
            except FatalProducerError:
                raise
            except WorldError:
                self._settle(outlet)
                # The producer reminds of all that was lost since it began: what was told long ago is no failure of this end.
                if self._waiting or self._given_up > told:
                    raise
            self._settle(outlet)
            if not self._waiting:
                return

    def _settle(self, outlet: LiveOutlet) -> None:
        later: list[_Sent] = []
        while self._waiting and self._waiting[0].is_done:
            sent = self._waiting.popleft()
            if sent.delivery is None:
                later.append(replace(sent, delivery=outlet.send(sent.kind, sent.batch)))
            elif sent.delivery.error is not None:
                self._given_up += 1
                if not self._refusal:
                    _log.error("producer.events_given_up", exchange=self._exchange, error=str(sent.delivery.error))
                self._refusal = str(sent.delivery.error)
                self._lost(sent.kind, sent.batch, self._refusal)
            elif self._refusal:
                _log.info("producer.confirmed_again", exchange=self._exchange)
                self._refusal = ""
        self._waiting.extend(later)
