"""One connection as the stand-in exchange sees it: what goes out on it, frame by frame, and what is done to it.

Frames are written by hand, many at a time: so that 100,000 a second go out of one process, and so that they can be wrong.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from k2_testing.exchange.counting import Counts, Rules, VenueClock, Window
from k2_testing.exchange.faults import CLOSES, OF_MESSAGES, Fault, Planned
from k2_testing.exchange.protocols.protocol import Talk, VenueProtocol

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
HUGE = 10_000_000
TOO_SLOW = 256 * 1024 * 1024
"""Bytes that wait for a client that does not read: more, and it is let go, as venues do."""
FAREWELL_SECONDS = 2.0
"""How long a client has to answer a close."""


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame, as servers send it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


_Spoiling = Callable[[bytes, VenueProtocol, Talk], list[bytes]]

# What is sent instead of a message.
_SPOILED: Mapping[Fault, _Spoiling] = {
    Fault.DROPPED: lambda message, protocol, talk: [],
    Fault.REPEATED: lambda message, protocol, talk: [message, message],
    Fault.CUT_JSON: lambda message, protocol, talk: [message[: len(message) // 2]],
    Fault.BROKEN_UTF8: lambda message, protocol, talk: [with_broken_utf8(message)],
    Fault.HTML_MESSAGE: lambda message, protocol, talk: [b"<html><body>502 Bad Gateway</body></html>", message],
    Fault.HUGE_FRAME: lambda message, protocol, talk: [protocol.unknown(talk, "x" * HUGE), message],
    Fault.UNKNOWN_EVENT: lambda message, protocol, talk: [protocol.unknown(talk), message],
    Fault.NEW_FIELD: lambda message, protocol, talk: [protocol.with_new_field(message)],
    Fault.NUMBER_FOR_STRING: lambda message, protocol, talk: [protocol.with_other_spelling(message)],
}


def with_broken_utf8(text: bytes) -> bytes:
    """A text with two bytes in its middle that no text has."""
    half = len(text) // 2
    return text[:half] + b"\xff\xfe" + text[half:]


class Wire:
    """A connection, from the handshake until it is gone."""

    def __init__(
        self,
        transport: asyncio.Transport,
        talk: Talk,
        protocol: VenueProtocol,
        rules: Rules,
        counts: Counts,
        clock: VenueClock,
    ) -> None:
        self.talk = talk
        self.dead: set[int] = set()
        """Listings that say nothing more here."""
        self.going = False
        """A close was sent, or the connection is cut."""
        self._transport, self._protocol, self._rules, self._counts, self._clock = (
            transport,
            protocol,
            rules,
            counts,
            clock,
        )
        self._opened = self._last_word = self._beat = clock.seconds()
        self._subscribed = False
        self._frozen = self._mute = False
        self._pinging = rules.ping_seconds > 0
        self._pinged = self._opened
        self._awaited: dict[bytes, float] = {}
        self._ends_at: float | None = None
        self._gone_at: float | None = None
        self._received = Window(1.0)
        self._pending: deque[tuple[Fault, int]] = deque()
        self._held: bytes | None = None

    @property
    def listening(self) -> bool:
        """Whether anything that happens to it can be noticed."""
        return not self.going and not self._frozen

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken."""
        return 0 if self.going or self._frozen else self._transport.get_write_buffer_size()

    def say(self, messages: Iterable[bytes]) -> None:
        """Send messages that are no data of the market."""
        self._write(b"".join([frame(TEXT, message) for message in messages]))

    def tell(self, messages: list[bytes]) -> None:
        """Send messages of the market, with what is to happen to them."""
        if self._mute or not self.listening:
            return
        if not self._pending and self._held is None:
            self._write(b"".join([frame(TEXT, message) for message in messages]))
            return
        for message in messages:
            self._write(b"".join(self._spoiled(message)))

    def _write(self, data: bytes) -> None:
        if not data or not self.listening or self._transport.is_closing():
            return
        self._last_word = self._clock.seconds()
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > TOO_SLOW:
            self.reset()

    def _spoiled(self, message: bytes) -> list[bytes]:
        """The frames that a message becomes."""
        fault = None
        if self._pending:
            fault, times = self._pending.popleft()
            if times > 1:
                self._pending.appendleft((fault, times - 1))
        if fault is Fault.SWAPPED and self._held is None:
            self._held = frame(TEXT, message)
            return []
        after = [self._held] if self._held is not None else []
        self._held = None
        if fault is Fault.CUT_FRAME:
            whole = frame(TEXT, message)
            self._write(b"".join([*after, whole[: len(whole) - len(message) // 2]]))
            self.drop()
            return []
        become = _SPOILED.get(fault) if fault is not None else None
        became = [message] if become is None else become(message, self._protocol, self.talk)
        return [frame(TEXT, payload) for payload in became] + after

    def happen(self, planned: Planned) -> None:
        """Let a fault of connections or of messages happen."""
        fault = planned.fault
        if fault in OF_MESSAGES:
            self._pending.append((fault, planned.times))
        elif fault in CLOSES:
            self.close(CLOSES[fault], fault)
        elif fault is Fault.SHUTDOWN:
            self.say(self._protocol.shutdown(self.talk))
            self._ends_at = self._clock.seconds() + planned.seconds
        elif fault is Fault.DEAD_STREAM:
            self.dead.update(sorted(self.talk.trades - self.dead)[: planned.times])
        else:
            {
                Fault.CLOSE_1006: self.drop,
                Fault.RESET: self.reset,
                Fault.HALF_OPEN: self._freeze,
                Fault.MUTE: self._fall_silent,
                Fault.NO_PINGS: self._stop_pinging,
                Fault.PING_WITH_PAYLOAD: lambda: self.ping(os.urandom(125)),
                Fault.SNAPSHOT_AGAIN: self._repeat,
            }[fault]()

    def _freeze(self) -> None:
        self._frozen = True
        self._transport.pause_reading()

    def _fall_silent(self) -> None:
        self._mute = True

    def _stop_pinging(self) -> None:
        self._pinging = False

    def _repeat(self) -> None:
        for place in sorted(self.talk.trades):
            self.say(self._protocol.snapshot(place, self.talk))

    def calm(self) -> None:
        """Forget what was to happen to the next messages."""
        self._pending.clear()
        if self._held is not None:
            self._write(self._held)
            self._held = None

    def ping(self, payload: bytes) -> None:
        """Ping, and want the payload back in time."""
        self._pinged = self._clock.seconds()
        self._awaited[payload] = self._pinged + self._rules.pong_seconds
        if self.listening and not self._transport.is_closing():
            self._transport.write(frame(PING, payload))

    def close(self, code: int, reason: str) -> None:
        """Close as the protocol wants it; the client's answer ends it."""
        if self.listening and not self._transport.is_closing():
            self._transport.write(frame(CLOSE, struct.pack("!H", code) + reason.encode()[:100]))
            self.going = True
            self._gone_at = self._clock.seconds() + FAREWELL_SECONDS

    def drop(self) -> None:
        """End the connection without a close frame."""
        self.going = True
        self._transport.close()

    def reset(self) -> None:
        """End it with RST."""
        self.going = True
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def gone(self) -> None:
        """The client has left, or answered the close."""
        self.going = True
        self._transport.close()

    def counted(self) -> bool:
        """Count a frame that came, and close where they are too many; whether it may be answered."""
        now = self._clock.seconds()
        self._last_word = now
        within = int(self._received.add(now))
        self._counts.messages += 1
        self._counts.most_messages_a_second = max(self._counts.most_messages_a_second, within)
        if self._rules.messages_a_second and within > self._rules.messages_a_second:
            self._counts.over_messages += 1
            self.close(1008, "Too many requests")
        return self.listening

    def pinged(self, payload: bytes) -> None:
        """Answer the client's ping."""
        if self.listening and not self._transport.is_closing():
            self._transport.write(frame(PONG, payload))

    def ponged(self, payload: bytes) -> None:
        """A pong came. One that nobody asked for is allowed."""
        self._counts.pongs += 1
        self._awaited.pop(payload, None)

    def changed(self) -> None:
        """A subscription came; more streams than are allowed end the connection."""
        self._subscribed = True
        self._counts.subscriptions += 1
        if self._rules.streams_a_connection and self.talk.streams > self._rules.streams_a_connection:
            self._counts.over_streams += 1
            self.close(1008, "Too many streams")

    def tick(self, now: float) -> None:
        """Do what is due by the clock."""
        if self._gone_at is not None and now >= self._gone_at:
            self._transport.abort()
        if not self.listening:
            return
        rules = self._rules
        if self._pinging and now - self._pinged >= rules.ping_seconds:
            self.ping(str(self._clock.now() // 1000).encode())
        if self._awaited and now >= min(self._awaited.values()):
            self._counts.missing_pongs += 1
            self.close(1008, "Pong timeout")
        elif self._ends_at is not None and now >= self._ends_at:
            self.close(1001, "Going away")
        elif rules.lifetime_seconds and now - self._opened >= rules.lifetime_seconds:
            self.close(1001, "Lifetime")
        elif rules.subscribe_seconds and not self._subscribed and now - self._opened >= rules.subscribe_seconds:
            self.close(1008, "Subscribe timeout")
        elif rules.quiet_seconds and now - self._last_word >= rules.quiet_seconds:
            self.close(1001, "No activity")
        elif now - self._beat >= rules.heartbeat_seconds:
            self._beat = now
            if not self._mute:
                self.say(self._protocol.heartbeat(self.talk))
