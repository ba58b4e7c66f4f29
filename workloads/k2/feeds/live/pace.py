"""How fast, and how long to wait: the limits of an exchange kept to four fifths, and backoff with full jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds after which something is done. Tests have shorter ones."""

    silent: float = 30.0
    """A connection that says nothing for so long is given up; a ping of the protocol is no word."""
    stream: float = 270.0
    """A stream that is dead among living ones has its connection exchanged after so long."""
    listing: float = 300.0
    """Between two looks at what is listed."""
    first_retry: float = 0.25
    longest_retry: float = 60.0
    opening: float = 10.0
    """A connection, and an answer over REST, may take so long."""
    overlap: float = 5.0
    """Two connections of the same streams stand side by side for so long at most, when nothing comes on the new one."""
    gather: float = 0.01
    """What comes within so long is read together."""
    look: float = 1.0
    """Between two looks at what is silent."""


AS_USUAL = Timing()


class RetryWaits:
    """How long to wait before the next try: a random part of twice the last bound, for ever; begins anew with `worked`.

    Args:
        first: seconds that the first wait is below.
        longest: seconds that all waits are below.
        random_part: a number from 0 to 1.
    """

    def __init__(self, first: float, longest: float, random_part: Callable[[], float] = random.random) -> None:
        self._first, self._longest, self._part = first, longest, random_part
        self.failures = 0

    def failed(self) -> float:
        """Seconds to wait now."""
        bound = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return bound * self._part()

    def worked(self) -> None:
        """It did what it is for; that it could be opened is not enough."""
        self.failures = 0


class EvenPace:
    """Lets one at a time go on, so many a second on average and after a rest so many at once.

    Args:
        a_second: how many.
        at_once: how many after a rest.
    """

    def __init__(self, a_second: float, at_once: int = 1) -> None:
        self._seconds = 1.0 / a_second
        self._at_once = at_once
        self._free = 0.0

    async def turn(self) -> None:
        """Wait until it is one's turn."""
        now = time.monotonic()
        at = max(self._free, now - self._seconds * (self._at_once - 1))
        self._free = at + self._seconds
        if at > now:
            await asyncio.sleep(at - now)
