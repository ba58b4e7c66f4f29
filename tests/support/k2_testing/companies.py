"""Reference data given record by record, appended to a real table in the layout that the sink leaves."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2.lake.appends.batch import Batch
from k2.lake.appends.writer import write_files
from k2.model.events import arrow_schema
from k2.model.exchanges import exchange
from k2.model.topics import DataType
from k2_testing.events import message_id, with_lineage
from k2_testing.ticks import decimals_of

Record = dict[str, Any]
TABLE = "market_data.reference_data"
_TAKEN_IN = datetime(2014, 1, 1, tzinfo=UTC)


def midnight_of(day: str, code: str = "ASX") -> datetime:
    """When the date begins at the exchange, in UTC."""
    return datetime.combine(date.fromisoformat(day), time(), exchange(code).zone).astimezone(UTC)


def company(company_id: str, symbol: str, since: str, until: str | None = None, **more: Any) -> Record:
    """A stretch of a symbol: dates as YYYY-MM-DD, both inclusive."""
    dates = {"listing_date": date.fromisoformat(since), "delisting_date": until and date.fromisoformat(until)}
    return _record("company", company_id, since, more, symbol=symbol, company_name=f"{symbol} LTD", **dates)


def dividend(company_id: str, ex_date: str, net: str | None, currency: str | None = "AUD", **more: Any) -> Record:
    """So much a share."""
    amount = None if net is None else Decimal(net)
    return _of_ex_date("dividend", company_id, ex_date, more, net_amount=amount, currency=currency)


def split(company_id: str, ex_date: str, ratio: str | None, **more: Any) -> Record:
    """So many new units for one old unit."""
    return _of_ex_date("split", company_id, ex_date, more, ratio=None if ratio is None else Decimal(ratio))


def merger(company_id: str, ex_date: str, ratio: str, **more: Any) -> Record:
    """So many units of the other company for one."""
    return _of_ex_date("merger", company_id, ex_date, more, ratio=Decimal(ratio))


def _of_ex_date(kind: str, company_id: str, ex_date: str, more: Record, **columns: Any) -> Record:
    return _record(kind, company_id, ex_date, more, ex_date=date.fromisoformat(ex_date), **columns)


def _record(kind: str, company_id: str, day: str, more: Record, **columns: Any) -> Record:
    code = more.get("exchange", "ASX")
    found = {"kind": kind, "company_id": company_id, "exchange": code, "effective_timestamp": midnight_of(day, code)}
    return found | columns | more


def reference_batch(records: Sequence[Record], start: int = 0) -> Batch:
    """The records as a consumer hands them to the lake: the offsets from `start` on of partition 0."""
    schema = arrow_schema(DataType.REFERENCE_DATA)
    rows = [
        dict.fromkeys(schema.names)
        | {
            "message_id": message_id("reference", start + number),
            "asset_class": "equities",
            "ingestion_timestamp": _TAKEN_IN,
        }
        | record
        for number, record in enumerate(records)
    ]
    offsets = range(start, start + len(rows))
    events = pa.RecordBatch.from_pylist(rows, schema)
    return Batch(with_lineage(events, [0] * len(rows), offsets), {0: (start, start + len(rows))}, {})


def append_reference(catalog: Catalog, records: Sequence[Record], *, days: int = 0) -> int:
    """Commit the records, taken in so many days after the first ones, and return the snapshot's id. Offsets count on."""
    table = catalog.load_table(TABLE)
    current = table.current_snapshot()
    held = 0 if current is None or current.summary is None else int(current.summary["total-records"] or 0)
    schema = arrow_schema(DataType.REFERENCE_DATA, decimals_of(table))
    lineage = [("kafka_topic_id", pa.string()), ("kafka_partition", pa.int32()), ("kafka_offset", pa.int64())]
    rows = [
        dict.fromkeys(schema.names)
        | {
            "message_id": (held + number).to_bytes(16, "big"),
            "asset_class": "equities",
            "ingestion_timestamp": _TAKEN_IN + timedelta(days=days),
            "kafka_topic_id": "reference-1",
            "kafka_partition": 0,
            "kafka_offset": held + number,
        }
        | record
        for number, record in enumerate(records)
    ]
    keys = [((r["symbol"] is None, r["symbol"] or ""), r["effective_timestamp"]) for r in rows]
    order = np.array(sorted(range(len(rows)), key=keys.__getitem__), dtype=np.int64)
    batch = pa.Table.from_pylist(rows, pa.schema([*schema, *lineage]))
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as snapshot:
        for written in write_files(table, batch, order):
            snapshot.append_data_file(written.data_file)
    made = catalog.load_table(TABLE).current_snapshot()
    assert made is not None
    return made.snapshot_id
