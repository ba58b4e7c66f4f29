"""Files of columns, Parquet and Arrow: their names, and their rows in batches, one after the other and only of wanted columns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from k2.feeds.formats.containers import Content, Wrapping
from k2.model.errors import UserError

ROWS_PER_BLOCK = 32_768
_PARQUET, _ARROW_FILE, _ARROW_STREAM = b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff"
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows of a file of columns: `start` is the number of the first (from 0), `size` its share of the file's bytes."""

    data: pa.RecordBatch
    start: int
    size: int
    at_end: bool = False

    @property
    def end(self) -> int:
        """The number of the row after the last."""
        return self.start + self.data.num_rows


def table_names(content: Content, head: bytes) -> tuple[str, ...] | None:
    """The columns of a file of columns; None for any other.

    Args:
        content: the file.
        head: its first bytes, unpacked.

    Raises:
        UserError: it is packed once more, or damaged.
    """
    if not head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM)):
        return None
    if content.wrapping is not Wrapping.NONE:
        raise UserError(
            f"{content.name} is a file of columns that is packed once more",
            found=content.wrapping.name.lower(),
            expected="Parquet or Arrow as it is: both are compressed inside",
            remedy="Unpack it first",
        )
    try:
        return tuple(_schema(content).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(content, error) from error


def read_table(content: Content, names: Collection[int], size: int) -> Iterator[RowBlock]:
    """The rows of a file of columns in order, in blocks of about `ROWS_PER_BLOCK`; of its columns those with such numbers.

    Args:
        content: the file.
        names: which columns, by number from 0.
        size: the file's bytes, of which each block is given its share.

    Raises:
        UserError: the file is damaged.
    """
    try:
        total, batches = _batches(content, sorted(names))
        start = 0
        for batch in batches:
            for offset in range(0, batch.num_rows, ROWS_PER_BLOCK):
                piece = batch.slice(offset, ROWS_PER_BLOCK)
                end = start + piece.num_rows
                share = size * end // total - size * start // total if total else 0
                yield RowBlock(piece, start, share)
                start = end
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(content, error) from error


def _schema(content: Content) -> pa.Schema:
    with content.path.open("rb") as file:
        head = file.read(len(_ARROW_FILE))
    if head.startswith(_PARQUET):
        return pq.read_schema(content.path)
    with pa.OSFile(str(content.path)) as file:
        return (pa.ipc.open_file(file) if head == _ARROW_FILE else pa.ipc.open_stream(file)).schema


def _batches(content: Content, columns: list[int]) -> tuple[int, Iterator[pa.RecordBatch]]:
    """How many rows there are, where that is known before, and the batches."""
    with content.path.open("rb") as file:
        head = file.read(len(_ARROW_FILE))
    if head.startswith(_PARQUET):
        return _parquet(content, columns)
    file = pa.OSFile(str(content.path))
    if head != _ARROW_FILE:
        stream = pa.ipc.open_stream(file)
        return 0, (batch.select(columns) for batch in stream)
    options = pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)
    reader = pa.ipc.open_file(file, options=options)
    return 0, (reader.get_batch(number) for number in range(reader.num_record_batches))


def _parquet(content: Content, columns: list[int]) -> tuple[int, Iterator[pa.RecordBatch]]:
    schema = pq.read_schema(content.path)
    names = [schema.names[number] for number in columns]
    texts = [name for name in names if pa.types.is_string(schema.field(name).type)]
    # Pages are read as they are needed, or a row group of any size would be in memory.
    file = pq.ParquetFile(content.path, read_dictionary=texts, buffer_size=_READ_BYTES, pre_buffer=False)
    return file.metadata.num_rows, file.iter_batches(ROWS_PER_BLOCK, columns=names, use_threads=False)


def _damaged(content: Content, error: Exception) -> UserError:
    return UserError(
        f"{content.path} is damaged, or not whole", found=str(error)[:200], expected="a whole Parquet or Arrow file"
    )
