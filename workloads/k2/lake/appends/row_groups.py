"""Row groups of data files: what their statistics say they can hold, and the few columns by which events are told apart.

A large compacted file is read where it overlaps, not as a whole. Files of other engines may have no statistics: what is not
known overlaps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from k2.lake.appends.batch import Ints, OrderedBatch, id_words, ranked
from k2.lake.appends.same_event import SortedIds
from k2.model.events import EVENT_TIME
from k2.model.topics import DataType

_LOWEST, _HIGHEST = -(2**62), 2**62  # beyond any time, and a tolerance can be added without wrapping round


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """The ids of a row group.

    Attributes:
        ids: of its rows, by their places in the group.
        codes: the number of each row's symbol.
        symbols: the symbols by number; "" stands for none.
    """

    ids: SortedIds
    codes: npt.NDArray[np.int32]
    symbols: Sequence[str]


@dataclass(frozen=True, slots=True)
class AskedRuns:
    """The runs of a batch, in the order of their symbols: of which symbol, how many rows, and from when until when."""

    symbols: list[str]
    rows: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, batch: OrderedBatch) -> AskedRuns:
        """The runs of this batch."""
        starts = np.array([run.start for run in batch.runs], dtype=np.int64)
        stops = np.array([run.stop for run in batch.runs], dtype=np.int64)
        return cls([run.symbol for run in batch.runs], stops - starts, batch.time[starts], batch.time[stops - 1])

    @property
    def named(self) -> int:
        """How many runs have a symbol; rows without one are the last run."""
        return len(self.symbols) - (1 if len(self.symbols) > 1 and not self.symbols[-1] else 0)


@dataclass(frozen=True, slots=True)
class GroupBounds:
    """What the statistics say of one row group. Bounds are inclusive; None is not known."""

    first: int
    last: int
    symbols: tuple[str | None, str | None]
    has_nulls: bool

    def runs_near(self, asked: AskedRuns, tolerance_us: int) -> Ints:
        """The runs that may have a row within the tolerance of one of the group's, of the same symbol."""
        lower, upper = self.symbols
        low = 0 if lower is None else bisect_left(asked.symbols, lower, hi=asked.named)
        high = asked.named if upper is None else bisect_right(asked.symbols, upper, hi=asked.named)
        chosen = np.arange(low, high)
        if self.has_nulls and asked.named < len(asked.symbols):
            chosen = np.append(chosen, asked.named)
        near = (asked.first[chosen] <= self.last + tolerance_us) & (asked.last[chosen] >= self.first - tolerance_us)
        return chosen[near]


def read_bounds(io: FileIO, path: str, data_type: DataType) -> tuple[GroupBounds, ...]:
    """What each row group of a file can hold, by its footer alone."""
    with _opened(io, path) as file:
        metadata = file.metadata
        places = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
        time, symbol = EVENT_TIME[data_type], places.get("symbol")
        index = file.schema_arrow.get_field_index(time)
        kind = file.schema_arrow.field(index).type if index >= 0 else None
        is_micros = kind is not None and pa.types.is_timestamp(kind) and kind.unit == "us"
        bounds: list[GroupBounds] = []
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            times = _statistics(group, places.get(time) if is_micros else None)
            names = _statistics(group, symbol)
            bounds.append(
                GroupBounds(
                    _LOWEST if times is None else int(times.min_raw),
                    _HIGHEST if times is None else int(times.max_raw),
                    (None, None) if names is None else (str(names.min), str(names.max)),
                    names is None or not names.has_null_count or bool(names.null_count),
                )
            )
        return tuple(bounds)


def read_held(io: FileIO, path: str, groups: Sequence[int]) -> Iterator[tuple[int, HeldGroup]]:
    """The ids of these row groups, one after the other: a file of any size takes one's memory."""
    with _opened(io, path) as file:
        for group in groups:
            rows = file.read_row_group(group, ["message_id", "symbol"], use_threads=False)
            codes, symbols = ranked(rows.column("symbol"))
            yield group, HeldGroup(SortedIds.of(id_words(rows.column("message_id"))), codes, symbols)


def read_rows(io: FileIO, path: str, wanted: Mapping[int, Ints], columns: Sequence[str]) -> pa.Table:
    """Rows of a file by row group and places in it, one group after the other. A column that the file lacks is null."""
    parts: list[pa.Table] = []
    with _opened(io, path) as file:
        for group, places in wanted.items():
            rows = file.read_row_group(group, list(columns), use_threads=False)
            parts.append(_complete(rows, columns).take(pa.array(places)))
    return pa.concat_tables(parts)


def _complete(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    for name in columns:
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.nulls(len(rows)))
    return rows.select(list(columns))


def _statistics(group: Any, column: int | None) -> Any:
    if column is None:
        return None
    found = group.column(column).statistics
    return found if found is not None and found.has_min_max else None


@contextmanager
def _opened(io: FileIO, path: str) -> Generator[pq.ParquetFile]:
    with io.new_input(path).open() as stream:
        yield pq.ParquetFile(stream, read_dictionary=["symbol"])
