"""A line keeps some symbols heard: one connection at a time, another when it ends, and two for a moment when it is exchanged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from k2.feeds.gaps.filling import LimitedError
from k2.feeds.live.pace import EvenPace, RetryWaits, Timing
from k2.feeds.live.sockets import Socket
from k2.feeds.venues.venue import Venue
from k2.model.errors import WorldError
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger

_LIFETIME_SHARE = 0.95
"""A connection is exchanged before the venue ends it: at this share of its lifetime, less up to a twentieth by chance."""

_log = get_logger(__name__)


class Line:
    """Some symbols of a feed, and the connection that carries them.

    Args:
        venue: the exchange.
        data_types: what is heard of each symbol.
        symbols: what is heard at first.
        opened: makes the next connection, not yet open.
        pace: lets the feed's connections be opened one after the other.
        timing: how long things take.
        carries: told of each connection that stands, and of each that ended.

    Attributes:
        symbols: what should be heard now.
        trouble: why there is no connection, or the last one could not be made; empty: all is well.
    """

    def __init__(
        self,
        venue: Venue,
        data_types: Sequence[DataType],
        symbols: Sequence[str],
        *,
        made: Callable[[], Socket],
        pace: EvenPace,
        timing: Timing,
        carries: Callable[[Socket, bool], None],
    ) -> None:
        self.symbols = list(symbols)
        self.data_types = tuple(data_types)
        self.trouble: WorldError | None = None
        self._venue, self._made, self._pace, self._timing, self._carries = venue, made, pace, timing, carries
        self._backoff = RetryWaits(timing.first_retry, timing.longest_retry)
        self._socket: Socket | None = None
        self._wanted = asyncio.Event()
        self._why = ""
        self._held = asyncio.Event()
        self._held.set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def socket(self) -> Socket | None:
        """The connection that carries it; None: there is none."""
        return self._socket if self._socket is not None and self._socket.is_open else None

    def exchange(self, why: str) -> None:
        """Open another connection, and let the present one go when that stands."""
        if not self._wanted.is_set():
            self._why = why
            self._wanted.set()

    def hold(self) -> None:
        """Hear nothing until `go_on`."""
        self._held.clear()
        if self._socket is not None:
            self._socket.end("full")

    def go_on(self) -> None:
        """Hear again."""
        self._held.set()

    def change(self, added: Sequence[str], removed: Sequence[str]) -> None:
        """Hear others from now on, on the open connection."""
        gone = set(removed)
        self.symbols = [symbol for symbol in self.symbols if symbol not in gone] + list(added)
        if self._socket is not None and self._socket.is_open:
            self._socket.change(added, removed, self.data_types)

    def got_data(self) -> None:
        """Events came by its connection: what failed before is over."""
        self._backoff.worked()
        self.trouble = None

    async def run(self) -> None:
        """Keep it heard until cancelled."""
        try:
            while True:
                await self._held.wait()
                if await self._connect():
                    if not self._held.is_set():
                        self.hold()
                    await self._until_the_next()
        finally:
            if self._socket is not None:
                self._let_go(self._socket, "stopped")
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _connect(self) -> bool:
        """Open the next connection, and let the one before go when it stands; on failure wait."""
        before, socket = self.socket, self._made()
        exchange = self._venue.exchange
        try:
            await self._pace.turn()
            await socket.open(self.symbols, self.data_types)
        except WorldError as error:
            wait = self._backoff.failed()
            if isinstance(error, LimitedError):
                wait = max(wait, error.seconds or 0.0)
            self.trouble = error
            metrics.FEED_CONNECTION_FAILURES.labels(exchange).inc()
            _log.warning("connection.failed", venue=self._venue.name, reason=str(error), seconds=round(wait, 2))
            await self._waited(wait, before)
            if self.socket is None and self._socket is not None:
                self._let_go(self._socket, await self._socket.ended())
                self._socket = None
            return self._socket is not None
        self.trouble = None
        self._socket = socket
        self._wanted.clear()
        self._carries(socket, True)
        _log.info("connection.opened", venue=self._venue.name, connection=socket.number, symbols=len(socket.symbols))
        if before is not None:
            await self._side_by_side(socket)
            self._let_go(before, self._why or "planned")
        return True

    async def _side_by_side(self, socket: Socket) -> None:
        waiting = [asyncio.ensure_future(each) for each in (socket.data_came.wait(), socket.ended())]
        try:
            await asyncio.wait(waiting, timeout=self._timing.overlap, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _until_the_next(self) -> None:
        """Wait until another connection is needed."""
        socket = self._socket
        assert socket is not None
        lifetime = self._venue.limits.lifetime_seconds
        until = None
        if lifetime is not None:
            share = _LIFETIME_SHARE - random.random() / 20
            until = max(0.0, socket.opened_at + lifetime * share - time.monotonic())
        waiting = [asyncio.ensure_future(each) for each in (socket.ended(), self._wanted.wait())]
        try:
            done, _ = await asyncio.wait(waiting, timeout=until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if not done:
            self._why = "planned"
        if not socket.is_open:
            reason = await socket.ended()
            self._let_go(socket, reason)
            self._socket = None
            if reason not in {"full", "stopped"}:
                # Also after an end that nobody wanted: a venue that ends each connection at once is not asked in a loop.
                await asyncio.sleep(self._backoff.failed())

    async def _waited(self, seconds: float, before: Socket | None) -> None:
        """Wait; no longer than the connection stands that is to be exchanged."""
        if before is None:
            await asyncio.sleep(seconds)
            return
        with_end = asyncio.ensure_future(before.ended())
        try:
            await asyncio.wait([with_end], timeout=seconds)
        finally:
            with_end.cancel()
        self.exchange(self._why)

    def _let_go(self, socket: Socket, reason: str) -> None:
        socket.end(reason)
        self._carries(socket, False)
        metrics.FEED_DISCONNECTIONS.labels(self._venue.exchange, reason).inc()
        _log.info("connection.ended", venue=self._venue.name, connection=socket.number, reason=reason)
        task = asyncio.create_task(socket.closed())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
