"""When the events of a replay are due: as fast as they can be had, so many a second, or by their own times sped up. Pure.

A schedule is anchored where it began: being late once does not make everything after it late.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from k2.model.errors import UserError
from k2.model.times import SECOND_US

Ints = npt.NDArray[np.int64]
FASTEST = 1e9


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: `factor` times the events' own pace, or `rate` rows a second; neither: unpaced."""

    factor: float | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.rate is not None:
            raise UserError("Both speed and rate are given", expected="one of them")
        for name, value in (("speed", self.factor), ("rate", self.rate)):
            if value is not None and not 0 < value <= FASTEST:
                raise UserError(f"{name} cannot be used", found=value, expected=f"more than 0, at most {FASTEST:g}")

    @property
    def is_unpaced(self) -> bool:
        """Whether events are due as soon as they are there."""
        return self.factor is None and self.rate is None


UNPACED = Pace()


@dataclass(frozen=True, slots=True)
class Schedule:
    """When rows are due, on a clock of seconds.

    Attributes:
        began: moment at which the anchor is due.
        anchor_us: event time of the first row (factor), µs since 1970 UTC.
        given: rows that were given since the anchor (rate).
    """

    pace: Pace
    began: float
    anchor_us: int
    given: int = 0

    def due(self, times: Ints, now: float) -> tuple[int, float]:
        """How many of the next rows are due now, and in how many seconds the one after them is (0 when all are due)."""
        if self.pace.is_unpaced:
            return len(times), 0.0
        elapsed = now - self.began
        if self.pace.rate is not None:
            ready = min(len(times), max(0, int(elapsed * self.pace.rate + 1e-6) + 1 - self.given))
            wait = (self.given + ready) / self.pace.rate - elapsed
        else:
            factor = self.pace.factor or 1.0
            # A late event is due with those that came before it.
            ready = int(np.searchsorted(times, self.anchor_us + round(elapsed * factor * SECOND_US), side="right"))
            wait = 0.0
            if ready < len(times):
                wait = (int(times[ready]) - self.anchor_us) / (factor * SECOND_US) - elapsed
        return ready, (max(0.0, wait) if ready < len(times) else 0.0)

    def after(self, rows: int) -> Schedule:
        """The schedule when so many rows more were given."""
        return replace(self, given=self.given + rows)

    def held_up(self, seconds: float) -> Schedule:
        """The schedule after a pause."""
        return replace(self, began=self.began + seconds)
