"""Rows that no file has yet, in immutable blocks: ordered as a file is, so that a symbol's rows are a slice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.lake.appends.batch import Ints, Mask, OrderedBatch
from k2.lake.payloads import in_one_piece
from k2.model.topics import DataType
from k2.query.rows.visibility import Sight

Places = npt.NDArray[np.int32]
Offsets = Mapping[int, int]
"""Place → offset. A place is a partition of a topic, by a number that the tail gives it."""

MERGED_ROWS = 131_072
"""Blocks are merged up to this size: a question then looks into few."""

_MERGED_AT_ONCE = 4
_SMALLEST_TIER = 2_048


@dataclass(frozen=True, slots=True, eq=False)
class TailBlock:
    """Some rows in file order (symbol, time, source sequence, arrival), and where each was read.

    Attributes:
        rows: one chunk a column.
        runs: symbol → [start, stop) of its rows.
        time: event times, microseconds since 1970 UTC.
        places, offsets: where each row was read.
        bounds: place → lowest offset and the one after the highest.
        bytes: memory of the rows.
    """

    rows: pa.Table
    runs: Mapping[str, tuple[int, int]]
    time: Ints
    places: Places
    offsets: Ints
    bounds: Mapping[int, tuple[int, int]]
    bytes: int

    def symbols(self, exchange: str | None, sight: Sight, known: Collection[str] = ()) -> set[str]:
        """Its symbols, but for the `known` ones, that have rows of the exchange (None: of any) which may be seen."""
        codes = sight.exchanges if exchange is None else frozenset((exchange,)) & (sight.exchanges or {exchange})
        found: set[str] = set()
        for symbol, (start, stop) in self.runs.items():
            if symbol in known or not (sight.symbols is None or symbol in sight.symbols):
                continue
            # Rows of a symbol lie by time.
            since = 0 if sight.oldest_us is None else int(np.searchsorted(self.time[start:stop], sight.oldest_us))
            if codes is None:
                seen = start + since < stop
            else:
                rows = self.rows.column("exchange").slice(start + since, stop - start - since)
                seen = not codes.isdisjoint(rows.unique().to_pylist())
            if seen:
                found.add(symbol)
        return found

    def lies_before(self, floors: Offsets) -> bool:
        """Whether every row was read before the offset of its place."""
        return all(high <= floors.get(place, 0) for place, (_, high) in self.bounds.items())

    @property
    def newest_us(self) -> int:
        """Latest event time."""
        return int(self.time.max())


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a tail: of any of these symbols (none: all), of the exchange (None: any), within [start_us, end_us)."""

    symbols: tuple[str, ...] = ()
    exchange: str | None = None
    start_us: int | None = None
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """The rows with starts ≤ offset < ends of their place, but for those `without` (place, offset)."""

    starts: Offsets
    ends: Offsets
    without: frozenset[tuple[int, int]] = frozenset()


def block_of(rows: pa.Table, places: Places, offsets: Ints, data_type: DataType, kept: Mask | None = None) -> TailBlock:
    """A block of rows in any order. `kept` (in file order, as `OrderedBatch` has it) leaves some out."""
    ordered = OrderedBatch(rows, data_type)
    return of_ordered(ordered, places, offsets, kept)


def of_ordered(ordered: OrderedBatch, places: Places, offsets: Ints, kept: Mask | None = None) -> TailBlock:
    """A block of a batch whose order is known; places and offsets are in the order of its input."""
    order, time, runs = ordered.order, ordered.time, [(run.symbol, run.start, run.stop) for run in ordered.runs]
    if kept is not None and not kept.all():
        before = np.concatenate([[0], np.cumsum(kept)])
        runs = [(symbol, int(before[start]), int(before[stop])) for symbol, start, stop in runs]
        order, time = order[kept], time[kept]
    places, offsets = places[order], offsets[order]
    rows = ordered.rows.take(pa.array(order)).combine_chunks()
    return TailBlock(
        rows=rows,
        runs={symbol: (start, stop) for symbol, start, stop in runs if stop > start},
        time=time,
        places=places,
        offsets=offsets,
        bounds=_bounds(places, offsets),
        bytes=rows.get_total_buffer_size() + 28 * len(order),
    )


def merged(blocks: Sequence[TailBlock], data_type: DataType) -> TailBlock:
    """One block of the rows of several."""
    rows = in_one_piece([batch for block in blocks for batch in block.rows.to_batches()])
    places = np.concatenate([block.places for block in blocks])
    return block_of(rows, places, np.concatenate([block.offsets for block in blocks]), data_type)


def due_for_merging(blocks: Sequence[TailBlock]) -> int:
    """How many of the last blocks should become one; 0: none."""
    if len(blocks) < _MERGED_AT_ONCE:
        return 0
    sizes = [len(block.time) for block in blocks]
    tier = _tier(sizes[-1])
    count = rows = 0
    for size in reversed(sizes):
        if _tier(size) > tier or rows + size > MERGED_ROWS:
            break
        count, rows = count + 1, rows + size
    return count if count >= _MERGED_AT_ONCE else 0


def select(blocks: Iterable[TailBlock], reach: Reach, wanted: Wanted) -> pa.Table | None:
    """The rows asked for, one chunk a column; None when there are none."""
    parts: list[pa.Table] = []
    for block in blocks:
        parts += _of_block(block, reach, wanted)
    if not parts:
        return None
    return in_one_piece([batch for part in parts for batch in part.to_batches()])


def _of_block(block: TailBlock, reach: Reach, wanted: Wanted) -> list[pa.Table]:
    pieces = [(0, len(block.time))]
    if wanted.symbols:
        pieces = [run for symbol in wanted.symbols if (run := block.runs.get(symbol)) is not None]
        pieces = [_within(block.time, piece, wanted) for piece in pieces]
    conditions = _conditions(block, reach, wanted)
    found: list[pa.Table] = []
    for start, stop in pieces:
        if start >= stop:
            continue
        if conditions is None:
            found.append(block.rows.slice(start, stop - start))
            continue
        rows = start + np.flatnonzero(conditions[start:stop])
        if len(rows):
            found.append(block.rows.take(pa.array(rows)))
    return found


def _within(time: Ints, piece: tuple[int, int], wanted: Wanted) -> tuple[int, int]:
    """The part of a symbol's run, which is in time order, that lies in the window."""
    start, stop = piece
    times = time[start:stop]
    low = 0 if wanted.start_us is None else int(np.searchsorted(times, wanted.start_us))
    high = len(times) if wanted.end_us is None else int(np.searchsorted(times, wanted.end_us))
    return start + low, start + high


def _conditions(block: TailBlock, reach: Reach, wanted: Wanted) -> Mask | None:
    """Which rows satisfy what the slices do not settle; None: all of them do."""
    masks: list[Mask] = []
    for place, (low, high) in block.bounds.items():
        start, end = reach.starts.get(place), reach.ends.get(place)
        if start is None or end is None:
            masks.append(block.places != place)
        elif low < start or high > end:
            masks.append((block.places != place) | ((block.offsets >= start) & (block.offsets < end)))
    if not wanted.symbols:
        if wanted.start_us is not None:
            masks.append(block.time >= wanted.start_us)
        if wanted.end_us is not None:
            masks.append(block.time < wanted.end_us)
    if wanted.exchange is not None:
        masks += _of_exchange(block, wanted.exchange)
    for place, offset in reach.without:
        if place in block.bounds:
            masks.append((block.places != place) | (block.offsets != offset))
    return None if not masks else np.logical_and.reduce(masks)


def _of_exchange(block: TailBlock, exchange: str) -> list[Mask]:
    column = block.rows.column("exchange").chunk(0)
    names = column.dictionary.to_pylist()
    if names == [exchange]:
        return []
    code = names.index(exchange) if exchange in names else -1
    return [column.indices.to_numpy(zero_copy_only=False) == code]


def _bounds(places: Places, offsets: Ints) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for place in np.unique(places).tolist():
        there = offsets[places == place]
        found[place] = (int(there.min()), int(there.max()) + 1)
    return found


def _tier(rows: int) -> int:
    tier, size = 0, _SMALLEST_TIER
    while rows > size:
        tier, size = tier + 1, size * _MERGED_AT_ONCE
    return tier
