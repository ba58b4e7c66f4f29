"""A question's time cut into slices whose files hold about so many rows each, oldest first: what bounds memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from k2.lake.scan import DataFileRef
from k2.model.times import MAX_US, MIN_US
from k2.query.rows.relation import Relation
from k2.query.rows.sql import Filter

SLICE_ROWS = 4_000_000
"""Rows that the files of a slice hold about, where nothing is known of how many of them are asked for."""

MOST_SLICE_ROWS = 256_000_000
"""A slice grows to this, when few of its rows are asked for."""

_MOST_FOUND = 1_000_000


@dataclass(frozen=True, slots=True)
class TimeSlice:
    """Successive slices do not overlap, and together they are the whole question.

    Attributes:
        relation: the files that reach into it, and the tail.
        which: the question's conditions within it.
        rows: about how many rows of the files lie in it.
    """

    relation: Relation
    which: Filter
    rows: int


def following(given: TimeSlice, found: int, least: int) -> int:
    """The budget of the next slice, when `found` rows of this one were asked for: so that a million are found or so."""
    return min(MOST_SLICE_ROWS, max(least, given.rows * _MOST_FOUND // max(found, 1)))


class TimeSlices:
    """The time of a question, cut as it is read.

    Args:
        relation: what the question is about.
        which: its conditions.
    """

    def __init__(self, relation: Relation, which: Filter) -> None:
        self._relation, self._which = relation, which
        self._density = _Density(relation.files)
        self._start_us = self._density.first_us if which.start_us is None else which.start_us
        self._end_us = self._density.last_us + 1 if which.end_us is None else which.end_us
        # The ends of the question stay as they are, for the tail may reach further than the files do.
        self._bound_us = which.start_us
        self._done = not relation

    def take(self, budget: int) -> TimeSlice | None:
        """The next slice, of about that many rows or fewer; None at the end."""
        while not self._done:
            start_us, cut_us = self._start_us, self._density.cut(self._start_us, self._end_us, budget)
            self._done = cut_us >= self._end_us
            part = replace(self._which, start_us=self._bound_us, end_us=self._which.end_us if self._done else cut_us)
            files = tuple(
                file
                for file in self._relation.files
                if file.end_us >= start_us and (self._done or file.start_us < cut_us)
            )
            self._start_us = self._bound_us = cut_us
            within = replace(self._relation, files=files)
            if within:
                return TimeSlice(within, part, round(self._density.rows(start_us, cut_us)))
        return None


class _Density:
    """About how many rows lie where, as if each file's were spread evenly over its time."""

    def __init__(self, files: Sequence[DataFileRef]) -> None:
        self._start = np.array([max(file.start_us, MIN_US) for file in files], np.int64)
        self._end = np.array([min(file.end_us, MAX_US) + 1 for file in files], np.int64)
        self._rows = np.array([file.rows for file in files], np.float64)
        self.first_us = int(self._start.min()) if files else 0
        self.last_us = int(self._end.max()) - 1 if files else 0

    def rows(self, start_us: int, end_us: int) -> float:
        """About how many rows lie in [start, end)."""
        overlap = np.minimum(self._end, end_us) - np.maximum(self._start, start_us)
        return float(np.sum(self._rows * np.clip(overlap / (self._end - self._start), 0.0, 1.0)))

    def cut(self, start_us: int, end_us: int, budget: int) -> int:
        """The latest instant up to which there are no more rows than the budget; the end, or at least a second later."""
        if self.rows(start_us, end_us) <= budget:
            return end_us
        low, high = start_us, end_us
        while high - low > 1_000_000:
            middle = (low + high) // 2
            if self.rows(start_us, middle) <= budget:
                low = middle
            else:
                high = middle
        return high
