"""Gap events as events of K2's data model, in columns, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from k2.model.events import arrow_schema
from k2.model.gaps import GapEvent, GapKind
from k2.model.ids import message_ids
from k2.model.topics import DataType

_TIMES = ("after_timestamp", "before_timestamp", "since")


def gap_batch(events: Sequence[GapEvent], exchange: str, asset_class: str) -> pa.RecordBatch:
    """Gap events as columns of `arrow_schema(DataType.GAPS)`, in their order.

    The id is made of what is said and when: the same word sent again is one row, and what is said anew is another.
    """
    schema, count = arrow_schema(DataType.GAPS), len(events)
    symbols = pa.array([each.symbol for each in events], pa.string())
    said = [f"{each.at} {each.kind} {each.first} {each.last} {each.after}" for each in events]
    at = [each.at for each in events]
    columns: dict[str, pa.Array] = {
        "message_id": message_ids(DataType.GAPS, exchange, symbols, pa.array(said, pa.string())),
        "symbol": symbols,
    }
    values = {
        "kind": [str(each.kind) for each in events],
        "exchange": [exchange] * count,
        "asset_class": [asset_class] * count,
        "timestamp": at,
        "first_sequence": [each.first for each in events],
        "last_sequence": [each.last for each in events],
        "after_timestamp": [each.after for each in events],
        "before_timestamp": [each.before for each in events],
        "since": [each.since for each in events],
        "way": [each.how or None for each in events],
        "reason": [each.why or None for each in events],
        "source_sequence": [None] * count,
        "ingestion_timestamp": at,
        "vendor_data": [None] * count,
    }
    columns |= {name: pa.array(each, schema.field(name).type) for name, each in values.items()}
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def gap_events(events: pa.RecordBatch | pa.Table) -> Iterator[GapEvent]:
    """The same from columns; kinds that this version does not know are passed over."""
    known = set(GapKind)
    names = ("kind", "symbol", "timestamp", "first_sequence", "last_sequence", *_TIMES, "way", "reason")
    columns = [
        (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for column in (events.column(name) for name in names)
    ]
    for kind, symbol, at, first, last, after, before, since, way, reason in zip(*columns, strict=True):
        if kind in known:
            yield GapEvent(GapKind(kind), symbol, at, first, last, after, before, since, way or "", reason or "")
