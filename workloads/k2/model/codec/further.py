"""Fields of a writer's schema that become further columns of a table: under which names, of which types, and exactly.

A column of a reader is an Arrow field that carries Iceberg's id, which outlives renames, and the names that the column had
before: producers go on under an old name while the table has the new one, and nothing of theirs may become null in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from k2.model.codec.lengths import Field
from k2.model.rules import mark

FIELD_ID = b"PARQUET:field_id"
"""Where Arrow and PyIceberg keep a field's id."""

_FORMERLY = b"k2.formerly"
_MOST_DIGITS = 38

HELD_BY_WIDER = ": a wider type of the column (spec.columns of its IcebergTable) would hold it"
"""What a reason says of a value that is kept out by the column's width alone."""

_TIMES = frozenset({"timestamp-micros", "timestamp-millis", "timestamp-nanos"})

Cast = Callable[[pa.Array, pa.Field, dict[int, str]], pa.Array]
"""A column as the reader's type; what cannot be is null, and its row's reason in the dictionary."""


def reader_field(name: str, kind: pa.DataType, field_id: int, formerly: Sequence[str]) -> pa.Field:
    """A further column as decoding wants it."""
    metadata = {FIELD_ID: str(field_id), _FORMERLY: json.dumps(list(formerly))}
    return pa.field(name, kind, metadata=metadata)


def field_id(field: pa.Field) -> int | None:
    """Iceberg's id of a column; None where it is known by its name alone."""
    text = (field.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


def names_of(field: pa.Field) -> tuple[str, ...]:
    """The names that a writer may have for a further column, the present one first."""
    formerly = (field.metadata or {}).get(_FORMERLY)
    return (field.name, *(json.loads(formerly) if formerly else ()))


def known_names(extra: Sequence[pa.Field]) -> frozenset[str]:
    """All names that writers may have for these columns."""
    return frozenset(name for field in extra for name in names_of(field))


def refusal(fields: Mapping[str, Field], extra: Sequence[pa.Field]) -> str | None:
    """Why no message of a writer with these fields can be read into the columns; None: there is nothing in the way."""
    for column in extra:
        for name in names_of(column):
            field = fields.get(name)
            if field is not None and not _is_readable(field, column.type):
                said = field.logical or (f"{field.type} of {field.items}" if field.items else field.type)
                return f"{name} of its schema is {said}, which is no {_words(column.type)}"
    return None


def column_of(batch: pa.RecordBatch, column: pa.Field, bad: dict[int, str], cast: Cast) -> pa.Array:
    """A further column of a writer's rows: what they have under any of its names; null where they have nothing.

    Rows that say two things under two names are noted in `bad`, and so are values that the column cannot hold.
    """
    found: pa.Array | None = None
    for name in names_of(column):
        if name not in batch.schema.names:
            continue
        array = _exact(batch.column(name), column.with_name(name), bad, cast)
        found = array if found is None else _either(found, array, (column.name, name), bad)
    return pa.nulls(batch.num_rows, column.type) if found is None else found


def _exact(array: pa.Array, column: pa.Field, bad: dict[int, str], cast: Cast) -> pa.Array:
    unfit: dict[int, str] = {}
    made = cast(array, column, unfit)
    if pa.types.is_floating(column.type) and pa.types.is_floating(array.type) and made.type != array.type:
        # A cast rounds a double without a word.
        back, was = made.cast(array.type).to_numpy(zero_copy_only=False), array.to_numpy(zero_copy_only=False)
        rounded = (back != was) & ~np.isnan(was)
        mark(unfit, rounded if rounded.any() else None, lambda row: _is_no(column, array[row].as_py()))
    if pa.types.is_decimal(column.type) and not _is_valid(made):
        for row in range(len(made)):  # Arrow does not tell which
            if not _is_valid(made.slice(row, 1)):
                unfit.setdefault(row, f"{column.name} has more digits than {_words(column.type)}")
    for row, reason in unfit.items():
        told = reason.replace(f"which is no {column.type}", f"which is no {_words(column.type)}")
        bad.setdefault(row, told + (HELD_BY_WIDER if _can_be_wider(column.type, reason) else ""))
    return made


def _can_be_wider(kind: pa.DataType, reason: str) -> bool:
    if pa.types.is_decimal(kind):
        return kind.precision < _MOST_DIGITS and "decimals" not in reason  # places behind the point are not to be had
    return kind in (pa.int32(), pa.float32())


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def _either(first: pa.Array, second: pa.Array, names: tuple[str, str], bad: dict[int, str]) -> pa.Array:
    """The first where it says something, else the second."""
    if first.null_count < len(first) and second.null_count < len(second):
        pairs = zip(first.to_pylist(), second.to_pylist(), strict=True)  # few writers have both, and for a short while
        for row, (one, other) in enumerate(pairs):
            if one is not None and other is not None and one != other:
                bad.setdefault(row, f"{names[0]} is {one!r} and {names[1]}, its former name, is {other!r}")
    places = np.where(np.asarray(first.is_valid()), 0, len(first)) + np.arange(len(first))
    return pa.concat_arrays([first, second]).take(pa.array(places))


def _is_readable(field: Field, wanted: pa.DataType) -> bool:
    """Whether values of that Avro type mean what the column means; whether each fits is another question."""
    if pa.types.is_timestamp(wanted):
        return field.type == "long" and field.logical in _TIMES
    if pa.types.is_date(wanted):
        return field.type == "int" and field.logical == "date"
    if pa.types.is_list(wanted) or pa.types.is_large_list(wanted) or pa.types.is_map(wanted):
        return field.type == ("map" if pa.types.is_map(wanted) else "array") and field.items == "string"
    readable = next((names for is_one, names in _READABLE if is_one(wanted)), None)
    return readable is None or (field.type in readable and not field.logical)


_READABLE: tuple[tuple[Callable[[pa.DataType], bool], frozenset[str]], ...] = (
    (pa.types.is_large_string, frozenset({"string", "enum"})),
    (pa.types.is_string, frozenset({"string", "enum"})),
    (pa.types.is_integer, frozenset({"int", "long"})),
    (pa.types.is_floating, frozenset({"float", "double", "int", "long"})),
    (pa.types.is_boolean, frozenset({"boolean"})),
    (pa.types.is_decimal, frozenset({"decimal", "decimal_fixed"})),
)
"""Of the types that a person may ask for. One that another tool has added, of another type, is cast as Arrow can."""


def _is_no(column: pa.Field, value: Any) -> str:
    return f"{column.name} is {value!r}, which is no {column.type}"


def _words(kind: pa.DataType) -> str:
    """A type as `spec.columns` has it."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    found = (name for is_one, name in _NAMES if is_one(kind))
    return next(found, str(kind))


_NAMES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_large_string, "string"),
    (pa.types.is_string, "string"),
    (pa.types.is_int32, "int"),
    (pa.types.is_int64, "long"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_date, "date"),
    (pa.types.is_timestamp, "timestamptz"),
    (pa.types.is_large_list, "list<string>"),
    (pa.types.is_list, "list<string>"),
    (pa.types.is_map, "map<string, string>"),
)
