"""Follows how many of a sink's messages are dead letters, batch by batch, once each is in the table.

A batch costs what its dead letters cost, and nothing where it has none: messages that are good are only counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from k2.model.dead_share import WINDOW, DeadShare
from k2.model.reasons import reason_class, reason_kind

Ints = npt.NDArray[np.int64]
_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class DeadTracker:
    """Counts over all partitions of one sink process, in the order in which it read them. It begins with nothing known.

    Args:
        window: how many messages are looked back upon.
    """

    window: int = WINDOW
    _read: int = 0
    _places: Ints = field(default_factory=lambda: _NONE)
    _reasons: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _in_a_row: int = 0
    _classes: set[str] = field(default_factory=set[str])

    def see(self, messages: int, dead: Ints, reasons: Sequence[str]) -> DeadShare:
        """Take in a batch.

        Args:
            messages: how many it had: rows, duplicates and dead letters.
            dead: places of the dead letters among them, ascending.
            reasons: why each of them is one.
        """
        self._read += messages
        start = int(np.searchsorted(dead, messages - self.window))  # what came before has left the window already
        gone = int(np.searchsorted(self._places, self._read - self.window))
        if start < len(dead) or gone:
            self._places = np.concatenate([self._places[gone:], dead[start:] + (self._read - messages)])
            # Dead letters alone, and at most a window of them.
            new = [(reason_class(each), reason_kind(each)) for each in reasons[start:]]
            self._reasons = self._reasons[gone:] + new
            self._classes |= {name for name, _ in new}
        self._in_a_row = _at_the_end(messages, dead) + (self._in_a_row if len(dead) == messages else 0)
        return self.share

    @property
    def share(self) -> DeadShare:
        """What is known by now."""
        kinds = Counter(kind for _, kind in self._reasons)
        return DeadShare(len(self._places), self._in_a_row, kinds.most_common(1)[0][0] if kinds else "")

    @property
    def classes(self) -> Mapping[str, int]:
        """Dead letters of the last messages by class of reason: 0 for one that there was before."""
        return dict.fromkeys(self._classes, 0) | Counter(name for name, _ in self._reasons)


def _at_the_end(messages: int, dead: Ints) -> int:
    """How many of a batch's last messages are dead without a good one between."""
    return int(np.count_nonzero(dead - np.arange(len(dead)) == messages - len(dead)))


def places_among(rows_before: Ints, dead_rows: Mapping[int, str], reasons: Sequence[str]) -> tuple[Ints, list[str]]:
    """Places of a batch's dead letters among its messages, ascending, and why each of them is one.

    Args:
        rows_before: for each message that was never a row, how many rows were read before it; ascending.
        dead_rows: place among the rows → why that row is a dead letter, too.
        reasons: why those messages are no rows.
    """
    alone = rows_before + np.arange(len(rows_before))
    if not dead_rows:
        return alone, list(reasons)
    rows = np.fromiter(dead_rows, np.int64, len(dead_rows))
    places = np.concatenate([alone, rows + np.searchsorted(rows_before, rows, side="right")])
    order = np.argsort(places)
    said = [*reasons, *dead_rows.values()]
    return places[order], [said[each] for each in order.tolist()]
