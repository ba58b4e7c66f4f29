"""A lake as sinks leave it: every offset recorded, so that an audit finds it well."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.model.events import arrow_schema
from k2.model.topics import DataType
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, make_lake

_OPEN = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US)
_SYMBOLS = ("BHP", "BHP", "DVN")
QUOTES = "market_data.quotes"
ORIGIN = Origin("market.equities.trades.asx", "topic-1", "cluster-1")


def batch(start: int, stop: int, *, partition: int = 0, seed: object = "", dead: int = 0, symbol: str = "BHP") -> Batch:
    """Offsets [start, stop) of a partition, as a consumer hands them to the lake: the trade of offset n is Tn.

    Args:
        start: the first offset.
        stop: the one behind the last.
        partition: their partition.
        seed: other events under the same offsets.
        dead: how many of the last are dead letters, no trades.
        symbol: what is traded.
    """
    offsets = range(start, stop - dead)
    events = trades(
        [message_id(seed, partition, offset) for offset in offsets],
        symbols=[symbol] * len(offsets),
        times=[START_US + offset * 1000 for offset in offsets],
        trade_ids=[f"T{offset}" for offset in offsets],
    )
    rows = with_lineage(events, [partition] * len(offsets), offsets)
    return Batch(rows, {partition: (start, stop)}, {partition: dead})


def committed_lake(folder: Path, rows: int, later: int) -> Catalog:
    """Trades of BHP and DVN ten a second from 10:00 in Sydney on, a quote a second, and a second commit of `later` trades."""
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES)
    quotes = Committer(lake, QUOTES, Origin("market.equities.quotes.asx", "topic-2", "cluster-1"), DataType.QUOTES)
    quotes.commit(_quote_batch(rows // 10))
    committer = Committer(lake, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(trade_batch(range(rows)))
    committer.commit(trade_batch(range(rows, rows + later)))
    return lake


def trade_batch(offsets: range) -> Batch:
    """The trades of these offsets of partition 0."""
    events = trades(
        [message_id(0, offset) for offset in offsets],
        symbols=[_SYMBOLS[offset % 3] for offset in offsets],
        times=[START_US + 100_000 * offset for offset in offsets],
        sequence=list(offsets),
        prices=[Decimal("37.01") + Decimal(offset % 7) / 100 for offset in offsets],
    )
    return _of_partition_0(events, offsets)


def _quote_batch(rows: int) -> Batch:
    each = {
        "exchange": "ASX",
        "asset_class": "equities",
        "currency": "AUD",
        "bid_price": Decimal("37.02"),
        "bid_quantity": Decimal(500),
        "ask_price": Decimal("37.04"),
        "ask_quantity": Decimal(300),
        "ingestion_timestamp": _OPEN,
    }
    quotes = [
        each
        | {
            "message_id": message_id("quote", n),
            "quote_id": f"Q{n}",
            "symbol": _SYMBOLS[n % 3],
            "timestamp": _OPEN + timedelta(seconds=n, milliseconds=-50),
            "source_sequence": n,
        }
        for n in range(rows)
    ]
    return _of_partition_0(pa.RecordBatch.from_pylist(quotes, arrow_schema(DataType.QUOTES)), range(rows))


def _of_partition_0(events: pa.RecordBatch, offsets: Sequence[int]) -> Batch:
    held = {0: (offsets[0], offsets[-1] + 1)}
    return Batch(with_lineage(events, [0] * len(offsets), offsets), held, {})
