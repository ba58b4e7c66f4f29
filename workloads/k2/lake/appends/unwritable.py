"""Rows that no file can hold, and tables that no row can be written to: told apart, and each found exactly.

What a store or a catalog does wrong passes and is tried again. What fails because of the values fails in the same way for
ever: a row is found by halving and becomes a dead letter; a table's fault pauses whoever writes, until a person has mended it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    BadRequestError,
    ForbiddenError,
    NoSuchNamespaceError,
    UnauthorizedError,
    ValidationError,
)
from pyiceberg.table import Table

from k2.lake.appends.batch import Ints
from k2.lake.appends.writer import check_writable
from k2.lake.catalog import load_table
from k2.lake.payloads import PausedError
from k2.lake.tables import table_decimals
from k2.model.errors import UserError
from k2.model.events import COLUMNS, Decimals, Kind, arrow_schema
from k2.model.tables import LINEAGE, OFFSET, PARTITION, TOPIC_ID
from k2.model.topics import DataType

# Of Arrow, of Python, of PyIceberg's conversions: never a store's or a network's, which are OSErrors.
OF_VALUES = (pa.ArrowException, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, UserError)
REFUSALS = (BadRequestError, ForbiddenError, UnauthorizedError, ValidationError, NoSuchNamespaceError)
"""A catalog's last word on a request: sent again it is the same."""


def table_fault(table: Table, data_type: DataType) -> str:
    """Why not even a row with nothing odd about it can be written to a table; empty when it can. No file is made."""
    try:
        check_writable(table, plain_row(data_type, table_decimals(table.schema(), data_type)))
    except OF_VALUES as error:
        return _said(error)
    return ""


def refuse_unwritable(catalog: Catalog, identifier: str, data_type: DataType) -> None:
    """Say that nothing can be written to a table as it is, whoever has made it so; nothing where a sink can write.

    Raises:
        UserError: with the reason.
    """
    if fault := table_fault(load_table(catalog, identifier), data_type):
        raise UserError(
            f"Nothing can be written to {identifier} as it is: {fault.rstrip('.')}",
            remedy="Mend it by the IcebergTable: name the property, field or column in it with a value that writers can use",
        )


class TableFaultError(PausedError):
    """Nothing can be written to the table as it is. Nothing was committed, and no file was left behind."""

    def __init__(self, identifier: str, reason: str) -> None:
        super().__init__(
            f"{identifier} cannot be written as it is: {reason.rstrip('.')}. Nothing is lost: the sink waits, and goes on by "
            "itself when the table is mended (its columns and properties: the IcebergTable)"
        )


def unwritable_rows(table: Table, rows: pa.Table, order: Ints, data_type: DataType) -> dict[int, str]:
    """Place in `order` → why no file can hold the row; empty when all can be written after all.

    Args:
        table: the table.
        rows: columns by name, with those of lineage.
        order: which of them are to be written.
        data_type: what they are.

    Raises:
        TableFaultError: not even a row that is right in every way can be written.
    """
    identifier = ".".join(table.name())
    plain = plain_row(data_type, table_decimals(table.schema(), data_type))
    try:
        check_writable(table, plain)
        check_writable(table, rows.slice(0, 0))  # the columns themselves
    except OF_VALUES as error:
        raise TableFaultError(identifier, _said(error)) from error
    suspects = list(arrow_schema(data_type).names)
    found: dict[int, str] = {}
    waiting = [np.arange(len(order))]
    while waiting:
        places = waiting.pop()
        try:
            check_writable(table, rows.take(pa.array(order[places])))
        except OF_VALUES as error:
            if len(places) == 1:
                row = rows.take(pa.array(order[places]))
                field = _culprit(table, row, plain, suspects)
                value = "it" if field is None else f"{field} {_shown(row.column(field)[0])}"
                found[int(places[0])] = f"{identifier} cannot hold {value}: {_said(error)}"
            else:
                waiting += np.array_split(places, 2)
    return found


def _culprit(table: Table, row: pa.Table, plain: pa.Table, suspects: list[str]) -> str | None:
    """The field because of which a row cannot be written: with a plain value in its place it can. It is suspected first then."""
    for name in suspects:
        place = row.schema.get_field_index(name)
        changed = row.set_column(place, row.schema.field(place), plain.column(name).cast(row.schema.field(place).type))
        try:
            check_writable(table, changed)
        except OF_VALUES:
            continue
        suspects.remove(name)
        suspects.insert(0, name)
        return name
    return None


def _shown(value: pa.Scalar) -> str:
    # A time beyond Python's has a number all the same.
    return str(value.cast(pa.int64()).as_py() if pa.types.is_timestamp(value.type) else value.as_py())


def plain_row(data_type: DataType, decimals: Decimals = Decimals.STANDARD) -> pa.Table:
    """One event with nothing odd about it, and a lineage."""
    values: dict[Kind, Any] = {
        Kind.UUID: bytes(16),
        Kind.STRING: "K2",
        Kind.SIDE: "UNKNOWN",
        Kind.REFERENCE_KIND: "company",
        Kind.TIMESTAMP: 0,
        Kind.DATE: 0,
        Kind.DECIMAL: 1,
        Kind.LONG: 0,
        Kind.STRINGS: [],
        Kind.STRING_MAP: [],
    }
    row = {column.name: values[column.kind] for column in COLUMNS[data_type]}
    lineage = dict(zip(LINEAGE, ("0", 0, 0), strict=True))
    fields = [pa.field(TOPIC_ID, pa.string()), pa.field(PARTITION, pa.int32()), pa.field(OFFSET, pa.int64())]
    return pa.Table.from_pylist([row | lineage], schema=pa.schema([*arrow_schema(data_type, decimals), *fields]))


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
