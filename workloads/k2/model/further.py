"""Columns that a table has beside those of its built-in schema: their names and types, and how these may change.

They are declared by an IcebergTable (`spec.columns`), always optional, and travel as fields of a writer's own Avro schema.
Here stands what plan, lake and registry have to agree on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from k2.model.events import COLUMNS, avro_decimal
from k2.model.tables import LINEAGE, TableColumn, TableSpec, event_columns

MOST = 50
"""Further columns of one table: each is read into memory for every row."""

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
FORMER_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
"""Of `was`: a column that another tool has made may be called in capitals."""

TYPE_PATTERN = (
    r"^(string|int|long|float|double|boolean|date|timestamptz"
    r"|decimal\(([1-9]|[12][0-9]|3[0-8]), ?([0-9]|[12][0-9]|3[0-8])\)|list<string>|map<string, ?string>)$"
)
TYPES = (
    "string, int, long, float, double, boolean, date, timestamptz, decimal(p, s) of at most 38 digits, list<string> or "
    "map<string, string>"
)
"""What both a writer's Avro schema and an answer can carry, for error texts."""

RESERVED = frozenset(
    {
        *(column.name for columns in COLUMNS.values() for column in columns),
        *LINEAGE,
        # Names that answers put beside a table's columns.
        *("type", "filename", "file_row_number", "quote_timestamp", "mid", "spread", "effective_spread"),
        "inferred_side",
    }
)
"""Names that no further column may have: those of any built-in schema, so that trades and quotes can stand in one answer."""

RESERVED_PREFIXES = ("k2_", "kafka_")

_AVRO: dict[str, Any] = {
    **{name: name for name in ("string", "int", "long", "float", "double", "boolean")},
    "date": {"type": "int", "logicalType": "date"},
    "timestamptz": {"type": "long", "logicalType": "timestamp-micros"},
    "list<string>": {"type": "array", "items": "string"},
    "map<string, string>": {"type": "map", "values": "string"},
}
_WIDER = {("int", "long"), ("float", "double")}
_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")


def of_table(spec: TableSpec) -> tuple[TableColumn, ...]:
    """The columns of a table that are none of its built-in schema; of a table without one, all."""
    own = {column.name for column in event_columns(spec.data_type)} if spec.data_type else set[str]()
    return tuple(column for column in spec.columns if column.name not in own)


def canonical(kind: str) -> str:
    """A type in the one way in which Iceberg writes it."""
    return re.sub(r"\s+", "", kind).replace(",", ", ")


def decimal_digits(kind: str) -> tuple[int, int] | None:
    """Precision and scale; None: it is no decimal."""
    found = _DECIMAL.fullmatch(kind)
    return None if found is None else (int(found[1]), int(found[2]))


def is_wider(now: str, then: str) -> bool:
    """Whether every value of the first type is one of the second, and Iceberg reads it so: int as long, and the like."""
    before, after = decimal_digits(now), decimal_digits(then)
    if before is not None and after is not None:
        return before[1] == after[1] and before[0] < after[0]
    return (now, then) in _WIDER


def is_reserved(name: str) -> bool:
    """Whether no further column may be called that, in whatever letters."""
    return name.lower() in RESERVED or name.lower().startswith(RESERVED_PREFIXES)


def avro_fields(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    """The columns as fields of an Avro record: a union with null, which is the default; a former name is an alias."""
    return [
        {"name": column.name, "doc": column.doc, "type": ["null", _avro(column.type)], "default": None}
        | ({"aliases": [column.was]} if column.was else {})
        for column in columns
    ]


def with_further(schema: dict[str, Any], columns: Sequence[TableColumn]) -> dict[str, Any]:
    """A record's schema with further columns of its table: what a producer of one's own may send."""
    return schema | {"fields": [*schema["fields"], *avro_fields(columns)]}


def _avro(kind: str) -> Any:
    digits = decimal_digits(kind)
    return _AVRO[kind] if digits is None else avro_decimal(*digits)
