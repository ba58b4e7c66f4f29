"""What goes wrong at the stand-in exchange, by name, and scripts of it that a seed decides on.

A script's place is counted in trades that the market has made, not in seconds, so that a seed means the same on a slow machine.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What can go wrong. Those of a connection happen to one that is open, the others to the next that fits."""

    CLOSE_1000 = "close-1000"
    CLOSE_1001 = "close-1001"
    CLOSE_1006 = "close-1006"
    """The connection ends without a word: no close frame."""
    CLOSE_1008 = "close-1008"
    CLOSE_1011 = "close-1011"
    RESET = "reset"
    """RST."""
    HALF_OPEN = "half-open"
    """Nothing is sent or read any more, no ping is answered, and nothing ends."""
    MUTE = "mute"
    """No more data, though pings go on both ways."""
    NO_PINGS = "no-pings"
    PING_WITH_PAYLOAD = "ping-with-payload"
    """A ping of 125 bytes that are no text; without a pong of the same bytes in time the connection is closed."""
    LIFETIME = "lifetime"
    """The connection's time is up, as after 24 hours."""
    SHUTDOWN = "shutdown"
    """The venue says that the connection will end, and ends it after `seconds`."""
    DEAD_STREAM = "dead-stream"
    """One symbol of a connection says nothing more, while the others go on."""
    SNAPSHOT_AGAIN = "snapshot-again"
    """The last trades once more: as a snapshot, or one by one where the venue knows no snapshots."""

    DROPPED = "dropped"
    """Messages are lost in the midst of a stream."""
    REPEATED = "repeated"
    SWAPPED = "swapped"
    CUT_JSON = "cut-json"
    """A message that ends in its middle."""
    CUT_FRAME = "cut-frame"
    """The connection ends in the middle of a frame."""
    HUGE_FRAME = "huge-frame"
    """A message of 10 MB, of a kind that nobody knows."""
    BROKEN_UTF8 = "broken-utf8"
    HTML_MESSAGE = "html-message"
    UNKNOWN_EVENT = "unknown-event"
    NEW_FIELD = "new-field"
    NUMBER_FOR_STRING = "number-for-string"
    """Prices in the other of JSON's two spellings."""

    SLOW_SUBSCRIPTION = "slow-subscription"
    REFUSED_SUBSCRIPTION = "refused-subscription"
    DEAF_SUBSCRIPTION = "deaf-subscription"
    """It is confirmed, and nothing comes."""

    CONNECT_429 = "connect-429"
    CONNECT_418 = "connect-418"
    CONNECT_451 = "connect-451"
    CONNECT_403 = "connect-403"
    CONNECT_503 = "connect-503"
    CONNECT_SLOW = "connect-slow"

    REST_429 = "rest-429"
    REST_418 = "rest-418"
    REST_451 = "rest-451"
    REST_403 = "rest-403"
    REST_503 = "rest-503"
    REST_HTML = "rest-html"
    """200 and a page, as a proxy answers."""
    REST_CUT = "rest-cut"
    REST_BROKEN_UTF8 = "rest-broken-utf8"
    REST_SLOW = "rest-slow"
    REST_EMPTY = "rest-empty"
    """An answer with nothing in it."""
    REST_STALE = "rest-stale"
    """As things were `seconds` ago."""

    IDS_FROM_ONE = "ids-from-one"
    """One symbol numbers its trades from 1 again."""
    CLOCK = "clock"
    """The venue's clock jumps by `seconds`."""


def _of(*faults: Fault) -> frozenset[Fault]:
    return frozenset(faults)


CLOSES = {
    Fault.CLOSE_1000: 1000,
    Fault.CLOSE_1001: 1001,
    Fault.CLOSE_1008: 1008,
    Fault.CLOSE_1011: 1011,
    Fault.LIFETIME: 1001,
}
OF_MESSAGES = _of(
    Fault.DROPPED,
    Fault.REPEATED,
    Fault.SWAPPED,
    Fault.CUT_JSON,
    Fault.CUT_FRAME,
    Fault.HUGE_FRAME,
    Fault.BROKEN_UTF8,
    Fault.HTML_MESSAGE,
    Fault.UNKNOWN_EVENT,
    Fault.NEW_FIELD,
    Fault.NUMBER_FOR_STRING,
)
OF_SUBSCRIPTIONS = _of(Fault.SLOW_SUBSCRIPTION, Fault.REFUSED_SUBSCRIPTION, Fault.DEAF_SUBSCRIPTION)
OF_CONNECTING = _of(*(fault for fault in Fault if fault.startswith("connect-")))
OF_REST = _of(*(fault for fault in Fault if fault.startswith("rest-")))
OF_MARKET = _of(Fault.IDS_FROM_ONE, Fault.CLOCK)
OF_CONNECTIONS = frozenset(Fault) - OF_MESSAGES - OF_SUBSCRIPTIONS - OF_CONNECTING - OF_REST - OF_MARKET

# What a feed gets over within seconds, so that a run with several of them has an end.
PASSING = frozenset(Fault) - _of(
    Fault.NO_PINGS,
    Fault.CLOCK,
    Fault.IDS_FROM_ONE,
    Fault.CONNECT_418,
    Fault.CONNECT_451,
    Fault.CONNECT_403,
    Fault.REST_418,
    Fault.REST_451,
    Fault.REST_403,
)


def status(fault: Fault) -> int:
    """The HTTP status that a fault of connecting or of REST has in its name."""
    return int(fault.rsplit("-", 1)[1])


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault and when it happens."""

    at: int
    """After so many trades of the market."""
    fault: Fault
    times: int = 1
    """To how many messages, subscriptions, attempts or requests, one after the other."""
    seconds: float = 0.0
    """How late, how stale, how long until a shutdown, or the Retry-After."""
    everywhere: bool = False
    """To every connection, not to one."""


class Script:
    """Faults in the order in which they happen."""

    def __init__(self, planned: Sequence[Planned] = ()) -> None:
        self.planned = tuple(sorted(planned, key=lambda fault: fault.at))
        self._next = 0

    @classmethod
    def drawn(cls, seed: int, trades: int, faults: int, kinds: Collection[Fault] = PASSING) -> Script:
        """A script of so many faults before the market has made so many trades.

        Args:
            seed: decides on all of it.
            trades: the length of the run; nothing happens in its last fifth, so that what was missed can still show.
            faults: how many.
            kinds: which.
        """
        rng = random.Random(seed)
        chosen = sorted(kinds)
        planned: list[Planned] = []
        for _ in range(faults):
            fault, times = rng.choice(chosen), rng.choice((1, 1, 2, 5, 20))
            planned.append(
                Planned(
                    at=rng.randrange(1, max(2, trades * 4 // 5)),
                    fault=fault,
                    # Ten megabytes once: twenty times they only keep the machine busy.
                    times=1 if fault is Fault.HUGE_FRAME else times,
                    seconds=rng.choice((0.0, 0.2, 1.0)),
                    everywhere=rng.random() < 0.3,
                )
            )
        return cls(planned)

    def due(self, made: int) -> list[Planned]:
        """Those whose time has come and that were not given yet."""
        begin = self._next
        while self._next < len(self.planned) and self.planned[self._next].at <= made:
            self._next += 1
        return list(self.planned[begin : self._next])

    def until_next(self, made: int) -> int:
        """Trades that can be made before the next fault is due."""
        return max(1, self.planned[self._next].at - made) if self._next < len(self.planned) else 2**62
