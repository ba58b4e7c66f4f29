"""Framing: the header of a message, and blocks of Avro's container format, which carry many messages at once.

A row by row encoder or decoder in Python costs ten microseconds a message. Avro's container file puts `count, size,
records, sync` around records that are laid end to end, and a columnar reader takes a block in one call. So messages are
joined (or cut apart) as one block whose records begin with a `fixed(5)` field: the header, which thereby becomes a column.
Format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import pyarrow as pa

HEADER_BYTES = 5
HEADER_FIELD = "k2_header"
MAGIC_BYTE = 0
_SYNC = bytes(range(16))


def header(schema_id: int) -> bytes:
    """The five bytes before a message's Avro body."""
    return bytes([MAGIC_BYTE]) + schema_id.to_bytes(4, "big")


def framed(schema: dict[str, Any]) -> dict[str, Any]:
    """A record's schema with the header as its first field."""
    field = {"name": HEADER_FIELD, "type": {"type": "fixed", "name": "K2Header", "size": HEADER_BYTES}}
    return schema | {"fields": [field, *schema["fields"]]}


def container_prefix(schema: dict[str, Any]) -> bytes:
    """Everything of a container file before its first block."""
    entries = {b"avro.codec": b"null", b"avro.schema": json.dumps(framed(schema)).encode()}
    body = b"".join(varint(len(key)) + key + varint(len(value)) + value for key, value in entries.items())
    return b"Obj\x01" + varint(len(entries)) + body + b"\x00" + _SYNC


def container(prefix: bytes, count: int, records: bytes) -> bytes:
    """A container file of one block."""
    return b"".join((prefix, varint(count), varint(len(records)), records, _SYNC))


def block_bounds(container_file: bytes, count: int) -> tuple[int, int]:
    """Where the records of a container file begin that has one block of `count` records, and their size in bytes.

    Raises:
        ValueError: the file has another number of blocks or records.
    """
    sync = container_file[-16:]
    at = container_file.index(sync) + 16
    found, at = _read_varint(container_file, at)
    size, at = _read_varint(container_file, at)
    if found != count or at + size + 16 != len(container_file):
        raise ValueError(f"one block of {count} records was expected, this one says {found} records in {size} bytes")
    return at, size


def varint(number: int) -> bytes:
    """A non-negative number as Avro writes a long: zigzag, seven bits a byte, lowest first."""
    zigzag = number << 1
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    zigzag = shift = 0
    while True:
        byte = data[at]
        at += 1
        zigzag |= (byte & 0x7F) << shift
        if byte < 0x80:
            return zigzag >> 1, at
        shift += 7


def read_block(container_file: bytes, count: int) -> pa.RecordBatch:
    """Decode a container of one block; whether it held exactly `count` records is the caller's to check.

    Only the first batch is taken, and `count` is also the reader's batch size. Asked for a second one, the reader never
    returns when bytes are left over in the block (seen with polars-avro 0.13.0).

    Raises:
        Exception: whatever the reader raises about bytes that are not such records; its classes are not public.
    """
    try:
        from polars_avro._avro_rs import AvroSource
    except ImportError:  # a private name: another release may move it
        return read_block_public(container_file, count)

    def source() -> AbstractContextManager[BinaryIO]:
        return nullcontext(io.BytesIO(container_file))

    batches = AvroSource([source], strict=False, utf8_view=False).batch_iter(count, None)
    return pa.record_batch(next(iter(batches)))


def read_block_public(container_file: bytes, count: int) -> pa.RecordBatch:
    """The same by polars-avro's public function, a third slower: the values go through a polars frame."""
    from polars_avro import read_avro

    frame = read_avro(io.BytesIO(container_file), batch_size=max(count, 1), n_rows=count)
    return frame.to_arrow(compat_level=None).combine_chunks().to_batches()[0]


def write_block(table: pa.Table) -> bytes | None:
    """Encode a table of one chunk as a container of one block; None when this polars-avro cannot be asked that way."""
    try:
        from polars_avro._avro_rs import AvroBuffSink
    except ImportError:  # a private name: another release may move it
        return None
    out = io.BytesIO()
    sink = AvroBuffSink(out, table, None)
    sink.write(table)
    sink.close()
    return out.getvalue()
