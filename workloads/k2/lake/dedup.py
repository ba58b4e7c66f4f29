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
import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from k2.lake.batch import Ints, Mask, OrderedBatch, Words, int64s
from k2.lake.row_groups import AskedRuns, GroupBounds, HeldGroup, read_bounds, read_held, read_rows
from k2.lake.same_event import CONTENT, TOLERANCE_US, alike, contained, pairs, within
from k2.lake.scan import plan_files
from k2.model.events import EVENT_TIME
from k2.model.lru import Lru
from k2.model.tables import LINEAGE
from k2.model.topics import DataType

CACHED_ROWS = 2_000_000
"""Rows whose ids are kept in memory (28 bytes each) after they were read from a file; as many again of files' ends."""

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
class _Span:
    """The range of times, inclusive, and the ids of the last rows: around where the next batch of a live feed begins."""

    first: int
    last: int
    end_ids: Words


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
    _spans: Lru[str, Mapping[str, _Span]] = field(default_factory=lambda: Lru(CACHED_ROWS, _ends))
    _bounds: Lru[str, tuple[GroupBounds, ...]] = field(default_factory=lambda: Lru(_CACHED_GROUPS, len))
    _held: Lru[tuple[str, int], HeldGroup] = field(default_factory=lambda: Lru(CACHED_ROWS, _rows))
    files_read: int = 0
    groups_read: int = 0

    def remember(self, path: str, batch: OrderedBatch, kept: Mask) -> None:
        """Note what a file just written from rows of this batch can hold, without reading it."""
        spans: dict[str, _Span] = {}
        for run in batch.runs:
            rows = np.flatnonzero(kept[run.start : run.stop])
            if not len(rows):
                continue
            time = batch.time[run.start : run.stop]
            last = int(time[rows[-1]])
            # Twice the tolerance: the next batch may begin a little before this one's end and still be decided from here.
            end = run.start + int(np.searchsorted(time, last - 2 * self.tolerance_us))
            chosen = kept[end : run.stop]
            spans[run.symbol] = _Span(int(time[rows[0]]), last, batch.ids(end, run.stop)[chosen])
        self._spans.put(path, spans)

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
        spans = self._spans.get(path)
        if spans is not None and not self._may_hold(spans, batch, candidates):
            return
        bounds = self._bounds.get(path)
        if bounds is None:
            bounds = self._bounds.put(path, read_bounds(io, path, self.data_type))
        near = {
            number: runs
            for number, group in enumerate(bounds)
            if len(runs := group.runs_near(asked, self.tolerance_us))
        }
        for number, held in self._load(io, path, list(near)):
            rows, places = self._pairs(batch, near[number], held, candidates)
            if len(rows):
                yield _Met(number, rows, places)

    def _may_hold(self, spans: Mapping[str, _Span], batch: OrderedBatch, candidates: Mask) -> bool:
        """Whether the file must be looked into: what is remembered of its end does not answer."""
        for run in batch.runs:
            span = spans.get(run.symbol)
            if span is None:
                continue
            time = batch.time[run.start : run.stop]
            low = run.start + int(np.searchsorted(time, span.first - self.tolerance_us))
            high = run.start + int(np.searchsorted(time, span.last + self.tolerance_us, side="right"))
            if low >= high or not candidates[low:high].any():
                continue
            if batch.time[low] < span.last - self.tolerance_us:
                return True
            if (contained(batch.ids(low, high), span.end_ids) & candidates[low:high]).any():
                return True
        return False

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
            for group, held in read_held(io, path, missing, self.data_type):
                yield group, self._held.put((path, group), held)

    def _pairs(self, batch: OrderedBatch, runs: Ints, held: HeldGroup, candidates: Mask) -> tuple[Ints, Ints]:
        rows, places = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for number in runs.tolist():
            run = batch.runs[number]
            of_symbol = held.get(run.symbol)
            if of_symbol is None:
                continue
            time = batch.time[run.start : run.stop]
            low = run.start + int(np.searchsorted(time, of_symbol.time[0] - self.tolerance_us))
            high = run.start + int(np.searchsorted(time, of_symbol.time[-1] + self.tolerance_us, side="right"))
            if low >= high or not candidates[low:high].any():
                continue
            start = int(np.searchsorted(of_symbol.time, batch.time[low] - self.tolerance_us))
            stop = int(np.searchsorted(of_symbol.time, batch.time[high - 1] + self.tolerance_us, side="right"))
            mine, theirs = pairs(batch.ids(low, high), of_symbol.ids[start:stop])
            wanted = candidates[low + mine]
            rows.append(low + mine[wanted])
            places.append(of_symbol.places[start + theirs[wanted]].astype(np.int64))
        return np.concatenate(rows), np.concatenate(places)

    def _tell_apart(
        self, io: FileIO, path: str, batch: OrderedBatch, met: list[_Met], same: Mask
    ) -> Mapping[int, Mapping[str, Any]]:
        """Look at what the matched rows say. Marks those that tell the same event; gives the rows that the others met."""
        content, time = CONTENT[self.data_type], EVENT_TIME[self.data_type]
        theirs = read_rows(io, path, {each.group: each.places for each in met}, [time, *content, *LINEAGE])
        rows = np.concatenate([each.rows for each in met])
        is_same = within(batch.time[rows], int64s(theirs.column(time)), self.tolerance_us)
        is_same &= alike(batch.columns_at(rows, content), theirs.select(content))
        same[rows[is_same]] = True
        differing = np.flatnonzero(~is_same)
        told = theirs.take(pa.array(differing)).to_pylist() if len(differing) else []
        return {row: other | {"file": path} for row, other in zip(rows[differing].tolist(), told, strict=True)}


def _ends(spans: Mapping[str, _Span]) -> int:
    return sum(1 + len(span.end_ids) for span in spans.values())


def _rows(group: HeldGroup) -> int:
    return sum(len(of_symbol.time) for of_symbol in group.values())
