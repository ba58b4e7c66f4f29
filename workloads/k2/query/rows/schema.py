"""Schemas of rows, the same whether there are rows or not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.model.further import decimal_digits
from k2.query.rows import sql

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


def arrow_schema(columns: Sequence[ColumnInfo], *, lineage: bool = False, names: Sequence[str] = ()) -> pa.Schema:
    """Schema of rows with these columns, the same whether there are rows or not; `names` chooses columns and their order."""
    return _arrow_schema(tuple(columns), lineage, tuple(names))


@lru_cache(256)
def _arrow_schema(columns: tuple[ColumnInfo, ...], lineage: bool, names: tuple[str, ...]) -> pa.Schema:
    if names:
        known = {column.name: column for column in columns}
        columns, lineage = tuple(known[name] for name in names), True
    kept = [
        column
        for column in columns
        if sql.duck_type(column) is not None and (lineage or column.name not in sql.LINEAGE)
    ]
    return pa.schema([pa.field(column.name, arrow_type(column)) for column in kept])


def arrow_type(column: ColumnInfo) -> pa.DataType:
    """The type of a column in answers; of one that can be asked for (`sql.duck_type`)."""
    digits = decimal_digits(column.type)
    return _ARROW[sql.duck_type(column) or ""] if digits is None else pa.decimal128(*digits)


def decimal_type(columns: Sequence[ColumnInfo], name: str) -> pa.Decimal128Type:
    """The type of a column of decimals."""
    return arrow_schema(columns).field(name).type
