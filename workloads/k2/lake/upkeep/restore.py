"""Rows of files that are damaged or gone, built again from the topics that they came from, each exactly once.

Which offsets a file held its manifest bounds, and what other files hold is not its. What is left is read and decoded as the sink did,
and judged as the sink did: dead letters and duplicates were never in the file. As many rows as its manifest says must come out of it,
between the same offsets; then they take its place in one commit. Nothing is committed that is more, and less only when a person asks.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table

from k2.lake.appends.batch import Mask, OrderedBatch
from k2.lake.appends.dedup import KnownIds
from k2.lake.appends.verdicts import Verdicts
from k2.lake.appends.writer import WrittenFile, discard_files, write_files
from k2.lake.catalog import TableSource, load_table
from k2.lake.offsets import OffsetMap, PartitionOffsets, recorded_offsets
from k2.lake.payloads import in_one_piece
from k2.lake.proof.audit import ranges
from k2.lake.proof.files_audit import compare_sizes, name_below
from k2.lake.proof.lineage import Key, count_rows
from k2.lake.scan import plan_files
from k2.lake.upkeep.committing import Replacement, files_with_deletes
from k2.lake.upkeep.held import HeldRange, held_ranges, joined_ranges
from k2.lake.upkeep.replacing import live_files
from k2.lake.upkeep.scrub import known_damaged
from k2.model.errors import RefusedError, UserError, WorldError
from k2.model.feed_rules import FeedRules
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID
from k2.model.topics import TopicName
from k2.obs.logging import get_logger

log = get_logger(__name__)

OPERATION = "restore"

ROWS_AT_ONCE = 500_000
"""Rows that are held before they are written: a file each."""


class Topics(Protocol):
    """Topics whose messages a table holds (`k2.sink.again.TopicsAgain`)."""

    def there(self, topic: str, topic_id: str) -> Mapping[int, tuple[int, int]]:
        """Partition → the offsets [first, next) that the topic has; empty where it is gone, or is another one of that name."""
        ...

    def rows(self, wanted: HeldRange, rules: FeedRules) -> Iterator[pa.Table]:
        """Good rows of a range in the order of offsets, with their partition and offset."""
        ...


@dataclass(frozen=True, slots=True)
class Restored:
    """What was, or would be, built again.

    Attributes:
        files: names of the files that are to be replaced.
        rows: that they held, by their manifests.
        found: rows that the topics gave for them; None: they were not read.
        gone: ranges of offsets, among which are rows of the files, that no topic has any more.
        written: files in their place.
        tries: commits that were begun.
        snapshot_id: of the commit; None: nothing was committed.
    """

    table: str
    files: tuple[str, ...]
    rows: int
    found: int | None = None
    gone: tuple[HeldRange, ...] = ()
    written: int = 0
    tries: int = 0
    snapshot_id: int | None = None
    seconds: float = 0.0

    @property
    def whole(self) -> bool:
        """Whether every row is there again, or could be."""
        return self.found == self.rows if self.found is not None else not self.gone


@dataclass(slots=True)
class Restorer:
    """Restores files of one table.

    Args:
        catalog: where it is loaded from.
        identifier: the table.
        topics: where its rows came from.
        rows_at_once: see `ROWS_AT_ONCE`.
        progress: told the offsets that were read, and those that are to be read.
        stop: when set, it is given up.
    """

    catalog: TableSource
    identifier: str
    topics: Topics
    rows_at_once: int = ROWS_AT_ONCE
    progress: Callable[[int, int], None] = field(default=lambda *_: None)
    stop: threading.Event = field(default_factory=threading.Event)

    def damaged(self) -> list[str]:
        """Paths of data files that the last scrub found damaged, or that a listing does not show as they should be."""
        table = load_table(self.catalog, self.identifier)
        live = live_files(table)
        listed = compare_sizes(table, {path: file.file_size_in_bytes for path, file in live.items()})
        names = {each.name for each in listed.findings}
        known = known_damaged(table)
        return [path for path in sorted(live) if path in known or name_below(table, path) in names]

    def named(self, names: Collection[str]) -> list[str]:
        """Paths of the live data files of these names (below the table's location, or whole paths).

        Raises:
            UserError: one of them is none of the table's.
        """
        table = load_table(self.catalog, self.identifier)
        known = {key: path for path in live_files(table) for key in (path, name_below(table, path))}
        if unknown := [name for name in names if name not in known]:
            raise UserError(
                f"{self.identifier} has no such file in its current snapshot",
                found=", ".join(unknown),
                expected="names as `k2 upkeep scrub` or `k2 audit` tells them",
            )
        return sorted({known[name] for name in names})

    def run(self, paths: Collection[str], *, partial: bool = False, dry_run: bool = False) -> Restored:
        """Build the rows of these files again, and put them in the files' place.

        Args:
            paths: live data files.
            partial: commit also when the topics do not have all of the rows any more.
            dry_run: only ask which offsets the topics have.

        Raises:
            UserError: the files are of a kind that cannot be built again here.
            RefusedError: the table was rolled back, or what the topics give is not what the files held.
            WorldError: catalog, store, Kafka or registry did not answer, or others changed the files meanwhile.
        """
        began = time.monotonic()
        table = load_table(self.catalog, self.identifier)
        offsets, files = recorded_offsets(table), _checked(table, paths)
        names, rows = tuple(name_below(table, path) for path in sorted(paths)), sum(each.record_count for each in files)
        told = Restored(self.identifier, names, rows)
        wanted = self._wanted(table, offsets, files)
        told = replace(told, gone=wanted.gone)
        if dry_run or not files:
            return told
        rebuilt = _Rebuilt(table, {each.file_path for each in files}, {_partition(table, each) for each in files})
        try:
            self._read(rebuilt, wanted, offsets)
            _prove(table, files, rebuilt.written)
        except BaseException:
            rebuilt.discard()
            raise
        told = replace(told, found=rebuilt.rows, seconds=time.monotonic() - began)
        if not (told.whole or partial):
            rebuilt.discard()
            return told
        replacement = Replacement(self.catalog, self.identifier, OPERATION, self.stop, same_rows=told.whole)
        tries, snapshot = replacement.commit(table, set(paths), rebuilt.written)
        log.info("restore.done", table=self.identifier, files=len(files), rows=rows, found=told.found)
        seconds = time.monotonic() - began
        return replace(told, written=len(rebuilt.written), tries=tries, snapshot_id=snapshot, seconds=seconds)

    def _wanted(self, table: Table, offsets: OffsetMap, files: Sequence[DataFile]) -> _Wanted:
        """The offsets that may be the files', by what all other files hold and the topics have."""
        held = joined_ranges(each for file in files for each in held_ranges(table, offsets, file))
        missing = _absent(table, offsets, held, {file.file_path for file in files})
        read: list[tuple[HeldRange, Mask]] = []
        gone: list[HeldRange] = []
        for each in held:
            first, last = self.topics.there(each.topic, each.topic_id).get(each.partition, (0, 0))
            start, stop = min(max(each.start, first), each.stop), max(min(each.stop, last), each.start)
            absent = missing[each].copy()
            if start < stop:
                there = slice(start - each.start, stop - each.start)
                read.append((replace(each, start=start, stop=stop), missing[each][there]))
                absent[there] = False
            gone += [replace(each, start=low, stop=high) for low, high in ranges(absent, each.start)]
        return _Wanted(tuple(read), tuple(gone))

    def _read(self, rebuilt: _Rebuilt, wanted: _Wanted, offsets: OffsetMap) -> None:
        total, done = sum(each.stop - each.start for each, _ in wanted.read), 0
        for each, absent in wanted.read:
            rules, chunks, rows = offsets.topics[each.topic].rules, list[pa.Table](), 0
            if not absent.any():
                continue
            for piece in self.topics.rows(each, rules):
                if self.stop.is_set():
                    raise WorldError(f"Stopped: {self.identifier} stays as it was")
                places = piece.column(OFFSET).to_numpy() - each.start
                chunks.append(piece.filter(pa.array(absent[places])))
                rows += len(chunks[-1])
                self.progress(done + int(places[-1]) + 1, total)
                if rows >= self.rows_at_once:
                    rebuilt.add(each, rules, chunks)
                    chunks, rows = [], 0
            rebuilt.add(each, rules, chunks)
            done += each.stop - each.start


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Ranges that are read, each with which of its offsets no other file holds; and ranges that no topic has any more."""

    read: tuple[tuple[HeldRange, Mask], ...]
    gone: tuple[HeldRange, ...]


@dataclass(slots=True)
class _Rebuilt:
    """Files that are written in place of others: the rows that these may have held.

    Attributes:
        table: whose they are.
        lost: paths of the others.
        partitions: that they lie in, by name.
    """

    table: Table
    lost: set[str]
    partitions: set[str]
    written: list[WrittenFile] = field(default_factory=list[WrittenFile])
    _known: dict[str, KnownIds] = field(default_factory=dict[str, KnownIds])

    @property
    def rows(self) -> int:
        """That were written."""
        return sum(file.rows for file in self.written)

    def add(self, origin: HeldRange, rules: FeedRules, chunks: Sequence[pa.Table]) -> None:
        """Write what of these rows was no duplicate and no dead letter, as far as it lies in the partitions."""
        if not sum(map(len, chunks)):
            return
        # One chunk a column, so that rows can be taken in any order.
        rows = in_one_piece([batch for chunk in chunks for batch in chunk.to_batches()])
        topic = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(rows), dtype=np.int32)), pa.array([origin.topic_id])
        )
        rows = rows.append_column(TOPIC_ID, topic)
        data_type = TopicName.parse(origin.topic).data_type
        ordered = OrderedBatch(rows, data_type)
        kept = np.ones(len(rows), dtype=bool)
        known = self._known.setdefault(origin.topic, KnownIds(data_type, rules.tolerance_us))
        if not rules.keeps_duplicates:
            verdicts = Verdicts(ordered, data_type, rules.tolerance_us)
            verdicts.pass_over(self.lost)
            try:
                verdicts.judge(known, self.table)
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(str(error)) from error
            kept = verdicts.kept
            # What was written here came first, as it did then: rows of later batches that tell the same were left out.
            kept &= ~known.in_files(self.table.io, [file.path for file in self.written], ordered, kept)
        if not kept.any():
            return
        for file in write_files(self.table, rows, ordered.order[kept]):
            if _partition(self.table, file.data_file) in self.partitions:
                self.written.append(file)
                known.remember(file.path, ordered, kept)
            else:  # of a row that another engine deleted, or that somebody gave up: of no file that is built again
                discard_files(self.table.io, [file])

    def discard(self) -> None:
        """Delete them."""
        discard_files(self.table.io, self.written)
        self.written.clear()


def _checked(table: Table, paths: Collection[str]) -> list[DataFile]:
    name, live = ".".join(table.name()), live_files(table)
    if gone := [path for path in paths if path not in live]:
        raise WorldError(f"{len(gone)} of the files are not in {name} any more: look again")
    if deleted := sorted(files_with_deletes(table) & set(paths)):
        raise UserError(
            "Delete files of another engine take rows out of a file: built again from the topic, they would be back",
            found=name_below(table, deleted[0]),
            expected="a file without deletes",
            remedy="Bring it back from the store's versions or a backup",
        )
    files = [live[path] for path in sorted(paths)]
    odd = [file for file in files if file.spec_id != table.spec().spec_id or file.content is not DataFileContent.DATA]
    if odd:
        raise UserError(
            "A file of an earlier partition spec cannot be built again",
            found=name_below(table, odd[0].file_path),
            expected=f"one of spec {table.spec().spec_id}, by which files are written now",
            remedy="Bring it back from the store's versions or a backup",
        )
    return files


def _absent(
    table: Table, offsets: OffsetMap, held: Sequence[HeldRange], lost: Collection[str]
) -> dict[HeldRange, Mask]:
    """Of each range, which offsets stand in no file but those that are lost."""
    spans: dict[Key, tuple[int, int]] = {}
    for each in held:
        low, high = spans.get((each.topic_id, each.partition), (each.start, each.stop))
        spans[each.topic_id, each.partition] = min(low, each.start), max(high, each.stop)
    live, snapshot = live_files(table), table.current_snapshot()
    others = [
        replace(ref, deletes=())  # what another engine deleted was there once, and does not come back
        for ref in plan_files(table, None if snapshot is None else snapshot.snapshot_id)
        if ref.path not in lost and _meets(held_ranges(table, offsets, live[ref.path]), spans)
    ]
    expected = {key: PartitionOffsets(low, high) for key, (low, high) in spans.items()}
    counted = count_rows(table.io, others, expected, (), None)
    if counted.unreadable:
        raise _unreadable(name_below(table, counted.unreadable[0]))
    return {
        each: counted.counts[each.topic_id, each.partition][
            each.start - spans[each.topic_id, each.partition][0] : each.stop - spans[each.topic_id, each.partition][0]
        ]
        == 0
        for each in held
    }


def _unreadable(found: str) -> UserError:
    return UserError(
        "Another file that may hold the same events cannot be read",
        found=found,
        expected="all files but those that are built again",
        remedy="Build it again with them: --all-damaged after `k2 upkeep scrub`, or one more --file",
    )


def _meets(some: Sequence[HeldRange], spans: Mapping[Key, tuple[int, int]]) -> bool:
    return any(
        (span := spans.get((each.topic_id, each.partition))) is not None
        and each.start < span[1]
        and span[0] < each.stop
        for each in some
    )


def _prove(table: Table, lost: Sequence[DataFile], written: Sequence[WrittenFile]) -> None:
    """What was written is what the files held, as far as their manifests tell, or less of it: by partition no more rows."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for file in lost:
        before[_partition(table, file)] += file.record_count
    for each in written:
        after[_partition(table, each.data_file)] += each.rows
    for partition, rows in after.items():
        if rows > before[partition]:
            raise RefusedError(
                "The topics give more rows than the files held, and nothing tells which were theirs. Nothing was committed",
                found=f"{rows:,} rows of {partition or 'the table'}",
                expected=f"{before[partition]:,}",
                remedy="Bring the files back from the store's versions or a backup",
            )
    if after.total() == before.total():
        ends = [_ends(table, files) for files in (lost, [each.data_file for each in written])]
        if ends[0] != ends[1]:
            raise RefusedError(
                "The topics give as many rows as the files held, but others. Nothing was committed",
                found=f"offsets {_said(ends[1])}",
                expected=f"offsets {_said(ends[0])}",
                remedy="Bring the files back from the store's versions or a backup",
            )


def _partition(table: Table, file: DataFile) -> str:
    """The name of its partition: values that were read and such that were made are no equal records."""
    return table.spec().partition_to_path(file.partition, table.schema())


def _ends(table: Table, files: Sequence[DataFile]) -> dict[str, tuple[bytes, ...]]:
    """By partition of the table, the lowest and highest Kafka partition and offset, as manifests have them."""
    numbers = [table.schema().find_field(name).field_id for name in (PARTITION, OFFSET)]
    low: dict[str, list[list[bytes]]] = defaultdict(list)
    high: dict[str, list[list[bytes]]] = defaultdict(list)
    for file in files:
        # Little-endian numbers from 0 on: turned around they compare as what they say.
        low[_partition(table, file)].append([(file.lower_bounds or {}).get(each, b"")[::-1] for each in numbers])
        high[_partition(table, file)].append([(file.upper_bounds or {}).get(each, b"")[::-1] for each in numbers])
    return {
        partition: (
            *(min(column) for column in zip(*low[partition], strict=True)),
            *(max(column) for column in zip(*high[partition], strict=True)),
        )
        for partition in low
    }


def _said(ends: Mapping[str, tuple[bytes, ...]]) -> str:
    return ", ".join(f"{int.from_bytes(each[1])}-{int.from_bytes(each[3])}" for each in ends.values() if len(each) == 4)
