"""Proof that a table holds every offset it says it holds, once: counted in the files, compared with the offset map.

For each partition the map says: [first, next) was read; so many rows were kept, so many were duplicates, so many dead
letters, the rest were no records. The audit looks whether the files of one snapshot are there, counts their rows, and finds
offsets that stand there more than once, or outside the range, or are fewer than they should be. What people decided of
the table (`k2.lake.proof.decisions`) is told with it, and what that covers is no fault.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pyiceberg.table import Table

from k2.lake.offsets import OffsetMap, PartitionOffsets, recorded_offsets
from k2.lake.proof.decisions import (
    Accepted,
    AcceptedRows,
    Decision,
    Range,
    decisions_of,
    forgotten_of,
    in_force,
    joined,
    lost_ranges,
)
from k2.lake.proof.files_audit import FileFinding, FileProblem, FilesAudit, audit_files, name_below
from k2.lake.proof.gaps import BatchRange, Gap, commit_gaps, retained_batches
from k2.lake.proof.lineage import Counts, Key, LineageCounts, Progress, count_rows
from k2.lake.scan import plan_files

MOST_NAMED = 5
"""Offsets named in a finding; the rest is a number."""

MOST_RANGES = 1000
"""Ranges of missing offsets that are told of a partition; the rest is a number."""


@dataclass(frozen=True, slots=True)
class PartitionAudit:
    """What was found of one partition of one topic. `end` is the topic's end now (None: not asked, or the topic is gone).

    `missing` and `doubled` are findings: how many rows, of which up to five offsets are named. `behind` is how many
    offsets the topic has beyond the table: not a fault, the sink has yet to read them.

    Attributes:
        missing_in: ranges of offsets in which the missing ones are; up to `MOST_RANGES`.
        exactly: whether these ranges are the missing offsets and nothing else. They are not where a batch had duplicates, dead
            letters or markers too and the table does not say which of its offsets those were.
        lost_in: ranges of offsets that a person gave up.
        accepted: what of this was accepted by a person; None: nothing, or what was accepted has changed since.
        forgotten: a person had the table forget the topic; the rows are still there.
        state: a digest of how often each offset is there.
    """

    topic: str
    partition: int
    offsets: PartitionOffsets
    rows: int
    missing: int
    doubled: int
    outside: int
    examples: tuple[int, ...]
    end: int | None
    topic_id: str = ""
    missing_in: tuple[Range, ...] = ()
    exactly: bool = True
    lost_in: tuple[Range, ...] = ()
    accepted: AcceptedRows | None = None
    forgotten: bool = False
    state: str = ""

    @property
    def behind(self) -> int | None:
        """Offsets of the topic that the table does not have yet."""
        return None if self.end is None else max(0, self.end - self.offsets.next)

    @property
    def ok(self) -> bool:
        """Nothing missing, doubled or from nowhere, beyond what was accepted."""
        known = self.accepted or AcceptedRows(0, 0, "")
        return self.missing <= known.missing and self.doubled <= known.doubled and self.outside <= known.outside


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of one table at one snapshot.

    Attributes:
        strangers: rows by the id of a topic that neither the map nor a decision knows; "" where they have none.
        files: whether they are there, and those that cannot be read.
        commits: retained snapshots whose offsets were compared with those of the one before.
        gaps: where they do not follow each other.
        decisions: what people decided, oldest first.
        sequence: number of the snapshot.
        deleted: rows that delete files of other engines take out: they are not there, so their offsets are missing.
        untold_deletes: data files with deletes in a form that is not read here; all their rows were counted.
    """

    table: str
    snapshot_id: int | None
    partitions: tuple[PartitionAudit, ...]
    strangers: Mapping[str, int]
    files: FilesAudit
    commits: int = 0
    gaps: Sequence[Gap] = ()
    decisions: Sequence[Decision] = ()
    sequence: int = 0
    deleted: int = 0
    untold_deletes: int = 0

    @property
    def accepted(self) -> Accepted:
        """What a person accepted of it."""
        return in_force(self.decisions) or Accepted()

    @property
    def unknown_rows(self) -> int:
        """Rows of topics that nobody knows and nobody accepted."""
        known = self.accepted.strangers
        return sum(max(0, rows - known.get(topic_id, 0)) for topic_id, rows in self.strangers.items())

    @property
    def open_files(self) -> tuple[FileFinding, ...]:
        """Findings of files that nobody accepted."""
        return self.accepted.not_accepted(self.files.findings)

    @property
    def open_gaps(self) -> tuple[Gap, ...]:
        """Gaps between commits that nobody accepted."""
        return tuple(gap for gap in self.gaps if gap.sequence > self.accepted.sequence)

    @property
    def lost(self) -> int:
        """Offsets that were given up: they are not in the table, and never will be."""
        return sum(part.offsets.lost for part in self.partitions)

    @property
    def missing(self) -> int:
        """Rows that should be there and are not, accepted or not."""
        return sum(part.missing for part in self.partitions)

    @property
    def ok(self) -> bool:
        """Whether every row that should be there is there once, and no other, beyond what a person accepted."""
        findings = (self.unknown_rows, self.open_files, self.open_gaps)
        return not any(findings) and all(partition.ok for partition in self.partitions)


def audit_table(table: Table, ends: Mapping[str, Mapping[int, int]], progress: Progress | None = None) -> Audit:
    """Audit a table at its current snapshot. Memory: one byte for each offset that the table records.

    Args:
        table: as it was loaded.
        ends: topic → partition → end offset, as Kafka says now; a topic that is absent is not compared.
        progress: see `Progress`.

    Raises:
        RefusedError: the table was rolled back: its offsets say nothing about its rows.
        UserError: what K2 wrote into the table cannot be read.
        StoreError: the store did not answer.
    """
    recorded = recorded_offsets(table)
    decisions = decisions_of(table.metadata)
    snapshot = table.current_snapshot()
    snapshot_id = None if snapshot is None else snapshot.snapshot_id
    listed = audit_files(table, snapshot_id)
    files = plan_files(table, snapshot_id)
    gone = {each.name for each in listed.findings if each.problem is FileProblem.MISSING}
    without = {file.path for file in files if gone and name_below(table, file.path) in gone}
    expected = _expected(recorded, decisions)
    counted = count_rows(table.io, files, {part.key: part.offsets for part in expected}, without, progress)
    known = {each.name for each in listed.findings}
    sizes = {file.path: file.bytes for file in files}
    unreadable = [
        FileFinding(name, FileProblem.UNREADABLE, sizes[path], sizes[path])
        for path in counted.unreadable
        if (name := name_below(table, path)) not in known
    ]
    commits, gaps = commit_gaps(table.metadata)
    findings = _Findings(counted, in_force(decisions) or Accepted(), decisions, tuple(retained_batches(table.metadata)))
    return Audit(
        table=".".join(table.name()),
        snapshot_id=snapshot_id,
        partitions=tuple(
            replace(findings.of(part), end=None if part.forgotten else ends.get(part.topic, {}).get(part.partition))
            for part in expected
        ),
        strangers=dict(counted.strangers),
        files=FilesAudit(listed.checked, (*listed.findings, *unreadable)),
        commits=commits,
        gaps=gaps,
        decisions=decisions,
        sequence=0 if snapshot is None else snapshot.sequence_number or 0,
        deleted=counted.deleted,
        untold_deletes=counted.untold,
    )


@dataclass(frozen=True, slots=True)
class _Expected:
    """A partition whose rows the table should have."""

    topic: str
    topic_id: str
    partition: int
    offsets: PartitionOffsets
    forgotten: bool = False

    @property
    def key(self) -> Key:
        return self.topic_id, self.partition


def _expected(recorded: OffsetMap, decisions: Sequence[Decision]) -> list[_Expected]:
    """What the map records, and what it recorded of topics that it was made to forget: their rows are still there."""
    before = forgotten_of(decisions)
    found = [
        _Expected(topic, held.topic_id, number, part)
        for topic, held in sorted(recorded.topics.items())
        for number, part in sorted(held.partitions.items())
    ]
    # A topic that was forgotten though it is the same one is read again: what was there counts on.
    again = [
        replace(each, offsets=joined(before[each.key][1], each.offsets)) if each.key in before else each
        for each in found
    ]
    current = {each.key for each in found}
    return again + [
        _Expected(topic, key[0], key[1], part, forgotten=True)
        for key, (topic, part) in sorted(before.items())
        if key not in current
    ]


@dataclass(frozen=True, slots=True)
class _Findings:
    """What the counts say of each partition."""

    counted: LineageCounts
    accepted: Accepted
    decisions: Sequence[Decision]
    batches: Sequence[BatchRange]

    def of(self, part: _Expected) -> PartitionAudit:
        """The findings of one partition."""
        seen = self.counted.counts[part.key]
        more = np.flatnonzero(seen > 1)
        distinct = int((seen > 0).sum())
        missing = max(0, part.offsets.rows - distinct)
        lost = lost_ranges(self.decisions, *part.key)
        absent = self._absent(part, seen, lost) if missing else np.zeros(0, dtype=np.bool_)
        named = more if len(more) else np.flatnonzero(absent)
        return PartitionAudit(
            topic=part.topic,
            partition=part.partition,
            offsets=part.offsets,
            rows=int(seen.sum(dtype=np.int64)),
            missing=missing,
            doubled=int((seen[more].astype(np.int64) - 1).sum()) + max(0, distinct - part.offsets.rows),
            outside=self.counted.outside[part.key],
            examples=tuple((named[:MOST_NAMED] + part.offsets.first).tolist()),
            end=None,
            topic_id=part.topic_id,
            missing_in=ranges(absent, part.offsets.first),
            exactly=int(absent.sum()) == missing,
            lost_in=lost,
            accepted=self._accepted(part, seen),
            forgotten=part.forgotten,
            state=_digest(seen),
        )

    def _absent(self, part: _Expected, seen: Counts, lost: Sequence[Range]) -> npt.NDArray[np.bool_]:
        """Offsets that may be missing: no row has them, nobody gave them up, and their batch is not whole without them."""
        absent = seen == 0
        first = part.offsets.first
        for start, stop in lost:
            absent[max(0, start - first) : max(0, stop - first)] = False
        for batch in self.batches:
            if (batch.topic_id, batch.partition) == part.key:
                piece = slice(max(0, batch.start - first), max(0, batch.stop - first))
                if int((seen[piece] > 0).sum()) >= batch.rows:
                    absent[piece] = False
        return absent

    def _accepted(self, part: _Expected, seen: Counts) -> AcceptedRows | None:
        """What was accepted of it, if that is still as it was then."""
        known = self.accepted.rows.get(part.key)
        if known is None or known.first != part.offsets.first or known.through > part.offsets.next:
            return None
        return known if _digest(seen[: known.through - known.first]) == known.state else None


def ranges(chosen: npt.NDArray[np.bool_], first: int) -> tuple[Range, ...]:
    """The chosen places as ranges [start, stop) of offsets, place 0 being offset `first`; at most `MOST_RANGES` of them."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    starts, stops = edges[::2][:MOST_RANGES] + first, edges[1::2][:MOST_RANGES] + first
    return tuple(zip(starts.tolist(), stops.tolist(), strict=True))


def _digest(counts: Counts) -> str:
    return hashlib.blake2b(counts.tobytes(), digest_size=16).hexdigest()


def acceptance(found: Audit) -> Accepted:
    """All that an audit found, as what a person accepts of it."""
    return Accepted(
        {
            (part.topic_id, part.partition): AcceptedRows(
                part.offsets.first, part.offsets.next, part.state, part.missing, part.doubled, part.outside
            )
            for part in found.partitions
            if part.missing or part.doubled or part.outside
        },
        dict(found.strangers),
        {each.name: each.found for each in found.files.findings},
        found.sequence,
    )
