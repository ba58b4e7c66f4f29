"""Columns whose rows lie in pieces (of a symbol, of a day): where pieces begin, and the highest value so far in each."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]


def starts_of(*columns: npt.NDArray[Any]) -> Places:
    """Where a run of rows begins that are alike in all columns (at least one, of equal length)."""
    first = np.zeros(min(1, len(columns[0])), dtype=np.intp)
    changes = reduce(np.logical_or, (codes[1:] != codes[:-1] for codes in columns))
    return np.concatenate([first, np.flatnonzero(changes) + 1])


def shifted(values: Ints) -> Ints:
    """To each row the value of the row before it; the first has the lowest there is."""
    found = np.empty_like(values)
    found[:1] = np.iinfo(np.int64).min
    found[1:] = values[:-1]
    return found


def running_max(values: Ints, starts: Places) -> Ints:
    """The highest value so far, of each piece that begins at one of `starts` (the first of which is 0)."""
    falls = values[1:] < values[:-1]
    falls[starts[1:] - 1] = False
    if not falls.any():
        return values
    pieces = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    lowest = int(values.min())
    span = int(values.max()) - lowest + 1
    if span * len(starts) < 2**62:
        raised = pieces * span
        return np.maximum.accumulate(values - lowest + raised) - raised + lowest
    ranks, inverse = np.unique(values, return_inverse=True)  # values so far apart do not fit: their order does
    raised = pieces * len(ranks)
    return ranks[np.maximum.accumulate(inverse + raised) - raised]
