"""The tables of a data type at the snapshots that answer a question: one most often, or several that answer together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from k2.lake.offsets import OffsetMap
from k2.lake.reader import ColumnInfo, SnapshotInfo, TableState
from k2.lake.scan import SnapshotFiles
from k2.model.errors import UserError, WorldError
from k2.model.events import EVENT_TIME
from k2.model.prints import EVERY_PRINT, Prints
from k2.query.asked.requests import At, TableSnapshots
from k2.query.plan.provenance import FactorSource, Provenance, SourceTable
from k2.query.rows.adjusted import SymbolSteps
from k2.query.rows.relation import Relation
from k2.query.rows.tail_blocks import Wanted
from k2.query.rows.tail_view import Tail, may_hold
from k2.query.rows.visibility import EVERYTHING, Sight
from k2.query.rows.widest import widest


@dataclass(frozen=True, slots=True)
class TableAt:
    """A table at the snapshot that answers a question, and what of it may be seen: `files` are of that alone.

    Attributes:
        unconfirmed: why the catalog did not say that the snapshot is the one that is asked for.
        named: the columns that the question's first page had: its later pages have them by the same names.
    """

    state: TableState
    snapshot: SnapshotInfo | None
    files: SnapshotFiles
    tail: Tail | None = None
    unconfirmed: str | None = None
    named: tuple[ColumnInfo, ...] = ()

    @property
    def columns(self) -> tuple[ColumnInfo, ...]:
        """The columns as they were at that snapshot; of a later page those of its first, as wide as they are by now."""
        columns = self.state.columns(self.snapshot)
        if not self.named or self.named == columns:
            return columns
        now = {column.field_id: column for column in columns}
        return tuple(replace(now.get(each.field_id, each), name=each.name) for each in self.named)

    @property
    def in_files(self) -> dict[tuple[str, int], int]:
        """How far the snapshot's files reach: (topic id, partition) → next offset."""
        held = {} if self.snapshot is None else self.snapshot.offsets.topics
        return {
            (each.topic_id, number): part.next for each in held.values() for number, part in each.partitions.items()
        }


def each_topic_once(tables: tuple[TableAt, ...]) -> tuple[TableAt, ...]:
    """The tables, with the tail of a topic that several of them record (a feed changed its table) at the one that has read most of it.

    The others' sinks stopped, and what came after that is no more theirs: also where that one's tail is not at hand, for its
    files have what theirs begin with.
    """
    if sum(each.tail is not None for each in tables) < 2:
        return tables
    furthest: dict[tuple[str, int], tuple[int, TableAt]] = {}
    for table in tables:
        for place, start in _read_up_to(table).items():
            if place not in furthest or furthest[place][0] < start:
                furthest[place] = (start, table)
    found: list[TableAt] = []
    for table in tables:
        others = [place for place in _read_up_to(table) if furthest[place][1] is not table]
        found.append(replace(table, tail=table.tail.without(others)) if table.tail is not None and others else table)
    return tuple(found)


def _read_up_to(table: TableAt) -> dict[tuple[str, int], int]:
    """(Topic id, partition) → where the table's tail begins: at what it records, or of what it does not, at its earliest."""
    topics = () if table.tail is None else table.tail.topics
    begun = {(each.topic_id, number): start for each in topics for number, (start, _) in each.ranges.items()}
    recorded = OffsetMap.from_json(table.state.recorded(table.snapshot)).topics.values()
    return begun | {(each.topic_id, number): part.next for each in recorded for number, part in each.partitions.items()}


@dataclass(frozen=True, slots=True)
class Pinned:
    """The tables of a data type at the snapshots that answer, the main one first, and what of them may be seen.

    `series`: the factors that their rows are given with; `factors`: what these were made of.
    """

    tables: tuple[TableAt, ...]
    sight: Sight = EVERYTHING
    series: tuple[SymbolSteps, ...] = ()
    factors: FactorSource | None = None

    @property
    def named(self) -> str:
        """The tables, as a sentence names them."""
        return " and ".join(each.state.identifier for each in self.tables)

    @property
    def columns(self) -> tuple[ColumnInfo, ...]:
        """The columns of all tables, each as wide as the widest has it."""
        return widest(tuple(each.columns for each in self.tables))

    @property
    def snapshots(self) -> TableSnapshots:
        """Each table's snapshot."""
        return tuple(
            (each.state.identifier, None if each.snapshot is None else each.snapshot.id) for each in self.tables
        )

    @property
    def has_data(self) -> bool:
        """Whether anything was ever committed to one of the tables, or is in a tail."""
        return any(
            each.snapshot is not None or (each.tail is not None and bool(each.tail.view.blocks)) for each in self.tables
        )

    @property
    def oldest_us(self) -> int | None:
        """Lower bound of the event times of all files; None when there is none, or a file has no bound."""
        return _bound(min, [each.files.oldest_us for each in self.tables if each.files.files])

    @property
    def newest_us(self) -> int | None:
        """Upper bound of the event times of all files; None when there is none, or a file has no bound."""
        return _bound(max, [each.files.newest_us for each in self.tables if each.files.files])

    @property
    def paths(self) -> frozenset[str]:
        """All files."""
        return frozenset(file.path for each in self.tables for file in each.files.files)

    @property
    def in_files(self) -> dict[tuple[str, int], int]:
        """How far the files of all tables reach: (topic id, partition) → next offset."""
        return _furthest(place for each in self.tables for place in each.in_files.items())

    @property
    def is_hybrid(self) -> bool:
        """Whether what the topics hold beyond the snapshots belongs to it."""
        return any(each.tail is not None for each in self.tables)

    @property
    def ends(self) -> tuple[tuple[str, int, int], ...]:
        """(topic id, partition, offset) up to which the tails reach."""
        return tuple(end for each in self.tables if each.tail is not None for end in each.tail.ends)

    def only(self, identifier: str) -> Pinned:
        """One of the tables alone; a `UserError` when it is not among them."""
        found = tuple(each for each in self.tables if each.state.identifier == identifier)
        if not found:
            raise UserError("The snapshots are of different tables", found=f"{identifier} and {self.named}")
        return replace(self, tables=found)

    def clipped(self, at: At) -> tuple[tuple[str, int, int], ...]:
        """The ends of `at` that rows of these snapshots and their tails go beyond.

        Raises:
            WorldError: the rows up to there are not all to be had now.
        """
        if not at.ends:
            return ()
        in_files, in_tail = self.in_files, {(topic, number): to for topic, number, to in self.ends}
        beyond: list[tuple[str, int, int]] = []
        for topic_id, partition, end in at.ends:
            there = max(in_files.get((topic_id, partition), 0), in_tail.get((topic_id, partition), 0))
            if there < end:
                raise WorldError(
                    "The rows beyond the table's snapshot that the first page was read from are not at hand now"
                )
            if there > end:
                beyond.append((topic_id, partition, end))
        return tuple(beyond)

    def provenance(self, relations: Sequence[Relation] = (), prints: Prints = EVERY_PRINT) -> Provenance:
        """What an answer was read from that was planned as these relations, and which trades count in it."""
        files = _files_by_table(relations)
        exchanges = _exchanges_of(relations)
        answering = self._answering(relations, exchanges)
        newest_us = self._newest_us(relations, answering, exchanges)
        rows = sum(each.tail.num_rows for each in relations if each.tail is not None)
        return Provenance(
            tuple(_source(each, files.get(each.state.identifier, 0), exchanges) for each in answering),
            # A clock that is ahead dates events in the future: nothing is complete until then.
            None if newest_us is None else min(newest_us, time.time_ns() // 1000),
            rows if self.is_hybrid else None,
            self.sight.is_partial,
            next((each.unconfirmed for each in self.tables if each.unconfirmed is not None), None),
            self.snapshots,
            self.ends,
            prints=prints,
            factors=self.factors,
        )

    def _answering(self, relations: Sequence[Relation], exchanges: frozenset[str] | None) -> tuple[TableAt, ...]:
        """The tables that files or rows were found in, or might have been if all of their topics were at hand; else all."""
        if len(self.tables) == 1:
            return self.tables
        found = {
            table.table
            for relation in relations
            for table, files in relation.parts
            if files or (relation.tail is not None and (len(relation.tables) == 1 or table.tail_rows))
        }
        if not found:
            return self.tables
        return tuple(each for each in self.tables if each.state.identifier in found or _is_unread(each, exchanges))

    def _newest_us(
        self, relations: Sequence[Relation], answering: Sequence[TableAt], exchanges: frozenset[str] | None
    ) -> int | None:
        """Time of the newest event that may be seen of the exchanges that the answer is of; None: of all."""
        tails = [relation.tail for relation in relations if relation.tail is not None]
        if exchanges is None or self.sight.is_partial:
            return max((us for each in answering if (us := self._newest_of_all(each)) is not None), default=None)
        found = [each.files.newest_of(exchanges) for each in answering]
        held = [each.tail for each in answering if each.tail is not None]
        if sum(len(tail.topics) for tail in held) > 1:  # other topics are of other exchanges: only these rows count
            found += [_latest(tail) for tail in tails]
        else:
            found += [tail.newest_us for tail in held]
        return max((each for each in found if each is not None), default=None)

    def _newest_of_all(self, table: TableAt) -> int | None:
        in_tail = None if table.tail is None else table.tail.newest_us
        if table.tail is not None and in_tail is not None and self.sight.is_partial:
            wanted = Wanted(tuple(sorted(self.sight.symbols or ())), None, self.sight.oldest_us)
            rows = table.tail.rows(wanted, self.sight, table.columns)
            in_tail = None if rows is None else _latest(rows)
        return max((each for each in (in_tail, table.files.newest_us) if each is not None), default=None)


def _exchanges_of(relations: Sequence[Relation]) -> frozenset[str] | None:
    """The exchanges that an answer from these relations is of; None: their files and rows do not prove which."""
    found = {file.exchange for relation in relations for file in relation.files}
    tails = (relation.tail for relation in relations if relation.tail is not None)
    found |= {str(each) for tail in tails for each in tail["exchange"].unique().to_pylist()}
    proven = frozenset(each for each in found if each is not None)
    return None if not found or None in found else proven


def _is_unread(table: TableAt, exchanges: frozenset[str] | None) -> bool:
    """Whether a topic of the table that may hold events of the exchanges (None: of any) is not all at hand."""
    tail = table.tail
    if tail is None or tail.problem is None:
        return False
    short = [each.topic for each in tail.topics if each.problem is not None]
    if tail.failure is not None:
        short += OffsetMap.from_json(table.state.recorded(table.snapshot)).topics
    return any(exchanges is None or may_hold(topic, exchanges) for topic in short)


def _source(table: TableAt, files: int, exchanges: frozenset[str] | None) -> SourceTable:
    tail = table.tail if table.tail is None or exchanges is None else table.tail.of(exchanges)
    skipped = len(table.files.files) - files
    return SourceTable(table.state.identifier, table.snapshot, files, skipped, tail, exchanges)


def _files_by_table(relations: Sequence[Relation]) -> dict[str, int]:
    """How many files of each table are in the relations, each once."""
    if len(relations) == 1:
        return {table.table: len(files) for table, files in relations[0].parts}
    found: dict[str, set[str]] = {}
    for table, files in (part for relation in relations for part in relation.parts):
        found.setdefault(table.table, set()).update(file.path for file in files)
    return {table: len(paths) for table, paths in found.items()}


def _furthest(places: Iterable[tuple[tuple[str, int], int]]) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for place, offset in places:
        found[place] = max(offset, found.get(place, offset))
    return found


def _bound(choose: Callable[[Iterable[int]], int], bounds: Sequence[int | None]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return choose(known) if known and len(known) == len(bounds) else None


def _latest(rows: pa.Table) -> int:
    time = next(name for name in EVENT_TIME.values() if name in rows.column_names)
    return int(rows[time].cast(pa.int64()).to_numpy().max())
