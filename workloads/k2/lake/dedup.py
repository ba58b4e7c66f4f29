"""Which rows of a batch the table has already: decided against the very snapshot that the commit asserts.

An event's id is a function of the event, so the same event has the same symbol and time: only live files whose ranges
of symbol and time overlap a row's can hold it, however old they are. New data overlaps no file but at its first instant,
and costs a look at spans kept in memory; replayed data is compared with the ids in the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from k2.lake.batch import Ints, Mask, OrderedBatch, Words
from k2.lake.scan import plan_files
from k2.model.events import EVENT_TIME
from k2.model.lru import Lru
from k2.model.topics import DataType

CACHED_ROWS = 2_000_000
"""Rows whose ids are kept in memory (24 bytes each) after they were read from a file."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a file holds of one symbol: its rows' times (ascending) and ids."""

    time: Ints
    ids: Words


@dataclass(frozen=True, slots=True)
class _Span:
    """The range of times, inclusive, and the ids at its last instant: where the next batch of a live feed begins."""

    first: int
    last: int
    ids_at_last: Words


@dataclass(slots=True)
class KnownIds:
    """Remembers what files hold, across commits. Data files never change, so what was learnt stays true."""

    data_type: DataType
    _spans: dict[str, Mapping[str, _Span]] = field(default_factory=dict)
    _held: Lru[str, Mapping[str, _Held]] = field(default_factory=lambda: Lru(CACHED_ROWS, _rows))
    files_read: int = 0

    def remember(self, path: str, batch: OrderedBatch, kept: Mask) -> None:
        """Note what a file just written from rows of this batch can hold, without reading it."""
        spans: dict[str, _Span] = {}
        for run in batch.runs:
            rows = np.flatnonzero(kept[run.start : run.stop])
            if not len(rows):
                continue
            time = batch.time[run.start : run.stop]
            last = int(time[rows[-1]])
            tail = run.start + int(np.searchsorted(time, last))
            spans[run.symbol] = _Span(int(time[rows[0]]), last, batch.ids(tail, run.stop)[kept[tail : run.stop]])
        self._spans[path] = spans

    def in_table(self, table: Table, batch: OrderedBatch, candidates: Mask, checked: set[str]) -> Mask:
        """Which of the candidate rows (in file order) the table's current snapshot holds.

        Args:
            table: as it was loaded for the commit.
            batch: the rows.
            candidates: rows to ask for; the others are False in the answer.
            checked: paths compared already for this batch; they are skipped, and those compared now are added.
        """
        snapshot = table.current_snapshot()
        if snapshot is None or not candidates.any():
            return np.zeros(len(candidates), dtype=bool)
        first, last = int(batch.time.min()), int(batch.time.max())
        live = plan_files(table, snapshot.snapshot_id, start_us=first, end_us=last + 1)
        paths = [file.path for file in live]
        found = self.in_files(table.io, [path for path in paths if path not in checked], batch, candidates)
        checked.update(paths)
        return found

    def in_files(self, io: FileIO, paths: Sequence[str], batch: OrderedBatch, candidates: Mask) -> Mask:
        """Which of the candidate rows (in file order) any of these data files holds."""
        found = np.zeros(len(candidates), dtype=bool)
        for path in paths:
            self._compare(io, path, batch, candidates, found)
        self._forget(set(paths))
        return found

    def _compare(self, io: FileIO, path: str, batch: OrderedBatch, candidates: Mask, found: Mask) -> None:
        spans = self._spans.get(path)
        if spans is None:
            spans = {symbol: _span(held) for symbol, held in self._load(io, path).items()}
            self._spans[path] = spans
        for run in batch.runs:
            span = spans.get(run.symbol)
            if span is None:
                continue
            low = run.start + int(np.searchsorted(batch.time[run.start : run.stop], span.first))
            high = run.start + int(np.searchsorted(batch.time[run.start : run.stop], span.last, side="right"))
            if low >= high or not candidates[low:high].any():
                continue
            if batch.time[low] == span.last:  # only the instant at which the file ends
                have = span.ids_at_last
            else:
                held = self._load(io, path).get(run.symbol)
                if held is None:  # the span is of the whole batch, which was cut into several files
                    continue
                have = _between(held, int(batch.time[low]), int(batch.time[high - 1]))
            found[low:high] |= candidates[low:high] & contained(batch.ids(low, high), have)

    def _load(self, io: FileIO, path: str) -> Mapping[str, _Held]:
        held = self._held.get(path)
        if held is None:
            held = self._held.put(path, _read(io, path, self.data_type))
            self.files_read += 1
        return held

    def _forget(self, overlapping: set[str]) -> None:
        """Keep memory bounded: spans of many files are small, but files come for ever."""
        most = 50_000
        if len(self._spans) > most:
            for path in [path for path in self._spans if path not in overlapping][: len(self._spans) - most // 2]:
                del self._spans[path]


def contained(ids: Words, have: Words) -> Mask:
    """Which of `ids` are among `have`; both of shape (n, 2). Compared in full: the first half only finds candidates."""
    if not len(have) or not len(ids):
        return np.zeros(len(ids), dtype=bool)
    order = np.argsort(have[:, 0])
    high, low = have[order, 0], have[order, 1]
    place = np.searchsorted(high, ids[:, 0])
    place[place == len(high)] = 0
    hits = high[place] == ids[:, 0]
    same = hits & (low[place] == ids[:, 1])
    # Two ids that share their first half stand side by side, and the search found only the first of them.
    for row in np.flatnonzero(hits & ~same):
        alike = slice(place[row], int(np.searchsorted(high, ids[row, 0], side="right")))
        same[row] = bool((low[alike] == ids[row, 1]).any())
    return same


def _between(held: _Held, first: int, last: int) -> Words:
    low = int(np.searchsorted(held.time, first))
    high = int(np.searchsorted(held.time, last, side="right"))
    return held.ids[low:high]


def _span(held: _Held) -> _Span:
    last = int(held.time[-1])
    return _Span(int(held.time[0]), last, _between(held, last, last))


def _rows(of_file: Mapping[str, _Held]) -> int:
    return sum(len(of_symbol.time) for of_symbol in of_file.values())


def _read(io: FileIO, path: str, data_type: DataType) -> Mapping[str, _Held]:
    with io.new_input(path).open() as stream:
        columns = ["message_id", "symbol", EVENT_TIME[data_type], "source_sequence"]
        rows: pa.Table = pq.ParquetFile(stream, read_dictionary=["symbol"]).read(columns=columns, use_threads=False)
    ordered = OrderedBatch(rows, data_type)  # whoever wrote the file, in whatever order
    return {
        run.symbol: _Held(ordered.time[run.start : run.stop], ordered.ids(run.start, run.stop)) for run in ordered.runs
    }
