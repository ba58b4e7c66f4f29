"""Objects of the API as rows. Pure."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from k2.client.answer import Answer

_TIME = pa.timestamp("us", "UTC")

SYMBOLS = pa.schema(
    [
        ("symbol", pa.string()),
        ("exchange", pa.string()),
        ("rows", pa.int64()),
        ("first_time", _TIME),
        ("last_time", _TIME),
    ]
)
SNAPSHOTS = pa.schema(
    [
        ("table", pa.string()),
        ("snapshot_id", pa.string()),
        ("parent_id", pa.string()),
        ("time", _TIME),
        ("current", pa.bool_()),
        ("operation", pa.string()),
        ("rows_added", pa.int64()),
        ("files_added", pa.int64()),
        ("total_rows", pa.int64()),
        ("total_files", pa.int64()),
        ("total_bytes", pa.int64()),
        ("tags", pa.list_(pa.string())),
        ("k2", pa.string()),
    ]
)
CALENDAR = pa.schema(
    [
        ("date", pa.date32()),
        ("status", pa.string()),
        ("opens", _TIME),
        ("closes", _TIME),
        ("pauses", pa.list_(pa.string())),
        ("begins", _TIME),
        ("ends", _TIME),
    ]
)


def records(said: dict[str, Any], schema: pa.Schema) -> Answer:
    """Objects of the API as rows; what is nested is JSON text."""
    rows = [
        {name: _value(record.get(name), schema.field(name).type) for name in schema.names} for record in said["data"]
    ]
    beside = {name: value for name, value in said.items() if name != "data"}
    table = pa.Table.from_pylist(rows, schema)
    return Answer(schema, iter(table.to_batches()), beside | {"count": len(rows), "more": False})


def _value(value: Any, kind: pa.DataType) -> Any:
    if value is not None and pa.types.is_timestamp(kind):
        return datetime.fromisoformat(value)
    if value is not None and pa.types.is_date(kind):
        return date.fromisoformat(value)
    return json.dumps(value) if isinstance(value, dict) else value
