"""Files or manifests of a table in place of others, with the same rows: a snapshot whose operation is `replace`.

PyIceberg 0.12 has no such operation (apache/iceberg-python#3131), and its overwrite looks like new rows to whoever reads a table's
changes. The summary carries the offsets on, so that what the table holds of Kafka is told by this snapshot as by any other.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import (
    _OverwriteFiles,  # pyright: ignore[reportPrivateUsage] - public only by way of operations that it has
)

from k2.lake.landed import guard
from k2.lake.offsets import COMMIT_ID, OFFSETS, OPERATION, recorded_offsets
from k2.model.errors import WorldError

NOTHING: Mapping[str, str] = {}


class UnequalError(WorldError):
    """What was written does not hold what was read. Nothing was committed."""


class ReplaceFiles(_OverwriteFiles):
    """An overwrite in how it is made, a replacement in what it says, unless `says` is something else."""

    says = Operation.REPLACE

    def _summary(self, snapshot_properties: Mapping[str, str] = NOTHING) -> Summary:
        computed = super()._summary(dict(snapshot_properties))
        return Summary(operation=self.says, **computed.additional_properties)

    def _validate_concurrency(self) -> None:
        """Whoever replaces has looked at the very snapshot that the commit asserts."""


def live_files(table: Table) -> dict[str, DataFile]:
    """Data files of the current snapshot by path, as its manifests have them. Nothing is remembered."""
    snapshot = table.current_snapshot()
    return {
        entry.data_file.file_path: entry.data_file
        for manifest in ([] if snapshot is None else snapshot.manifests(table.io))
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if entry.data_file.content is DataFileContent.DATA
    }


def replace_files(
    table: Table,
    old: Sequence[DataFile],
    new: Sequence[DataFile],
    commit_id: str,
    operation: str,
    *,
    same_rows: bool = True,
) -> int:
    """Commit `new` in place of `old`; the snapshot's id.

    Args:
        table: as it was just loaded: the commit asserts its current snapshot, and fails when there is a newer one.
        old: files of that snapshot.
        new: files that no snapshot refers to, with the same rows.
        commit_id: by which the snapshot is found again when the answer is lost.
        operation: what the summary says of who did it.
        same_rows: whether the new files have all rows of the old ones; without it the snapshot is an overwrite.

    Raises:
        CommitFailedException: another commit was quicker. Nothing has changed.
        RefusedError: the table was rolled back: a person has to decide first which rows it holds.
    """
    summary = replacement_summary(table, commit_id, operation)
    guard(table)
    with table.transaction() as transaction:
        producer = ReplaceFiles(
            operation=Operation.OVERWRITE,
            transaction=transaction,
            io=table.io,
            commit_uuid=uuid.uuid4(),
            snapshot_properties=summary,
        )
        producer.says = Operation.REPLACE if same_rows else Operation.OVERWRITE
        with producer:
            for file in old:
                producer.delete_data_file(file)
            for file in new:
                producer.append_data_file(file)
    return producer.snapshot_id


def replacement_summary(table: Table, commit_id: str, operation: str) -> dict[str, str]:
    """What the snapshot of a replacement says: who made it, and the offsets as they are. Raises as `replace_files` does."""
    recorded_offsets(table)
    carried = {OFFSETS: table.properties[OFFSETS]} if OFFSETS in table.properties else {}
    return {COMMIT_ID: commit_id, OPERATION: operation, **carried}
