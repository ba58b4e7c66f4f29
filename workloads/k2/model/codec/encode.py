"""Arrow batch of events → payloads, by columns.

A batch is written as one Avro container block whose records begin with the message's header (`wire.py`), and cut into
messages by lengths that are computed from the columns (`lengths.py`). A cut in a wrong place cannot pass: the lengths
must add up to the block, and each record must begin with the header.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.amounts import units
from k2.model.codec import wire
from k2.model.codec.lengths import Field, fields_of, record_lengths, unscaled
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.events import COLUMNS, KINDS, PRECISION, SIDES, Decimals, Kind, arrow_schema, avro_schema, widened
from k2.model.topics import DataType

# Rows of one block: its buffers (about 2 MB) stay in the processor's cache between writing and cutting.
BLOCK_ROWS = 16_384
_SYMBOLS = {Kind.SIDE: SIDES, Kind.REFERENCE_KIND: KINDS}


@dataclass(frozen=True, slots=True)
class Block:
    """Messages laid end to end: message i is `data[offsets[i]:offsets[i + 1]]`. There may be bytes around them."""

    data: bytes
    offsets: npt.NDArray[np.int64]

    def payloads(self) -> list[bytes]:
        """Each message as its own bytes."""
        data, cuts = self.data, self.offsets.tolist()
        return [data[start:end] for start, end in pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The messages of a batch, in its order."""

    blocks: list[Block]

    def __len__(self) -> int:
        return sum(len(block.offsets) - 1 for block in self.blocks)

    @property
    def size(self) -> int:
        """Bytes of all messages together."""
        return sum(int(block.offsets[-1] - block.offsets[0]) for block in self.blocks)

    def payloads(self) -> list[bytes]:
        """Each message as its own bytes."""
        return [payload for block in self.blocks for payload in block.payloads()]


def encode(
    events: pa.RecordBatch, data_type: DataType, schema_id: int, decimals: Decimals = Decimals.STANDARD
) -> Encoded:
    """Encode events as messages of `avro_schema(data_type, decimals)`, which the registry knows as `schema_id`.

    Events of standard decimals may be given for wide ones: each value of theirs is one.

    Raises:
        UserError: the batch is not of `arrow_schema(data_type, decimals)`, or a value cannot be encoded: a null where none
            may be, a side or kind that does not exist, a decimal of too many digits. Nothing is encoded then.
    """
    wanted = arrow_schema(data_type, decimals)
    if decimals is Decimals.WIDE and events.schema.equals(arrow_schema(data_type)):
        events = widened(events, data_type)
    if not events.schema.equals(wanted):
        raise UserError(f"These are no {data_type} events", found=str(events.schema), expected=str(wanted))
    _check(events, data_type, decimals)
    header, starts = wire.header(schema_id), range(0, len(events), BLOCK_ROWS)
    return Encoded([_block(events.slice(start, BLOCK_ROWS), data_type, header, decimals) for start in starts])


def _block(events: pa.RecordBatch, data_type: DataType, header: bytes, decimals: Decimals) -> Block:
    schema, fields = _plan(data_type, decimals)
    count = len(events)
    headers = pa.Array.from_buffers(pa.binary(wire.HEADER_BYTES), count, [None, pa.py_buffer(header * count)])
    columns = [
        _enumerated(array, column.kind) for column, array in zip(COLUMNS[data_type], events.columns, strict=True)
    ]
    table = pa.Table.from_batches([pa.RecordBatch.from_arrays([headers, *columns], schema=schema)])
    file = wire.write_block(table)
    if file is None:
        return _row_by_row(events, data_type, header, decimals)
    start, size = wire.block_bounds(file, count)
    names = [column.name for column in COLUMNS[data_type]]
    lengths = record_lengths(dict(zip(names, columns, strict=True)), fields, count) + wire.HEADER_BYTES
    offsets = np.concatenate((np.array([start]), start + np.cumsum(lengths)))
    if offsets[-1] != start + size or not _each_begins_with(header, file, offsets[:-1]):
        # Never seen: it would mean that the writer and our arithmetic disagree. Publishing a guess would be worse.
        raise RuntimeError(f"{count} encoded {data_type} take {size} bytes, their columns say {offsets[-1] - start}")
    return Block(file, offsets)


def _each_begins_with(header: bytes, data: bytes, starts: npt.NDArray[np.int64]) -> bool:
    view = np.frombuffer(data, np.uint8)
    return all(bool((view[starts + at] == byte).all()) for at, byte in enumerate(header))


@lru_cache
def _plan(data_type: DataType, decimals: Decimals) -> tuple[pa.Schema, list[Field]]:
    """The Arrow schema that the writer turns into our Avro types, and the fields for the lengths."""
    fields = [pa.field(wire.HEADER_FIELD, pa.binary(wire.HEADER_BYTES), nullable=False)]
    for column in COLUMNS[data_type]:
        field: Any = column.arrow(decimals)
        if column.kind is Kind.UUID:
            field = field.with_metadata({"logicalType": "uuid"})  # else it is written as fixed(16)
        elif column.kind in _SYMBOLS:
            field = pa.field(column.name, pa.dictionary(pa.int32(), pa.string()), nullable=column.nullable)
            field = field.with_metadata({"avro.enum.symbols": json.dumps(_SYMBOLS[column.kind])})
        fields.append(field)
    return pa.schema(fields), fields_of(avro_schema(data_type, decimals))


def _enumerated(array: pa.Array, kind: Kind) -> pa.Array:
    """An enum's column as indices of its symbols in Avro's order; any other column as it is."""
    if kind not in _SYMBOLS:
        return array
    symbols = pa.array(_SYMBOLS[kind])
    return pa.DictionaryArray.from_arrays(pc.index_in(array, symbols), symbols)


def _check(events: pa.RecordBatch, data_type: DataType, decimals: Decimals) -> None:
    for column, array in zip(COLUMNS[data_type], events.columns, strict=True):
        if array.null_count and not column.nullable:
            row = int(pc.index(array.is_null(), pa.scalar(value=True)).as_py())
            raise UserError(f"{column.name} of row {row} is missing", expected="a value")
        if column.kind in _SYMBOLS:
            known = pc.is_in(array, pa.array(_SYMBOLS[column.kind]))
            if not pc.all(known).as_py() and len(array):
                row = int(pc.index(known, pa.scalar(value=False)).as_py())
                expected = "one of " + ", ".join(_SYMBOLS[column.kind])
                raise UserError(f"{column.name} of row {row}", found=array[row].as_py(), expected=expected)
        if column.kind is Kind.DECIMAL:
            beyond = too_wide(array, decimals)
            if beyond is not None:
                row = int(np.argmax(beyond))
                expected = f"at most {decimals.largest} either way"
                raise UserError(f"{column.name} of row {row}", found=str(array[row].as_py()), expected=expected)


def too_wide(array: pa.Array, decimals: Decimals) -> npt.NDArray[np.bool_] | None:
    """Which values of a decimal128 column have more digits than that (Arrow does not check it itself); None: none has."""
    low, high = unscaled(array)
    if decimals is Decimals.WIDE:
        beyond = _beyond_wide(low, high)
    else:
        limit = 10**PRECISION
        beyond = (high != (low >> 63)) | (low >= limit) | (low <= -limit)
    if array.null_count:
        beyond &= np.asarray(array.is_valid())  # what stands in null places is anything
    return beyond if beyond.any() else None


def _beyond_wide(low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    limit = 10**Decimals.WIDE.precision
    edge, magnitude = limit >> 64, high ^ (high >> 63)
    beyond = magnitude > edge
    # The high word decides but on the edge, where hardly a value ever is.
    for row in np.flatnonzero(magnitude == edge).tolist():
        beyond[row] = abs((int(high[row]) << 64) + (int(low[row]) & (2**64 - 1))) >= limit
    return beyond


def _row_by_row(events: pa.RecordBatch, data_type: DataType, header: bytes, decimals: Decimals) -> Block:
    """The same bytes by fastavro, fifty times slower: for a polars-avro that cannot be asked for blocks."""
    import fastavro

    schema = avro_schema(data_type, decimals)
    columns = COLUMNS[data_type]
    for field, column in zip(schema["fields"], columns, strict=True):
        if column.kind is Kind.DECIMAL:
            # fastavro's own decimals are a byte too long at -128, -32768, …: valid Avro, but not the shortest.
            field["type"] = ["null", "bytes"] if column.nullable else "bytes"
    parsed = cast("dict[str, Any]", fastavro.parse_schema(schema))
    out = io.BytesIO()
    offsets = [0]
    for row in events.to_pylist(maps_as_pydicts="lossy"):
        for column in columns:
            value = row[column.name]
            if value is None:
                continue
            if column.kind is Kind.UUID:
                row[column.name] = str(UUID(bytes=value))
            elif column.kind is Kind.DECIMAL:
                number = units(value, decimals.scale)
                size = (number if number >= 0 else ~number).bit_length() // 8 + 1
                row[column.name] = number.to_bytes(size, "big", signed=True)
        out.write(header)
        fastavro.schemaless_writer(out, parsed, row)
        offsets.append(out.tell())
    return Block(out.getvalue(), np.array(offsets, np.int64))
