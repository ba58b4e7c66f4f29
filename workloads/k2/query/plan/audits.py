"""The audit of a table as a question: every offset that it records is in its files once, and what the topics hold beyond.

The rows of a snapshot never change, so they are counted once; how far the topics have gone is asked each time.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

from k2.lake.audit import Audit, PartitionAudit
from k2.lake.offsets import OffsetMap
from k2.lake.reader import SnapshotInfo, TableReader, TableState
from k2.lake.sequence_audit import SequenceAudit
from k2.model.lru import Lru
from k2.model.sequences import SequenceScope
from k2.query.rows.errors import EngineBusyError
from k2.query.rows.tail_view import TailSource

_audits: Lru[tuple[str, int | None], Audit] = Lru(64)
_sequences: Lru[tuple[str, int | None, SequenceScope], SequenceAudit] = Lru(64)
_working = threading.Lock()

Ends = Mapping[str, Mapping[int, int]]
"""Topic → partition → offset after the last readable one."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A snapshot that does not begin where the one before it ended."""

    snapshot_id: int
    topic: str
    partition: int
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit, and what was said beside it.

    Attributes:
        audit: of the rows, at a snapshot.
        commits: retained snapshots whose offsets were compared with those of the one before.
        gaps: where they do not follow each other.
        problem: why the topics' ends are not known; None when they are, or nobody knows of Kafka.
        sequences: what the source's own numbers show, where it was asked for. What a source left out is not a fault of the
            table: it does not enter `ok`.
    """

    audit: Audit
    commits: int
    gaps: Sequence[Gap]
    problem: str | None
    sequences: SequenceAudit | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, doubled or from nowhere."""
        return self.audit.ok and not self.gaps


def audit(
    reader: TableReader, identifier: str, tails: TailSource | None, sequences: SequenceScope | None = None
) -> Audited:
    """Audit a table at its current snapshot.

    Args:
        reader: of the catalog.
        identifier: the table.
        tails: knows the topics' ends; None: nobody does.
        sequences: look at the source's numbers too, counted together as this says.

    Raises:
        EngineBusyError: another table is being counted: one at a time.
        RefusedError: the table was rolled back: its offsets say nothing about its rows.
        TableMissingError, WorldError: see `TableReader.state`.
    """
    state = reader.state(identifier)
    found = _audits.get((state.uuid, state.current_id))
    if found is None:
        with _one_at_a_time():
            found = reader.audit(identifier)
        _audits.put((state.uuid, found.snapshot_id), found)
    numbers = None if sequences is None else _numbers(reader, state, sequences)
    ends: Ends = {}
    problem: str | None = None
    if tails is not None:
        current = state.by_id.get(found.snapshot_id or -1)
        ends, problem = tails.ends(OffsetMap() if current is None else current.offsets)
    parts = tuple(_with_end(part, ends) for part in found.partitions)
    pairs = list(_pairs(state))
    gaps = [gap for before, after in pairs for gap in _gaps(before, after)]
    return Audited(replace(found, partitions=parts), len(pairs), gaps, problem, numbers)


def _numbers(reader: TableReader, state: TableState, scope: SequenceScope) -> SequenceAudit:
    found = _sequences.get((state.uuid, state.current_id, scope))
    if found is None:
        with _one_at_a_time():
            snapshot_id, found = reader.audit_sequences(state.identifier, scope)
        _sequences.put((state.uuid, snapshot_id, scope), found)
    return found


@contextmanager
def _one_at_a_time() -> Generator[None]:
    if not _working.acquire(blocking=False):
        raise EngineBusyError("An audit is under way, and there is one at a time. Ask again later")
    try:
        yield
    finally:
        _working.release()


def _with_end(part: PartitionAudit, ends: Ends) -> PartitionAudit:
    return replace(part, end=ends.get(part.topic, {}).get(part.partition))


def _pairs(state: TableState) -> Iterable[tuple[SnapshotInfo, SnapshotInfo]]:
    """Retained snapshots of K2's with their parents."""
    for before, after in pairwise(state.snapshots):
        if after.parent_id == before.id and before.offsets.topics and after.offsets.topics:
            yield before, after


def _gaps(before: SnapshotInfo, after: SnapshotInfo) -> Iterable[Gap]:
    """Partitions whose new counts do not make up for what they advanced, or that went back."""
    for topic, held in after.offsets.topics.items():
        known = before.offsets.topics.get(topic)
        for number, part in held.partitions.items():
            was = None if known is None else known.partitions.get(number)
            first = part.first if was is None else was.next
            accounted = part.rows + part.duplicates + part.dead_letters + part.lost
            had = 0 if was is None else was.rows + was.duplicates + was.dead_letters + was.lost
            # Offsets without a message (markers of transactions) may be more than what is accounted for, never less.
            if part.next < first or accounted - had > part.next - first or accounted < had:
                yield Gap(after.id, topic, number, first, part.next)
