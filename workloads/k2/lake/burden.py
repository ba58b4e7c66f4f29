"""What every commit and every question of a table carries: small files, snapshots, metadata that grow with both. From metadata alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyiceberg.table import Table

from k2.lake.layout import PartitionFiles, newest_partitions

NEWEST = 7
"""Partitions that are looked at, by day where the table is partitioned by day: older ones do not change any more."""

SPARE_FILES, SPARE_FILES_NEWEST = 10, 120
"""Files that a partition may have beyond those that it takes; the newest one an hour's commits at the default interval."""

TARGET_BYTES = 32 * 1024 * 1024
"""The size of a data file where the table's `write.target-file-size-bytes` says no other: what a sink writes at most."""


@dataclass(frozen=True, slots=True)
class Burden:
    """One look at a table.

    Attributes:
        snapshots: those in its metadata, tagged ones included.
        metadata_bytes: size of the metadata file, which each commit writes anew and each question reads.
        crowded: the partition with most files beyond what its size takes, where one has too many.
        target_bytes: the size that files should have.
    """

    snapshots: int
    metadata_bytes: int
    crowded: PartitionFiles | None
    target_bytes: int


def burden(table: Table) -> Burden:
    """Look at a loaded table: its metadata file's size, and the manifests of its newest partitions.

    Raises:
        Exception: whatever the store raises.
    """
    target = int(table.properties.get("write.target-file-size-bytes", TARGET_BYTES))
    newest = newest_partitions(table, NEWEST)
    size = len(table.io.new_input(table.metadata_location))
    return Burden(len(table.metadata.snapshots), size, crowded(newest or (), target), target)


def crowded(newest: Sequence[PartitionFiles], target: int) -> PartitionFiles | None:
    """The worst of the newest partitions (newest first) where one has more files than it may; None where all lie well.

    Args:
        newest: as `k2.lake.layout.newest_partitions` gives them.
        target: bytes that a file should have.
    """

    def spare(partition: PartitionFiles) -> int:
        return partition.files - math.ceil(partition.bytes / target)

    allowed = [SPARE_FILES_NEWEST, *([SPARE_FILES] * (len(newest) - 1))]
    if not any(spare(each) > most for each, most in zip(newest, allowed, strict=False)):
        return None
    return max(newest, key=spare)


def described(partition: PartitionFiles, target: int) -> str:
    """How a partition lies in its files, and how few would do, in a sentence without its end."""
    average = partition.bytes / partition.files / 2**20
    enough = max(1, math.ceil(partition.bytes / target))
    return (
        f"partition {partition.partition} lies in {partition.files} files of {average:.1f} MiB on average; "
        f"{enough} would do (files of {target / 2**20:.0f} MiB)"
    )
