"""Rows as JSON, NDJSON, CSV, Parquet or an Arrow stream. Columns are turned into text whole, never value by value.

In text, decimals are plain strings with all their places, times are ISO 8601 with microseconds and Z.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc as pa_ipc
import pyarrow.parquet as pq

from k2.model.errors import UserError

# pyarrow makes its compute functions at import: no type checker sees them.
pc: Any = pyarrow.compute

_SLICE_ROWS = 50_000
_NEEDS_QUOTES = r'[",\r\n]'
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'


class Format(StrEnum):
    """The forms of an answer."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"


MEDIA_TYPES: dict[Format, str] = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}
_BY_MEDIA_TYPE = {media.partition(";")[0]: form for form, media in MEDIA_TYPES.items()} | {
    "application/jsonl": Format.NDJSON,
    "*/*": Format.JSON,
    "application/*": Format.JSON,
    "text/*": Format.CSV,
}


def negotiate(asked: Format | None, accept: str | None) -> Format:
    """The form of an answer: `format=` wins, else the best of the Accept header, else JSON.

    Raises:
        UserError: nothing that is accepted can be made.
    """
    if asked is not None:
        return asked
    if not accept:
        return Format.JSON
    ranked = sorted((_quality(part) for part in accept.split(",")), key=lambda pair: -pair[1])
    for media, quality in ranked:
        if quality > 0 and media in _BY_MEDIA_TYPE:
            return _BY_MEDIA_TYPE[media]
    # A browser's or a library's odd Accept deserves an answer only when it leaves room for one.
    raise UserError(
        "No accepted form can be made",
        found=accept,
        expected=", ".join(m.partition(";")[0] for m in MEDIA_TYPES.values()),
    )


def _quality(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media.lower(), float(value)
            except ValueError:
                return media.lower(), 0.0
    return media.lower(), 1.0


def encode(rows: pa.Table, form: Format, envelope: dict[str, Any]) -> Iterator[bytes]:
    """The answer's bytes, in pieces.

    Args:
        rows: any number, in the columns of events.
        form: how; JSON wraps the rows as `data` of an object with the envelope's other members, the rest are rows alone.
        envelope: values that JSON knows.
    """
    return _ENCODERS[form](rows, envelope)


def _json(rows: pa.Table, envelope: dict[str, Any]) -> Iterator[bytes]:
    yield b'{"data":['
    separator = b""
    for part in _slices(rows):
        yield separator + _joined(json_rows(part), ",")
        separator = b","
    rest = json.dumps(envelope, ensure_ascii=False)[1:]
    yield ("]," + rest if envelope else "]" + rest).encode()


def _ndjson(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes]:
    for part in _slices(rows):
        yield _joined(json_rows(part), "\n") + b"\n"


def _csv(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes]:
    yield (",".join(rows.column_names) + "\n").encode()
    for part in _slices(rows):
        cells = [_csv_cell(plain_text(column)) for column in part.columns]
        yield _joined(pc.binary_join_element_wise(*cells, ","), "\n") + b"\n"


def _csv_cell(text: pa.Array) -> pa.Array:
    """Quoted where RFC 4180 asks for it; null is an empty cell."""
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.fill_null(pc.if_else(pc.match_substring_regex(text, _NEEDS_QUOTES), quoted, text), "")


def _parquet(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes]:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    yield sink.getvalue()


def _arrow(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes]:
    sink = io.BytesIO()
    with pa_ipc.new_stream(sink, rows.schema) as writer:
        for part in rows.to_batches(max_chunksize=_SLICE_ROWS):
            writer.write_batch(part)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


_ENCODERS: dict[Format, Callable[[pa.Table, dict[str, Any]], Iterator[bytes]]] = {
    Format.JSON: _json,
    Format.NDJSON: _ndjson,
    Format.CSV: _csv,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}


def json_rows(rows: pa.RecordBatch) -> pa.Array:
    """Each row as the text of a JSON object."""
    pieces: list[Any] = []
    for number, name in enumerate(rows.schema.names):
        pieces += [("{" if number == 0 else ",") + json.dumps(name) + ":", _json_text(rows.column(number))]
    return pc.binary_join_element_wise(*pieces, "}", "")


def _json_text(column: pa.Array) -> pa.Array:
    """Each value as JSON text."""
    kind = column.type
    if pa.types.is_integer(kind):
        return pc.fill_null(pc.cast(column, pa.string()), "null")
    if pa.types.is_boolean(kind):
        return pc.fill_null(pc.if_else(column, "true", "false"), "null")
    if pa.types.is_list(kind):
        items = pa.ListArray.from_arrays(column.offsets, _json_text(column.values))
        return _enclosed(column, "[", items, "]")
    if pa.types.is_map(kind):
        pairs = pc.binary_join_element_wise(_json_text(column.keys), _json_text(column.items), ":")
        return _enclosed(column, "{", pa.ListArray.from_arrays(column.offsets, pairs), "}")
    if pa.types.is_floating(kind):
        return pa.array([_dump(value) for value in column.to_pylist()], pa.string())
    text = plain_text(column)
    if pc.any(pc.match_substring_regex(text, _NEEDS_ESCAPE)).as_py():
        return pa.array([_dump(value) for value in text.to_pylist()], pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', text, '"', ""), "null")


def _enclosed(column: pa.Array, before: str, items: pa.ListArray, after: str) -> pa.Array:
    text = pc.binary_join_element_wise(before, pc.binary_join(items, ","), after, "")
    return pc.if_else(pc.is_valid(column), text, "null")


def plain_text(column: pa.Array) -> pa.Array:
    """Each value as text, null where it is null. A list is joined by `;`, a map is a JSON object."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return decimal_text(column)
    if pa.types.is_timestamp(kind):
        # Without its zone Arrow needs no time zone database, which a slim image may lack; the values are UTC.
        # (strftime does the same 5 times slower.)
        text = pc.cast(pc.cast(column, pa.timestamp("us")), pa.string())
        return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "Z", "")
    if pa.types.is_list(kind):
        return pc.binary_join(column, ";")
    if pa.types.is_map(kind):
        return pc.if_else(pc.is_valid(column), _json_text(column), None)
    return pc.cast(column, pa.string())


def decimal_text(column: pa.Array) -> pa.Array:
    """Decimals in plain notation with all their places (Arrow's own cast writes 0.00000001 as 1E-8)."""
    kind = column.type
    if kind.precision > 18 or kind.scale <= 0 or kind.bit_width != 128:
        return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())
    # At most 18 digits: the low half of each 128-bit value is the whole of it.
    words = np.frombuffer(column.buffers()[1], dtype=np.int64)
    unscaled = words[2 * column.offset : 2 * (column.offset + len(column)) : 2]
    one = 10**kind.scale
    size = np.abs(unscaled)
    text = pc.binary_join_element_wise(
        pc.if_else(pa.array(unscaled < 0), "-", ""),
        pc.cast(pa.array(size // one), pa.string()),
        ".",
        pc.utf8_lpad(pc.cast(pa.array(size % one), pa.string()), kind.scale, "0"),
        "",
    )
    # Under a null the buffer may hold anything.
    return pc.if_else(pc.is_valid(column), text, None)


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _joined(texts: pa.Array, separator: str) -> bytes:
    return separator.join(texts.to_pylist()).encode()


def _slices(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    return (batch for batch in rows.combine_chunks().to_batches(max_chunksize=_SLICE_ROWS) if batch.num_rows)
