"""The service's connections: how many there may be, how long one may take over a request, and what becomes of the rest.

uvicorn has no limit for a request's head and none for connections, and a closed connection stays until its client has taken
what was written. So its protocols are given a place each here. All of it runs on the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import resource
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from k2.model.workload import QueryConfig
from k2.obs import metrics
from k2.obs.logging import get_logger

PROBES = (b"/health", b"/ready", b"/metrics")
"""Paths that are answered on connections beyond the bounds too."""

BODY_SECONDS = 60.0
"""How long a request's body may take. One has 10 MB at the most, and the questions that people send a few kilobytes."""

_BEYOND = 16
_SWEEP_SECONDS = 1.0
_SAY_AGAIN_SECONDS = 60.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Seconds for a request's head, seconds without progress of what is being sent, connections, connections of one peer.

    `trusted`: networks whose connections are bounded in total alone, because many clients come through each.
    """

    head_seconds: float = 10.0
    stall_seconds: float = 30.0
    total: int = 1_000
    per_peer: int = 250
    trusted: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    def peer(self, address: str | None) -> str | None:
        """Whom an address counts as: itself, of IPv6 the /64 that one client has; None: nobody's bound holds for it."""
        try:
            found = ipaddress.ip_address(address or "")
        except ValueError:
            return None  # a socket in the file system
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        if any(found in network for network in self.trusted):
            return None
        if isinstance(found, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((found, 64), strict=False))
        return str(found)


def connection_limits(config: QueryConfig, open_files: int) -> ConnectionLimits:
    """The limits of a configuration. At most half of the files that may be open are connections: data and Kafka need others."""
    return ConnectionLimits(
        head_seconds=config.head_seconds,
        stall_seconds=config.stall_seconds,
        total=min(config.max_connections, max(1, open_files // 2)),
        per_peer=config.max_connections_per_peer,
        trusted=tuple(ipaddress.ip_network(each) for each in config.trusted_proxies),
    )


def raise_open_files() -> int:
    """Raise the soft limit of open files to the hard one; how many this process may have open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 2**31 if hard == resource.RLIM_INFINITY else hard


@dataclass(slots=True, eq=False)
class Place:
    """One connection's place. `state`: it awaits a head, receives a body, or is at work on an answer, since when.

    `beyond`: it is over the bounds, and only a probe is answered on it.
    """

    transport: asyncio.Transport
    peer: str | None
    since: float
    beyond: bool = False
    state: Literal["head", "body", "answer"] = "head"
    unsent: int | None = None


@dataclass(slots=True)
class _Peer:
    count: int = 0
    # Places that await a head, in the order in which they began to: the first has waited longest.
    waiting: dict[Place, None] = field(default_factory=dict)


class Places:
    """Who is connected. A new connection that finds all places taken gets that of the one that has longest said nothing.

    When nobody is idle it is one of a few beyond the bounds, on which only probes are answered.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._places: dict[asyncio.Transport, Place] = {}
        self._waiting: dict[Place, None] = {}
        self._peers: defaultdict[str | None, _Peer] = defaultdict(_Peer)
        self._beyond: dict[Place, None] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._said = -_SAY_AGAIN_SECONDS

    def enter(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> Place:
        """Give a new connection a place; one for which there is none at all is broken off."""
        address = get_remote_addr(transport)
        place = Place(transport, self.limits.peer(address[0] if address else None), loop.time())
        peer = self._peers[place.peer]
        if place.peer is not None and peer.count >= self.limits.per_peer:
            place.beyond = not self._make_room(peer.waiting, place)
        if not place.beyond and len(self._places) - len(self._beyond) >= self.limits.total:
            place.beyond = not self._make_room(self._waiting, place)
        self._places[transport] = place
        if place.beyond:
            self._beyond[place] = None
            if len(self._beyond) > _BEYOND:
                waiting = (each for each in self._beyond if each.state == "head")
                self._break_off(next(waiting, place), "refused")
        else:
            peer.count += 1
            self.awaits_head(place, loop.time())
        metrics.HTTP_CONNECTIONS.set(len(self._places))
        if self._sweep is None:
            self._sweep = loop.call_later(self._every, self._sweep_all, loop)
        return place

    def awaits_head(self, place: Place, now: float) -> None:
        """Its last answer is given: it may be closed for one that has something to ask."""
        place.state, place.since, place.unsent = "head", now, None
        if not place.beyond and place.transport in self._places:
            self._waiting[place] = self._peers[place.peer].waiting[place] = None

    def has_head(self, place: Place, now: float) -> None:
        """A head is whole: the body comes, or the answer is worked on."""
        place.state, place.since = "body", now
        self._waiting.pop(place, None)
        if place.peer in self._peers:
            self._peers[place.peer].waiting.pop(place, None)

    def leave(self, transport: asyncio.Transport) -> None:
        """The connection is lost."""
        place = self._places.pop(transport, None)
        if place is not None:
            self._forget(place)
        metrics.HTTP_CONNECTIONS.set(len(self._places))

    @property
    def _every(self) -> float:
        return min(_SWEEP_SECONDS, self.limits.head_seconds / 4)

    def _make_room(self, waiting: dict[Place, None], for_whom: Place) -> bool:
        """Close the one that has waited longest, if anyone waits who has taken all that was sent."""
        longest = next((each for each in waiting if not each.transport.get_write_buffer_size()), None)
        self._say(for_whom)
        if longest is None:
            return False
        self._break_off(longest, "room")
        return True

    def _break_off(self, place: Place, reason: str) -> None:
        metrics.HTTP_CONNECTIONS_CLOSED.labels(reason).inc()
        place.transport.abort()
        # The transport tells its protocol a turn of the loop later; the place is free now.
        self._places.pop(place.transport, None)
        self._forget(place)

    def _forget(self, place: Place) -> None:
        self._waiting.pop(place, None)
        if place in self._beyond:
            del self._beyond[place]
            return
        peer = self._peers[place.peer]
        peer.waiting.pop(place, None)
        peer.count -= 1
        if peer.count <= 0:
            del self._peers[place.peer]

    def _sweep_all(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for place in [*self._places.values()]:
            reason = self._overdue(place, now)
            if reason is not None:
                self._break_off(place, reason)
        metrics.HTTP_CONNECTIONS.set(len(self._places))
        self._sweep = loop.call_later(self._every, self._sweep_all, loop) if self._places else None

    def _overdue(self, place: Place, now: float) -> str | None:
        """Why the connection has had its time; None: it has not."""
        unsent = place.transport.get_write_buffer_size()
        if place.transport.is_closing() or (unsent and place.state == "head"):
            # What was written must still be taken. As long as some of it is, the client is only slow.
            if place.unsent is None or unsent < place.unsent:
                place.unsent, place.since = unsent, now
            return "untaken" if now - place.since > self.limits.stall_seconds else None
        if place.state == "head":
            return "head" if now - place.since > self.limits.head_seconds else None
        return "body" if place.state == "body" and now - place.since > BODY_SECONDS else None

    def _say(self, place: Place) -> None:
        now = place.since
        if now - self._said >= _SAY_AGAIN_SECONDS:
            self._said = now
            _log.warning(
                "connections.used_up",
                connections=len(self._places),
                total=self.limits.total,
                per_peer=self.limits.per_peer,
                peer=place.peer,
            )


_FULL = {
    "type": "urn:k2:problem:overloaded",
    "title": "The service is asked more than it can answer",
    "status": 503,
    "detail": "There are as many connections as there may be, all of them at work. Ask again later",
}


async def _refuse(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - an ASGI app
    """What a connection beyond the bounds gets for anything but a probe."""
    metrics.HTTP_REFUSED.labels("connections").inc()
    body = json.dumps(_FULL).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class BoundedHttp(HttpToolsProtocol):
    """The protocol of uvicorn for a connection, with a place."""

    places: Places
    place: Place

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self.place = self.places.enter(transport, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, whoever closed it."""
        self.places.leave(self.transport)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """The parser has read a head."""
        self.places.has_head(self.place, self.loop.time())
        if not self.place.beyond:
            super().on_headers_complete()
            return
        if self.url.partition(b"?")[0] not in PROBES:
            self.app = _refuse
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The parser has read a body, or there was none."""
        super().on_message_complete()
        if getattr(self.cycle, "response_complete", False):  # a WebSocket's request has no cycle
            self.places.awaits_head(self.place, self.loop.time())  # it was answered before it was all there
        else:
            self.place.state = "answer"

    def on_response_complete(self) -> None:
        """The last of an answer was written."""
        is_last = not self.pipeline
        super().on_response_complete()
        # While the body of what was answered still comes, its time goes on.
        if is_last and self.place.state == "answer":
            self.places.awaits_head(self.place, self.loop.time())

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a WebSocket, whose place it keeps."""
        self.places.has_head(self.place, self.loop.time())
        self.place.state = "answer"
        if self.place.beyond:
            metrics.HTTP_REFUSED.labels("connections").inc()
            self.transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            self.transport.close()
            return
        super().handle_websocket_upgrade()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """The protocol of uvicorn for a WebSocket, which gives its connection's place back."""

    places: Places

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, whoever closed it."""
        self.places.leave(self.transport)
        super().connection_lost(exc)


def bounded(limits: ConnectionLimits) -> tuple[type[BoundedHttp], type[BoundedWebSocket]]:
    """The two protocols of uvicorn, sharing the places of these limits."""
    shared = Places(limits)

    class Http(BoundedHttp):
        places = shared

    class WebSocket(BoundedWebSocket):
        places = shared

    return Http, WebSocket
