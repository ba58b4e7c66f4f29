"""An event loop whose clock goes on by itself when nothing is left to do: hours of waiting pass at once, and always alike."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Skipping(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Never waits: what it should wait for is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready now; where nothing is, the time has passed."""
        found = super().select(0)
        if not found and timeout is not None:
            self.now += timeout
        return found


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop; `time()` is the simulated clock, in seconds from 0."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._skipping.now


def run_simulated(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end under simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(work)
