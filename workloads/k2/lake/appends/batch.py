"""A batch on its way into a table: rows, the offsets they came from, and the order in which files hold them.

Everything is columns; the only loops are over distinct symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.compute import pc
from k2.model.events import EVENT_TIME
from k2.model.tables import PARTITION
from k2.model.topics import DataType

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Batch:
    """What a consumer read and wants in the table.

    Args:
        rows: the good events, in the order they were read, with columns `kafka_partition` and `kafka_offset` beside the
            event's own.
        ranges: partition → (start, next): every offset in [start, next) is accounted for by this batch.
        dead_letters: partition → how many messages of the range went to the dead-letter topic instead.
        repeated: partition → how many of these a person had sent again.
        schemas: the writers' schemas by which the messages were read, by id.
    """

    rows: pa.Table
    ranges: Mapping[int, tuple[int, int]]
    dead_letters: Mapping[int, int]
    repeated: Mapping[int, int] = field(default_factory=dict[int, int])
    schemas: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True, slots=True)
class Run:
    """The rows [start, stop) of an ordered batch that belong to one symbol, in time order."""

    symbol: str
    start: int
    stop: int


class OrderedBatch:
    """The rows of a batch in file order (symbol, time, source sequence, arrival), with their ids as integers.

    Nothing is copied but the order itself: `order[i]` is the input row that comes i-th, `codes[i]` the number of its symbol.
    """

    def __init__(self, rows: pa.Table, data_type: DataType) -> None:
        self.rows = rows
        codes, self._symbols = ranked(rows.column("symbol"))
        time = int64s(rows.column(EVENT_TIME[data_type]))
        self.order = ordered(codes, time, rows.column("source_sequence"))
        self.codes = codes[self.order]
        self.time: Ints = time[self.order]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """One run for each symbol."""
        if not len(self.codes):
            return ()
        edges = np.flatnonzero(np.diff(self.codes)) + 1
        starts = [0, *edges.tolist()]
        stops = [*edges.tolist(), len(self.codes)]
        return tuple(
            Run(self._symbols[self.codes[start]], start, stop) for start, stop in zip(starts, stops, strict=True)
        )

    @cached_property
    def _ids(self) -> Words:
        return id_words(self.rows.column("message_id"))

    def ids(self, start: int, stop: int) -> Words:
        """Message ids of rows [start, stop) in file order: shape (rows, 2), the two halves of each UUID."""
        return self._ids[self.order[start:stop]]

    @property
    def partitions(self) -> npt.NDArray[np.int32]:
        """Kafka partition of each row, in file order."""
        return self.rows.column(PARTITION).to_numpy()[self.order]

    @property
    def symbols(self) -> list[str]:
        """Symbols by number, in order; the last one is "", of rows that have none."""
        return self._symbols

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each symbol that a row may have."""
        return {symbol: number for number, symbol in enumerate(self._symbols)}

    def ids_at(self, places: Ints) -> Words:
        """Message ids of the rows at these places in file order."""
        return self._ids[self.order[places]]

    def columns_at(self, places: Ints, names: Sequence[str]) -> pa.Table:
        """Some columns of the rows at these places in file order."""
        chosen = pa.array(self.order[places])
        return pa.table({name: self.rows.column(name).take(chosen) for name in names})

    def sharing_ids(self) -> Ints:
        """Places in file order of the rows whose id another row of the batch carries, ascending."""
        # Nearly always no two are equal: one sort of integers says so without looking at whole ids, in any order.
        halves = np.sort(self._ids[:, 0])
        twice = halves[1:][halves[1:] == halves[:-1]]
        if not len(twice):
            return np.empty(0, dtype=np.int64)
        places = np.flatnonzero(np.isin(self._ids[self.order, 0], twice))
        ids = self.ids_at(places)
        by_id = np.lexsort((ids[:, 1], ids[:, 0]))
        same = (ids[by_id][1:] == ids[by_id][:-1]).all(axis=1)
        shared = np.zeros(len(places), dtype=bool)
        shared[by_id[1:][same]] = shared[by_id[:-1][same]] = True
        return places[shared]


def id_words(column: pa.ChunkedArray) -> Words:
    """A column of 16-byte ids (fixed-size binary, or Arrow's uuid extension) as (rows, 2) unsigned integers."""
    parts = [_fixed(chunk) for chunk in column.chunks if len(chunk)]
    if not parts:
        return np.empty((0, 2), dtype=np.uint64)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _fixed(chunk: pa.Array) -> Words:
    storage = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
    raw = np.frombuffer(storage.buffers()[1], dtype=np.uint64)
    return raw[2 * storage.offset : 2 * (storage.offset + len(storage))].reshape(-1, 2)


def int64s(column: pa.ChunkedArray) -> Ints:
    """A column of integers or times as 64-bit integers."""
    return column.cast(pa.int64()).to_numpy()


def ranked(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Codes whose order is the order of the strings (by code point, as Iceberg orders), and the strings by code."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    combined = encoded.unify_dictionaries().combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        if combined.num_chunks == 0:
            return np.empty(0, dtype=np.int32), []
        combined = combined.chunk(0)
    values = ["" if value is None else value for value in combined.dictionary.to_pylist()]
    ranks = np.empty(len(values) + 1, dtype=np.int32)
    ranks[np.array(sorted(range(len(values)), key=values.__getitem__), dtype=np.intp)] = np.arange(len(values))
    ranks[len(values)] = len(values)  # rows without a symbol come last
    indices = pc.fill_null(combined.indices.cast(pa.int32()), len(values)).to_numpy(zero_copy_only=False)
    return ranks[indices], [*sorted(values), ""]


def ordered(codes: npt.NDArray[np.int32], time: Ints, sequence: pa.ChunkedArray) -> Ints:
    """Stable order by (code, time, sequence).

    Feeds are nearly always in time order within a symbol, and a stable sort of small integers is a radix sort: then one
    pass is all there is to do.
    """
    narrow = codes.astype(np.uint16) if not len(codes) or codes.max() < 2**16 else codes
    order = np.argsort(narrow, kind="stable")
    sorted_codes, sorted_time = codes[order], time[order]
    same = sorted_codes[1:] == sorted_codes[:-1]
    step = sorted_time[1:] - sorted_time[:-1]
    if (same & (step < 0)).any():
        return np.lexsort((_sequence(sequence), time, codes))
    ties = np.flatnonzero(same & (step == 0))
    if len(ties):
        in_order = _sequence(sequence)[order]
        if (in_order[ties + 1] < in_order[ties]).any():
            return np.lexsort((_sequence(sequence), time, codes))
    return order


def _sequence(column: pa.ChunkedArray) -> Ints:
    """Source sequences with those that are not there last."""
    return pc.fill_null(column, np.iinfo(np.int64).max).to_numpy()


def slices(length: int, size: int) -> Iterator[slice]:
    """[0, length) in pieces of at most `size`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
