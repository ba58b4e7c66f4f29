"""Ids of messages that were read lately and stand in no file that was looked at: sorted blocks of integers, 28 bytes a row.

A block is merged with its neighbour when the two are of like size, so that there are few of them whatever comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k2.lake.appends.batch import Ints, Mask, Words

Places = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Block:
    """Ids by their first half, and where each was read."""

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    place: Places
    offset: Ints

    def taken(self, chosen: npt.NDArray[np.intp] | Mask) -> _Block:
        return _Block(self.high[chosen], self.low[chosen], self.place[chosen], self.offset[chosen])


@dataclass(frozen=True, slots=True)
class Found:
    """For each id that was asked for: whether it is known, and the place and offset that it was read at first."""

    known: Mask
    place: Places
    offset: Ints


class RecentIds:
    """Which ids were read, and where. A place is a number that the caller gives to each partition of each topic."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return sum(len(block.high) for block in self._blocks)

    def find(self, ids: Words) -> Found:
        """Look for ids of shape (rows, 2)."""
        found = Found(np.zeros(len(ids), dtype=bool), np.zeros(len(ids), np.int32), np.zeros(len(ids), np.int64))
        for block in self._blocks:
            at = np.searchsorted(block.high, ids[:, 0])
            at[at == len(block.high)] = 0
            for row in np.flatnonzero(block.high[at] == ids[:, 0]).tolist():  # few: nearly every id is new
                if found.known[row]:
                    continue
                alike = slice(at[row], int(np.searchsorted(block.high, ids[row, 0], side="right")))
                same = np.flatnonzero(block.low[alike] == ids[row, 1])
                if len(same):
                    where = int(at[row]) + int(same[0])
                    found.known[row] = True
                    found.place[row], found.offset[row] = block.place[where], block.offset[where]
        return found

    def add(self, ids: Words, place: Places, offset: Ints) -> None:
        """Remember ids that were not known."""
        if not len(ids):
            return
        block = _Block(ids[:, 0], ids[:, 1], place, offset)
        block = block.taken(np.argsort(block.high, kind="stable"))
        while self._blocks and len(self._blocks[-1].high) < 2 * len(block.high):
            block = _merged(self._blocks.pop(), block)
        self._blocks.append(block)

    def forget_before(self, floors: Mapping[int, int]) -> None:
        """Forget ids that were read before the offset of their place; a place that is not named is kept."""
        kept: list[_Block] = []
        for block in self._blocks:
            keep = np.ones(len(block.high), dtype=bool)
            for place, floor in floors.items():
                keep &= (block.place != place) | (block.offset >= floor)
            if keep.any():
                kept.append(block if keep.all() else block.taken(keep))
        self._blocks = kept


def _merged(one: _Block, other: _Block) -> _Block:
    high = np.concatenate([one.high, other.high])
    order = np.argsort(high, kind="stable")  # two sorted runs: near linear
    return _Block(
        high[order],
        np.concatenate([one.low, other.low])[order],
        np.concatenate([one.place, other.place])[order],
        np.concatenate([one.offset, other.offset])[order],
    )
