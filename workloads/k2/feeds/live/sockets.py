"""One connection to an exchange, from its opening to its end: what is sent in its turn, what is heard, and what is silence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp

from k2.feeds.gaps.budget import SHARE
from k2.feeds.live.pace import EvenPace, Timing
from k2.feeds.live.web import Stream, Web
from k2.feeds.venues.venue import Frame, Venue
from k2.model.errors import WorldError
from k2.model.topics import DataType

Hears = Callable[[Frame], None]
"""Takes a message, at once."""


class Socket:
    """A connection that carries some symbols.

    Args:
        number: which of the feed's connections.
        venue: what is sent.
        web: the way there.
        hears: takes each message.
        timing: when it is silent.

    Attributes:
        symbols: what it carries now.
        heard_at: when it last said anything, of a steady clock.
        data_came: set once events came.
        opened_at: when it was opened, of a steady clock; 0: not yet.
    """

    def __init__(
        self,
        number: int,
        venue: Venue,
        web: Web,
        hears: Hears,
        timing: Timing,
    ) -> None:
        self.number = number
        self.symbols: list[str] = []
        self.heard_at = self.opened_at = 0.0
        self.data_came = asyncio.Event()
        self._venue, self._web, self._hears, self._timing = venue, web, hears, timing
        self._stream: Stream | None = None
        self._to_send: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    async def open(self, symbols: Sequence[str], data_types: Sequence[DataType]) -> None:
        """Connect, and begin to hear; returns when the connection stands.

        Raises:
            WorldError: it cannot be opened.
        """
        subscription = self._venue.subscription(symbols, data_types)
        self._stream = await self._web.open(subscription.path)
        self.symbols = list(symbols)
        self.opened_at = self.heard_at = time.monotonic()
        for message in subscription.messages:
            self._to_send.put_nowait(message)
        self._task = asyncio.create_task(self._live(self._stream))

    def change(self, added: Sequence[str], removed: Sequence[str], data_types: Sequence[DataType]) -> None:
        """Hear others from now on."""
        for message in self._venue.changed(added, removed, data_types):
            self._to_send.put_nowait(message)
        gone = set(removed)
        self.symbols = [symbol for symbol in self.symbols if symbol not in gone] + list(added)

    def got_data(self) -> None:
        """Events came by it."""
        self.data_came.set()

    def end(self, reason: str) -> None:
        """Let it go."""
        if not self._ended.done():
            self._ended.set_result(reason)

    @property
    def is_open(self) -> bool:
        """Whether it stands."""
        return self._stream is not None and not self._ended.done()

    async def ended(self) -> str:
        """Wait for its end; why it ended, in a word."""
        return await asyncio.shield(self._ended)

    async def closed(self) -> None:
        """Wait until nothing is left of it."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _live(self, stream: Stream) -> None:
        tasks = [asyncio.create_task(each) for each in (self._read(stream), self._send(stream), self._watch())]
        try:
            await asyncio.shield(self._ended)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(Exception):
                await stream.close()

    async def _read(self, stream: Stream) -> None:
        number, hears = self.number, self._hears
        text, binary = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY
        try:
            while True:
                message = await stream.receive()
                if message.type is text or message.type is binary:
                    self.heard_at = time.monotonic()
                    hears(Frame(message.data, time.time_ns() // 1000, number))
                else:
                    self.end("closed" if message.type is not aiohttp.WSMsgType.ERROR else "error")
                    return
        except (aiohttp.ClientError, OSError):
            self.end("error")
        except Exception as error:
            self.end("error")
            raise WorldError(f"a connection could not be read: {error}") from error

    async def _send(self, stream: Stream) -> None:
        pace = EvenPace(self._venue.limits.messages_a_second * SHARE)
        ping = self._venue.ping
        try:
            while True:
                try:
                    wait = None if ping is None else self._venue.ping_seconds
                    message = await asyncio.wait_for(self._to_send.get(), wait)
                except TimeoutError:
                    assert ping is not None
                    message = ping
                await pace.turn()
                await stream.send_str(message.decode())
        except (aiohttp.ClientError, OSError):
            self.end("error")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(self._timing.look, self._timing.silent / 4))
            if time.monotonic() - self.heard_at > self._timing.silent:
                self.end("silent")
