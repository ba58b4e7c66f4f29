"""The exactly-once commit: a batch and the offsets it came from enter a table together, or not at all.

The table itself is the ledger. Whoever commits asserts the snapshot it read the offsets from, so of two consumers that
believe they own a partition at most one can commit, whatever Kafka's group coordinator thinks. The steps of `commit`
are numbered; docs/architecture.md argues why each is needed.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.lake.appends.attempt import Attempt, Committed, Counts
from k2.lake.appends.batch import Batch, OrderedBatch
from k2.lake.appends.dedup import KnownIds
from k2.lake.appends.unwritable import OF_VALUES, REFUSALS, TableFaultError, unwritable_rows
from k2.lake.appends.verdicts import Bury, Verdicts
from k2.lake.appends.writer import WrittenFile, discard_files, write_files
from k2.lake.catalog import TableSource, load_table
from k2.lake.kept_schemas import SCHEMAS, KeptSchemas, TopicSchemas, ids_named, kept_schemas
from k2.lake.landed import LandedIsSuccess, guard
from k2.lake.offsets import (
    BATCH,
    COMMIT_ID,
    OFFSETS,
    OPERATION,
    OffsetMap,
    PartitionOffsets,
    TopicOffsets,
    find_commit,
    recorded_offsets,
)
from k2.lake.payloads import PausedError
from k2.model.errors import RefusedError, UserError, WorldError
from k2.model.feed_rules import FeedRules
from k2.model.tables import TOPIC_ID
from k2.model.topics import DataType
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.traces import span

log = get_logger(__name__)

Confirm = Callable[[TopicSchemas, Iterable[int]], None]
"""Raises a `PausedError` when ids of schemas, some of those that are kept, do not mean what they meant (`k2.lake.schema_ids.confirm`)."""


class FencedError(WorldError):
    """Another consumer owns the partitions: drop what you hold and seek to `offsets` (partition → next to read)."""

    def __init__(self, message: str, offsets: Mapping[int, int]) -> None:
        super().__init__(message)
        self.offsets = dict(offsets)


@dataclass(frozen=True, slots=True)
class Origin:
    """The topic a sink reads. Its id and its cluster's tell it from another one of the same name."""

    topic: str
    topic_id: str
    cluster_id: str


@dataclass(slots=True)
class Committer:
    """Commits the batches of one consumer of one (topic, table) pair. Not to be shared between threads.

    Args:
        catalog: opened for this thread. A `LastingCatalog` lets a commit be tried again with rotated credentials.
        identifier: the table.
        origin: the topic.
        data_type: what the rows are.
        rules: the feed's: which rows tell one event, and what becomes of them. They are recorded with the offsets.
        bury: called with the rows that become dead letters, before the commit that moves past them. None: they are only
            counted.
        confirm: see `Confirm`; asked before each try, for the schemas by which the batch was read. None: nobody asks.
        stop: when set, waiting for the world ends with a `WorldError`.
        retry_seconds: how long errors of the catalog or the store are waited out before giving up.

    Attributes:
        trouble: why the batch under way was not committed at the last try; empty when there was none.
    """

    catalog: TableSource
    identifier: str
    origin: Origin
    data_type: DataType
    rules: FeedRules = field(default_factory=FeedRules)
    bury: Bury | None = None
    confirm: Confirm | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    retry_seconds: float = 300.0
    known: KnownIds = field(init=False)
    trouble: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.known = KnownIds(self.data_type, self.rules.tolerance_us)

    def start_offsets(self) -> dict[int, int]:
        """Partition → next offset to read. A partition that is absent was never read: begin at its earliest.

        Raises:
            RefusedError: the table was rolled back, or the topic is not the one whose offsets it holds.
        """
        return self._recorded(self._load()).next_of(self.origin.topic)

    def check(self, batch: Batch) -> None:
        """Raise at once what `commit` would refuse the batch for: before its dead letters are sent.

        A catalog that does not answer refuses nothing: `commit` waits for it.
        """
        try:
            table = self._load()
        except UserError:
            raise
        except Exception:  # noqa: BLE001 - of the network, of the store, or PyIceberg's own
            return
        self._owned(table, batch)

    def commit(self, batch: Batch) -> Committed:
        """Put a batch and its offsets into the table.

        Raises:
            FencedError: the table's offsets are not where the batch starts. Nothing was committed.
            RefusedError: going on would lose or double rows; a person has to decide.
            TableFaultError: no row can be written to the table as it is. Nothing was committed; try again when it is mended.
            WorldError: the catalog or the store did not answer for `retry_seconds`, or `stop` was set meanwhile. The
                outcome is settled by the table at the next start.
        """
        with span("commit", {"k2.table": self.identifier, "k2.topic": self.origin.topic}) as told:
            done = self._commit(batch)
            told.set({"k2.snapshot": str(done.snapshot_id), "k2.rows": done.rows, "k2.files": done.files})
            return done

    def _commit(self, batch: Batch) -> Committed:
        ordered = OrderedBatch(batch.rows, self.data_type)
        verdicts = Verdicts(ordered, self.data_type, self.rules.tolerance_us)
        attempt = Attempt(batch, ordered, uuid.uuid4().hex, verdicts)
        deadline = time.monotonic() + self.retry_seconds
        while True:
            attempt.number += 1
            began = time.monotonic()
            try:
                with span("commit.try", {"k2.try": attempt.number}):
                    done = self._try(attempt)
            except CommitFailedException as conflict:
                self.trouble = str(conflict)
                metrics.COMMITS.labels(self.identifier, "conflict").inc()
                # 4. Not landed (LandedIsSuccess looked): load again, and if the offsets still match, build again.
                log.info("commit.conflicted", table=self.identifier, attempt=attempt.number, reason=str(conflict))
                if time.monotonic() > deadline:
                    raise WorldError(f"Too many others commit to {self.identifier}: {conflict}") from conflict
                # As long as a try takes, drawn at random: others get their turn, and nobody waits for nothing.
                self._wait(random.uniform(0.0, min(time.monotonic() - began, 1.0)))
                continue
            except (UserError, FencedError, PausedError):
                self._discard(attempt)
                raise
            except Exception as error:
                if attempt.again(error):
                    # Refused or failed in the same way once more, and it had not landed: no world will mend that.
                    self._discard(attempt)
                    raise TableFaultError(self.identifier, str(error) or repr(error)) from error
                # 5. The outcome is unknown: the next round looks for the commit id before it does anything.
                attempt.unknown = attempt.unknown or not isinstance(error, (*OF_VALUES, *REFUSALS))
                self.trouble = str(error) or repr(error)
                metrics.COMMITS.labels(self.identifier, "unanswered").inc()
                if time.monotonic() > deadline or self.stop.is_set():
                    raise WorldError(f"A commit to {self.identifier} could not be finished: {error}") from error
                log.warning("commit.outcome_lost", table=self.identifier, attempt=attempt.number, error=repr(error))
                self._wait(random.uniform(0.5, 1.0) * min(0.1 * 2**attempt.number, 10.0))
                continue
            self.trouble = ""
            return done

    def _try(self, attempt: Attempt) -> Committed:
        # 1. Load, and see whether this consumer is the owner: the table's offsets are where the batch starts.
        table = self._load()
        if attempt.number > 1 and (landed := find_commit(table.metadata, attempt.commit_id)) is not None:
            return attempt.committed(landed, table.metadata, landed=True)
        recorded, schemas = self._owned(table, attempt.batch)
        # Deduplicate against this very snapshot, the one that the commit asserts.
        self._prepare(table, attempt, recorded)
        # 2. One transaction: the rows, and the whole offset map in the properties and in the snapshot's summary.
        counts = attempt.counts()
        offsets = self._advance(recorded, attempt.batch, counts).to_json()
        self._guard(table)
        summary = {
            OFFSETS: offsets,
            COMMIT_ID: attempt.commit_id,
            OPERATION: "append",
            BATCH: attempt.describe(self.origin.topic, counts),
        }
        began = time.monotonic()
        with table.transaction() as transaction:
            transaction.set_properties({OFFSETS: offsets, **schemas})
            update = transaction.update_snapshot(snapshot_properties=summary)
            merge = table.properties.get("commit.manifest-merge.enabled", "true") == "true"
            with update.merge_append() if merge else update.fast_append() as append:
                for file in attempt.files or ():
                    append.append_data_file(file.data_file)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        metrics.COMMIT_DURATION.labels(self.identifier).observe(time.monotonic() - began)
        landed = isinstance(table.catalog, LandedIsSuccess) and table.catalog.landed
        return attempt.committed(snapshot.snapshot_id, table.metadata, landed=landed)

    def _guard(self, table: Table) -> None:
        """3. and 4. The catalog's word on this commit is final: see `guard`."""
        guard(table)

    def _load(self) -> Table:
        return load_table(self.catalog, self.identifier)

    def _recorded(self, table: Table) -> OffsetMap:
        recorded = recorded_offsets(table)
        held = recorded.topics.get(self.origin.topic)
        if held is not None and (held.topic_id, held.cluster_id) != (self.origin.topic_id, self.origin.cluster_id):
            raise RefusedError(
                f"Topic {self.origin.topic} is not the one whose offsets {self.identifier} holds: it was made anew, or this is another cluster",
                found=f"topic id {self.origin.topic_id} in cluster {self.origin.cluster_id}",
                expected=f"topic id {held.topic_id} in cluster {held.cluster_id}",
                remedy=f"If the new topic is to be read from its beginning: k2 sink reset {self.identifier} --topic {self.origin.topic} --forget",
            )
        return recorded

    def _owned(self, table: Table, batch: Batch) -> tuple[OffsetMap, dict[str, str]]:
        """What the table records, and the property of its schemas with the batch's; raises when the batch must not enter it."""
        recorded, kept = self._recorded(table), kept_schemas(table.metadata)
        self._fence(batch, recorded, kept.of(self.origin.topic_id))
        return recorded, self._schemas(kept, batch, recorded)

    def _fence(self, batch: Batch, recorded: OffsetMap, kept: TopicSchemas) -> None:
        table_says = recorded.next_of(self.origin.topic)
        for partition, (start, _) in batch.ranges.items():
            if partition in table_says and table_says[partition] != start:
                raise FencedError(
                    f"{self.identifier} holds {self.origin.topic}/{partition} up to {table_says[partition]}, this batch starts at {start}",
                    table_says,
                )
        if kept.contradicts(batch.schemas):
            raise FencedError(
                f"{self.identifier} keeps another schema than this batch was read by, among {ids_named(batch.schemas)}",
                table_says,
            )

    def _schemas(self, kept: KeptSchemas, batch: Batch, recorded: OffsetMap) -> dict[str, str]:
        """The property of the writers' schemas where the batch brings new ones, once they are confirmed; else nothing."""
        topic_id = self.origin.topic_id
        before = kept.of(topic_id)
        after = before.joined(batch.schemas)
        if self.confirm is not None:
            self.confirm(before, batch.schemas.keys() & before.schemas.keys())
            try:
                self.confirm(after, batch.schemas.keys() - before.schemas.keys())
            except (
                PausedError
            ) as anew:  # since it was asked for them, and nothing is kept yet: what was read is read again
                raise FencedError(str(anew), recorded.next_of(self.origin.topic)) from anew
        return {} if after is before else {SCHEMAS: kept.having(topic_id, after, recorded).to_json()}

    def _prepare(self, table: Table, attempt: Attempt, recorded: OffsetMap) -> None:
        """Mark duplicates and conflicts and write data files, unless the files of an earlier attempt are still right."""
        if not self.rules.keeps_duplicates:
            attempt.verdicts.judge(self.known, table)
            self._bury(attempt, recorded)
        if attempt.files is not None and np.array_equal(attempt.verdicts.kept, attempt.written):
            return
        if attempt.files is not None:
            self._discard(attempt)
        rows = attempt.batch.rows
        rows = rows.append_column(TOPIC_ID, _constant(self.origin.topic_id, len(rows)))
        attempt.io = table.io
        attempt.files = self._write(table, rows, attempt, recorded)
        attempt.written = attempt.verdicts.kept
        for file in attempt.files:
            self.known.remember(file.path, attempt.ordered, attempt.written)

    def _write(self, table: Table, rows: pa.Table, attempt: Attempt, recorded: OffsetMap) -> list[WrittenFile]:
        """Data files of the rows that stay. What no file can hold is no reason to try again: it becomes a dead letter."""
        verdicts = attempt.verdicts
        try:
            return write_files(table, rows, attempt.ordered.order[verdicts.kept])
        except OF_VALUES as error:
            log.warning("commit.rows_not_writable", table=self.identifier, error=repr(error))
            places = np.flatnonzero(verdicts.kept)
            found = unwritable_rows(table, rows, attempt.ordered.order[places], self.data_type)
        verdicts.unwritable |= {int(places[at]): reason for at, reason in found.items()}
        self._bury(attempt, recorded)
        # Without them: what is done to whole columns fails because of a row that is not written, too.
        kept = rows.take(pa.array(attempt.ordered.order[verdicts.kept]))
        return write_files(table, kept, np.arange(len(kept)))

    def _bury(self, attempt: Attempt, recorded: OffsetMap) -> None:
        """Dead letters are in their topic before the commit that counts them as such."""
        new = attempt.verdicts.dead & ~attempt.buried
        if not new.any():
            return
        topics = {held.topic_id: topic for topic, held in recorded.topics.items()}
        dead = attempt.verdicts.letters(new, self.origin.topic, topics)
        log.warning("commit.dead_rows_found", table=self.identifier, rows=len(dead), first=dead[0].reason)
        if self.bury is not None:
            for partition, count in (self.bury(dead) or {}).items():
                attempt.repeated[partition] = attempt.repeated.get(partition, 0) + count
        attempt.buried |= new

    def _advance(self, recorded: OffsetMap, batch: Batch, counts: Counts) -> OffsetMap:
        held = recorded.topics.get(self.origin.topic)
        partitions = dict(held.partitions) if held else {}
        rows, duplicates, dead_letters, repeated = counts
        for partition, (start, next_offset) in batch.ranges.items():
            before = partitions.get(partition) or PartitionOffsets(start, start)
            partitions[partition] = before.advanced(
                next_offset,
                rows=rows.get(partition, 0),
                duplicates=duplicates.get(partition, 0),
                dead_letters=dead_letters.get(partition, 0),
                repeated=repeated.get(partition, 0),
            )
        topic = TopicOffsets(self.origin.topic_id, self.origin.cluster_id, partitions, self.rules)
        return recorded.with_topic(self.origin.topic, topic)

    def _discard(self, attempt: Attempt) -> None:
        """Delete files that no snapshot can refer to. After an unknown outcome one still may: upkeep finds them later."""
        if attempt.files is not None and attempt.io is not None and not attempt.unknown:
            discard_files(attempt.io, attempt.files)

    def _wait(self, seconds: float) -> None:
        self.stop.wait(seconds)


def _constant(value: str, length: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, dtype=np.int32)), pa.array([value]))
