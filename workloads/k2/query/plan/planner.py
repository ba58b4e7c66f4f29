"""From a question to what must be read: the snapshots that answer, and the files of them that may hold the rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from k2.lake.reader import ColumnInfo, SnapshotInfo, TableReader, TableState
from k2.lake.scan import DataFileRef, SnapshotFiles
from k2.model.table_names import TableNames, names_of
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.tally import tally
from k2.obs.traces import span
from k2.query.asked.requests import At, TableSnapshots, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.overlaps import left_out
from k2.query.plan.pinned import Pinned, TableAt, each_topic_once
from k2.query.plan.snapshot_choice import choose
from k2.query.plan.visible_files import seen_files
from k2.query.rows import deletes
from k2.query.rows.errors import SnapshotGoneError, UnreadableError
from k2.query.rows.letters import LetterSource
from k2.query.rows.relation import Relation, TableRows
from k2.query.rows.tail_blocks import Wanted
from k2.query.rows.tail_view import TailSource
from k2.query.rows.visibility import EVERYTHING, Sight
from k2.query.rows.widest import united, widest


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans questions about the tables of one catalog, for one who may see `sight`. Threads may share it."""

    reader: TableReader
    tables: Mapping[DataType, TableNames]
    sight: Sight = EVERYTHING
    directory: SymbolDirectory | None = None  # needed where the sight leaves some rows out
    tails: TailSource | None = None  # where the service knows of Kafka
    letters: LetterSource | None = None  # the same

    def names(self, data_type: DataType) -> tuple[str, ...]:
        """The tables of a data type, the main one first; a `ForbiddenError` where it may not be asked for."""
        self.sight.check(data_type)
        return names_of(self.tables[data_type])

    def states(self, data_type: DataType) -> list[TableState]:
        """The tables as they are now; raises as `TableReader.state` does, and `ForbiddenError`."""
        return [self.reader.state(name) for name in self.names(data_type)]

    def tails_for(self, at: At) -> TailSource | None:
        """Where the rows beyond the snapshots come from; None where there shall be none."""
        return None if at.is_past or at.hybrid is False else self.tails

    def snapshots(self, data_type: DataType, at: At) -> TableSnapshots:
        """What would answer, without its files; raises as `pin` does, and a `WorldError` while the catalog is silent."""
        states = [self.reader.state(name) for name in self._asked(data_type, at)]
        chosen = choose(states, at, time.time_ns() // 1000)
        return tuple((state.identifier, None if found is None else found.id) for state, found in chosen)

    def pin(self, data_type: DataType, at: At) -> Pinned:
        """Choose the snapshots that answer.

        Raises:
            ForbiddenError: this kind of data may not be asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            TableMissingError, WorldError: see `TableReader.known`.
        """
        started = time.perf_counter()
        with span("plan", {"k2.data_type": str(data_type)}) as told:
            pinned = self._pinned(data_type, at)
            told.set({f"k2.snapshot.{table}": str(found) for table, found in pinned.snapshots})
        took = time.perf_counter() - started
        metrics.PLAN_DURATION.observe(took)
        counted = tally()
        counted.plan_seconds += took
        counted.snapshots.update(pinned.snapshots)
        return pinned

    def _pinned(self, data_type: DataType, at: At) -> Pinned:
        tails = self.tails_for(at)
        names = self._asked(data_type, at)
        with ExitStack() as held:
            # Nothing that lies between a snapshot and its tail may be trimmed before both are chosen.
            if tails is not None:
                for name in names:
                    held.enter_context(tails.held(name))
            states = [self.reader.known(name) for name in names]
            chosen = choose(states, at, time.time_ns() // 1000)
            tables = tuple(self._at(data_type, at, *each) for each in chosen)
        pinned = Pinned(each_topic_once(tables), self.sight)
        if self.sight.is_partial and self.directory is not None:
            pinned = replace(pinned, tables=tuple(self._seen(each, self.directory) for each in pinned.tables))
        return pinned

    def pin_table(self, identifier: str, at: At) -> Pinned:
        """The same of any one table, without what topics hold beyond it; for one who may see everything.

        Raises:
            SnapshotGoneError: the snapshot or time is not retained, or the pin does not hold the table.
            TableMissingError, WorldError: see `TableReader.state`.
        """
        self.sight.check_whole(f"The table {identifier}")
        state = self.reader.state(identifier)
        ((state, snapshot),) = choose([state], at, time.time_ns() // 1000)
        files = SnapshotFiles(()) if snapshot is None else self.reader.files(state, snapshot.id)
        return Pinned((TableAt(state, snapshot, files),), self.sight)

    def _asked(self, data_type: DataType, at: At) -> tuple[str, ...]:
        """The tables that may have a part in the answer."""
        names = self.names(data_type)
        if not at.tables:
            return names
        for name, _ in at.tables:
            if name not in names:
                raise SnapshotGoneError(
                    f"{name} is no table of {data_type.value} here (any more)",
                    expected=" or ".join(names),
                    remedy="Ask again from the beginning",
                )
        return tuple(name for name, _ in at.tables)

    def _at(self, data_type: DataType, at: At, state: TableState, snapshot: SnapshotInfo | None) -> TableAt:
        files = SnapshotFiles(()) if snapshot is None else self.reader.files(state, snapshot.id)
        tails = self.tails_for(at)
        tail = None if tails is None else tails.after(state, snapshot, files, data_type)
        # What a snapshot holds never changes, whatever the catalog would say.
        is_fixed = at.snapshot is not None or bool(at.tables and not at.ends)
        first = dict(at.tables).get(state.identifier) if at.ends else None
        named = () if first is None or first not in state.by_id else state.columns(state.by_id[first])
        return TableAt(state, snapshot, files, tail, None if is_fixed else state.unconfirmed, named)

    def _seen(self, table: TableAt, directory: SymbolDirectory) -> TableAt:
        """The table's files as one who sees a part of its rows is told of them."""
        if table.snapshot is None:
            return table
        everything = _relation(table, table.files.files, self.sight)
        return replace(table, files=seen_files(directory, table.state.uuid, table.snapshot.id, everything))

    def plan(self, pinned: Pinned, symbols: tuple[str, ...], exchange: str | None, window: Window) -> Relation:
        """What may hold rows of any of the symbols (none: all) of the exchange (None: any) in the window.

        Of several tables those are asked that may hold such rows at any time, so that the types of an answer do not depend on
        its window; the main one where none may.

        Raises:
            UnreadableError: rows of one of the files were deleted in a way that this engine does not read.
        """
        found = self._planned(pinned, symbols, exchange, window)
        return replace(found, series=pinned.series) if pinned.series else found

    def _planned(self, pinned: Pinned, symbols: tuple[str, ...], exchange: str | None, window: Window) -> Relation:
        wanted = _Conditions.of(pinned.sight, symbols, exchange, window)
        parts = [_part(table, pinned.sight, wanted) for table in pinned.tables]
        if len(parts) == 1:
            return parts[0]
        ever = wanted.at_any_time(pinned.sight)
        pairs = list(zip(parts, pinned.tables, strict=True))
        asked = [(part, table) for part, table in pairs if part or ever.may_be_in(table, pinned.sight)]
        if len(asked) < 2:
            return asked[0][0] if asked else parts[0]
        others = left_out([table for _, table in asked])
        return united([part.leaving(out) for (part, _), out in zip(asked, others, strict=True)])

    def columns(self, pinned: Pinned, asked: Sequence[tuple[tuple[str, ...], str]]) -> tuple[ColumnInfo, ...]:
        """The columns of an answer about these symbols of these exchanges together, whatever its window; raises as `plan` does."""
        if len(pinned.tables) == 1:
            return pinned.columns
        found = tuple(self.plan(pinned, symbols, exchange, Window()).columns for symbols, exchange in asked)
        return widest(found or (pinned.tables[0].columns,))


@dataclass(frozen=True, slots=True)
class _Conditions:
    """Which rows are asked for, of those that may be seen; None is no condition."""

    rows: Wanted
    symbols: frozenset[str] | None
    exchanges: frozenset[str] | None
    start_us: int | None
    end_us: int | None

    @classmethod
    def of(cls, sight: Sight, symbols: tuple[str, ...], exchange: str | None, window: Window) -> _Conditions:
        asked = None if exchange is None else frozenset((exchange,))
        start_us = window.start_us
        if sight.oldest_us is not None:
            start_us = sight.oldest_us if start_us is None else max(start_us, sight.oldest_us)
        return cls(
            Wanted(symbols, exchange, start_us, window.end_us),
            _both(frozenset(symbols) or None, sight.symbols),
            _both(asked, sight.exchanges),
            start_us,
            window.end_us,
        )

    def at_any_time(self, sight: Sight) -> _Conditions:
        """The same without a window, as far back as may be seen."""
        rows = replace(self.rows, start_us=sight.oldest_us, end_us=None)
        return replace(self, rows=rows, start_us=sight.oldest_us, end_us=None)

    def files_of(self, table: TableAt) -> tuple[DataFileRef, ...]:
        """The files that may hold such rows, oldest first."""
        return table.files.select(
            symbols=self.symbols, exchanges=self.exchanges, start_us=self.start_us, end_us=self.end_us
        )

    def may_be_in(self, table: TableAt, sight: Sight) -> bool:
        """Whether a file of the table may hold such a row, or its tail has one."""
        if self.files_of(table):
            return True
        return table.tail is not None and table.tail.rows(self.rows, sight, table.columns) is not None


def _part(table: TableAt, sight: Sight, wanted: _Conditions) -> Relation:
    """What one table may hold of it."""
    relation = _relation(table, wanted.files_of(table), sight)
    if table.tail is None:
        return relation
    return replace(relation, tail=table.tail.rows(wanted.rows, sight, relation.columns))


def _relation(table: TableAt, files: tuple[DataFileRef, ...], sight: Sight) -> Relation:
    state, columns, of_files = table.state, table.columns, len(table.files.files)
    if not any(file.deletes for file in files):
        return Relation((TableRows(state.identifier, columns, state.roots, of_files),), columns, files, sight)
    odd = next((delete for file in files for delete in file.deletes if not delete.parquet), None)
    if odd is not None:
        raise UnreadableError(
            f"Rows of {state.identifier} were deleted by a file that is not Parquet",
            found=odd.path,
            expected="delete files of format version 2, in Parquet",
            remedy="Compact the table with the engine that deleted the rows",
        )
    hidden = deletes.hidden(columns, state.schemas.values(), deletes.equality_ids(files))
    rows = TableRows(state.identifier, columns, state.roots, of_files, hidden)
    return Relation((rows,), columns, files, sight)


def _both(asked: frozenset[str] | None, seen: frozenset[str] | None) -> frozenset[str] | None:
    """What lies in both; None is no bound."""
    if asked is None or seen is None:
        return seen if asked is None else asked
    return asked & seen
