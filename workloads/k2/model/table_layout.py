"""Which partition specs and sort orders a table can have: Iceberg's rules of transforms and types, without any Iceberg library.

What plan finds in a resource, what the definitions of the API server say in CEL and what the lake asks of a table that is there
come from these few functions, so that all of them say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from k2.model.tables import TableColumn

TRANSFORM_PATTERN = r"^(identity|hour|day|month|year|(bucket|truncate)\[[1-9][0-9]{0,8}\])$"
TRANSFORMS = "identity, hour, day, month, year, bucket[N] or truncate[N] with N from 1 to 999999999"
"""What a resource may ask for, for error texts."""

_MOST = 2**31 - 1
_ARGUMENT = re.compile(r"(bucket|truncate)\[(\d+)\]")
_TIMES = frozenset({"timestamp", "timestamptz", "timestamp_ns", "timestamptz_ns"})
_TAKES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("year", "month", "day"), _TIMES | {"date"}),
    "hour": _TIMES,
    "truncate": frozenset({"int", "long", "decimal", "string", "binary"}),
    "bucket": _TIMES | {"int", "long", "decimal", "date", "time", "string", "uuid", "fixed", "binary"},
}
_BY_TIME = ("year", "month", "day", "hour")
FAMILIES = ("identity", *_BY_TIME, "bucket", "truncate")
"""Transforms without their arguments."""


def family(transform: str) -> str:
    """A transform without its argument: `bucket` of `bucket[16]`."""
    return transform.partition("[")[0]


def takes(transform: str, kind: str) -> bool:
    """Whether a transform is one, and can be made of a column of that Iceberg type (both as Iceberg writes them)."""
    name = family(transform)
    if name in ("bucket", "truncate"):
        found = _ARGUMENT.fullmatch(transform)
        if found is None or not 1 <= int(found[2]) <= _MOST:
            return False
    if name in ("identity", "void"):
        return name == "void" or is_sortable(kind)
    return re.split(r"[(\[]", kind, maxsplit=1)[0] in _TAKES.get(name, ())


def is_sortable(kind: str) -> bool:
    """Whether values of a type have an order and one can stand for a partition: lists, maps and structs have none."""
    return not kind.startswith(("list<", "map<", "struct<"))


def columns_that_take(transform: str, columns: Iterable[TableColumn]) -> list[str]:
    """Names of the columns that a transform can be made of."""
    return [column.name for column in columns if takes(transform, column.type)]


def transforms_of(kind: str) -> list[str]:
    """The transforms that take a type, as a person writes them."""
    shown = {"bucket": "bucket[N]", "truncate": "truncate[N]"}
    probes = {name: f"{name}[1]" if name in shown else name for name in FAMILIES}
    return [shown.get(name, name) for name, probe in probes.items() if takes(probe, kind)]


def stands_for(transform: str) -> str:
    """What two fields of one column must not share: the transform's family; day and hour divide by one thing, time."""
    name = family(transform)
    return "time" if name in _BY_TIME else name


def field_name(source: str, transform: str) -> str:
    """How K2 names a partition field, as Iceberg does: `timestamp_day`, `symbol_bucket`; identity keeps the column's name."""
    return source if transform == "identity" else f"{source}_{family(transform)}"


def unusable_field(name: str, transform: str, source: TableColumn | None, columns: Sequence[TableColumn]) -> str:
    """Why no writer can fill a partition field of a table that is there; empty when one can."""
    if family(transform) == "void":
        return ""
    if source is None:
        return f"partition field {name} is of a column that is gone"
    if not takes(transform, source.type):
        return f"partition field {name} is {transform} of {source.name}, which is {source.type}"
    if name != source.name and any(column.name == name for column in columns):
        return f"partition field {name} has the name of a column"
    return ""
