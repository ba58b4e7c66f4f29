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

from k2.model.amounts import amount_unfit, plain, unfit
from k2.model.codec import further, wire
from k2.model.codec.encode import too_wide
from k2.model.codec.lengths import Field, fields_of
from k2.model.compute import pc
from k2.model.events import COLUMNS, KINDS, SIDES, TIMESTAMP, Column, Decimals, Kind, arrow_schema, avro_schema
from k2.model.rules import mark
from k2.model.topics import DataType

_SYMBOLS = {Kind.SIDE: SIDES, Kind.REFERENCE_KIND: KINDS}
_AMOUNTS = {column.name for columns in COLUMNS.values() for column in columns if column.kind is Kind.DECIMAL}
_KINDS_OF_DECIMALS = {kind.arrow: kind for kind in Decimals}
_TIMES = frozenset({"timestamp-micros", "timestamp-millis", "timestamp-nanos"})
# What a writer may have in place of our type without losing anything. A float is no price: it stays refused.
_READABLE: dict[Kind, frozenset[str]] = {
    Kind.UUID: frozenset({"uuid"}),
    Kind.STRING: frozenset({"string", "enum"}),
    Kind.SIDE: frozenset({"enum", "string"}),
    Kind.REFERENCE_KIND: frozenset({"enum", "string"}),
    Kind.TIMESTAMP: frozenset({"long"}),
    Kind.DATE: frozenset({"int"}),
    Kind.DECIMAL: frozenset({"decimal", "decimal_fixed"}),
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

    def refusal_of(self, extra: Sequence[pa.Field]) -> str | None:
        """Why no message of this schema can be read into these further columns, or into any; None: it can."""
        if self.refusal is not None or not extra:
            return self.refusal
        return further.refusal({field.name: field for field in self.fields}, extra)

    def resolve(
        self, batch: pa.RecordBatch, decimals: Decimals, extra: Sequence[pa.Field] = ()
    ) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Rows of `arrow_schema(data_type, decimals)`, and the reasons of those that are none (they hold nulls or rubbish).

        `extra` are further columns: the writer's field of that name or a former one, cast, or null where it has none.
        """
        bad: dict[int, str] = {}
        arrays: list[pa.Array] = []
        names = set(batch.schema.names)
        for column in COLUMNS[self.data_type]:
            wanted = column.arrow(decimals)
            if column.name not in names:
                arrays.append(pa.nulls(batch.num_rows, wanted.type))
                continue
            found = batch.column(column.name)
            if column.kind is Kind.DECIMAL:
                mark(bad, _too_wide_here(found, decimals), lambda row, f=found, w=wanted: _unfit(w, f, row))
            array = _converted(found, wanted, bad)
            if column.kind in _SYMBOLS:
                mark(bad, _unknown_symbols(array, column), lambda row, c=column, a=array: _symbol(c, a, row))
            if array.null_count and not column.nullable:
                mark(bad, np.asarray(array.is_null()), lambda _row, c=column: f"{c.name} is missing")
            arrays.append(array)
        # Unchecked nulls in columns that may not be null are in rows that `bad` takes out.
        schema = arrow_schema(self.data_type, decimals)
        for field in extra:
            arrays.append(further.column_of(batch, field, bad, _converted))
            schema = schema.append(field)
        return pa.RecordBatch.from_arrays(arrays, schema=schema), bad


@lru_cache(maxsize=256)
def writer_plan(schema_text: str, data_type: DataType) -> WriterPlan:
    """The plan for a writer's schema as the registry gives it."""
    schema, refusal = _parse(schema_text)
    if refusal is None:
        schema = _with_plain_texts(schema, data_type)
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


def _with_plain_texts(schema: dict[str, Any], data_type: DataType) -> dict[str, Any]:
    """The schema, with texts where a writer has UUIDs for what is a text here: they lie in the message as texts."""
    texts = {column.name for column in COLUMNS[data_type] if column.kind is Kind.STRING}

    def plain_text(avro: Any) -> Any:
        if isinstance(avro, list):
            return [plain_text(branch) for branch in cast("list[Any]", avro)]
        if isinstance(avro, dict) and avro.get("type") == "string" and avro.get("logicalType") == "uuid":
            return "string"
        return avro

    fields = [each | {"type": plain_text(each["type"])} if each["name"] in texts else each for each in schema["fields"]]
    return schema | {"fields": fields}


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
        if column.kind is Kind.TIMESTAMP and fields[column.name].logical not in _TIMES:
            return f"{column.name} of its schema is a long without a unit, not one of {', '.join(sorted(_TIMES))}"
    return None


def _converted(array: pa.Array, field: pa.Field, bad: dict[int, str], first: int = 0) -> pa.Array:
    """A column as the reader's type, exactly; where a value cannot be, null, and its row's reason in `bad`.

    `first` is the row of the array's first value.
    """
    if array.type == field.type:
        return array
    try:
        return _cast(array, field.type)
    except pa.ArrowException:
        pass
    if len(array) == 1:
        bad.setdefault(first, _unfit(field, array, 0))
        return pa.nulls(1, field.type)
    half = len(array) // 2  # Arrow does not tell which value it is
    return pa.concat_arrays(
        [_converted(array.slice(0, half), field, bad, first), _converted(array.slice(half), field, bad, first + half)]
    )


def _cast(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if wanted == TIMESTAMP and pa.types.is_timestamp(array.type):
        if array.type.unit == "us":
            return array.view(wanted)  # the same numbers under another name of UTC
        if array.type.unit == "ns":
            # Cut as files cut them, towards the past on both sides of 1970; a cast would refuse them.
            return _in_micros(array).view(wanted)
    return array.cast(wanted)


def _in_micros(array: pa.Array) -> pa.Array:
    nanos = np.frombuffer(array.buffers()[1], np.int64)[array.offset : array.offset + len(array)]
    return pa.array(nanos // 1000, mask=np.asarray(array.is_null()) if array.null_count else None)


def _unfit(field: pa.Field, array: pa.Array, row: int) -> str:
    """Why a value cannot be held; it is never rounded."""
    value, wanted = array[row], field.type
    shown = value.value if pa.types.is_timestamp(array.type) else value.as_py()
    if not pa.types.is_decimal(wanted):
        return f"{field.name} is {shown!r}, which is no {wanted}"
    if field.name in _AMOUNTS and wanted in _KINDS_OF_DECIMALS:
        reason = amount_unfit(shown, _KINDS_OF_DECIMALS[wanted], plain(shown))
    else:
        reason = unfit(shown, wanted.precision, wanted.scale, plain(shown))
    return f"{field.name} {reason}"


def _too_wide_here(array: pa.Array, decimals: Decimals) -> npt.NDArray[np.bool_] | None:
    if pa.types.is_decimal128(array.type) and array.type.scale == decimals.scale:
        return too_wide(array, decimals)
    return None  # another one is cast, which checks


def _unknown_symbols(array: pa.Array, column: Column) -> npt.NDArray[np.bool_] | None:
    known = pc.is_in(array, pa.array(_SYMBOLS[column.kind]))
    if pc.all(known).as_py() or not len(array):
        return None
    unknown = ~np.asarray(known)
    return unknown & np.asarray(array.is_valid())


def _symbol(column: Column, array: pa.Array, row: int) -> str:
    return f"{column.name} is {array[row].as_py()!r}, expected one of {', '.join(_SYMBOLS[column.kind])}"
