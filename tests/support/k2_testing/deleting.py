"""Delete files as other engines leave them: written with pyarrow, committed in a delete manifest of format version 2.

PyIceberg reads such files but writes none, so its manifest writer is told that what it writes are deletes.
"""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestWriterV2,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record

PATH_ID, POSITION_ID = 2_147_483_546, 2_147_483_545


class _DeleteManifest(ManifestWriterV2):
    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _RowDelta(_FastAppendFiles):
    """A commit that adds one manifest of delete files to those that the table has."""

    delete_files: tuple[DataFile, ...] = ()

    def _manifests(self) -> list[ManifestFile]:
        metadata = self._transaction.table_metadata
        path = f"{metadata.location}/metadata/deletes-{uuid.uuid4().hex}.avro"
        spec = metadata.specs()[self.delete_files[0].spec_id]
        with _DeleteManifest(
            spec, metadata.schema(), self._io.new_output(path), self.snapshot_id, self._compression
        ) as writer:
            for file in self.delete_files:
                writer.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self.snapshot_id,
                        sequence_number=None,
                        file_sequence_number=None,
                        data_file=file,
                    )
                )
        return [writer.to_manifest_file(), *self._existing_manifests()]


def data_files(table: Table) -> list[DataFile]:
    """The table's data files, oldest snapshot first."""
    snapshot = table.current_snapshot()
    assert snapshot is not None
    entries = [
        entry
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io)
    ]
    return [entry.data_file for entry in sorted(entries, key=lambda entry: entry.sequence_number or 0)]


def delete_positions(
    table: Table, positions: list[tuple[str, int]], beside: DataFile, form: FileFormat = FileFormat.PARQUET
) -> None:
    """Commit a file of position deletes, in the partition of `beside`; `form` is what the manifest says of it."""
    rows = pa.table(
        {"file_path": [path for path, _ in positions], "pos": [position for _, position in positions]},
        schema=pa.schema([_field("file_path", pa.string(), PATH_ID), _field("pos", pa.int64(), POSITION_ID)]),
    )
    bounds = [path.encode() for path in (min(positions)[0], max(positions)[0])]
    _commit(
        table,
        rows,
        DataFileContent.POSITION_DELETES,
        beside.partition,
        {PATH_ID: bounds[0]},
        {PATH_ID: bounds[1]},
        form=form,
    )


def delete_equal(table: Table, values: dict[str, list[Any]], beside: DataFile) -> None:
    """Commit a file of equality deletes by these columns, in the partition of `beside`."""
    fields = [table.schema().find_field(name) for name in values]
    arrow = table.schema().as_arrow()
    schema = pa.schema([_field(f.name, arrow.field(f.name).type, f.field_id) for f in fields])
    ids = [field.field_id for field in fields]
    _commit(table, pa.table(values, schema=schema), DataFileContent.EQUALITY_DELETES, beside.partition, {}, {}, ids)


def _field(name: str, kind: pa.DataType, number: int) -> pa.Field:
    return pa.field(name, kind, metadata={b"PARQUET:field_id": str(number).encode()})


def _commit(
    table: Table,
    rows: pa.Table,
    content: DataFileContent,
    partition: Record,
    lower: dict[int, bytes],
    upper: dict[int, bytes],
    equality_ids: list[int] | None = None,
    form: FileFormat = FileFormat.PARQUET,
) -> None:
    path = f"{table.location()}/data/delete-{uuid.uuid4().hex}.parquet"
    with table.io.new_output(path).create() as stream:
        pq.write_table(rows, stream)
    file = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=form,
        partition=partition,
        record_count=len(rows),
        file_size_in_bytes=len(table.io.new_input(path)),
        lower_bounds=lower,
        upper_bounds=upper,
        equality_ids=equality_ids,
    )
    file.spec_id = table.spec().spec_id
    with table.transaction() as transaction:
        delta = _RowDelta(Operation.DELETE, transaction, table.io)
        delta.delete_files = (file,)
        with delta:
            pass
