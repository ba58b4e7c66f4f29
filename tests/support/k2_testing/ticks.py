"""Trades and quotes given value by value, appended to a real table in the layout that the sink leaves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from k2.lake.appends.writer import write_files
from k2.lake.columns import extra_columns
from k2.model.events import Decimals, arrow_schema
from k2.model.topics import DataType

_COMMON = {
    "symbol": "BHP",
    "exchange": "ASX",
    "asset_class": "equities",
    "currency": "AUD",
    "source_sequence": None,
    "platform_sequence": None,
    "vendor_data": None,
    "kafka_topic_id": "topic-1",
    "kafka_partition": 0,
}
_DEFAULTS: dict[DataType, dict[str, Any]] = {
    DataType.TRADES: _COMMON | {"side": "UNKNOWN", "trade_conditions": [], "quantity": Decimal(1), "price": Decimal(1)},
    DataType.QUOTES: _COMMON | dict.fromkeys(("bid_price", "bid_quantity", "ask_price", "ask_quantity")),
}
_ID = {DataType.TRADES: "trade_id", DataType.QUOTES: "quote_id"}


def at(text: str) -> datetime:
    """An aware UTC datetime."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OPEN = at("2014-03-09T23:00:00")
"""10:00 in Sydney on Monday the 10th: the ASX opens."""


def trade(seconds: float = 0.0, price: str = "1", quantity: str = "1", **more: Any) -> dict[str, Any]:
    """A trade, so many seconds after `OPEN`."""
    moment = OPEN + timedelta(microseconds=round(seconds * 1_000_000))
    return {"timestamp": moment, "price": Decimal(price), "quantity": Decimal(quantity)} | more


def append_ticks(
    catalog: Catalog, ticks: Sequence[dict[str, Any]], data_type: DataType = DataType.TRADES, identifier: str = ""
) -> int:
    """Commit the ticks (what is not given has a default; offsets count up over the table) and return the snapshot's id.

    `identifier` is of the table, where it is not the built-in one of its kind.
    """
    table = catalog.load_table(identifier or f"market_data.{data_type.value}")
    current = table.current_snapshot()
    held = 0 if current is None or current.summary is None else int(current.summary["total-records"] or 0)
    rows = [
        _DEFAULTS[data_type]
        | {
            "message_id": (held + number).to_bytes(16, "big"),
            _ID[data_type]: f"T{held + number}",
            "ingestion_timestamp": tick["timestamp"],
            "kafka_offset": held + number,
        }
        | tick
        for number, tick in enumerate(ticks)
    ]
    lineage = [("kafka_topic_id", pa.string()), ("kafka_partition", pa.int32()), ("kafka_offset", pa.int64())]
    further = [each for each in extra_columns(table, data_type) if any(each.name in tick for tick in ticks)]
    schema = pa.schema([*arrow_schema(data_type, decimals_of(table)), *further, *lineage])
    batch = pa.Table.from_pylist(rows, schema)
    last = 2**63 - 1
    keys = [(r["symbol"], r["timestamp"], last if r["source_sequence"] is None else r["source_sequence"]) for r in rows]
    order = np.array(sorted(range(len(rows)), key=keys.__getitem__), dtype=np.int64)
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for written in write_files(table, batch, order):
            snapshot.append_data_file(written.data_file)
    made = catalog.load_table(table.name()).current_snapshot()
    assert made is not None
    return made.snapshot_id


def decimals_of(table: Table) -> Decimals:
    """How large and fine the amounts of a table may be."""
    types = {str(field.field_type) for field in table.schema().fields}
    return Decimals.WIDE if "decimal(38, 18)" in types else Decimals.STANDARD
