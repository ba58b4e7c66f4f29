"""What the stand-in exchange was sent, counted against the limits that a venue publishes, by a clock that tests can move."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields


class VenueClock:
    """The venue's clock: runs as ours does, can be apart from it, and can be moved on."""

    def __init__(self, apart_seconds: float = 0.0) -> None:
        self.apart_seconds = apart_seconds
        self._forward = 0.0

    def seconds(self) -> float:
        """For limits and lifetimes."""
        return time.monotonic() + self._forward

    def now(self) -> int:
        """Microseconds since 1970 as the venue believes."""
        return time.time_ns() // 1000 + int(self.apart_seconds * 1e6)

    def forward(self, seconds: float) -> None:
        """Let so much time pass for limits and lifetimes at once."""
        self._forward += seconds


@dataclass(frozen=True, slots=True)
class Rules:
    """What a venue lets one address do, and how it keeps connections. Zero or none where it has no such rule."""

    messages_a_second: int = 0
    """Of a connection, pings and pongs included."""
    streams_a_connection: int = 0
    connections: int = 0
    """New ones within `connection_seconds`."""
    connection_seconds: float = 300.0
    weight: int = 0
    """Of REST within `weight_seconds`: windows of the clock, as Binance counts."""
    weight_seconds: float = 60.0
    ban_after: int = 10
    """Requests in spite of 429 after which an address is banned."""
    ban_seconds: float = 120.0
    lifetime_seconds: float = 0.0
    ping_seconds: float = 0.0
    """How often the venue pings."""
    pong_seconds: float = 60.0
    """Within which it wants the pong."""
    subscribe_seconds: float = 0.0
    """Within which a connection must have subscribed."""
    quiet_seconds: float = 0.0
    """After which a connection that has sent nothing (OKX, Bybit) or heard nothing (Coinbase) is closed."""
    heartbeat_seconds: float = 1.0


@dataclass(slots=True)
class Counts:
    """What came in since the exchange was opened. Never set back."""

    connections: int = 0
    refused_connections: int = 0
    most_connections_in_window: int = 0
    messages: int = 0
    most_messages_a_second: int = 0
    """On the busiest connection, over any second."""
    over_messages: int = 0
    """Connections that were closed because they sent too much."""
    over_streams: int = 0
    subscriptions: int = 0
    """Messages that subscribed or unsubscribed."""
    pongs: int = 0
    missing_pongs: int = 0
    """Connections that were closed because a pong did not come, or not with its payload."""
    requests: int = 0
    weight: float = 0.0
    most_weight_in_window: float = 0.0
    """Over any window of `weight_seconds`, wherever it begins."""
    status_429: int = 0
    bans: int = 0
    paths: Counter[str] = field(default_factory=Counter)
    """Requests by path, without their query."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults that happened."""

    def figures(self) -> dict[str, float | dict[str, int]]:
        """All of it by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


class Window:
    """The sum of what came within the last so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: deque[tuple[float, float]] = deque()
        self.sum = 0.0

    def add(self, now: float, amount: float = 1.0) -> float:
        """Count something in, and give the sum with it."""
        while self._held and self._held[0][0] <= now - self._seconds:
            self.sum -= self._held.popleft()[1]
        self._held.append((now, amount))
        self.sum += amount
        return self.sum


class Gate:
    """Lets an address in as long as it keeps the rules, and counts."""

    def __init__(self, rules: Rules, counts: Counts, clock: VenueClock) -> None:
        self._rules, self._counts, self._clock = rules, counts, clock
        self._connections = Window(rules.connection_seconds)
        self._any_window = Window(rules.weight_seconds)
        self._window, self.used = -1, 0.0
        self._ignored = 0
        self._banned_until = 0.0

    def connect(self) -> bool:
        """Whether one more connection is within the rules."""
        within = self._connections.add(self._clock.seconds())
        self._counts.most_connections_in_window = max(self._counts.most_connections_in_window, int(within))
        if self._rules.connections and within > self._rules.connections:
            self._counts.refused_connections += 1
            return False
        self._counts.connections += 1
        return True

    def request(self, path: str, weight: float) -> tuple[int, int]:
        """The status of a request of that weight (200, 429 or 418), and the seconds after which to try again."""
        now, rules, counts = self._clock.seconds(), self._rules, self._counts
        counts.requests += 1
        counts.paths[path] += 1
        counts.weight += weight
        counts.most_weight_in_window = max(counts.most_weight_in_window, self._any_window.add(now, weight))
        window = int(now // rules.weight_seconds)
        if window != self._window:
            self._window, self.used, self._ignored = window, 0.0, 0
        self.used += weight
        if now < self._banned_until:
            return 418, int(self._banned_until - now) + 1
        if not rules.weight or self.used <= rules.weight:
            return 200, 0
        self._ignored += 1
        if self._ignored > rules.ban_after:
            counts.bans += 1
            self._banned_until = now + rules.ban_seconds
            return 418, int(rules.ban_seconds)
        counts.status_429 += 1
        return 429, int((window + 1) * rules.weight_seconds - now) + 1
