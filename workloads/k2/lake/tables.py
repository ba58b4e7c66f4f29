"""Making tables what their specs say: created when absent, evolved when Iceberg can do it safely, else refused.

Both executors call `ensure_tables`; only an IcebergTable resource leads here, no sink ever makes a table.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

from pydantic import TypeAdapter
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, parse_transform
from pyiceberg.types import DecimalType, IcebergType, ListType, MapType, NestedField, StringType

from k2.lake.columns import apply_changes, column_changes, is_declared
from k2.lake.landed import tried_again
from k2.lake.refusals import refused_as_asked
from k2.lake.settling import is_faulty, settle
from k2.model.errors import UserError, WorldError
from k2.model.events import COLUMNS, Decimals, Kind, has_amounts
from k2.model.tables import RESERVED_PROPERTIES, TableColumn, TableSpec
from k2.model.topics import DataType

_TRIES = 20

_TYPE: TypeAdapter[IcebergType] = TypeAdapter(IcebergType)


def ensure_tables(catalog: Catalog, specs: Iterable[TableSpec]) -> list[str]:
    """Create what is absent and evolve what differs; returns what was done, one sentence each (empty: nothing).

    Raises:
        UserError: a change that Iceberg cannot do without rewriting or losing data; the table is left as it was.
    """
    return [done for spec in specs for done in ensure_table(catalog, spec)]


def ensure_table(catalog: Catalog, spec: TableSpec) -> list[str]:
    """`ensure_tables` for one table."""
    reserved = sorted(key for key in spec.properties if key.startswith(RESERVED_PROPERTIES))
    if reserved:
        raise UserError(
            f"Table {spec.identifier} sets a reserved property",
            found=", ".join(reserved),
            expected=f"no property that begins with {RESERVED_PROPERTIES!r}",
            remedy="Remove it: the sink keeps its offsets there",
        )
    try:
        table = catalog.load_table(spec.identifier)
    except NoSuchTableError:
        return _create(catalog, spec)
    return _evolve(catalog, spec, table)


def _create(catalog: Catalog, spec: TableSpec) -> list[str]:
    schema = iceberg_schema(spec)
    with contextlib.suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(spec.identifier.rsplit(".", 1)[0])
    try:
        with refused_as_asked(spec.identifier):
            catalog.create_table(
                spec.identifier,
                schema=schema,
                partition_spec=_partition_spec(spec, schema),
                sort_order=_sort_order(spec, schema),
                properties=dict(spec.properties),
            )
    except TableAlreadyExistsError:  # another executor was quicker: what it made must still fit
        return _evolve(catalog, spec, catalog.load_table(spec.identifier))
    _evolve_columns(catalog, spec)  # notes which of them the resource has declared
    return [f"created table {spec.identifier}"]


def iceberg_schema(spec: TableSpec) -> Schema:
    """The spec's columns as an Iceberg schema with fresh field ids."""
    fields: list[NestedField] = []
    next_id = len(spec.columns) + 1
    for number, column in enumerate(spec.columns, start=1):
        parsed, next_id = _parse_type(column, next_id)
        fields.append(NestedField(number, column.name, parsed, required=column.required, doc=column.doc or None))
    return Schema(*fields)


_LIST = re.compile(r"list<\s*string\s*>")
_MAP = re.compile(r"map<\s*string\s*,\s*string\s*>")


def _parse_type(column: TableColumn, next_id: int) -> tuple[IcebergType, int]:
    text = column.type.strip()
    if _LIST.fullmatch(text):
        return ListType(next_id, StringType(), element_required=True), next_id + 1
    if _MAP.fullmatch(text):
        return MapType(next_id, StringType(), next_id + 1, StringType(), value_required=True), next_id + 2
    try:
        return _TYPE.validate_python(text), next_id
    except ValueError as error:
        raise UserError(
            f"Column {column.name} has no Iceberg type",
            found=text,
            expected="string, long, int, double, boolean, date, timestamptz, uuid, decimal(p, s), list<string> or map<string, string>",
        ) from error


def _partition_spec(spec: TableSpec, schema: Schema) -> PartitionSpec:
    fields = [
        PartitionField(
            source_id=_field_id(schema, by.source, spec.identifier),
            field_id=PARTITION_FIELD_ID_START + number,
            transform=parse_transform(by.transform),
            name=by.name,
        )
        for number, by in enumerate(spec.partition_by)
    ]
    return PartitionSpec(*fields)


def _sort_order(spec: TableSpec, schema: Schema) -> SortOrder:
    return SortOrder(
        *(
            SortField(
                source_id=_field_id(schema, by.source, spec.identifier),
                transform=IdentityTransform(),
                direction=SortDirection.DESC if by.descending else SortDirection.ASC,
                null_order=NullOrder.NULLS_LAST if by.nulls_last else NullOrder.NULLS_FIRST,
            )
            for by in spec.sort_by
        )
    )


def _field_id(schema: Schema, name: str, table: str) -> int:
    try:
        return schema.find_field(name).field_id
    except ValueError as error:
        raise UserError(
            f"Table {table} is partitioned or sorted by a column it does not have",
            found=name,
            expected="one of " + ", ".join(field.name for field in schema.fields),
        ) from error


def _evolve(catalog: Catalog, spec: TableSpec, table: Table) -> list[str]:
    """Bring an existing table to its spec. Everything is checked before anything is changed."""
    _refuse_other_decimals(table, spec)
    column_changes(table.metadata, spec, iceberg_schema(spec))
    try:
        # PyIceberg looks at the whole table at each commit: it could not even add a column to one that is of no use.
        done = _settle(catalog, spec) if is_faulty(table) else []
        return [*done, *_evolve_columns(catalog, spec), *_settle(catalog, spec)]
    except CommitFailedException as error:
        raise WorldError(
            f"Others committed to {spec.identifier} each of {_TRIES} times: it could not be changed"
        ) from error


def _refuse_other_decimals(table: Table, spec: TableSpec) -> None:
    if spec.data_type is None or not has_amounts(spec.data_type):
        return
    have = table_decimals(table.schema(), spec.data_type)
    if have is not spec.decimals:
        raise UserError(
            f"spec.decimals of the IcebergTable of {spec.identifier} cannot change: Iceberg never changes a scale",
            found=str(spec.decimals),
            expected=str(have),
            remedy=f"Set it back, or make another table with decimals: {spec.decimals} and let the feed's stream name that one: "
            "its sink reads what the topic keeps from the beginning",
        )


@tried_again(_TRIES)
def _evolve_columns(catalog: Catalog, spec: TableSpec) -> list[str]:
    table = catalog.load_table(spec.identifier)
    _refuse_other_decimals(table, spec)
    changes = column_changes(table.metadata, spec, iceberg_schema(spec))
    if changes or not is_declared(table.metadata, changes):
        with refused_as_asked(spec.identifier):
            apply_changes(table, changes)
    return changes.sentences(spec.identifier)


@tried_again(_TRIES)
def _settle(catalog: Catalog, spec: TableSpec) -> list[str]:
    table = catalog.load_table(spec.identifier)
    schema = table.schema()
    with refused_as_asked(spec.identifier):
        return settle(catalog, table, spec, _partition_spec(spec, schema).fields, _sort_order(spec, schema))


def table_decimals(schema: Schema, data_type: DataType) -> Decimals:
    """Which decimals the prices and quantities of a table are: the table's own columns say it, whoever made it."""
    amounts = {column.name for column in COLUMNS[data_type] if column.kind is Kind.DECIMAL}
    kinds = [f.field_type for f in schema.fields if f.name in amounts and isinstance(f.field_type, DecimalType)]
    scale = min((kind.scale for kind in kinds), default=0)  # of one that somebody else made the coarsest counts
    return Decimals.WIDE if scale >= Decimals.WIDE.scale else Decimals.STANDARD


def drop_table(catalog: Catalog, identifier: str) -> bool:
    """Drop a table with its rows where the catalog can (`purge`), from the catalog alone where it cannot; False: there is none."""
    try:
        try:
            catalog.purge_table(identifier)
        except NotImplementedError:
            catalog.drop_table(identifier)
    except NoSuchTableError:
        return False
    return True
