"""Compaction: many small files of a partition become a few large ones in order, while sinks commit beside it.

1. The files are chosen from one snapshot. 2. Their rows are read (a damaged file ends it), sorted and written. 3. What was written is
read back: as many rows of each symbol, and the same values, or nothing is committed. 4. The commit asserts the snapshot that it
looked at, in which every file it replaces is still there and no row of them was deleted; a sink that was quicker costs one more
try of this step alone. Only then does anything refer to the new files, and the old ones stay for snapshots before.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from pyiceberg.table import Table

from k2.lake.appends.writer import WrittenFile
from k2.lake.catalog import TableSource, load_table
from k2.lake.upkeep.ahead import ahead
from k2.lake.upkeep.choice import Choice, FileGroup, by_partition, choose
from k2.lake.upkeep.committing import OvertakenError, Replacement, files_with_deletes
from k2.lake.upkeep.long_files import LongFiles
from k2.lake.upkeep.reading import read_pieces
from k2.lake.upkeep.replacing import UnequalError, live_files
from k2.lake.upkeep.row_digest import RowDigest
from k2.lake.upkeep.sorting import ROWS_AT_ONCE, SortedRows
from k2.model.errors import UserError, WorldError
from k2.obs.logging import get_logger

log = get_logger(__name__)

OPERATION = "compact"
_TIMES = ("timestamp", "effective_timestamp")

Progress = Callable[[str, int, int], None]
"""Told after each piece of rows: the partition, rows read of it, rows in all."""


@dataclass(frozen=True, slots=True)
class CompactedGroup:
    """What became of one partition. `tries`: commits that were begun. `seconds`: from its first read to its commit."""

    partition: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int
    tries: int
    seconds: float
    snapshot_id: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was done.

    Attributes:
        groups: partitions that were written anew.
        left: files that were not: reason → how many.
        overtaken: partitions that others changed in between: the next run takes them.
    """

    table: str
    groups: tuple[CompactedGroup, ...] = ()
    left: Counter[str] = field(default_factory=Counter[str])
    overtaken: tuple[str, ...] = ()


@dataclass(slots=True)
class Compactor:
    """Compacts one table.

    Args:
        catalog: where it is loaded from.
        identifier: the table.
        target_bytes: about the size of the files to be made.
        scratch: a directory for what does not fit into memory.
        rows_at_once: rows that are sorted in memory.
        progress: see `Progress`.
        stop: when set, the partition under way is given up.
    """

    catalog: TableSource
    identifier: str
    target_bytes: int
    scratch: Path
    rows_at_once: int = ROWS_AT_ONCE
    progress: Progress = field(default=lambda *_: None)
    stop: threading.Event = field(default_factory=threading.Event)

    def chosen(self, partition: str | None = None) -> Choice:
        """What `run` would begin with.

        Raises:
            UserError: there is no such table, or it is none of K2's kind.
        """
        return self._choose(load_table(self.catalog, self.identifier), partition)

    def run(self, partition: str | None = None) -> Compacted:
        """Compact the table, or one partition of it.

        Args:
            partition: its name (`timestamp_day=2026-11-30`), or a value in it (`2026-11-30`).

        Raises:
            UserError: as `chosen`; or the scratch directory has no room.
            RefusedError: the table was rolled back.
            UnequalError: what was written is not what was read.
            WorldError: catalog or store did not answer, or `stop` was set.
        """
        choice = self.chosen(partition)
        done: list[CompactedGroup] = []
        overtaken: list[str] = []
        for group in choice.groups:
            try:
                done.append(self._compact(group))
            except OvertakenError as error:
                log.warning("compaction.overtaken", table=self.identifier, partition=group.name, reason=str(error))
                overtaken.append(group.name)
        return Compacted(self.identifier, tuple(done), choice.left, tuple(overtaken))

    def _choose(self, table: Table, partition: str | None) -> Choice:
        _check(table)
        live, deleted_from = live_files(table), files_with_deletes(table)
        spec, schema = table.spec(), table.schema()
        choice = choose(
            [file for path, file in live.items() if path not in deleted_from],
            spec,
            lambda record: spec.partition_to_path(record, schema),
            self.target_bytes,
            time.time_ns() // 1000,
        )
        if deleted_from:
            choice.left["with rows that another engine's delete files take out: have that engine compact them"] += len(
                deleted_from
            )
        if partition is None:
            return choice
        return Choice(by_partition(choice.groups, partition), choice.left)

    def _compact(self, group: FileGroup) -> CompactedGroup:
        began = time.monotonic()
        table = load_table(self.catalog, self.identifier)
        before = RowDigest()

        def seen(rows: pa.Table) -> None:
            before.add(rows)
            self.progress(group.name, before.rows, group.rows)
            self._check_stop()

        number = group.outcome(self.target_bytes)
        files = LongFiles(table, group.partition, group.bytes / number, number)
        try:
            rows = SortedRows(table, group.files, _time_of(table), self.scratch, self.rows_at_once, seen)
            for piece, order in rows.pieces():
                files.put(piece, order)
                self._check_stop()
            written = files.finish()
            self._prove(table, group, before, written)
        except BaseException:
            files.discard()
            raise
        tries, snapshot_id = self._commit(table, group, written)
        result = CompactedGroup(
            group.name,
            len(group.files),
            len(written),
            group.bytes,
            sum(file.data_file.file_size_in_bytes for file in written),
            before.rows,
            tries,
            time.monotonic() - began,
            snapshot_id,
        )
        log.info(
            "compaction.partition_done",
            table=self.identifier,
            partition=group.name,
            files_before=result.files_before,
            files_after=result.files_after,
            rows=result.rows,
            tries=tries,
            seconds=round(result.seconds, 3),
        )
        return result

    def _prove(self, table: Table, group: FileGroup, before: RowDigest, written: Sequence[WrittenFile]) -> None:
        after = RowDigest()
        read = (piece for file in written for piece in read_pieces(table, file.data_file))
        with closing(ahead(read)) as pieces:
            for piece in pieces:
                after.add(piece)
                self._check_stop()
        difference = after.difference(before) or (
            "" if before.rows == group.rows else f"{before.rows:,} rows were read, the manifests say {group.rows:,}"
        )
        if difference:
            raise UnequalError(
                f"Partition {group.name} of {self.identifier} was not compacted: what was written differs from what was "
                f"read ({difference}). Nothing was committed"
            )

    def _commit(self, table: Table, group: FileGroup, written: Sequence[WrittenFile]) -> tuple[int, int]:
        replacement = Replacement(self.catalog, self.identifier, OPERATION, self.stop)
        return replacement.commit(table, {file.file_path for file in group.files}, written)

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise WorldError(f"Stopped: the partition of {self.identifier} that was under way stays as it was")


def _check(table: Table) -> None:
    name = ".".join(table.name())
    if table.metadata.format_version != 2:
        raise UserError(
            f"{name} cannot be compacted", found=f"format version {table.metadata.format_version}", expected="version 2"
        )
    names = table.schema().column_names
    if "symbol" not in names or "source_sequence" not in names or not set(names) & set(_TIMES):
        raise UserError(
            f"{name} cannot be compacted: it is no table of market data",
            found="columns " + ", ".join(names),
            expected=f"symbol, source_sequence and {' or '.join(_TIMES)}",
        )


def _time_of(table: Table) -> str:
    return next(name for name in _TIMES if name in table.schema().column_names)
