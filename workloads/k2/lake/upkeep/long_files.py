"""Data files that are written piece by piece, each about as large as is wanted: no file's rows are ever in memory as a whole."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from k2.lake.appends.batch import Ints, slices
from k2.lake.appends.writer import (
    FileSettings,
    WrittenFile,
    described_file,
    discard_file,
    discard_files,
    is_natural,
    new_path,
    parquet_writer,
    rows_at,
    table_order,
    write_group,
)
from k2.lake.digest import DigestedStream
from k2.lake.upkeep.ahead import ahead


@dataclass(slots=True)
class _OpenFile:
    path: str
    stream: DigestedStream
    writer: pq.ParquetWriter
    ends: ExitStack
    rows: int = 0


@dataclass(slots=True)
class LongFiles:
    """Writes rows that come in the order of files into `number` files of one partition, of `bytes` each; the last takes the rest.

    A table with a sort order of its own has a file for each piece, sorted by itself.
    """

    table: Table
    partition: Record
    bytes: float
    number: int
    written: list[WrittenFile] = field(default_factory=list[WrittenFile])
    _settings: FileSettings = field(init=False)
    _natural: bool = field(init=False)
    _open: _OpenFile | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._settings, self._natural = FileSettings.of(self.table), is_natural(self.table)

    def put(self, rows: pa.Table, order: Ints) -> None:
        """Write these rows in this order, after those before."""
        order = table_order(self.table, rows, order)
        groups = (rows_at(rows, order[piece]) for piece in slices(len(order), self._settings.row_group))
        with closing(ahead(groups, most=1)) as taken:
            for group in taken:
                if self._open is None:
                    self._open = self._opened(rows.schema)
                write_group(self._open.writer, group)
                self._open.rows += len(group)
                if self._natural and len(self.written) + 1 < self.number and self._open.stream.bytes >= self.bytes:
                    self._close()
        if not self._natural:
            self._close()

    def finish(self) -> list[WrittenFile]:
        """The files; no snapshot refers to them yet."""
        self._close()
        return self.written

    def discard(self) -> None:
        """Delete them."""
        if self._open is not None:
            # An upload that is closed is complete: it has to be, to be deleted.
            with suppress(OSError, pa.ArrowException):
                self._open.ends.close()
            discard_file(self.table.io, self._open.path)
            self._open = None
        discard_files(self.table.io, self.written)
        self.written.clear()

    def _opened(self, schema: pa.Schema) -> _OpenFile:
        path = new_path(self.table, self.partition)
        with ExitStack() as ends:
            stream = DigestedStream(ends.enter_context(self.table.io.new_output(path).create(overwrite=False)))
            writer = ends.enter_context(parquet_writer(stream, schema, self._settings))
            return _OpenFile(path, stream, writer, ends.pop_all())

    def _close(self) -> None:
        if self._open is None:
            return
        done = self._open
        done.ends.close()
        file = described_file(self.table, done.writer.writer.metadata, done.path, done.stream, self.partition)
        self.written.append(WrittenFile(file, done.rows))
        self._open = None
