"""Fetches what a feed has not got, and the newest trades after a silence: the account says what, the schedule when, `get` how.

It runs in the loop that also reads the stream, and never waits in it but for answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal

from k2.feeds.gaps.account import Account, Way
from k2.feeds.gaps.schedule import Ask, FillSchedule
from k2.feeds.venues.venue import Heard, Request, Venue
from k2.model.errors import WorldError
from k2.model.topics import DataType
from k2.obs.logging import get_logger

WAKE_SECONDS = 0.5
"""How often the account is looked at for new holes."""

UNTOLD_SECONDS = 60.0
"""How long nothing is asked where the exchange refused and did not say for how long."""

_log = get_logger(__name__)

Get = Callable[[Request], Awaitable[bytes]]
"""Sends a request and gives the answer's body.

Raises `LimitedError` for 429 and 418, and another `WorldError` for all else that is no answer.
"""


class LimitedError(WorldError):
    """The exchange wants no more requests for a time (429, 418). `seconds` is its Retry-After; None: it did not say."""

    def __init__(self, text: str, seconds: float | None = None) -> None:
        self.seconds = seconds
        super().__init__(text)


class Filling:
    """Fills the holes of an account.

    Args:
        venue: what makes the requests and reads the answers.
        account: says what is missing, and is told what came.
        schedule: decides what is next.
        get: sends a request.
        deliver: takes the trades that were missing, to be sent to the topic.
        volumes: how much each symbol trades, as it is known now.
        has_room: whether what is fetched can be sent; while it cannot, nothing is asked for.
        steady: seconds of a steady clock.
        wall: microseconds since 1970.
    """

    def __init__(
        self,
        venue: Venue,
        account: Account,
        schedule: FillSchedule,
        get: Get,
        deliver: Callable[[Heard], None],
        *,
        volumes: Callable[[], Mapping[str, Decimal]] = dict,
        has_room: Callable[[], bool] = lambda: True,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._venue, self._account, self._schedule = venue, account, schedule
        self._get, self._deliver, self._volumes, self._has_room = get, deliver, volumes, has_room
        self._steady, self._wall = steady, wall
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Fill until cancelled."""
        try:
            while True:
                wait = self.start_due()
                wait = min(wait, WAKE_SECONDS)
                if self._running:
                    await asyncio.wait(self._running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(wait)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def start_due(self) -> float:
        """Send what is due now; seconds until there may be more."""
        self._account.advance(self._wall())
        if not self._has_room():
            return WAKE_SECONDS
        asks, hopeless, wait = self._schedule.due(
            self._steady(), self._account.holes(), self._account.unheard(), self._volumes()
        )
        for hole in hopeless:
            self._account.unfillable(hole, self._wall(), f"{self._venue.name} cannot be asked for them")
        for ask in asks:
            task = asyncio.ensure_future(self._ask(ask))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return wait

    async def _ask(self, ask: Ask) -> None:
        try:
            body = await self._get(ask.request)
            following = self._take(ask, body)
        except LimitedError as error:
            seconds = UNTOLD_SECONDS if error.seconds is None else error.seconds
            _log.warning("filling.stopped", venue=self._venue.name, reason=str(error), seconds=seconds)
            self._schedule.limited(ask, self._steady(), seconds)
        except WorldError as error:
            _log.warning("filling.failed", venue=self._venue.name, symbol=ask.symbol, reason=str(error))
            self._schedule.failed(ask, self._steady())
        except Exception:  # noqa: BLE001 - told with its place
            # An answer that a parser is not made for must not leave its symbol unasked for ever.
            _log.exception("filling.failed", venue=self._venue.name, symbol=ask.symbol)
            self._schedule.failed(ask, self._steady())
        else:
            hole = ask.hole
            missing = [] if hole is None else self._account.holes_within(hole)
            for gone in self._schedule.answered(ask, self._steady(), following, missing):
                self._account.unfillable(gone, self._wall(), f"{self._venue.name} has no such trades")

    def _take(self, ask: Ask, body: bytes) -> Request | None:
        """What an answer holds goes into the account and to the topic; the request of its next page."""
        now = self._wall()
        if ask.hole is None:
            heard, following = self._venue.parse_latest(body, now, ask.symbol), None
            self._account.heard_newest(ask.symbol)
            way = Way.SNAPSHOT
        else:
            filled = self._venue.parse_fill(ask.request, body, now, ask.hole)
            heard, following, way = filled.heard, filled.next, Way.FILL
        heard = self._account.only_new(heard)
        trades = heard.events.get(DataType.TRADES)
        if trades is not None:
            self._account.seen(DataType.TRADES, trades, way, now)
            if len(trades):
                self._deliver(heard)
        return following
