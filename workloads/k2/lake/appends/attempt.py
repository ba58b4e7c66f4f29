"""One batch on its way into a table: what is the same in all tries to commit it, what each has come to, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyiceberg.io import FileIO
from pyiceberg.table.metadata import TableMetadata

from k2.lake.appends.batch import Batch, Ints, Mask, OrderedBatch
from k2.lake.appends.unwritable import OF_VALUES, REFUSALS
from k2.lake.appends.verdicts import Verdicts
from k2.lake.appends.writer import WrittenFile

Counts = tuple[dict[int, int], dict[int, int], dict[int, int], dict[int, int]]
"""By partition: rows, duplicates, dead letters, and those of these that a person had sent again."""


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did. `metadata` is the table after it; `attempts` counts builds (more than 1: there was contention).

    `landed`: the reply was lost, and the commit was found in the table. `dead` are the rows that became dead letters here (their id is another event's, or no file can hold them), by place among
    the batch's rows, with what the reason is about; `left_out` are the places of those and of the duplicates.
    """

    snapshot_id: int
    offsets: Mapping[int, int]
    rows: int
    duplicates: int
    files: int
    bytes: int
    attempts: int
    metadata: TableMetadata
    dead: Mapping[int, str]
    left_out: Ints
    landed: bool = False

    @property
    def dead_rows(self) -> int:
        """How many rows became dead letters here."""
        return len(self.dead)


@dataclass(slots=True)
class Attempt:
    """One batch on its way, across all tries to commit it. The commit id is the same in each."""

    batch: Batch
    ordered: OrderedBatch
    commit_id: str
    verdicts: Verdicts
    number: int = 0
    unknown: bool = False
    buried: Mask = field(init=False)
    repeated: dict[int, int] = field(default_factory=dict[int, int])
    written: Mask = field(init=False)
    files: list[WrittenFile] | None = None
    io: FileIO | None = None
    refusal: str = ""

    def __post_init__(self) -> None:
        self.buried = np.zeros(len(self.ordered.order), dtype=bool)
        self.written = self.buried

    def again(self, error: Exception) -> bool:
        """Whether the last try failed by the same error, and one that trying does not mend."""
        before, self.refusal = self.refusal, repr(error) if isinstance(error, (*OF_VALUES, *REFUSALS)) else ""
        return bool(before) and before == self.refusal

    def counts(self) -> Counts:
        """Rows kept, duplicates dropped, dead letters, and those of them that a person had sent again, by partition."""
        partitions, verdicts = self.ordered.partitions, self.verdicts
        dead_letters = _by_partition(partitions[verdicts.dead])
        for partition, count in self.batch.dead_letters.items():
            dead_letters[partition] = dead_letters.get(partition, 0) + count
        # What was buried in an earlier try may be a duplicate in this one.
        repeated = {
            partition: min(count, self.batch.repeated.get(partition, 0) + self.repeated.get(partition, 0))
            for partition, count in dead_letters.items()
        }
        kept, duplicate = _by_partition(partitions[verdicts.kept]), _by_partition(partitions[verdicts.duplicate])
        return kept, duplicate, dead_letters, repeated

    def describe(self, topic: str, counts: Counts) -> str:
        """The batch's own ranges and counts, for the audit: partition:start-next=rows/duplicates/dead letters."""
        rows, duplicates, dead_letters, _ = counts
        parts = [
            f"{p}:{start}-{end}={rows.get(p, 0)}/{duplicates.get(p, 0)}/{dead_letters.get(p, 0)}"
            for p, (start, end) in sorted(self.batch.ranges.items())
        ]
        return f"{topic} {' '.join(parts)}"

    def committed(self, snapshot_id: int, metadata: TableMetadata, *, landed: bool) -> Committed:
        """The result, once it is known that the batch is in the table."""
        files = self.files or []
        return Committed(
            snapshot_id=snapshot_id,
            offsets={partition: end for partition, (_, end) in self.batch.ranges.items()},
            rows=int(self.verdicts.kept.sum()),
            duplicates=int(self.verdicts.duplicate.sum()),
            files=len(files),
            bytes=sum(file.data_file.file_size_in_bytes for file in files),
            attempts=self.number,
            metadata=metadata,
            dead=self.verdicts.reasons,
            left_out=self.ordered.order[~self.verdicts.kept],
            landed=landed,
        )


def _by_partition(partitions: np.ndarray[Any, Any]) -> dict[int, int]:
    values, counts = np.unique(partitions, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
