"""What may be asked of an exchange over REST: four fifths of its limit in any minute, and nothing until it says so after it refused. Pure."""

from __future__ import annotations

from collections import deque

SHARE = 0.8
"""Of each limit of an exchange, that is used at most."""
WINDOW_SECONDS = 61.0
"""A minute, and what two requests may differ in on their way: the exchange counts when they come."""


class WeightBudget:
    """The weight of requests that one address may send, for all that ask of one exchange. Times are seconds of a steady clock.

    Args:
        weight_a_minute: the exchange's limit.
    """

    def __init__(self, weight_a_minute: float) -> None:
        self._allowed = SHARE * weight_a_minute
        self._spent: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._stopped_until = 0.0

    def wait(self, now: float, weight: float) -> float:
        """Seconds until a request of that weight may be sent; 0: now. One that is above the budget by itself goes alone."""
        if now < self._stopped_until:
            return self._stopped_until - now
        self._forget(now)
        over = self._sum + weight - self._allowed
        until = now
        for at, spent in self._spent:
            if over <= 0:
                break
            over -= spent
            until = at + WINDOW_SECONDS
        return until - now

    def spend(self, now: float, weight: float) -> None:
        """A request of that weight is sent now."""
        self._spent.append((now, weight))
        self._sum += weight

    def used(self, now: float, weight: float) -> None:
        """The exchange says what this address has used in the last minute: others that share it count, too."""
        self._forget(now)
        if weight > self._sum:
            self.spend(now, weight - self._sum)

    def stop(self, now: float, seconds: float) -> None:
        """The exchange refused: nothing is sent for so long."""
        self._stopped_until = max(self._stopped_until, now + seconds)

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - WINDOW_SECONDS:
            self._sum -= self._spent.popleft()[1]
        if not self._spent:
            self._sum = 0.0
