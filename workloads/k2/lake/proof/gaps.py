"""Whether the commits of a table follow each other: each snapshot of K2's begins where the one before it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2.lake.offsets import BATCH, OFFSETS, OffsetMap, ancestors, summary_of


@dataclass(frozen=True, slots=True)
class Gap:
    """A snapshot that does not begin where the one before it ended. `sequence` is its number."""

    snapshot_id: int
    sequence: int
    topic: str
    partition: int
    expected: int
    found: int


@dataclass(frozen=True, slots=True)
class BatchRange:
    """Offsets [start, stop) of a partition that one commit read, and how many of them became rows."""

    topic_id: str
    partition: int
    start: int
    stop: int
    rows: int


def commit_gaps(metadata: TableMetadata) -> tuple[int, Sequence[Gap]]:
    """How many retained snapshots of K2's were compared with their parents, and where they do not follow them."""
    ordered = sorted(metadata.snapshots, key=lambda each: (each.sequence_number or 0, each.timestamp_ms))
    maps = {each.snapshot_id: OffsetMap.from_json(summary_of(each).get(OFFSETS)) for each in ordered}
    pairs = [
        (before, after)
        for before, after in pairwise(ordered)
        if after.parent_snapshot_id == before.snapshot_id
        and maps[before.snapshot_id].topics
        and maps[after.snapshot_id].topics
    ]
    found = [gap for before, after in pairs for gap in _gaps(after, maps[before.snapshot_id], maps[after.snapshot_id])]
    return len(pairs), found


def retained_batches(metadata: TableMetadata) -> Iterator[BatchRange]:
    """What the retained snapshots of the current history say of their own batches."""
    for snapshot in ancestors(metadata):
        summary = summary_of(snapshot)
        topic, _, parts = summary.get(BATCH, "").partition(" ")
        held = OffsetMap.from_json(summary.get(OFFSETS)).topics.get(topic)
        if held is not None:
            for part in parts.split():
                yield _batch(held.topic_id, part)


def _batch(topic_id: str, text: str) -> BatchRange:
    """`partition:start-next=rows/duplicates/dead letters`."""
    partition, rest = text.split(":")
    offsets, counts = rest.split("=")
    start, stop = offsets.split("-")
    return BatchRange(topic_id, int(partition), int(start), int(stop), int(counts.split("/")[0]))


def _gaps(after: Snapshot, was: OffsetMap, now: OffsetMap) -> Iterator[Gap]:
    """Partitions whose new counts do not make up for what they advanced, or that went back."""
    for topic, held in now.topics.items():
        for number, part in held.partitions.items():
            before = was.topics[topic].partitions.get(number) if topic in was.topics else None
            first = part.first if before is None else before.next
            accounted = part.rows + part.duplicates + part.dead_letters + part.lost
            had = 0 if before is None else before.rows + before.duplicates + before.dead_letters + before.lost
            # Offsets without a message (markers of transactions) may be more than what is accounted for, never less.
            if part.next < first or accounted - had > part.next - first or accounted < had:
                yield Gap(after.snapshot_id, after.sequence_number or 0, topic, number, first, part.next)
