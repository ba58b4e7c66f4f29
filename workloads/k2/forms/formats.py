"""Rows as JSON, NDJSON, CSV, Parquet or an Arrow stream. Columns are turned into text whole, never value by value.

In text, decimals are plain strings with all their places, times are ISO 8601 with microseconds and Z.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.ipc as pa_ipc
import pyarrow.parquet as pq

from k2.forms.text_columns import json_rows, lines, plain_text
from k2.forms.wire import metadata_of
from k2.model.compute import pc
from k2.model.errors import UserError

# pyarrow makes its compute functions at import: no type checker sees them.

_SLICE_ROWS = 50_000
_NEEDS_QUOTES = r'[",\r\n]'


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


def encode(rows: pa.Table, form: Format, envelope: dict[str, Any]) -> Iterator[bytes | memoryview]:
    """The answer's bytes, in pieces.

    Args:
        rows: any number, in the columns of events.
        form: how; JSON wraps the rows as `data` of an object with the envelope's other members, Arrow and Parquet have
            these as metadata (see `wire`), the rest are rows alone.
        envelope: values that JSON knows.
    """
    return _ENCODERS[form](rows, envelope)


def _json(rows: pa.Table, envelope: dict[str, Any]) -> Iterator[bytes | memoryview]:
    yield b'{"data":['
    for number, part in enumerate(_slices(rows)):
        if number:
            yield b","
        yield json_rows(part, ",")[:-1]
    rest = json.dumps(envelope, ensure_ascii=False)[1:]
    yield ("]," + rest if envelope else "]" + rest).encode()


def _ndjson(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes | memoryview]:
    for part in _slices(rows):
        yield json_rows(part, "\n")


def _csv(rows: pa.Table, _: dict[str, Any]) -> Iterator[bytes | memoryview]:
    yield (",".join(rows.column_names) + "\n").encode()
    for part in _slices(rows):
        yield lines([_csv_cell(plain_text(column)) for column in part.columns])


def _csv_cell(text: pa.Array) -> pa.Array:
    """Quoted where RFC 4180 asks for it; null is an empty cell."""
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(text, '"', '""'), '"', "")
    return pc.fill_null(pc.if_else(pc.match_substring_regex(text, _NEEDS_QUOTES), quoted, text), "")


def _parquet(rows: pa.Table, envelope: dict[str, Any]) -> Iterator[bytes | memoryview]:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, rows.schema, compression="zstd") as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(metadata_of(envelope))
    yield sink.getvalue()


def _arrow(rows: pa.Table, envelope: dict[str, Any]) -> Iterator[bytes | memoryview]:
    sink = io.BytesIO()
    with pa_ipc.new_stream(sink, rows.schema) as writer:
        for part in rows.to_batches(max_chunksize=_SLICE_ROWS):
            writer.write_batch(part)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
        if envelope:
            writer.write_batch(empty_batch(rows.schema), custom_metadata=metadata_of(envelope))
    yield sink.getvalue()


_ENCODERS: dict[Format, Callable[[pa.Table, dict[str, Any]], Iterator[bytes | memoryview]]] = {
    Format.JSON: _json,
    Format.NDJSON: _ndjson,
    Format.CSV: _csv,
    Format.PARQUET: _parquet,
    Format.ARROW: _arrow,
}


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """A batch without rows."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _slices(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    return (batch for batch in rows.combine_chunks().to_batches(max_chunksize=_SLICE_ROWS) if batch.num_rows)
