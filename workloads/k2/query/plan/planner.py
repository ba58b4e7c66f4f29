"""From a question to what must be read: the snapshot that answers, and the files of it that may hold the rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pyarrow as pa

from k2.lake.reader import ColumnInfo, SnapshotInfo, TableReader, TableState
from k2.lake.scan import DataFileRef, SnapshotFiles
from k2.model.errors import WorldError
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.tally import tally
from k2.query.asked.requests import At, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.provenance import Provenance
from k2.query.plan.snapshot_choice import resolve
from k2.query.plan.visible_files import seen_files
from k2.query.rows import deletes
from k2.query.rows.errors import UnreadableError
from k2.query.rows.letters import LetterSource
from k2.query.rows.relation import Relation
from k2.query.rows.tail_blocks import Wanted
from k2.query.rows.tail_view import Tail, TailSource
from k2.query.rows.visibility import EVERYTHING, Sight


@dataclass(frozen=True, slots=True)
class Pinned:
    """A table at the snapshot that answers a question, and what of it may be seen: `files` are of that alone."""

    state: TableState
    snapshot: SnapshotInfo | None
    files: SnapshotFiles
    sight: Sight = EVERYTHING
    tail: Tail | None = None
    unconfirmed: str | None = None  # why the catalog did not say that the snapshot is the one that is asked for

    @property
    def columns(self) -> tuple[ColumnInfo, ...]:
        """The columns as they were at that snapshot."""
        return self.state.columns(self.snapshot)

    def provenance(self, chosen: Sequence[DataFileRef] = (), tail: pa.Table | None = None) -> Provenance:
        """What an answer from the chosen files and these rows of the tail was read from."""
        newest_us = self._newest_us(chosen, tail)
        return Provenance(
            self.state.identifier,
            self.snapshot,
            # A clock that is ahead dates events in the future: nothing is complete until then.
            None if newest_us is None else min(newest_us, time.time_ns() // 1000),
            len(chosen),
            len(self.files.files) - len(chosen),
            self.tail,
            None if self.tail is None else 0 if tail is None else tail.num_rows,
            self.sight.is_partial,
            self.unconfirmed,
        )

    @property
    def in_files(self) -> dict[tuple[str, int], int]:
        """How far the snapshot's files reach: (topic id, partition) → next offset."""
        held = {} if self.snapshot is None else self.snapshot.offsets.topics
        return {
            (each.topic_id, number): part.next for each in held.values() for number, part in each.partitions.items()
        }

    def clipped(self, at: At) -> tuple[tuple[str, int, int], ...]:
        """The ends of `at` that rows of this snapshot and its tail go beyond.

        Raises:
            WorldError: the rows up to there are not all to be had now.
        """
        in_files = self.in_files
        in_tail = {} if self.tail is None else {(topic, number): to for topic, number, to in self.tail.ends}
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

    def _newest_us(self, chosen: Sequence[DataFileRef], tail: pa.Table | None) -> int | None:
        """Time of the newest event that may be seen of the exchanges that the answer is of, where the files prove them."""
        exchanges = {file.exchange for file in chosen}
        if tail is not None:
            exchanges |= {str(each) for each in tail["exchange"].unique().to_pylist()}
        of_some = frozenset(each for each in exchanges if each is not None)
        if not exchanges or None in exchanges or self.sight.is_partial:
            return self._newest_of_all()
        in_files = self.files.newest_of(of_some)
        in_tail = None if self.tail is None else self.tail.newest_us
        if (
            self.tail is not None and len(self.tail.topics) > 1
        ):  # other topics are of other exchanges: only these rows count
            in_tail = None if tail is None else int(tail["timestamp"].cast(pa.int64()).to_numpy().max())
        return max((each for each in (in_files, in_tail) if each is not None), default=None)

    def _newest_of_all(self) -> int | None:
        in_tail = None if self.tail is None else self.tail.newest_us
        if self.tail is not None and in_tail is not None and self.sight.is_partial:
            wanted = Wanted(tuple(sorted(self.sight.symbols or ())), None, self.sight.oldest_us)
            rows = self.tail.rows(wanted, self.sight, self.columns)
            in_tail = None if rows is None else int(rows["timestamp"].cast(pa.int64()).to_numpy().max())
        if in_tail is None:
            return self.files.newest_us
        return in_tail if self.files.newest_us is None else max(in_tail, self.files.newest_us)


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans questions about the tables of one catalog, for one who may see `sight`. Threads may share it."""

    reader: TableReader
    tables: Mapping[DataType, str]
    sight: Sight = EVERYTHING
    directory: SymbolDirectory | None = None  # needed where the sight leaves some rows out
    tails: TailSource | None = None  # where the service knows of Kafka
    letters: LetterSource | None = None  # the same

    def state(self, data_type: DataType) -> TableState:
        """The table as it is now; raises as `TableReader.state` does, and `ForbiddenError`."""
        self.sight.check(data_type)
        return self.reader.state(self.tables[data_type])

    def tails_for(self, at: At) -> TailSource | None:
        """Where the rows beyond the snapshot come from; None where there shall be none."""
        return None if at.is_past or at.hybrid is False else self.tails

    def snapshot(self, data_type: DataType, at: At) -> SnapshotInfo | None:
        """The snapshot that answers, without its files; raises as `pin` does, and a `WorldError` while the catalog is silent."""
        return resolve(self.state(data_type), at, time.time_ns() // 1000)

    def pin(self, data_type: DataType, at: At) -> Pinned:
        """Choose the snapshot that answers.

        Raises:
            ForbiddenError: this kind of data may not be asked for.
            SnapshotGoneError: the snapshot or time is not retained.
            TableMissingError, WorldError: see `TableReader.known`.
        """
        started = time.perf_counter()
        tails = self.tails_for(at)
        # Nothing that lies between the snapshot and its tail may be trimmed before both are chosen.
        with nullcontext() if tails is None else tails.held(self.tables[data_type]):
            self.sight.check(data_type)
            state = self.reader.known(self.tables[data_type])
            snapshot = resolve(state, at, time.time_ns() // 1000)
            files = SnapshotFiles(()) if snapshot is None else self.reader.files(state, snapshot.id)
            tail = None if tails is None else tails.after(state, snapshot, files, data_type)
        if self.sight.is_partial and self.directory is not None and snapshot is not None:
            everything = _relation(state, snapshot, files.files, self.sight, len(files.files))
            files = seen_files(self.directory, state.uuid, snapshot.id, everything)
        took = time.perf_counter() - started
        metrics.PLAN_DURATION.observe(took)
        counted = tally()
        counted.plan_seconds += took
        counted.snapshots[state.identifier] = None if snapshot is None else snapshot.id
        # What a snapshot holds never changes, whatever the catalog would say.
        return Pinned(state, snapshot, files, self.sight, tail, None if at.snapshot is not None else state.unconfirmed)

    def plan(self, pinned: Pinned, symbols: tuple[str, ...], exchange: str | None, window: Window) -> Relation:
        """What may hold rows of any of the symbols (none: all) of the exchange (None: any) in the window.

        Raises:
            UnreadableError: rows of one of the files were deleted in a way that this engine does not read.
        """
        sight = pinned.sight
        asked = None if exchange is None else frozenset((exchange,))
        start_us = window.start_us
        if sight.oldest_us is not None:
            start_us = sight.oldest_us if start_us is None else max(start_us, sight.oldest_us)
        files = pinned.files.select(
            symbols=_both(frozenset(symbols) or None, sight.symbols),
            start_us=start_us,
            end_us=window.end_us,
            exchanges=_both(asked, sight.exchanges),
        )
        relation = _relation(pinned.state, pinned.snapshot, files, pinned.sight, len(pinned.files.files))
        if pinned.tail is None:
            return relation
        wanted = Wanted(symbols, exchange, start_us, window.end_us)
        return replace(relation, tail=pinned.tail.rows(wanted, sight, relation.columns))


def _relation(
    state: TableState, snapshot: SnapshotInfo | None, files: tuple[DataFileRef, ...], sight: Sight, of_files: int
) -> Relation:
    columns = state.columns(snapshot)
    if not any(file.deletes for file in files):
        return Relation(state.identifier, columns, files, state.roots, of_files, sight)
    odd = next((delete for file in files for delete in file.deletes if not delete.parquet), None)
    if odd is not None:
        raise UnreadableError(
            f"Rows of {state.identifier} were deleted by a file that is not Parquet",
            found=odd.path,
            expected="delete files of format version 2, in Parquet",
            remedy="Compact the table with the engine that deleted the rows",
        )
    hidden = deletes.hidden(columns, state.schemas.values(), deletes.equality_ids(files))
    return Relation(state.identifier, columns, files, state.roots, of_files, sight, hidden=hidden)


def _both(asked: frozenset[str] | None, seen: frozenset[str] | None) -> frozenset[str] | None:
    """What lies in both; None is no bound."""
    if asked is None or seen is None:
        return seen if asked is None else asked
    return asked & seen
