"""CEL rules of an IcebergTable's partition spec, sort order and properties, written from the rules that `plan/layout.py` holds them to.

Only what the built-in schemas and the values themselves tell. Costs stay far below the API server's budget, because lists of names
are literals and every text that is looked at has a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from k2.model.table_layout import FAMILIES, columns_that_take, field_name
from k2.model.table_properties import BY_COLUMN, KNOWN, REFUSED
from k2.model.tables import default_partition, event_columns
from k2.model.topics import DataType

_COLUMNS = {data_type: event_columns(data_type) for data_type in DataType}
_ARGUED = ("bucket", "truncate")


def _names_by_schema(transform: str) -> str:
    """A CEL map: a schema → the columns that a transform can be made of; of all of them with an empty one."""
    found = {
        str(data_type): columns_that_take(transform, columns) if transform else [column.name for column in columns]
        for data_type, columns in _COLUMNS.items()
    }
    return str(found)


def _fitting() -> str:
    """The columns that the transform of a field `f` can be made of."""
    lists: dict[str, list[str]] = {}
    for name in FAMILIES:
        lists.setdefault(_names_by_schema(f"{name}[1]" if name in _ARGUED else name), []).append(name)
    *others, (last, _) = lists.items()
    chosen = " : ".join(f"f.transform.split('[')[0] in {families} ? {names}" for names, families in others)
    return f"({chosen} : {last})[self.schema]"


_ANY, _FITTING, _SORTABLE = _names_by_schema(""), _fitting(), _names_by_schema("identity")
_DIVIDES_BY = (
    "({0}.transform in ['year', 'month', 'day', 'hour'] ? 'time' : {0}.transform.split('[')[0]) == "
    "({1}.transform in ['year', 'month', 'day', 'hour'] ? 'time' : {1}.transform.split('[')[0])"
).format("f", "g")
_BY_DEFAULT = {
    str(data_type): field_name(by.source, by.transform) for data_type in DataType for by in default_partition(data_type)
}

_PARTITIONS = (
    {
        "rule": f"!has(self.partitionSpec) || self.partitionSpec.all(f, f.source in {_ANY}[self.schema])",
        "message": "no such column; expected columns of the built-in schema",
        "fieldPath": ".partitionSpec",
    },
    {
        "rule": f"!has(self.partitionSpec) || self.partitionSpec.all(f, f.source in {_FITTING})",
        "message": "a transform cannot be made of its column: year, month and day are of times and dates, hour of times, truncate of texts "
        "and numbers, bucket and identity of all that is no list and no map",
        "fieldPath": ".partitionSpec",
    },
    {
        "rule": "!has(self.partitionSpec) || self.partitionSpec.all(f, "
        f"self.partitionSpec.exists_one(g, g.source == f.source && {_DIVIDES_BY}))",
        "message": "two fields divide one column alike (year, month, day and hour all by time); leave one of the two out",
        "fieldPath": ".partitionSpec",
    },
    {
        "rule": "!self.columns.exists(c, has(self.partitionSpec) ? self.partitionSpec.exists(f, f.transform != 'identity' && "
        f"c.name == f.source + '_' + f.transform.split('[')[0]) : c.name == {_BY_DEFAULT}[self.schema])",
        "message": "a column has the name of a partition field (timestamp_day and the like); choose another name",
        "fieldPath": ".columns",
    },
)
_SORTING = (
    {
        "rule": f"!has(self.sortOrder) || self.sortOrder.all(f, f.column in {_SORTABLE}[self.schema])",
        "message": "rows cannot be sorted by that; expected columns of the built-in schema that are no list and no map",
        "fieldPath": ".sortOrder",
    },
    {
        "rule": "!has(self.sortOrder) || self.sortOrder.all(f, self.sortOrder.exists_one(g, g.column == f.column))",
        "message": "a column is listed twice; list each column once",
        "fieldPath": ".sortOrder",
    },
)


def _property_rules() -> Iterator[Mapping[str, str]]:
    # One for each: a message that is put together from what was found costs more than the API server allows.
    for name, kind in KNOWN.items():
        yield {
            "rule": f"!('{name}' in self.properties) || self.properties['{name}'].matches(r'^({kind.pattern})$')",
            "message": f"{name}: not usable; expected {kind.expected}",
            "fieldPath": ".properties",
        }
    for prefix, kind in BY_COLUMN.items():
        holds = f"self.properties[n].matches(r'^({kind.pattern})$')"
        yield {
            "rule": f"self.properties.all(n, !n.startsWith('{prefix}') || {holds})",
            "message": f"{prefix}*: not usable; expected {kind.expected}",
            "fieldPath": ".properties",
        }
    yield {
        "rule": f"self.properties.all(n, !(n in {list(REFUSED)}))",
        "message": f"nobody may set {', '.join(REFUSED)}: Iceberg keeps them itself, or they would load code; leave them out",
        "fieldPath": ".properties",
    }


LAYOUT_RULES: tuple[Mapping[str, str], ...] = (*_PARTITIONS, *_SORTING, *_property_rules())
