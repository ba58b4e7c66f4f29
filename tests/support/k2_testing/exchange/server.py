"""The stand-in exchange as a server: one port for streams and REST, the market's time, and the script of faults."""

from __future__ import annotations

import asyncio
import copy
import itertools
import math
import operator
import random
import ssl
import time
from collections import defaultdict, deque
from collections.abc import Collection, Sequence

from aiohttp import WSMsgType, web

from k2_testing.exchange.counting import Counts, Gate, VenueClock
from k2_testing.exchange.faults import (
    OF_CONNECTING,
    OF_CONNECTIONS,
    OF_MARKET,
    OF_MESSAGES,
    OF_REST,
    OF_SUBSCRIPTIONS,
    Fault,
    Planned,
    status,
)
from k2_testing.exchange.market import FOREVER, Market, Trade
from k2_testing.exchange.protocols.protocol import Query, Reply, Talk
from k2_testing.exchange.protocols.registry import PROTOCOLS
from k2_testing.exchange.setup import Setup
from k2_testing.exchange.wire import FAREWELL_SECONDS, Wire, with_broken_utf8

TICK_SECONDS = 0.005
AT_ONCE = 500
"""Trades between two looks at the script and at the clients."""
TAKEN = 1024 * 1024
"""Bytes that may wait for a client before a market without a pace of its own goes on."""
PAGE = b"<html><head><title>Blocked</title></head><body>The page you asked for is not available.</body></html>"
PLACE = b'{"code":0,"msg":"Service unavailable from a restricted location."}'


class Server:
    """Everything behind the port. All of it is called in the loop that runs it."""

    def __init__(self, setup: Setup) -> None:
        kind = PROTOCOLS[setup.venue]
        self.setup = setup
        self.rules = setup.rules_of(kind.rules)
        self.clock = VenueClock(setup.apart_seconds)
        self.market = Market(setup.listings(kind), setup.seed, resolution=kind.resolution)
        self.protocol = kind(self.market, self.clock)
        self.counts = Counts()
        self.gate = Gate(self.rules, self.counts, self.clock)
        self.wires: list[Wire] = []
        self.quiet = asyncio.Event()
        """The market has made what it was to make."""
        self._script = copy.copy(setup.script)
        self._rng = random.Random(setup.seed)
        self._begun = False
        self._moved = 0.0
        self._owed = self._owed_quotes = 0.0
        self._last = 0
        self._waiting: list[Planned] = []
        self._next: defaultdict[Collection[Fault], deque[Planned]] = defaultdict(deque)
        self._serial = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._mover: asyncio.Task[None] | None = None
        self.port = 0

    async def open(self, context: ssl.SSLContext) -> None:
        """Listen."""
        if self.setup.history:
            self.market.history(self.setup.history, self.clock.now())
        app = web.Application()
        app.router.add_route("GET", "/{tail:.*}", self._asked)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.setup.host, self.setup.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._mover = asyncio.create_task(self._move_on())

    async def close(self) -> None:
        """End every connection, and stop listening."""
        assert self._mover is not None
        assert self._runner is not None
        failed = self._mover.done()
        self._mover.cancel()
        await asyncio.gather(self._mover, return_exceptions=True)
        assert self._runner.server is not None
        transports = [one.transport for one in self._runner.server.connections if one.transport is not None]
        sockets = [transport.get_extra_info("socket") for transport in transports]
        for transport in transports:
            transport.abort()
        await self._runner.cleanup()
        # A loop that ends with a socket open leaves it to the collector, which complains at any time.
        end = time.monotonic() + FAREWELL_SECONDS
        while any(one is not None and one.fileno() != -1 for one in sockets) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if failed:
            self._mover.result()

    @property
    def running(self) -> asyncio.Task[None]:
        """Ends only with an error."""
        assert self._mover is not None
        return self._mover

    def trade(self, trades: int) -> list[Trade]:
        """Make trades now."""
        now = self.clock.now()
        made = self.market.trade(trades, now, now)
        self._publish(made)
        return made

    def begin(self) -> None:
        """Let the market begin now, whoever listens."""
        if not self._begun:
            self._begun = True
            self._moved = self.clock.seconds()
            self._last = self.clock.now()

    def inject(self, planned: Planned) -> None:
        """Let a fault happen now, or to what comes next of its kind."""
        fault = planned.fault
        for kinds in (OF_REST, OF_CONNECTING, OF_SUBSCRIPTIONS):
            if fault in kinds:
                self._next[kinds].extend([planned] * planned.times)
                return
        if fault in OF_MARKET:
            self._of_market(planned)
        elif not self._of_connections(planned):
            self._waiting.append(planned)

    def _of_market(self, planned: Planned) -> None:
        self.counts.faults[planned.fault] += 1
        if planned.fault is Fault.CLOCK:
            self.clock.apart_seconds += planned.seconds
        else:
            traded = [place for place, listing in enumerate(self.market.listed) if listing.trading]
            self.market.renumber(self._rng.choice(traded))

    def _of_connections(self, planned: Planned) -> bool:
        """Whether there was a connection that it could happen to."""
        assert planned.fault in OF_CONNECTIONS | OF_MESSAGES
        open_ones = [wire for wire in self.wires if wire.listening and wire.talk.streams]
        for wire in open_ones if planned.everywhere or not open_ones else [self._rng.choice(open_ones)]:
            self.counts.faults[planned.fault] += 1
            wire.happen(planned)
        return bool(open_ones)

    def _take(self, kinds: Collection[Fault]) -> Planned | None:
        """The fault that is to happen to the next of its kind."""
        if not self._next[kinds]:
            return None
        planned = self._next[kinds].popleft()
        self.counts.faults[planned.fault] += 1
        return planned

    async def _move_on(self) -> None:
        while True:
            await asyncio.sleep(
                TICK_SECONDS if self.setup.rate is not None or not self._begun or self.quiet.is_set() else 0
            )
            if not self._begun and self.setup.waits and self._all_heard():
                self.begin()
            if self._begun and not self.quiet.is_set():
                self._make()
            now = self.clock.seconds()
            for wire in self.wires:
                wire.tick(now)
            waiting, self._waiting = self._waiting, []
            for planned in waiting:
                self.inject(planned)

    def _all_heard(self) -> bool:
        """Whether each listing has somebody who hears its trades."""
        heard = set().union(*(wire.talk.trades for wire in self.wires))
        return all(place in heard for place, listing in enumerate(self.market.listed) if listing.trading)

    def _make(self) -> None:
        """Make the trades and quotes whose time has come."""
        setup, now = self.setup, self.clock.seconds()
        elapsed, self._moved = now - self._moved, now
        if setup.rate is None:
            self._owed = AT_ONCE if all(wire.waiting < TAKEN for wire in self.wires) else 0
        else:
            self._owed += elapsed * setup.rate
        left = math.inf if setup.trades is None else setup.trades - self.market.made
        due = int(min(self._owed, left, 20 * AT_ONCE))
        self._owed -= due
        since, self._last = self._last, self.clock.now()
        while due > 0:
            size = min(due, AT_ONCE, self._script.until_next(self.market.made))
            self._publish(self.market.trade(size, since, self._last))
            due -= size
            for planned in self._script.due(self.market.made):
                self.inject(planned)
        if setup.quote_rate:
            self._owed_quotes += elapsed * setup.quote_rate
            self._publish_quotes(int(self._owed_quotes))
            self._owed_quotes -= int(self._owed_quotes)
        if setup.trades is not None and self.market.made >= setup.trades:
            self._end()

    def _end(self) -> None:
        """Two last trades of each symbol, to which nothing happens; then the market is quiet."""
        self._waiting.clear()
        self._next.clear()
        for wire in self.wires:
            wire.calm()
        self._publish(self.market.last_round(self.clock.now()))
        self.quiet.set()

    def _publish(self, trades: Sequence[Trade]) -> None:
        together = [list(group) for _, group in itertools.groupby(trades, key=operator.attrgetter("listing"))]
        for wire in self.wires:
            heard = wire.talk.trades - wire.dead
            messages = [
                message
                for group in together
                if group[0].listing in heard
                for message in self.protocol.of_trades(group, wire.talk)
            ]
            if messages:
                wire.tell(messages)

    def _publish_quotes(self, quotes: int) -> None:
        for quote in self.market.quote(quotes, self.clock.now()):
            for wire in self.wires:
                if quote.listing in wire.talk.quotes and quote.listing not in wire.dead:
                    wire.tell(self.protocol.of_quotes([quote], wire.talk))

    async def _asked(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._connected(request)
        return await self._questioned(request)

    async def _connected(self, request: web.Request) -> web.StreamResponse:
        planned = self._take(OF_CONNECTING)
        if planned is not None and planned.fault is not Fault.CONNECT_SLOW:
            return self._refused(planned)
        if planned is not None:
            await asyncio.sleep(planned.seconds)
        talk = Talk(identity=f"c{next(self._serial)}")
        first = self.protocol.opened(request.path, request.query, talk)
        if first is None:
            return web.Response(status=404)
        if not self.gate.connect():
            reply = self.protocol.limited(429, 60)
            return web.Response(status=429, body=reply.body, headers=dict(reply.headers))
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, decode_text=True)
        await socket.prepare(request)
        assert request.transport is not None
        wire = Wire(request.transport, talk, self.protocol, self.rules, self.counts, self.clock)
        if talk.streams:
            wire.changed()
        self.wires.append(wire)
        try:
            wire.say(first)
            await self._hear(socket, wire)
        finally:
            self.wires.remove(wire)
            wire.gone()
        return socket

    async def _hear(self, socket: web.WebSocketResponse, wire: Wire) -> None:
        while True:
            message = await socket.receive()
            if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
                if message.type is WSMsgType.CLOSE and wire.listening:
                    await socket.close()
                return
            if not wire.counted():
                continue
            if message.type is WSMsgType.PING:
                wire.pinged(bytes(message.data))
            elif message.type is WSMsgType.PONG:
                wire.ponged(bytes(message.data))
            elif message.type is WSMsgType.TEXT:
                self._told(message.data, wire)

    def _told(self, text: str, wire: Wire) -> None:
        """Answer a message; of one that subscribes, with what is to happen to it."""
        if not self.protocol.subscribes(text):
            wire.say(self.protocol.received(text, wire.talk))
            return
        planned = self._take(OF_SUBSCRIPTIONS)
        fault = planned.fault if planned is not None else None
        if planned is not None and fault is Fault.SLOW_SUBSCRIPTION:
            asyncio.get_running_loop().call_later(planned.seconds, self._subscribe, text, wire)
        elif fault is Fault.REFUSED_SUBSCRIPTION:
            wire.changed()
            wire.say([self.protocol.refusal(text, wire.talk)])
        else:
            heard = set(wire.talk.trades) if fault is Fault.DEAF_SUBSCRIPTION else None
            self._subscribe(text, wire)
            if heard is not None:
                wire.dead |= wire.talk.trades - heard

    def _subscribe(self, text: str, wire: Wire) -> None:
        wire.say(self.protocol.received(text, wire.talk))
        wire.changed()

    def _refused(self, planned: Planned) -> web.Response:
        code = status(planned.fault)
        if code in {429, 418}:
            reply = self.protocol.limited(code, math.ceil(planned.seconds))
            return web.Response(status=code, body=reply.body, headers=dict(reply.headers))
        body = PLACE if code == 451 else PAGE
        headers = {"Retry-After": str(math.ceil(planned.seconds))} if code == 503 else {}
        return web.Response(status=code, body=body, content_type="text/html" if body is PAGE else None, headers=headers)

    async def _questioned(self, request: web.Request) -> web.StreamResponse:
        query = Query(request.path, request.query, request.headers)
        code, retry_after = self.gate.request(request.path, self.protocol.weight(query))
        planned = self._take(OF_REST)
        fault = planned.fault if planned is not None else None
        if code != 200:
            reply = self.protocol.limited(code, retry_after)
        elif planned is None:
            reply = self.protocol.answer(query)
        elif fault is Fault.REST_HTML:
            reply = Reply(PAGE, headers={"Content-Type": "text/html"})
        elif fault in {Fault.REST_EMPTY, Fault.REST_STALE}:
            seconds = planned.seconds or 5.0
            reply = self._as_of(query, 0 if fault is Fault.REST_EMPTY else self.clock.now() - int(seconds * 1e6))
        elif fault in {Fault.REST_SLOW, Fault.REST_CUT, Fault.REST_BROKEN_UTF8}:
            reply = self.protocol.answer(query)
        else:
            return self._refused(planned)
        if planned is not None and fault is Fault.REST_SLOW:
            await asyncio.sleep(planned.seconds)
        if fault is Fault.REST_BROKEN_UTF8:
            reply = Reply(with_broken_utf8(reply.body), headers=reply.headers)
        headers = {"Content-Type": "application/json", **self.protocol.used(self.gate.used), **reply.headers}
        if fault is not Fault.REST_CUT:
            return web.Response(status=reply.status, body=reply.body, headers=headers)
        return await self._cut(request, reply.body, headers)

    def _as_of(self, query: Query, until: int) -> Reply:
        self.market.visible_until = until
        try:
            return self.protocol.answer(query)
        finally:
            self.market.visible_until = FOREVER

    @staticmethod
    async def _cut(request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        assert request.transport is not None
        request.transport.close()
        return response
