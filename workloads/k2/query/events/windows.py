"""Reading in event order without holding everything: a table's files cut into stretches of time that do not overlap.

Within a stretch DuckDB sorts; between stretches the order is free. A stretch with too many rows is cut by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from k2.lake.scan import DataFileRef
from k2.model.times import SECOND_US
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource

FIRST_FILES = 8
"""Files that a search for the first rows begins with: two days of a table as the sink leaves it."""

_BIN_US = SECOND_US


@dataclass(frozen=True, slots=True)
class ReplayWindow:
    """A stretch of time and what holds it. Windows follow each other and do not overlap."""

    relation: Relation
    which: sql.Filter


def clusters(files: Sequence[DataFileRef]) -> Iterator[tuple[DataFileRef, ...]]:
    """Groups of files whose times overlap, oldest first; no instant lies in two groups. Files come sorted by start."""
    group: list[DataFileRef] = []
    end_us = 0
    for file in files:
        if group and file.start_us > end_us:
            yield tuple(group)
            group = []
        end_us = max(end_us, file.end_us) if group else file.end_us
        group.append(file)
    if group:
        yield tuple(group)


def growing_groups(files: Sequence[DataFileRef], enough_rows: int | None = None) -> Iterator[tuple[DataFileRef, ...]]:
    """Clusters joined so that a search for the first rows reads little, and one that finds few ends in few steps.

    The first stretch has at least `FIRST_FILES` files, each next one twice as many: a query costs more than another file.
    Where most rows match, files with `enough_rows` rows are enough for the first.
    """
    joined: list[DataFileRef] = []
    target = FIRST_FILES
    for cluster in clusters(files):
        joined += cluster
        if len(joined) >= target or (enough_rows is not None and sum(file.rows for file in joined) >= enough_rows):
            yield tuple(joined)
            joined, enough_rows = [], None
            target *= 2
    if joined:
        yield tuple(joined)


def with_tail(relation: Relation, groups: Iterable[Sequence[DataFileRef]]) -> Iterator[Relation]:
    """The relation in parts that follow each other in time: groups of its files, each with the tail's rows up to its end."""
    tail = TailCut(relation)
    for group in groups:
        yield replace(relation.of(group), tail=tail.until(max(file.end_us for file in group)))
    rest = tail.rest()
    if rest is not None:
        yield replace(relation.of(()), tail=rest)


class TailCut:
    """The tail of a relation given away in stretches of time, oldest first."""

    def __init__(self, relation: Relation) -> None:
        self._rows = relation.tail
        self._given = 0
        if self._rows is not None:
            times = self._rows.column(sql.time_of(relation)).cast(pa.int64()).to_numpy()
            self._order = np.argsort(times, kind="stable")
            self._times = times[self._order]

    def until(self, end_us: int) -> pa.Table | None:
        """Rows up to and with that instant that were not given yet; None: there are none."""
        if self._rows is None:
            return None
        return self._next(int(np.searchsorted(self._times, end_us, side="right")))

    def rest(self) -> pa.Table | None:
        """All that is left; None: nothing."""
        return None if self._rows is None else self._next(len(self._times))

    def _next(self, stop: int) -> pa.Table | None:
        chosen = self._order[self._given : stop]
        self._given = max(stop, self._given)
        return None if self._rows is None or not len(chosen) else self._rows.take(pa.array(chosen))


def windows_of(engine: RowSource, relation: Relation, which: sql.Filter, most_rows: int) -> Iterator[ReplayWindow]:
    """Cut a relation into windows of at most about so many rows each (the tail's not counted), oldest first."""
    tail = TailCut(relation)
    for window in _file_windows(engine, relation, which, most_rows):
        end_us = max((file.end_us for file in window.relation.files), default=0)
        if window.which.end_us is not None:
            end_us = min(end_us, window.which.end_us - 1)
        yield replace(window, relation=replace(window.relation, tail=tail.until(end_us)))
    rest = tail.rest()
    if rest is not None:
        yield ReplayWindow(replace(relation.of(()), tail=rest), which)


def _file_windows(engine: RowSource, relation: Relation, which: sql.Filter, most_rows: int) -> Iterator[ReplayWindow]:
    joined: list[DataFileRef] = []
    for cluster in clusters(relation.files):
        rows = sum(file.rows for file in cluster)
        if joined and rows + sum(file.rows for file in joined) > most_rows:
            yield ReplayWindow(relation.of(joined), which)
            joined = []
        if rows > most_rows:
            yield from _cut(engine, relation.of(cluster), which, most_rows)
        else:
            joined += cluster
    if joined:
        yield ReplayWindow(relation.of(joined), which)


def _cut(engine: RowSource, cluster: Relation, which: sql.Filter, most_rows: int) -> Iterator[ReplayWindow]:
    """Cut one cluster by the number of matching rows in each second."""
    bins = engine.fetch("replay", sql.histogram(cluster, which, _BIN_US)).to_pydict()
    start_us, rows = which.start_us, 0
    for number, count in zip(bins["bin"], bins["rows"], strict=True):
        edge = number * _BIN_US
        if rows and rows + count > most_rows:
            yield _window(cluster, which, start_us, edge)
            start_us, rows = edge, 0
        rows += count
    if rows:
        yield _window(cluster, which, start_us, which.end_us)


def _window(cluster: Relation, which: sql.Filter, start_us: int | None, end_us: int | None) -> ReplayWindow:
    files = [
        file
        for file in cluster.files
        if (start_us is None or file.end_us >= start_us) and (end_us is None or file.start_us < end_us)
    ]
    return ReplayWindow(cluster.of(files), replace(which, start_us=start_us, end_us=end_us))
