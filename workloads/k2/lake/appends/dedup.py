"""Which rows of a batch the table has already: decided against the very snapshot that the commit asserts.

An event's id is a function of the event, so the same event has the same symbol and, within a tolerance, the same time: only
live files whose ranges of symbol and time overlap a row's can hold it, however old they are. New data overlaps no file but
around its first instant, and costs a look at spans kept in memory; replayed data is compared with the ids in the row groups
that overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from k2.lake.appends.batch import Ints, Mask, OrderedBatch, int64s
from k2.lake.appends.row_groups import AskedRuns, GroupBounds, HeldGroup, read_bounds, read_held, read_rows
from k2.lake.appends.same_event import CONTENT, SortedIds, alike, within
from k2.lake.scan import plan_files
from k2.model.events import EVENT_TIME
from k2.model.feed_rules import TOLERANCE_US
from k2.model.lru import Lru
from k2.model.tables import LINEAGE
from k2.model.topics import DataType

CACHED_ROWS = 2_000_000
"""Rows whose ids are kept in memory (24 bytes each) after they were read from a file; as many again of files' ends."""

_LAST = 2**62
_CACHED_GROUPS = 200_000
"""Row groups whose bounds are kept in memory."""


@dataclass(frozen=True, slots=True)
class InTable:
    """What a table holds of a batch's ids.

    Attributes:
        same: the rows (in file order) whose event it holds.
        others: row (its place in file order) → the row of the table that has its id and tells another event.
    """

    same: Mask
    others: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Ends:
    """What a file that was written here can hold, and how it ends: around there the next batch of a live feed begins.

    Attributes:
        numbers: the number of each of its symbols.
        first: time of each symbol's first row.
        last: time of its last.
        ids: of the last rows of all symbols.
    """

    numbers: Mapping[str, int]
    first: Ints
    last: Ints
    ids: SortedIds


@dataclass(frozen=True, slots=True)
class _Met:
    """Rows of a batch (places in file order) and rows of one row group that carry the same ids, pairwise."""

    group: int
    rows: Ints
    places: Ints


@dataclass(slots=True)
class KnownIds:
    """Remembers what files hold, across commits. Data files never change, so what was learnt stays true.

    Args:
        data_type: what the rows are.
        tolerance_us: how far apart in time one event may be told.
    """

    data_type: DataType
    tolerance_us: int = TOLERANCE_US
    _ends: Lru[str, _Ends] = field(default_factory=lambda: Lru(CACHED_ROWS, _rows_of_ends))
    _bounds: Lru[str, tuple[GroupBounds, ...]] = field(default_factory=lambda: Lru(_CACHED_GROUPS, len))
    _held: Lru[tuple[str, int], HeldGroup] = field(default_factory=lambda: Lru(CACHED_ROWS, _rows))
    files_read: int = 0
    groups_read: int = 0

    def remember(self, path: str, batch: OrderedBatch, kept: Mask) -> None:
        """Note what a file just written from rows of this batch can hold, without reading it."""
        rows = np.flatnonzero(kept)
        time, codes = batch.time[rows], batch.codes[rows]
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        last = time[np.append(begins[1:], len(rows)) - 1] if len(rows) else time
        lengths = np.diff(np.append(begins, len(rows)))
        # Twice the tolerance: the next batch may begin a little before this one's end and still be decided from here.
        ends = rows[time >= np.repeat(last - 2 * self.tolerance_us, lengths)]
        numbers = {batch.symbols[code]: number for number, code in enumerate(codes[begins].tolist())}
        self._ends.put(path, _Ends(numbers, time[begins], last, SortedIds.of(batch.ids_at(ends))))

    def in_table(self, table: Table, batch: OrderedBatch, candidates: Mask, checked: set[str]) -> InTable:
        """What the table's current snapshot holds of the candidate rows (in file order).

        Args:
            table: as it was loaded for the commit.
            batch: the rows.
            candidates: rows to ask for; the others are False in the answer.
            checked: paths compared already for this batch; they are skipped, and those compared now are added.
        """
        same = np.zeros(len(candidates), dtype=bool)
        others: dict[int, Mapping[str, Any]] = {}
        snapshot = table.current_snapshot()
        if snapshot is None or not candidates.any():
            return InTable(same, others)
        first, last = self.reach(batch)
        paths = [file.path for file in plan_files(table, snapshot.snapshot_id, start_us=first, end_us=last + 1)]
        asked = AskedRuns.of(batch)
        for path in paths:
            if path not in checked:
                met = list(self._meet(table.io, path, batch, asked, candidates))
                if met:
                    others |= self._tell_apart(table.io, path, batch, met, same)
        checked.update(paths)
        return InTable(same, {row: other for row, other in others.items() if not same[row]})

    def in_files(self, io: FileIO, paths: Sequence[str], batch: OrderedBatch, candidates: Mask) -> Mask:
        """Which of the candidate rows (in file order) carry an id that any of these data files holds near their times."""
        found = np.zeros(len(candidates), dtype=bool)
        asked = AskedRuns.of(batch)
        for path in paths:
            for met in self._meet(io, path, batch, asked, candidates):
                found[met.rows] = True
        return found

    def reach(self, batch: OrderedBatch) -> tuple[int, int]:
        """From when until when (inclusive) rows of the table can tell the batch's events."""
        return int(batch.time.min()) - self.tolerance_us, int(batch.time.max()) + self.tolerance_us

    def _meet(self, io: FileIO, path: str, batch: OrderedBatch, asked: AskedRuns, candidates: Mask) -> Iterator[_Met]:
        """The candidates whose ids the file holds, by row group."""
        ends = self._ends.get(path)
        if ends is not None and not self._may_hold(ends, batch, asked, candidates):
            return
        bounds = self._bounds.get(path)
        if bounds is None:
            bounds = self._bounds.put(path, read_bounds(io, path, self.data_type))
        near: dict[int, Ints] = {}
        for number, group in enumerate(bounds):
            runs = group.runs_near(asked, self.tolerance_us)
            if len(runs) and len(rows := self._rows_near(batch, asked, runs, group.first, group.last, candidates)):
                near[number] = rows
        for number, held in self._load(io, path, list(near)):
            rows = near[number]
            mine, places = held.ids.pairs(batch.ids_at(rows))
            # An id says its symbol, where its scope is no whole venue: then it says it only within one symbol.
            codes = np.array([batch.numbers.get(symbol, -1) for symbol in held.symbols], dtype=np.int32)
            same = codes[held.codes[places]] == batch.codes[rows[mine]]
            if same.any():
                yield _Met(number, rows[mine[same]], places[same])

    def _may_hold(self, ends: _Ends, batch: OrderedBatch, asked: AskedRuns, candidates: Mask) -> bool:
        """Whether the file must be looked into: what is remembered of its end does not answer."""
        numbers = np.array([ends.numbers.get(symbol, -1) for symbol in asked.symbols], dtype=np.int64)
        runs = np.flatnonzero(numbers >= 0)
        runs = runs[
            (asked.first[runs] <= ends.last[numbers[runs]] + self.tolerance_us)
            & (asked.last[runs] >= ends.first[numbers[runs]] - self.tolerance_us)
        ]
        if not len(runs):
            return False
        first, last = ends.first[numbers[runs]], ends.last[numbers[runs]]
        rows = self._rows_near(batch, asked, runs, first, last, candidates)
        known_from = np.full(len(numbers), _LAST, dtype=np.int64)
        known_from[runs] = last - self.tolerance_us
        before = batch.time[rows] < np.repeat(known_from, asked.rows)[rows]
        return bool(before.any()) or len(ends.ids.pairs(batch.ids_at(rows))[0]) > 0

    def _rows_near(
        self, batch: OrderedBatch, asked: AskedRuns, runs: Ints, first: Ints | int, last: Ints | int, candidates: Mask
    ) -> Ints:
        """The candidates of these runs from `first` to `last` (inclusive, of each run or of all), widened by the tolerance."""
        low = np.full(len(asked.rows), _LAST, dtype=np.int64)
        high = np.full(len(asked.rows), -_LAST, dtype=np.int64)
        low[runs], high[runs] = first - self.tolerance_us, last + self.tolerance_us
        near = (batch.time >= np.repeat(low, asked.rows)) & (batch.time <= np.repeat(high, asked.rows))
        return np.flatnonzero(near & candidates)

    def _load(self, io: FileIO, path: str, groups: list[int]) -> Iterator[tuple[int, HeldGroup]]:
        missing: list[int] = []
        for group in groups:
            held = self._held.get((path, group))
            if held is None:
                missing.append(group)
            else:
                yield group, held
        if missing:
            self.files_read += 1
            self.groups_read += len(missing)
            for group, held in read_held(io, path, missing):
                yield group, self._held.put((path, group), held)

    def _tell_apart(
        self, io: FileIO, path: str, batch: OrderedBatch, met: list[_Met], same: Mask
    ) -> Mapping[int, Mapping[str, Any]]:
        """Look at what the matched rows say. Marks those that tell the same event; gives the rows that the others met."""
        content, time = CONTENT[self.data_type], EVENT_TIME[self.data_type]
        theirs = read_rows(io, path, {each.group: each.places for each in met}, [time, *content])
        rows = np.concatenate([each.rows for each in met])
        is_same = within(batch.time[rows], int64s(theirs.column(time)), self.tolerance_us)
        is_same &= alike(batch.columns_at(rows, content), theirs.select(content))
        same[rows[is_same]] = True
        if is_same.all():
            return {}
        edges = np.cumsum([len(each.rows) for each in met])[:-1]
        differing = {
            each.group: each.places[~of_group] for each, of_group in zip(met, np.split(is_same, edges), strict=True)
        }
        told = read_rows(io, path, differing, [time, *content, *LINEAGE]).to_pylist()
        return {row: other | {"file": path} for row, other in zip(rows[~is_same].tolist(), told, strict=True)}


def _rows_of_ends(ends: _Ends) -> int:
    return len(ends.numbers) + len(ends.ids.words)


def _rows(group: HeldGroup) -> int:
    return len(group.codes)
