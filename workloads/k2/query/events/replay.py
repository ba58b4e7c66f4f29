"""Replay of several tables as one stream: history from snapshots, the topics' tails, and then what comes in, without a seam.

History and tail are one relation in the total order. What comes in afterwards is given in the order of arrival, each batch
of it ordered in itself: an event that is late is given late, never left out. Memory does not grow with the replay.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from k2.lake.reader import TableMissingError
from k2.model.errors import UserError, WorldError
from k2.model.prints import EVERY_PRINT
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, Ends, ReplayQuery
from k2.query.asked.requests import CURRENT, At
from k2.query.events import merged
from k2.query.events.merged import Part
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows import sql
from k2.query.rows.adjusted import SymbolSteps
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource

BATCH_ROWS = 65_536
_LIVE_SECONDS = 0.02
_CATALOG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ReplayBatch:
    """Some events in order, and where the replay stands after any of them.

    `rows` have `type` ("quote" or "trade") and the columns of all tables, null where an event has none. `turn` counts the
    seeks of the player that gave them.
    """

    rows: pa.RecordBatch
    _all: pa.RecordBatch
    _cursor: Cursor
    turn: int = 0

    @property
    def cursor(self) -> Cursor:
        """Where to go on after the last of these rows."""
        if not self._all.num_rows:
            return self._cursor
        return self._cursor.after(merged.key_at(self._all, self._all.num_rows - 1))

    @property
    def is_live(self) -> bool:
        """Whether the events came in after the replay's history ended."""
        return self._cursor.live is not None

    def slice(self, start: int, count: int) -> ReplayBatch:
        """Some of the rows."""
        return replace(self, rows=self.rows.slice(start, count), _all=self._all.slice(start, count))


class ReplayFactors(Protocol):
    """What adjusts the rows of one replay (`k2.query.adjust.replays.KnownFactors`)."""

    def fixed(self, query: ReplayQuery, pinned: Mapping[DataType, Pinned]) -> ReplayQuery:
        """The question, by what its history that is pinned is adjusted from now on; raises as `Adjuster.adjusted` does."""
        ...

    def of_history(self, cursor: Cursor, data_type: DataType, pinned: Pinned) -> Pinned:
        """The rows that the cursor fixed, adjusted by what it fixed; raises as `Adjuster.adjusted` does."""
        ...

    def of_news(
        self, query: ReplayQuery, data_type: DataType, pinned: Pinned, rows: Relation
    ) -> tuple[SymbolSteps, ...]:
        """The factors of rows that came in after the history, by what is known now; raises as `Adjuster.adjusted` does."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay, from its beginning or from a cursor.

    Args:
        planner: chooses snapshots, files and tails.
        engine: reads them.
        start: where to go on; `Replay.begin` makes the first.
        lineage: rows have the columns that tell where in Kafka they came from.
        factors: adjusts the rows of a question that asks for it.
    """

    planner: Planner
    engine: RowSource
    start: Cursor
    batch_rows: int = BATCH_ROWS
    window_rows: int = merged.WINDOW_ROWS
    lineage: bool = False
    factors: ReplayFactors | None = None

    @classmethod
    def begin(
        cls, planner: Planner, engine: RowSource, query: ReplayQuery, factors: ReplayFactors | None = None
    ) -> Replay:
        """A replay from its beginning: fixes the snapshots, and the ends of their tails.

        Raises:
            UserError: no kind of event, or one that cannot be replayed; or it cannot be adjusted.
            SnapshotGoneError: a snapshot or time is not retained.
        """
        if not query.data_types or any(each not in merged.RANKS for each in query.data_types):
            raise UserError(
                "These tables cannot be replayed",
                found=", ".join(query.data_types),
                expected="trades, quotes, or both",
            )
        pinned = {each: planner.pin(each, (query.at or {}).get(each, CURRENT)) for each in query.data_types}
        snapshots = {each: found.snapshots for each, found in pinned.items()}
        ends = {each: found.ends for each, found in pinned.items() if found.is_hybrid}
        if query.adjusted is not None:
            query = _asked(factors).fixed(query, pinned)
        return cls(planner, engine, Cursor(query, snapshots, ends), factors=factors)

    def from_time(self, start_us: int) -> Replay:
        """The same replay of the same rows, from that time on."""
        query = self.start.query
        window = query.window.starting(start_us)
        cursor = replace(self.start, query=replace(query, window=window), key=(), live=None)
        return replace(self, start=cursor)

    def page(self, limit: int) -> tuple[ReplayBatch, bool]:
        """At most `limit` rows of history from where it stands, and whether that is all there is."""
        found: list[pa.Table] = []
        for window in merged.windows(self.engine, self._parts(), self.window_rows):
            if not any(part.relation for part in window):
                continue
            rows = self.engine.fetch("replay", merged.statement(window, limit=limit + 1))
            found.append(self._cast(rows, merged.schema_of(window)))
            if sum(each.num_rows for each in found) > limit:
                break
        rows = pa.concat_tables(found).combine_chunks() if found else None
        if rows is None or not rows.num_rows:
            return self._batch(_NO_ROWS, self.start), True
        return self._batch(rows.to_batches()[0], self.start).slice(0, limit), rows.num_rows <= limit

    def batches(self, stop: threading.Event | None = None) -> Generator[ReplayBatch]:
        """All batches from where it stands. With `follow` it ends only when `stop` is set; then batches may be empty."""
        cursor = self.start
        if cursor.live is None:
            for window in merged.windows(self.engine, self._parts(), self.window_rows):
                if not any(part.relation for part in window):
                    continue
                schema = merged.schema_of(window)
                for batch in self.engine.stream("replay", merged.statement(window), batch_rows=self.batch_rows):
                    if stop is not None and stop.is_set():
                        return
                    whole = self._cast(pa.Table.from_batches([batch]), schema).to_batches()
                    if whole:
                        yield self._batch(whole[0], cursor)
            if not cursor.query.follow:
                return
            cursor = replace(cursor, key=(), live=self._reached())
        yield from self._follow(cursor, stop or threading.Event())

    # --- inside ------------------------------------------------------------------------------------------------------

    def _parts(self) -> list[Part]:
        """What is read of each data type, after the cursor's key."""
        query = self.start.query
        found: list[Part] = []
        for data_type in query.data_types:
            pinned = self._pinned(data_type)
            if query.adjusted is not None:
                pinned = _asked(self.factors).of_history(self.start, data_type, pinned)
            which = _which(query, data_type)
            window = query.window
            if self.start.key and isinstance(instant := self.start.key[0][1], int):
                window = query.window.starting(instant)
            part = Part(data_type, self.planner.plan(pinned, query.symbols, query.exchange, window), which)
            ends = self.start.ends.get(data_type, ())
            part = replace(part, which=replace(which, before=pinned.clipped(At(ends=ends)) if ends else ()))
            found.append(merged.after(part, self.start.key) if self.start.key else part)
        return found

    def _pinned(self, data_type: DataType) -> Pinned:
        """The rows that the cursor fixed: its snapshots', or where it had tails, all up to the tails' ends."""
        ends = self.start.ends.get(data_type, ())
        return self.planner.pin(data_type, At(ends=ends, tables=self.start.snapshots[data_type]))

    def _reached(self) -> dict[DataType, Ends]:
        """Where live begins: at the ends of the tails, or where the snapshots end."""
        reached: dict[DataType, Ends] = {}
        for data_type in self.start.query.data_types:
            ends = self.start.ends.get(data_type)
            if ends is None:
                in_files = self._pinned(data_type).in_files
                ends = tuple((topic, partition, following) for (topic, partition), following in in_files.items())
            reached[data_type] = ends
        return reached

    def _follow(self, cursor: Cursor, stop: threading.Event) -> Iterator[ReplayBatch]:
        """What comes in, as it comes: batch after batch of what lies between two sets of offsets."""
        read: dict[
            DataType, frozenset[str]
        ] = {}  # files that were there at the step before: what is new is not in them
        while not stop.is_set():
            pinned = self._current(cursor.query)
            before = cursor.live or {}
            up_to = cursor.up_to or {each: _further(before.get(each, ()), found) for each, found in pinned.items()}
            news = {
                each: self._news(cursor, each, found, up_to[each], read.get(each, frozenset()))
                for each, found in pinned.items()
                if up_to.get(each, ()) != before.get(each, ())
            }
            # A step whose end a cursor fixed may end within files that were committed since: those are not read yet.
            read = {each: found.paths for each, found in pinned.items() if not _is_within(found, up_to.get(each, ()))}
            step = replace(cursor, up_to=up_to)
            given = False
            if any(part.relation for part in news.values()):
                # Of those without news too: every batch has the columns of all.
                parts = [news.get(each) or self._nothing(cursor.query, each, found) for each, found in pinned.items()]
                schema = merged.schema_of(parts)
                for batch in self.engine.stream("replay", merged.statement(parts), batch_rows=self.batch_rows):
                    for whole in self._cast(pa.Table.from_batches([batch]), schema).to_batches():
                        given = True
                        yield self._batch(whole, step)
            cursor = replace(cursor, key=(), live={**before, **up_to}, up_to=None)
            if not given:
                yield self._batch(_NO_ROWS, cursor)  # a moment for whoever reads to see that it was told to stop
                self._wait(list(pinned.values()), stop)

    def _current(self, query: ReplayQuery) -> dict[DataType, Pinned]:
        found: dict[DataType, Pinned] = {}
        for data_type in query.data_types:
            with contextlib.suppress(TableMissingError):  # it may be made any time
                found[data_type] = self.planner.pin(data_type, CURRENT)
        return found

    def _news(self, cursor: Cursor, data_type: DataType, pinned: Pinned, up_to: Ends, read: frozenset[str]) -> Part:
        """The rows of a data type beyond the cursor: the tails', and the files' where a sink has overtaken them."""
        query, before = cursor.query, (cursor.live or {}).get(data_type, ())
        relation = self.planner.plan(pinned, query.symbols, query.exchange, query.window)
        known = _by_place(before)
        files = [file for file in relation.files if file.path not in read]
        if all(known.get(place, -1) >= end for place, end in pinned.in_files.items()):
            files = []
        which = replace(_which(query, data_type), beyond=before, before=pinned.clipped(At(ends=up_to)))
        news = replace(relation.of(files), tail=relation.tail)
        if query.adjusted is not None and news:
            news = replace(news, series=_asked(self.factors).of_news(query, data_type, pinned, news))
        part = Part(data_type, news, which)
        return merged.after(part, cursor.key) if cursor.key else part

    def _nothing(self, query: ReplayQuery, data_type: DataType, pinned: Pinned) -> Part:
        """No row of a data type, but its columns."""
        relation = self.planner.plan(pinned, query.symbols, query.exchange, query.window)
        return Part(data_type, relation.of(()), sql.Filter())

    def _wait(self, pinned: Sequence[Pinned], stop: threading.Event) -> None:
        tails = self.planner.tails_for(CURRENT)
        tables = [table for each in pinned for table in each.tables]
        with_tail = [(table.state.identifier, table.tail) for table in tables if table.tail is not None]
        if tails is None or not with_tail:
            stop.wait(_CATALOG_SECONDS)
            return
        for identifier, tail in with_tail:
            if tails.wait(identifier, tail, _LIVE_SECONDS):
                return

    def _batch(self, whole: pa.RecordBatch, cursor: Cursor) -> ReplayBatch:
        hidden = {merged.RANK} if self.lineage else {merged.RANK, *sql.LINEAGE}
        names = [name for name in whole.schema.names if name not in hidden]
        return ReplayBatch(whole.select(names), whole, cursor)

    def _cast(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """The columns of the schema in its order; those that no table of this stretch has are null."""
        arrays = [
            rows.column(field.name).cast(field.type)
            if field.name in rows.column_names
            else pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
            for field in schema
        ]
        return pa.Table.from_arrays(arrays, schema=schema)


_NO_ROWS = pa.RecordBatch.from_arrays([pa.array([], pa.string())], names=[merged.TYPE])


def _asked(factors: ReplayFactors | None) -> ReplayFactors:
    if factors is None:
        raise WorldError("An adjusted replay was begun without anything that adjusts it")
    return factors


def _by_place(ends: Ends) -> dict[tuple[str, int], int]:
    return {(topic, partition): offset for topic, partition, offset in ends}


def _is_within(pinned: Pinned, ends: Ends) -> bool:
    """Whether these ends lie before the end of what the snapshot's files hold."""
    known = _by_place(ends)
    return any(end > known.get(place, end) for place, end in pinned.in_files.items())


def _which(query: ReplayQuery, data_type: DataType) -> sql.Filter:
    prints = query.prints if data_type is DataType.TRADES else EVERY_PRINT
    return sql.Filter(query.symbols, query.exchange, *query.window.bounds, within=query.window.within, prints=prints)


def _further(before: Ends, pinned: Pinned) -> Ends:
    """The ends of what tables and their tails hold now, never before those that were reached."""
    reached = _by_place(before)
    in_tail = _by_place(pinned.ends)
    for place, offset in (*pinned.in_files.items(), *in_tail.items()):
        reached[place] = max(offset, reached.get(place, 0))
    return tuple((topic, partition, offset) for (topic, partition), offset in sorted(reached.items()))
