"""Answers as frozen values: rows as Arrow, figures as exact decimals, and with each what it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import lru_cache

import numpy as np
import pyarrow as pa

from k2.lake.reader import ColumnInfo, SnapshotInfo
from k2.model.exchanges import Session
from k2.query import sql
from k2.query.requests import SortKey
from k2.query.tail_view import Tail

PLACES = 8
_ARROW: dict[str, pa.DataType] = {
    "VARCHAR": pa.string(),
    "UUID": pa.string(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "TIMESTAMP": pa.timestamp("us"),
    "DATE": pa.date32(),
    "BOOLEAN": pa.bool_(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BLOB": pa.binary(),
    "VARCHAR[]": pa.list_(pa.string()),
    "MAP(VARCHAR, VARCHAR)": pa.map_(pa.string(), pa.string()),
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer was read from, and up to when it is complete.

    Attributes:
        complete_until_us: time of the newest event in the snapshot and the tail (µs since 1970 UTC); None for an empty table.
        tail: what was read beyond the snapshot; None: nothing was asked for beyond it.
        tail_rows: rows of the tail that are about the question, before its limit; None: not counted.
        is_partial: whether the one who asks sees a part of the table.
    """

    table: str
    snapshot: SnapshotInfo | None
    complete_until_us: int | None
    files_scanned: int = 0
    files_skipped: int = 0
    tail: Tail | None = None
    tail_rows: int | None = None
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Events:
    """Rows in the total order; `more` when the limit cut off others; `note` says why there are none.

    `last`: where in the order the rows end, when there are more: what comes after it is the next page.
    """

    rows: pa.Table
    more: bool
    provenance: Provenance
    note: str | None = None
    last: SortKey = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """OHLCV and VWAP of a trading date's session. Prices and VWAP in `currency`, volume in units of the instrument.

    VWAP has 8 places, half to even; None where the volume is zero. Times are µs since 1970 UTC.
    """

    symbol: str
    exchange: str
    day: date
    time_zone: str
    currency: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    trade_count: int
    first_us: int
    last_us: int
    provenance: Provenance
    session: Session = Session.ALL


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What a table holds of a symbol on an exchange. Times are µs since 1970 UTC."""

    symbol: str
    exchange: str
    rows: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Symbols:
    """Every symbol of a table, by symbol and exchange."""

    symbols: Sequence[SymbolInfo]
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class TopicProgress:
    """How far a table has taken a topic: partition → next offset to read."""

    topic: str
    next_offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class TableStats:
    """Size and reach of a table at a snapshot; from metadata alone. Times are µs since 1970 UTC.

    For one who may see some of the rows: `rows` and times are of those; `files`, `bytes` and `topics` are None.
    """

    rows: int
    files: int | None
    bytes: int | None
    snapshots: int
    oldest_us: int | None
    newest_us: int | None
    topics: Sequence[TopicProgress] | None
    provenance: Provenance


def is_decided(rows: pa.Table) -> bool:
    """Whether each row comes after the one before it in `sql.SHORT_ORDER`: the rows are in that order, and none tie."""
    times = rows["timestamp"].cast(pa.int64()).to_numpy()
    later = times[1:] > times[:-1]
    if later.all():
        return True
    sequence = rows["source_sequence"].fill_null(2**63 - 1).to_numpy()
    return bool(np.all(later | ((times[1:] == times[:-1]) & (sequence[1:] > sequence[:-1]))))


def arrow_schema(columns: Sequence[ColumnInfo], *, lineage: bool = False, names: Sequence[str] = ()) -> pa.Schema:
    """Schema of rows with these columns, the same whether there are rows or not; `names` chooses columns and their order."""
    return _arrow_schema(tuple(columns), lineage, tuple(names))


@lru_cache(256)
def _arrow_schema(columns: tuple[ColumnInfo, ...], lineage: bool, names: tuple[str, ...]) -> pa.Schema:
    if names:
        known = {column.name: column for column in columns}
        columns, lineage = tuple(known[name] for name in names), True
    fields: list[pa.Field] = []
    for column in columns:
        kind = sql.duck_type(column)
        if kind is None or (column.name in sql.LINEAGE and not lineage):
            continue
        if kind.startswith("DECIMAL"):
            precision, scale = kind.removeprefix("DECIMAL(").removesuffix(")").split(",")
            fields.append(pa.field(column.name, pa.decimal128(int(precision), int(scale))))
        else:
            fields.append(pa.field(column.name, _ARROW[kind]))
    return pa.schema(fields)
