"""Trades made of numbers: each (partition, offset) gives one event, the same each time."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from k2.model.events import SIDES, Decimals, arrow_schema
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import DataType

START_US = 1_394_406_000_000_000
"""2014-03-09T23:00:00Z, the start of an ASX day."""


def message_id(*parts: object) -> bytes:
    """Sixteen bytes that depend on the parts alone."""
    return hashlib.sha256(repr(parts).encode()).digest()[:16]


def trades(
    ids: Sequence[bytes],
    *,
    symbols: Sequence[str],
    times: Sequence[int],
    sequence: Sequence[int | None] | None = None,
    exchange: str = "ASX",
    trade_ids: Sequence[str] | None = None,
    prices: Sequence[Decimal] | None = None,
    decimals: Decimals = Decimals.STANDARD,
) -> pa.RecordBatch:
    """Trades with these ids, symbols and times (microseconds); everything else is constant or derived from the row.

    Price and quantity derive from the id: the same event is the same wherever it stands.
    """
    n = len(ids)
    columns = {
        "message_id": pa.array(ids, pa.binary(16)),
        "trade_id": list(trade_ids) if trade_ids is not None else [f"T{i}" for i in range(n)],
        "symbol": list(symbols),
        "exchange": [exchange] * n,
        "asset_class": ["equities"] * n,
        "timestamp": pa.array(times, pa.timestamp("us", tz="UTC")),
        "price": list(prices)
        if prices is not None
        else [Decimal("37.01") + Decimal(each[0] % 7) / 100 for each in ids],
        "quantity": [Decimal(100 + each[1] % 5) for each in ids],
        "currency": ["AUD"] * n,
        "side": ["UNKNOWN"] * n,
        "trade_conditions": [["X"] if i % 3 else [] for i in range(n)],
        "source_sequence": list(sequence) if sequence is not None else list(range(n)),
        "ingestion_timestamp": pa.array([START_US] * n, pa.timestamp("us", tz="UTC")),
        "platform_sequence": [None] * n,
        "vendor_data": [None if i % 2 else [("venue", "X")] for i in range(n)],
    }
    schema = arrow_schema(DataType.TRADES, decimals)
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


def with_lineage(events: pa.RecordBatch, partitions: Sequence[int], offsets: Sequence[int]) -> pa.Table:
    """The rows of a batch as a consumer hands them to the lake."""
    table = pa.Table.from_batches([events])
    table = table.append_column(PARTITION, pa.array(np.asarray(partitions), pa.int32()))
    return table.append_column(OFFSET, pa.array(np.asarray(offsets), pa.int64()))


def plain_rows(count: int, symbols: Sequence[str] = ("BHP", "CBA", "RIO")) -> list[dict[str, Any]]:
    """Trades as Python values, all different; what may be empty is."""
    return [
        {
            "message_id": uuid.UUID(int=2**120 + n).bytes,
            "trade_id": f"T{n}",
            "symbol": symbols[n % len(symbols)],
            "exchange": "ASX",
            "asset_class": "equities",
            "timestamp": 1_394_409_600_000_000 + n,
            "price": Decimal(n + 1) / 100,
            "quantity": Decimal(n),
            "currency": "AUD",
            "side": SIDES[n % 4],
            "trade_conditions": [],
            "source_sequence": n,
            "ingestion_timestamp": 1_394_409_600_000_777 + n,
            "platform_sequence": None,
            "vendor_data": None,
        }
        for n in range(count)
    ]


def varied_rows(count: int) -> list[dict[str, Any]]:
    """The same with something in each column, of a length that differs from row to row."""
    return [
        row | {"trade_conditions": ["XT"] * (n % 3), "vendor_data": [("venue", "x" * n)] if n % 2 else None}
        for n, row in enumerate(plain_rows(count))
    ]
