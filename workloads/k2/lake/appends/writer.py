"""Writing data files: sorted, split by partition, with Iceberg's field ids and statistics.

PyIceberg's own writer casts every column and packs files by their size in memory; this one is given rows already in
file order and takes them a row group at a time, so that no second copy of a batch ever stands in memory.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionField, partition_record_value
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortDirection
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from k2.lake.appends.batch import Ints, slices
from k2.lake.columns import placed
from k2.lake.digest import DIGEST_FIELD, DigestedStream
from k2.lake.settling import order_faults, spec_faults
from k2.model.errors import UserError
from k2.model.table_properties import CODECS, LEVELLED
from k2.obs.logging import get_logger

log = get_logger(__name__)

ROW_GROUP = 32_768
TARGET_BYTES = 32 * 1024 * 1024
BYTES_PER_ROW = 40
"""Of a compressed trade (measured: 36 to 42 on the ASX ticks): only decides where a large batch is cut into files."""

_CODEC = "write.parquet.compression-codec"
_PLAIN = ("message_id", "trade_id", "quote_id")
_DELTA = (
    "timestamp",
    "effective_timestamp",
    "ingestion_timestamp",
    "source_sequence",
    "platform_sequence",
    "kafka_offset",
)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A data file that no snapshot refers to yet."""

    data_file: DataFile
    rows: int

    @property
    def path(self) -> str:
        """Where it is."""
        return self.data_file.file_path


def write_files(table: Table, rows: pa.Table, order: Ints) -> list[WrittenFile]:
    """Write `rows[order]` as data files of the table, one or more for each partition value.

    Args:
        table: as it was loaded: its schema, partition spec, sort order and properties decide.
        rows: columns by name; what the table has and they have not is null.
        order: which rows, in (symbol, time, source sequence) order.

    Raises:
        UserError: a column of the rows is not in the table, or does not fit it.
    """
    schema = table.schema()
    settings = FileSettings.of(table)
    conformed = conformed_rows(rows, schema)
    written: list[WrittenFile] = []
    try:
        for partition, whole in _partitions(table, conformed, order):
            parts = _cut(whole, settings.rows_per_file)
            # One by one, so that what is there is known when one of them fails.
            written.extend(_write_file(table, settings, conformed, part, partition) for part in parts)
    except BaseException:
        discard_files(table.io, written)
        raise
    return written


def check_writable(table: Table, rows: pa.Table) -> None:
    """Do what `write_files` does but keep nothing; raises what it would raise about the rows or the table."""
    schema = table.schema()
    settings = FileSettings.of(table)
    conformed = conformed_rows(rows, schema)
    for partition, part in _partitions(table, conformed, np.arange(len(rows))):
        table.spec().partition_to_path(partition, schema)
        nowhere = DigestedStream(pa.MockOutputStream())
        described_file(table, _encode(nowhere, table, settings, conformed, part), "", nowhere, partition)


def discard_files(io: FileIO, files: Sequence[WrittenFile]) -> None:
    """Delete files that no snapshot refers to; one that cannot be deleted is an orphan, which upkeep finds later."""
    for file in files:
        discard_file(io, file.path)


def discard_file(io: FileIO, path: str) -> None:
    """Delete a file that no snapshot refers to; see `discard_files`."""
    try:
        io.delete(path)
    except (OSError, ValueError) as error:
        log.info("file.orphan_left", path=path, error=repr(error))


@dataclass(frozen=True, slots=True)
class FileSettings:
    """The table's properties that say how files are written.

    Attributes:
        codec, level: of the compression.
        row_group: rows of one.
        rows_per_file: about where a large batch is cut.
    """

    codec: str
    level: int
    row_group: int
    rows_per_file: int

    @classmethod
    def of(cls, table: Table) -> FileSettings:
        """Those of a table; a `UserError` names what of it cannot be honoured."""
        schema = table.schema()
        # Asked first: a bucket of nothing would take the process with it.
        if faults := spec_faults(table.spec(), schema) + order_faults(table.sort_order(), schema):
            raise UserError(
                f"Files of {'.'.join(table.name())} cannot be laid out as it says",
                found="; ".join(faults),
                remedy="Change partitionSpec or sortOrder of the IcebergTable",
            )
        codec = table.properties.get(_CODEC, "zstd")
        if codec not in CODECS:
            raise UserError(
                f"{_CODEC} of {'.'.join(table.name())} is none that files can be written with",
                found=codec,
                expected=f"one of {', '.join(CODECS)}",
                remedy="Set it in the IcebergTable's properties",
            )
        group = _number(table, "write.parquet.row-group-limit", ROW_GROUP)
        target = _number(table, "write.target-file-size-bytes", TARGET_BYTES)
        return cls(
            codec, _number(table, "write.parquet.compression-level", 1), group, max(ROW_GROUP, target // BYTES_PER_ROW)
        )


def _number(table: Table, name: str, default: int) -> int:
    text = table.properties.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise UserError(
            f"{name} of {'.'.join(table.name())} is no number that files can be written with",
            found=text,
            expected="a whole number above 0",
            remedy="Set it in the IcebergTable's properties",
        )
    return number


def conformed_rows(rows: pa.Table, schema: Schema) -> pa.Table:
    """The rows under the table's own columns, order and field ids. Dictionaries stay: Parquet takes them as they are."""
    target = schema_to_pyarrow(schema, include_field_ids=True)
    places, unknown = placed(rows.schema, target)
    if unknown:
        raise UserError(
            "The table has no column for a field of the events",
            found=", ".join(unknown),
            expected="columns " + ", ".join(target.names),
            remedy="Add it to the IcebergTable's columns first (spec.columns)",
        )
    columns: list[pa.ChunkedArray | pa.Array] = []
    fields: list[pa.Field] = []
    for field in target:
        column = rows.column(places[field.name]) if field.name in places else pa.nulls(len(rows), field.type)
        columns.append(_as_stored(column, field))
        fields.append(pa.field(field.name, columns[-1].type, field.nullable, field.metadata))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _as_stored(column: pa.ChunkedArray | pa.Array, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    wanted = field.type
    if isinstance(wanted, pa.ExtensionType) and column.type == wanted.storage_type:
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        return pa.chunked_array([pa.ExtensionArray.from_storage(wanted, chunk) for chunk in chunks], wanted)
    if pa.types.is_dictionary(column.type):
        return column
    try:
        return column.cast(wanted)  # string → large_string and the like
    except pa.ArrowException as error:
        raise pa.ArrowInvalid(f"{field.name}: {error}") from error


def _partitions(table: Table, rows: pa.Table, order: Ints) -> Iterator[tuple[Record, Ints]]:
    """Split the ordered rows by partition value; within each, the order is kept."""
    fields = table.spec().fields
    if not len(order):
        return
    if not fields:
        yield Record(), order
        return
    codes = np.zeros(len(rows), dtype=np.int64)
    values: list[list[object]] = []
    for field in fields:
        encoded = _transformed(table, field, rows).dictionary_encode()
        values.append(encoded.dictionary.to_pylist())
        codes = codes * (len(values[-1]) + 1) + encoded.indices.fill_null(len(values[-1])).to_numpy(
            zero_copy_only=False
        )
    ordered = codes[order]
    for code in np.unique(ordered):
        rest, key = int(code), list[object]()
        for distinct in reversed(values):
            rest, index = divmod(rest, len(distinct) + 1)
            key.append(distinct[index] if index < len(distinct) else None)
        record = [
            partition_record_value(field, value, table.schema())
            for field, value in zip(fields, reversed(key), strict=True)
        ]
        yield Record(*record), order[ordered == code]


def _transformed(table: Table, field: PartitionField, rows: pa.Table) -> pa.Array:
    source = table.schema().find_field(field.source_id)
    result = field.transform.pyarrow_transform(source.field_type)(_plain(rows.column(source.name)))
    return result.combine_chunks() if isinstance(result, pa.ChunkedArray) else result


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column's own values, which can be put in order and told apart: no numbers of a dictionary, and bytes for a UUID."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column


def _cut(order: Ints, most: int) -> list[Ints]:
    """Equal parts of about `most` rows: never one full file and a crumb."""
    return list(np.array_split(order, max(1, round(len(order) / most))))


def _write_file(table: Table, settings: FileSettings, rows: pa.Table, order: Ints, partition: Record) -> WrittenFile:
    path = new_path(table, partition)
    output = table.io.new_output(path)
    try:
        with output.create(overwrite=False) as stream:
            digested = DigestedStream(stream)
            metadata = _encode(digested, table, settings, rows, order)
        return WrittenFile(described_file(table, metadata, path, digested, partition), len(order))
    except BaseException:
        discard_file(table.io, path)
        raise


def _encode(stream: Any, table: Table, settings: FileSettings, rows: pa.Table, order: Ints) -> pq.FileMetaData:
    """Write `rows[order]` as Parquet to a stream."""
    order = table_order(table, rows, order)
    with parquet_writer(stream, rows.schema, settings) as writer:
        for piece in slices(len(order), settings.row_group):
            write_group(writer, rows_at(rows, order[piece]))
    return writer.writer.metadata


def parquet_writer(stream: Any, schema: pa.Schema, settings: FileSettings) -> pq.ParquetWriter:
    """A writer of Parquet as K2's files are: compression, encodings, checksums of pages."""
    stored = schema.names
    return pq.ParquetWriter(
        stream,
        schema,
        compression=settings.codec if settings.codec != "uncompressed" else "none",
        compression_level=settings.level if settings.codec in LEVELLED else None,
        # Ids are all different: a dictionary of them is built only to be thrown away.
        use_dictionary=[n for n in stored if n not in _PLAIN and n not in _DELTA],  # pyright: ignore[reportArgumentType]
        column_encoding={name: "DELTA_BINARY_PACKED" for name in _DELTA if name in stored},
        store_schema=False,
        # Says which page of which column is damaged, where the digest says that the file is.
        write_page_checksum=True,
    )


def rows_at(rows: pa.Table, places: Ints) -> pa.Table:
    """The rows at these places, in that order."""
    chosen = pa.array(places)
    # Column by column: Table.take costs four times as much (measured, pyarrow 26).
    return pa.Table.from_arrays([column.take(chosen) for column in rows.columns], schema=rows.schema)


def write_group(writer: pq.ParquetWriter, rows: pa.Table) -> None:
    """Write the rows as one row group."""
    writer.write_table(rows, row_group_size=max(1, len(rows)))


def new_path(table: Table, partition: Record) -> str:
    """Where a new data file of this partition goes: a name that nothing has had."""
    name = f"{uuid.uuid4()}.parquet"
    folder = table.spec().partition_to_path(partition, table.schema())
    return table.location_provider().new_data_location(f"{folder}/{name}" if folder else name)


def described_file(
    table: Table, metadata: pq.FileMetaData, path: str, digested: DigestedStream, partition: Record
) -> DataFile:
    """What the manifest says of a file that was written."""
    schema = table.schema()
    statistics = data_file_statistics_from_parquet_metadata(
        parquet_metadata=metadata,
        stats_columns=compute_statistics_plan(schema, table.properties),
        parquet_column_mapping=parquet_path_to_id_mapping(schema),
    )
    described = statistics.to_serialized_dict()
    described["lower_bounds"] = {**described["lower_bounds"], DIGEST_FIELD: digested.digest}
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=digested.bytes,
        sort_order_id=table.sort_order().order_id,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **described,
    )


def is_natural(table: Table) -> bool:
    """Whether the table's own sort order is the one that batches are in: symbol, time, source sequence, or less of it."""
    return not _sort_keys(table)


def table_order(table: Table, rows: pa.Table, order: Ints) -> npt.NDArray[np.int64]:
    """The order the table's own sort order asks for; the built-in one is the order the rows are in already."""
    wanted = _sort_keys(table)
    if not wanted:
        return order
    keys = [(name, "descending" if direction is SortDirection.DESC else "ascending") for name, direction in wanted]
    plain = {name: _plain(rows.column(name).take(pa.array(order))) for name, _ in wanted}
    # The row's place is the last key, so that what the order leaves equal stays as it arrived.
    return order[
        pa.table({**plain, "": np.arange(len(order))}).sort_by([*keys, ("", "ascending")]).column("").to_numpy()
    ]


def _sort_keys(table: Table) -> list[tuple[str, SortDirection]]:
    """Columns of the table's sort order; none where batches are in it already."""
    schema = table.schema()
    wanted = [
        (schema.find_column_name(by.source_id) or "", by.direction)
        for by in table.sort_order().fields
        if isinstance(by.transform, IdentityTransform)
    ]
    names = [name for name, _ in wanted]
    natural = [["symbol", time, "source_sequence"][: len(names)] for time in ("timestamp", "effective_timestamp")]
    is_there = names in natural and all(direction is SortDirection.ASC for _, direction in wanted)
    return [] if is_there else wanted
