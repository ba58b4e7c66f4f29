"""The account of a feed that runs: begun from Kafka, told what is heard, filled, and written. All of it in the loop that hears.

Without a stream for it the account is kept in memory alone: what is missed while it runs is filled, and a restart knows of nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

import pyarrow as pa

from k2.feeds.gaps.account import Account, Way
from k2.feeds.gaps.budget import WeightBudget
from k2.feeds.gaps.figures import begin_figures, show_figures
from k2.feeds.gaps.filling import Filling, Get
from k2.feeds.gaps.schedule import FillSchedule
from k2.feeds.gaps.topic import begun_account, leave_note
from k2.feeds.venues.venue import Heard, Numbering, Venue
from k2.model.errors import UserError, WorldError
from k2.model.gap_events import gap_batch
from k2.model.gap_note import GapNote
from k2.model.gaps import GapCounts
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.obs.logging import get_logger

Events = Sequence[tuple[DataType, pa.RecordBatch]]

TELL_SECONDS = 0.25
NOTE_SECONDS = 15.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.5, 15.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AccountPlace:
    """Where an account is kept.

    Attributes:
        settings: addresses and credentials; None: nowhere, nothing is read and nothing is told.
        topics: the feed's, by data type.
        asset_class: of the feed.
    """

    settings: Settings | None = None
    topics: Mapping[DataType, str] = field(default_factory=lambda: MappingProxyType({}))
    asset_class: str = ""


NOWHERE = AccountPlace()


class KeptAccount:
    """A feed's account while it runs. In one loop; `lost` from any thread.

    Args:
        venue: the exchange.
        place: where it is kept.
        get: sends a request to the exchange.
        hand_over: takes events that are to be sent to the topics, in their order.
        budget: of the exchange, shared with all who ask of it.
        has_room: whether what is fetched can be sent; while it cannot, nothing is asked for.

    Attributes:
        volumes: how much each symbol trades; whoever knows the listing keeps it.
    """

    def __init__(
        self,
        venue: Venue,
        place: AccountPlace,
        *,
        get: Get,
        hand_over: Callable[[Events], None],
        budget: WeightBudget,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.volumes: dict[str, Decimal] = {}
        self._venue, self._asset_class, self._topics = venue, place.asset_class, place.topics
        self._settings = place.settings if {DataType.TRADES, DataType.GAPS} <= place.topics.keys() else None
        self._has_room, self._begun = has_room, asyncio.Event()
        self._get, self._hand_over = get, hand_over
        self._schedule = FillSchedule(venue, budget)
        self._account = Account(venue.numbering)
        self._counted = GapCounts()
        self._loop: asyncio.AbstractEventLoop | None = None
        begin_figures(venue.exchange)

    async def begin(self, symbols: Collection[str]) -> None:
        """Learn what was known before, however long Kafka takes to tell it. Once, before anything is heard."""
        self._loop = asyncio.get_running_loop()
        settings = self._settings
        if settings is None:
            self._begun.set()
            return
        pause = _FIRST_RETRY_SECONDS
        while True:
            try:
                self._account = await asyncio.to_thread(
                    begun_account, settings, self._topics, self._venue.numbering, symbols
                )
            except (UserError, WorldError) as error:
                _log.warning("account.awaited", topic=self._topics[DataType.GAPS], reason=str(error), seconds=pause)
                await asyncio.sleep(pause * (0.5 + random.random() / 2))
                pause = min(_LONGEST_RETRY_SECONDS, pause * 2)
            else:
                self._counted = self._account.counts
                self._begun.set()
                return

    def heard(self, data_type: DataType, events: pa.RecordBatch) -> None:
        """Events came by a connection."""
        self._account.seen(data_type, events, Way.STREAM, _now())

    def refused(self, symbol: str, number: int, why: str) -> None:
        """A trade came and became a dead letter."""
        self._account.refused(symbol, number, _now(), why)

    def connected(self, connection: int, symbols: Collection[str]) -> None:
        """A connection carries these symbols' trades from now on."""
        self._account.connected(connection, symbols, _now())

    def disconnected(self, connection: int, symbols: Collection[str]) -> None:
        """A connection that carried them is gone."""
        self._account.disconnected(connection, symbols, _now())

    def forget(self, symbols: Collection[str]) -> None:
        """These are not heard any more, because nobody wants them."""
        self._account.forget(symbols)

    def lost(self, data_type: DataType, batch: pa.RecordBatch, why: str) -> None:
        """Kafka did not take these events. From any thread."""
        loop = self._loop
        if data_type is DataType.TRADES and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(lambda: self._account.lost(batch, _now(), f"Kafka did not take them: {why}"))

    async def run(self) -> None:
        """Fill and tell from when it has begun, until cancelled."""
        await self._begun.wait()
        filling = Filling(
            self._venue,
            self._account,
            self._schedule,
            self._get,
            self._deliver,
            volumes=lambda: self.volumes,
            has_room=self._has_room,
        )
        tasks = [asyncio.create_task(each) for each in (filling.run(), self._tell_on(), self._note_on())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """The feed ends, and nothing is heard any more: tell all that is known."""
        self._account.close(_now())
        self._tell()

    @property
    def counts(self) -> GapCounts:
        """What the account comes to now."""
        return self._account.counts

    @property
    def note(self) -> GapNote:
        """The same as it is left for the operator."""
        oldest = min(self._account.holes(), key=lambda each: each.before, default=None)
        return GapNote(
            self._account.counts,
            _now(),
            self._venue.numbering is Numbering.CONSECUTIVE,
            len(self._account.deaf),
            "" if oldest is None else oldest.symbol,
        )

    def _deliver(self, heard: Heard) -> None:
        self._hand_over(list(heard.events.items()))

    async def _tell_on(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            self._account.advance(_now())
            self._tell()

    def _tell(self) -> None:
        events = self._account.events()
        exchange = self._venue.exchange
        if events and self._settings is not None:
            self._hand_over([(DataType.GAPS, gap_batch(events, exchange, self._asset_class))])
        # What the account comes to changes only with an event: four times a second nothing is counted anew.
        counts = self._account.counts if events else self._counted
        self._counted = show_figures(exchange, counts, self._counted, _now())

    async def _note_on(self) -> None:
        settings = self._settings
        while settings is not None:
            try:
                await asyncio.to_thread(leave_note, settings, self._topics[DataType.GAPS], self.note)
            except WorldError as error:
                _log.info("account.note_not_left", topic=self._topics[DataType.GAPS], reason=str(error))
            await asyncio.sleep(NOTE_SECONDS)


def _now() -> int:
    return time.time_ns() // 1000
