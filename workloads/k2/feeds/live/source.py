"""An exchange's market as the source of a feed: it is heard in a thread with a loop of its own, and given out as it comes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from k2.feeds.gaps.kept import NOWHERE, AccountPlace
from k2.feeds.live.handover import Handover, together
from k2.feeds.live.market import LiveMarket
from k2.feeds.live.pace import AS_USUAL, Timing
from k2.feeds.live.web import Address
from k2.feeds.load.live import Batches
from k2.feeds.load.opening import Opening
from k2.feeds.venues.columns import EventColumns
from k2.feeds.venues.registry import VENUES
from k2.feeds.venues.venue import Unreadable
from k2.model.sources import VenueSource
from k2.model.topics import DataType

MOST_AT_ONCE = 20_000
"""Events that are given out together."""
_WAKE_SECONDS = 0.1
_END_SECONDS = 10.0


class HeardMarket:
    """A market without end, until `stop` is set (a `LiveSource`).

    Args:
        source: which exchange, and what of it.
        columns: what makes events of the feed.
        data_types: what is heard of each symbol.
        stop: ends it.
        folder: that a relative `ca_file` begins at.
        timing: how long things take.
        place: where the account of gaps is kept.
    """

    def __init__(
        self,
        source: VenueSource,
        columns: EventColumns,
        data_types: Sequence[DataType],
        stop: threading.Event,
        *,
        folder: Path | None = None,
        timing: Timing = AS_USUAL,
        place: AccountPlace = NOWHERE,
    ) -> None:
        self.handover = Handover()
        self._source, self._columns, self._data_types = source, columns, data_types
        self._stop, self._folder, self._timing, self._place = stop, folder, timing, place
        self._market: LiveMarket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._unreadable: deque[Unreadable] = deque()

    def events(self) -> Iterator[Batches]:
        """See `LiveSource`.

        Raises:
            UserError: symbols or settings cannot be used.
            WorldError: the exchange refuses the place that we ask from.
        """
        thread = threading.Thread(target=self._hear, name="k2-market", daemon=True)
        thread.start()
        try:
            while (taken := self.handover.take(_WAKE_SECONDS, MOST_AT_ONCE)) is not None:
                self._unreadable.extend(taken.unreadable)
                yield together(taken.events)
                if self._stop.is_set():
                    self._end()
        finally:
            self._end()
            thread.join(_END_SECONDS)
        if self._error is not None:
            raise self._error

    def unreadable(self) -> Sequence[Unreadable]:
        """See `LiveSource`."""
        found = list(self._unreadable)
        self._unreadable.clear()
        return found

    def lost(self, data_type: DataType, events: pa.RecordBatch, why: str) -> None:
        """See `LiveSource`: what is lost is missing, and asked for."""
        if self._market is not None:
            self._market.account.lost(data_type, events, why)

    def ready(self) -> tuple[bool, str]:
        """See `LiveSource`."""
        market = self._market
        return (False, f"waiting for {self._source.venue}") if market is None else market.ready()

    @property
    def market(self) -> LiveMarket | None:
        """What hears; None before it began. It lives in another thread: look at it when `events` has ended."""
        return self._market

    def _end(self) -> None:
        loop, market = self._loop, self._market
        if loop is not None and market is not None and not loop.is_closed():
            loop.call_soon_threadsafe(market.stop)

    def _hear(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that gives events out
            self._error = error
        finally:
            self.handover.close()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        venue = VENUES[self._source.venue](self._columns)
        self._market = LiveMarket(
            venue,
            self._columns,
            address_of(self._source, venue.stream_url, venue.rest_url, self._folder),
            self._source.symbols,
            self._data_types,
            self.handover,
            self._timing,
            self._place,
        )
        if self._stop.is_set():
            return
        await self._market.run()


def address_of(source: VenueSource, stream_url: str, rest_url: str, folder: Path | None) -> Address:
    """Where an exchange is, by the source's settings and the venue's own addresses."""
    ca_file = None if source.ca_file is None else (folder or Path()) / source.ca_file
    return Address(source.venue, source.urls.stream or stream_url, source.urls.rest or rest_url, ca_file, source.proxy)


def opened(opening: Opening) -> HeardMarket:
    """The market of a feed."""
    config = opening.config
    source = config.source
    assert isinstance(source, VenueSource)
    columns = EventColumns(config.exchange, str(config.asset_class), config.currency, config.decimals)
    types = [stream.data_type for stream in config.streams]
    topics = {stream.data_type: stream.topic for stream in config.streams}
    return HeardMarket(
        source,
        columns,
        types,
        opening.stop,
        folder=opening.settings.source_dir,
        place=AccountPlace(opening.settings, topics, str(config.asset_class)),
    )
