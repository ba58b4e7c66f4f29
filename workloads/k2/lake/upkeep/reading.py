"""Rows of data files under the table's own columns, a piece at a time; a file that is not as it was written is not read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.table import Table

from k2.lake.appends.writer import conformed_rows
from k2.lake.columns import placed
from k2.lake.digest import digest_of
from k2.model.errors import StoreError, UserError

PIECE = 65_536
"""Rows at a time."""

_WHOLE = 64 * 1024 * 1024
"""A file up to so many bytes is fetched by one request; of a larger one the row groups, one by one."""

_BLOCK = 4 * 1024 * 1024


def read_pieces(
    table: Table, file: DataFile, columns: Sequence[str] | None = None, *, checked: bool = True
) -> Iterator[pa.Table]:
    """The rows of a file in their order: the table's columns as it is now, with those that the file lacks as null.

    Args:
        table: the table.
        file: one of its data files.
        columns: only these, as the table calls them.
        checked: whether the file's bytes are compared with its digest first; who reads it once more need not do it twice.

    Raises:
        UserError: the file is none that can be read here.
        StoreError: it cannot be had, or is not what was written.
    """
    if file.file_format is not FileFormat.PARQUET:
        raise UserError(f"{file.file_path} is no Parquet file", found=file.file_format, expected="parquet")
    schema = table.schema() if columns is None else table.schema().select(*columns)
    target = schema_to_pyarrow(schema, include_field_ids=True)
    try:
        with _opened(table.io, file, digest_of(file) if checked else None) as source:
            parquet = pq.ParquetFile(source, page_checksum_verification=True)
            places, _ = placed(parquet.schema_arrow, target)
            names = [places[name] for name in target.names if name in places]
            for batch in parquet.iter_batches(PIECE, columns=names, use_threads=False):
                yield conformed_rows(pa.Table.from_batches([batch]), schema)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"{file.file_path} cannot be read: {error}") from error


def _opened(io: FileIO, file: DataFile, expected: bytes | None) -> pa.NativeFile:
    """The file's bytes, once they are known to be those that were written."""
    source = io.new_input(file.file_path)
    if file.file_size_in_bytes <= _WHOLE:
        with source.open() as stream:
            whole = stream.read()
        if expected is not None:
            _check(file, expected, hashlib.sha256(whole).digest())
        return pa.BufferReader(whole)
    if expected is not None:
        hashed = hashlib.sha256()
        with source.open() as stream:
            while block := stream.read(_BLOCK):
                hashed.update(block)
        _check(file, expected, hashed.digest())
    return source.open()  # pyright: ignore[reportReturnType] - PyIceberg's pyarrow streams are Arrow's own


def _check(file: DataFile, expected: bytes, found: bytes) -> None:
    if expected != found:
        raise StoreError(
            f"{file.file_path} is not what was written: its digest is {found.hex()[:16]}…, not {expected.hex()[:16]}…. "
            "`k2 audit --deep` says where it is damaged"
        )
