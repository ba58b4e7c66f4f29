"""Large answers, encoded batch by batch while they are read: memory does not grow with them.

How the answer ended (`more`, `next_page`) is known only at its end: JSON says it after the rows, an Arrow stream in the
metadata of a last, empty batch, Parquet in the footer's. NDJSON and CSV have no place for it: count the rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.ipc as pa_ipc
import pyarrow.parquet as pq

from k2.forms.formats import Format, empty_batch, encode
from k2.forms.text_columns import json_rows
from k2.forms.wire import metadata_of

Ending = Callable[[], dict[str, Any]]
"""What stands beside the rows, asked for when all of them are sent."""

_ROW_GROUP = 131_072
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def encode_batches(
    schema: pa.Schema, batches: Iterator[pa.RecordBatch], form: Format, ending: Ending
) -> Iterator[bytes | memoryview]:
    """The answer's bytes, in pieces of a batch; nothing is read before the first is asked for."""
    return _ENCODERS[form](schema, batches, ending)


def _json(_: pa.Schema, batches: Iterator[pa.RecordBatch], ending: Ending) -> Iterator[bytes | memoryview]:
    yield b'{"data":['
    for number, batch in enumerate(batches):
        if number:
            yield b","
        yield json_rows(batch, ",")[:-1]
    yield ("]," + json.dumps(ending(), ensure_ascii=False)[1:]).encode()


def _text(form: Format) -> Callable[[pa.Schema, Iterator[pa.RecordBatch], Ending], Iterator[bytes | memoryview]]:
    def pieces(schema: pa.Schema, batches: Iterator[pa.RecordBatch], _: Ending) -> Iterator[bytes | memoryview]:
        if form is Format.CSV:
            yield from encode(schema.empty_table(), form, {})  # the header, once
        for batch in batches:
            encoded = encode(pa.Table.from_batches([batch]), form, {})
            if form is Format.CSV:
                next(encoded)
            yield from encoded

    return pieces


def _arrow(schema: pa.Schema, batches: Iterator[pa.RecordBatch], ending: Ending) -> Iterator[bytes | memoryview]:
    # Message by message: what a stream writer puts into a buffer would be copied once more to get it out.
    yield schema.serialize().to_pybytes()
    for batch in batches:
        yield memoryview(batch.serialize())
    yield _last_batch(schema, ending())
    yield _END_OF_STREAM


def _last_batch(schema: pa.Schema, envelope: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    with pa_ipc.new_stream(sink, schema) as writer:
        writer.write_batch(empty_batch(schema), custom_metadata=metadata_of(envelope))
        tail = sink.tell()
    return sink.getvalue()[schema.serialize().size : tail]


def _parquet(schema: pa.Schema, batches: Iterator[pa.RecordBatch], ending: Ending) -> Iterator[bytes]:
    sink = _Drained()
    with pq.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(group)
            yield sink.drain()
        writer.add_key_value_metadata(metadata_of(ending()))
    yield sink.drain()


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


class _Drained(io.RawIOBase):
    """A file that is only written to, and whose content is taken away as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def drain(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


_ENCODERS: dict[Format, Callable[[pa.Schema, Iterator[pa.RecordBatch], Ending], Iterator[bytes | memoryview]]] = {
    Format.JSON: _json,
    Format.NDJSON: _text(Format.NDJSON),
    Format.CSV: _text(Format.CSV),
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}
