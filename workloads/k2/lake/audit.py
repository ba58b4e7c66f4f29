"""Proof that a table holds every offset it says it holds, once: counted in the files, compared with the offset map.

For each partition the map says: [first, next) was read; so many rows were kept, so many were duplicates, so many dead
letters, the rest were no records. The audit counts the rows in the files of one snapshot and finds offsets that stand
there more than once, or outside the range, or are fewer than they should be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2.lake.offsets import OffsetMap, PartitionOffsets, recorded_offsets
from k2.lake.scan import plan_files
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID

MOST_NAMED = 5
"""Offsets named in a finding; the rest is a number."""


@dataclass(frozen=True, slots=True)
class PartitionAudit:
    """What was found of one partition of one topic. `end` is the topic's end now (None: not asked, or the topic is gone).

    `missing` and `doubled` are findings: how many rows, of which up to five offsets are named. `behind` is how many
    offsets the topic has beyond the table: not a fault, the sink has yet to read them.
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

    @property
    def behind(self) -> int | None:
        """Offsets of the topic that the table does not have yet."""
        return None if self.end is None else max(0, self.end - self.offsets.next)

    @property
    def ok(self) -> bool:
        """Nothing missing, doubled or from nowhere."""
        return not (self.missing or self.doubled or self.outside)


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of one table at one snapshot. `strangers` counts rows of topics that the map does not know."""

    table: str
    snapshot_id: int | None
    partitions: tuple[PartitionAudit, ...]
    strangers: int

    @property
    def ok(self) -> bool:
        """Whether every row that should be there is there once, and no other."""
        return not self.strangers and all(partition.ok for partition in self.partitions)


Progress = Callable[[int, int], None]
"""Told after each file: files read, files in all."""


def audit_table(table: Table, ends: Mapping[str, Mapping[int, int]], progress: Progress | None = None) -> Audit:
    """Audit a table at its current snapshot. Memory: one byte for each offset that the table records.

    Args:
        table: as it was loaded.
        ends: topic → partition → end offset, as Kafka says now; a topic that is absent is not compared.
        progress: see `Progress`.

    Raises:
        RefusedError: the table was rolled back: its offsets say nothing about its rows.
    """
    recorded = recorded_offsets(table)
    snapshot = table.current_snapshot()
    counts = {
        (held.topic_id, number): np.zeros(part.next - part.first, dtype=np.uint8)
        for held in recorded.topics.values()
        for number, part in held.partitions.items()
    }
    firsts = {
        (held.topic_id, number): part.first
        for held in recorded.topics.values()
        for number, part in held.partitions.items()
    }
    outside = dict.fromkeys(counts, 0)
    strangers = 0
    for key, offsets in _lineage(table, None if snapshot is None else snapshot.snapshot_id, progress):
        if key not in counts:
            strangers += len(offsets)
            continue
        outside[key] += _mark(counts[key], offsets - firsts[key])
    return Audit(
        ".".join(table.name()),
        None if snapshot is None else snapshot.snapshot_id,
        tuple(_findings(recorded, counts, outside, ends)),
        strangers,
    )


def _lineage(
    table: Table, snapshot_id: int | None, progress: Progress | None
) -> Iterator[tuple[tuple[str, int], npt.NDArray[np.int64]]]:
    """(topic id, partition) and offsets of all rows, a row group at a time."""
    files = plan_files(table, snapshot_id)
    for number, file in enumerate(files, start=1):
        with table.io.new_input(file.path).open() as stream:
            parquet = pq.ParquetFile(stream, read_dictionary=[TOPIC_ID])
            for rows in parquet.iter_batches(1_000_000, columns=[TOPIC_ID, PARTITION, OFFSET], use_threads=False):
                yield from _by_origin(rows)
        if progress is not None:
            progress(number, len(files))


def _by_origin(rows: pa.RecordBatch) -> Iterator[tuple[tuple[str, int], npt.NDArray[np.int64]]]:
    topics = rows.column(TOPIC_ID)
    codes = topics.indices.to_numpy(zero_copy_only=False)
    partitions, offsets = rows.column(PARTITION).to_numpy(), rows.column(OFFSET).to_numpy()
    for code, topic_id in enumerate(topics.dictionary.to_pylist()):
        of_topic = codes == code
        for partition in np.unique(partitions[of_topic]).tolist():
            yield (topic_id, partition), offsets[of_topic & (partitions == partition)]


def _mark(counts: npt.NDArray[np.uint8], places: npt.NDArray[np.int64]) -> int:
    """Count rows at their places; returns how many lie outside. Counts stop at 255, which is doubled enough."""
    inside = places[(places >= 0) & (places < len(counts))]
    if len(inside):
        low, high = int(inside.min()), int(inside.max()) + 1
        seen = counts[low:high] + np.bincount(inside - low, minlength=high - low)
        counts[low:high] = np.minimum(seen, 255)
    return len(places) - len(inside)


def _findings(
    recorded: OffsetMap,
    counts: Mapping[tuple[str, int], npt.NDArray[np.uint8]],
    outside: Mapping[tuple[str, int], int],
    ends: Mapping[str, Mapping[int, int]],
) -> Iterator[PartitionAudit]:
    for topic, held in sorted(recorded.topics.items()):
        for number, part in sorted(held.partitions.items()):
            seen = counts[held.topic_id, number]
            more = np.flatnonzero(seen > 1)
            distinct = int((seen > 0).sum())
            missing = max(0, part.rows - distinct)
            named = more if len(more) else (np.flatnonzero(seen == 0) if missing else more)
            yield PartitionAudit(
                topic=topic,
                partition=number,
                offsets=part,
                rows=int(seen.sum(dtype=np.int64)),
                missing=missing,
                doubled=int((seen[more].astype(np.int64) - 1).sum()) + max(0, distinct - part.rows),
                outside=outside[held.topic_id, number],
                examples=tuple((named[:MOST_NAMED] + part.first).tolist()),
                end=ends.get(topic, {}).get(number),
            )
