"""The synthetic market as a source: finite for the loader, and without end, in real time, for the producer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from k2.feeds.load.chunks import Chunk, Position
from k2.feeds.load.csv_source import Clock, now_micros
from k2.feeds.load.live import Batches
from k2.feeds.load.opening import Opening
from k2.feeds.load.unreadable import Unreadable
from k2.feeds.venues.synthetic.events import EventMaker, rebatched
from k2.feeds.venues.synthetic.market import SyntheticMarket
from k2.model.errors import UserError
from k2.model.exchanges import Exchange
from k2.model.exchanges import exchange as exchange_of
from k2.model.sources import SyntheticSource
from k2.model.times import DAY_SECONDS, SECOND_US, midnight, to_datetime
from k2.model.topics import DataType

CHUNK_EVENTS = 49_152
_PACED_PARTS = 5  # chunks a second of a paced market
_STEP_US = 200_000  # of a market without end

Sleep = Callable[[float], None]


class SyntheticFeed:
    """A synthetic market of some dates (a `FiniteSource`).

    Args:
        source: the market's settings; with `events_per_second` its chunks come at that pace.
        exchange: whose session it keeps.
        asset_class: of all events.
        currency: of all prices.
        data_types: which of trades and quotes are wanted.
        clock: microseconds since 1970 now, for `ingestion_timestamp`; None: events carry their own time.
        sleep: waits for so many seconds (or less, when the load is to stop).
        chunk_events: events that are made at a time; changes no event.
    """

    unit = "events"

    def __init__(
        self,
        source: SyntheticSource,
        exchange: Exchange,
        *,
        asset_class: str,
        currency: str,
        data_types: Sequence[DataType],
        clock: Clock | None = now_micros,
        sleep: Sleep = time.sleep,
        chunk_events: int = CHUNK_EVENTS,
    ) -> None:
        if source.days == 0:
            raise UserError("A market without end cannot be loaded", found="days: 0", expected="days of 1 or more")
        self._source = source
        self._market = SyntheticMarket(source, exchange)
        self._maker = lambda: EventMaker(source.symbols, exchange.code, asset_class, currency, data_types)
        self._clock = clock
        self._sleep = sleep
        rate = source.events_per_second
        self._rows = chunk_events if not rate else max(1, min(chunk_events, int(rate / _PACED_PARTS)))
        settings = source.model_dump_json(exclude={"events_per_second"})
        self.names = [f"synthetic market, seed {source.seed}"]
        self.parts = [hashlib.sha256(settings.encode()).hexdigest()]
        self.size = self._market.events
        self.headers: dict[int, bytes] = {}
        self.options = {
            "format": "synthetic",
            "version": "1",
            "data_types": ",".join(sorted(data_types)),
            "exchange": exchange.code,
            "asset_class": asset_class,
            "currency": currency,
        }

    def chunks(self) -> Iterator[Chunk]:
        """All events in time order. The position counts events."""
        maker = self._maker()
        rate, began, made = self._source.events_per_second, time.monotonic(), 0
        for part in rebatched(self._market.slices(), self._rows):
            if rate:
                self._sleep(max(0.0, began + made / rate - time.monotonic()))
            made += len(part)
            events = maker.batches(part, self._clock() if self._clock is not None else None)
            yield Chunk(Position(0, made), events, len(part))


@dataclass(frozen=True, slots=True)
class SyntheticLive:
    """A market without end, in real time, until `stop` is set (a `LiveSource`): batches about every 0.2 s.

    It is open round the clock. Its rate is `events_per_second`, or that of `trades_per_day` spread over a day. Prices
    begin anew at each start; ids hold the time, so they never repeat.
    """

    source: SyntheticSource
    exchange: Exchange
    asset_class: str
    currency: str
    data_types: Sequence[DataType]
    stop: threading.Event
    clock: Clock = now_micros

    def ready(self) -> tuple[bool, str]:
        """See `LiveSource`."""
        return True, "producing"

    def lost(self, data_type: DataType, events: pa.RecordBatch, why: str) -> None:
        """See `LiveSource`: what is made up is made up no second time."""

    def unreadable(self) -> Sequence[Unreadable]:
        """See `LiveSource`: nothing that is made up is."""
        return ()

    def events(self) -> Iterator[Batches]:
        """See `LiveSource`."""
        market = SyntheticMarket(self.source.model_copy(update={"days": 1}), self.exchange)
        maker = EventMaker(self.source.symbols, self.exchange.code, self.asset_class, self.currency, self.data_types)
        rate = self.source.events_per_second or market.events_per_day / DAY_SECONDS
        share = 1 / (1 + self.source.quotes_per_trade)
        # The next whole second: what ran before with the same settings has sent nothing of it.
        at = (self.clock() // SECOND_US + 1) * SECOND_US
        owed = 0.0
        while not self.stop.wait(max(0.0, (at + _STEP_US - self.clock()) / SECOND_US)):
            day = to_datetime(at).date()
            rng = np.random.Generator(np.random.PCG64([self.source.seed, at]))
            end = min(at + _STEP_US, midnight(day + timedelta(days=1)))
            owed += rate * (end - at) / SECOND_US
            times = np.sort(rng.integers(at, end, int(owed)))
            owed -= len(times)
            yield maker.batches(market.live(day, times, share, rng), self.clock())
            at = end
            behind = self.clock() - at
            if behind > 10 * SECOND_US:  # suspended, or slower than its rate: real time goes on without what was missed
                at = (self.clock() // SECOND_US) * SECOND_US


def opened(opening: Opening) -> SyntheticFeed:
    """The market of some dates."""
    source, market = _told(opening)
    stop = opening.stop

    def sleep(seconds: float) -> None:
        stop.wait(seconds)

    config = opening.config
    types = [stream.data_type for stream in config.streams]
    return SyntheticFeed(
        source, market, asset_class=str(config.asset_class), currency=config.currency, data_types=types, sleep=sleep
    )


def opened_live(opening: Opening) -> SyntheticLive:
    """The market without end."""
    source, market = _told(opening)
    config = opening.config
    types = [stream.data_type for stream in config.streams]
    return SyntheticLive(source, market, str(config.asset_class), config.currency, types, opening.stop)


def _told(opening: Opening) -> tuple[SyntheticSource, Exchange]:
    source = opening.config.source
    assert isinstance(source, SyntheticSource)
    return source, exchange_of(opening.config.exchange)
