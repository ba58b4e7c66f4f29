"""How messages of one writer's schema become rows of the reader's: worked out once per schema id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.codec import wire
from k2.model.codec.encode import too_wide
from k2.model.codec.lengths import Field, fields_of
from k2.model.compute import pc
from k2.model.events import COLUMNS, KINDS, SIDES, Column, Kind, arrow_schema, avro_schema
from k2.model.topics import DataType

_SYMBOLS = {Kind.SIDE: SIDES, Kind.REFERENCE_KIND: KINDS}
# What a writer may have in place of our type without losing anything. A float is no price: it stays refused.
_READABLE: dict[Kind, frozenset[str]] = {
    Kind.UUID: frozenset({"uuid"}),
    Kind.STRING: frozenset({"string", "enum"}),
    Kind.SIDE: frozenset({"enum", "string"}),
    Kind.REFERENCE_KIND: frozenset({"enum", "string"}),
    Kind.TIMESTAMP: frozenset({"long"}),
    Kind.DATE: frozenset({"int"}),
    Kind.DECIMAL: frozenset({"decimal"}),
    Kind.LONG: frozenset({"long", "int"}),
    Kind.STRINGS: frozenset({"array"}),
    Kind.STRING_MAP: frozenset({"map"}),
}


@dataclass(frozen=True)
class WriterPlan:
    """What is known of one writer's schema.

    Attributes:
        refusal: why no message of this schema can be read, or None.
        unknown_fields: fields that the reader has no column for.
        schema: the schema itself, parsed JSON.
        prefix: the container file up to its first block.
        fields: its fields with the header's, for the lengths.
    """

    data_type: DataType
    schema: dict[str, Any]
    refusal: str | None
    unknown_fields: frozenset[str]
    prefix: bytes
    fields: tuple[Field, ...]

    def resolve(self, batch: pa.RecordBatch, extra: Sequence[pa.Field] = ()) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Rows of `arrow_schema(data_type)`, and the reasons of those that are none (their rows hold nulls or rubbish).

        `extra` are further columns: the writer's field of that name, cast, or null where it has none.

        Raises:
            pa.ArrowInvalid: a value does not fit the reader's type; which row's is not told.
        """
        bad: dict[int, str] = {}
        arrays: list[pa.Array] = []
        names = set(batch.schema.names)
        for column in COLUMNS[self.data_type]:
            wanted = column.arrow.type
            if column.name not in names:
                arrays.append(pa.nulls(batch.num_rows, wanted))
                continue
            found = batch.column(column.name)
            if column.kind is Kind.DECIMAL:
                _mark(bad, _too_wide_here(found), lambda row, c=column, f=found: _digits(c, f, row))
            array = found if found.type == wanted else _cast(found, wanted, column.kind)
            if column.kind in _SYMBOLS:
                _mark(bad, _unknown_symbols(array, column), lambda row, c=column, a=array: _symbol(c, a, row))
            if array.null_count and not column.nullable:
                _mark(bad, np.asarray(array.is_null()), lambda _row, c=column: f"{c.name} is missing")
            arrays.append(array)
        # Unchecked nulls in columns that may not be null are in rows that `bad` takes out.
        schema = arrow_schema(self.data_type)
        for field in extra:
            there = field.name in names
            arrays.append(batch.column(field.name).cast(field.type) if there else pa.nulls(batch.num_rows, field.type))
            schema = schema.append(field)
        return pa.RecordBatch.from_arrays(arrays, schema=schema), bad


@lru_cache(maxsize=256)
def writer_plan(schema_text: str, data_type: DataType) -> WriterPlan:
    """The plan for a writer's schema as the registry gives it."""
    schema, refusal = _parse(schema_text)
    if refusal is None:
        refusal = _refusal(schema, data_type)
    if refusal is not None:
        return WriterPlan(data_type, schema, refusal, frozenset(), b"", ())
    known = {column.name for column in COLUMNS[data_type]}
    unknown = frozenset(field["name"] for field in schema["fields"]) - known
    framed = fields_of(wire.framed(schema))
    return WriterPlan(data_type, schema, None, unknown, wire.container_prefix(schema), tuple(framed))


@lru_cache(maxsize=256)
def fastavro_schema(schema_text: str) -> Any:
    """The schema as fastavro wants it, for reading one record."""
    import fastavro

    return fastavro.parse_schema(json.loads(schema_text))


def _parse(schema_text: str) -> tuple[dict[str, Any], str | None]:
    try:
        schema: Any = json.loads(schema_text)
        fastavro_schema(schema_text)
    except Exception as error:  # noqa: BLE001 - whatever a foreign schema does to the parser is a refusal
        return {}, f"its schema is no Avro schema: {error}"
    if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "record":
        return {}, "its schema is no Avro record"
    return cast("dict[str, Any]", schema), None


def _refusal(schema: dict[str, Any], data_type: DataType) -> str | None:
    ours = avro_schema(data_type)
    fields = {field.name: field for field in fields_of(schema)}
    if wire.HEADER_FIELD in fields:
        return f"its schema uses the reserved field name {wire.HEADER_FIELD}"
    present = [column for column in COLUMNS[data_type] if column.name in fields]
    if not present:
        return f"its schema {schema.get('name')} is not one of {ours['name']}"
    absent = [c.name for c in COLUMNS[data_type] if c.name not in fields and not c.nullable]
    if absent:
        return f"its schema {schema.get('name')} lacks {', '.join(absent)}, which {ours['name']} needs"
    for column in present:
        found = fields[column.name].type
        if found not in _READABLE[column.kind]:
            return f"{column.name} of its schema is {found}, not {column.kind.value}"
    return None


def _cast(array: pa.Array, wanted: pa.DataType, kind: Kind) -> pa.Array:
    if kind is Kind.TIMESTAMP and array.type == pa.timestamp("us", tz="+00:00"):
        return array.view(wanted)  # the same numbers under another name of UTC
    if kind is Kind.TIMESTAMP and not pa.types.is_timestamp(array.type):
        raise pa.ArrowInvalid("a long without timestamp-micros is no time")
    return array.cast(wanted)


def _mark(bad: dict[int, str], rows: npt.NDArray[np.bool_] | None, reason: Any) -> None:
    if rows is None:
        return
    for row in np.flatnonzero(rows).tolist():
        bad.setdefault(row, reason(row))


def _too_wide_here(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    if array.type.scale == arrow_schema(DataType.TRADES).field("price").type.scale:
        return too_wide(array)
    return None  # another scale is cast, which checks


def _digits(column: Column, array: pa.Array, row: int) -> str:
    return f"{column.name} has more than 10 integer digits: {array[row].as_py()}"


def _unknown_symbols(array: pa.Array, column: Column) -> npt.NDArray[np.bool_] | None:
    known = pc.is_in(array, pa.array(_SYMBOLS[column.kind]))
    if pc.all(known).as_py() or not len(array):
        return None
    unknown = ~np.asarray(known)
    return unknown & np.asarray(array.is_valid())


def _symbol(column: Column, array: pa.Array, row: int) -> str:
    return f"{column.name} is {array[row].as_py()!r}, expected one of {', '.join(_SYMBOLS[column.kind])}"
