"""How an IcebergTable wants its rows to lie: partition spec, sort order and properties, and everything that is wrong with them. Pure.

What no writer could use is found here, before there is a table; the API server says most of it at the edit already
(`spec/crd_rules.py`), from the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from k2.model.table_layout import columns_that_take, field_name, is_sortable, stands_for, takes, transforms_of
from k2.model.table_properties import property_mistakes
from k2.model.tables import (
    DEFAULT_PROPERTIES,
    PartitionBy,
    SortBy,
    TableColumn,
    default_partition,
    default_sort,
    event_columns,
)
from k2_operator.spec.resources import IcebergTableSpec
from k2_operator.spec.validate import ResourceError


def partition_by(spec: IcebergTableSpec) -> tuple[PartitionBy, ...]:
    """The partition spec: as asked for, or by day of the event's time."""
    if spec.partition_spec is None:
        return default_partition(spec.table_schema)
    return tuple(
        PartitionBy(each.source, each.transform, field_name(each.source, each.transform))
        for each in spec.partition_spec
    )


def sort_by(spec: IcebergTableSpec) -> tuple[SortBy, ...]:
    """The sort order: as asked for, or what questions filter by first."""
    if spec.sort_order is None:
        return default_sort(spec.table_schema)
    return tuple(SortBy(each.column, descending=each.direction == "desc") for each in spec.sort_order)


def properties_of(spec: IcebergTableSpec) -> dict[str, str]:
    """The table's properties: K2's defaults, and over them what is asked for."""
    return {**DEFAULT_PROPERTIES, **spec.properties}


def layout_errors(who: str, spec: IcebergTableSpec) -> list[ResourceError]:
    """Everything that is wrong with them."""
    columns = event_columns(spec.table_schema, spec.decimals)
    return [
        *_partition_errors(who, spec, columns),
        *_sort_errors(who, spec, columns),
        *_property_errors(who, spec, columns),
    ]


def _partition_errors(who: str, spec: IcebergTableSpec, columns: Sequence[TableColumn]) -> Iterator[ResourceError]:
    by_name = {column.name: column for column in columns}
    asked = partition_by(spec)
    for index, by in enumerate(asked):
        path = f"spec.partitionSpec[{index}]"
        column = by_name.get(by.source)
        if column is None:
            yield _no_such_column(who, f"{path}.source", by.source, spec, columns)
            continue
        if not takes(by.transform, column.type):
            yield _does_not_take(who, path, by, column, columns)
            continue
        same = [i for i, each in enumerate(asked[:index]) if _divides_alike(each, by)]
        if same:
            what = f"{by.source} is divided by {stands_for(by.transform)} already, in spec.partitionSpec[{same[0]}]"
            yield ResourceError(who, path, what, found=by.transform, remedy="leave one of the two out")
    # Iceberg knows partition fields and columns by one set of names.
    taken = {by.name: by for by in asked if by.transform != "identity"}
    for index, further in enumerate(spec.columns):
        if (by := taken.get(further.name)) is not None:
            what = f"is the name of the partition field {by.transform} of {by.source}"
            yield ResourceError(
                who, f"spec.columns[{index}].name", what, found=further.name, remedy="choose another name"
            )


def _divides_alike(one: PartitionBy, other: PartitionBy) -> bool:
    return (one.source, stands_for(one.transform)) == (other.source, stands_for(other.transform))


def _does_not_take(
    who: str, path: str, by: PartitionBy, column: TableColumn, columns: Sequence[TableColumn]
) -> ResourceError:
    if not is_sortable(column.type):
        others = columns_that_take("identity", columns)
        return ResourceError(
            who,
            f"{path}.source",
            f"rows cannot be divided by a {column.type}",
            found=column.name,
            expected=f"one of {', '.join(others)}",
        )
    others = columns_that_take(by.transform, columns)
    return ResourceError(
        who,
        f"{path}.transform",
        f"cannot be made of {column.name}, which is {column.type}",
        found=by.transform,
        expected=f"{', '.join(transforms_of(column.type))} of it",
        remedy=f"or {by.transform} of {', '.join(others)}" if others else "",
    )


def _sort_errors(who: str, spec: IcebergTableSpec, columns: Sequence[TableColumn]) -> Iterator[ResourceError]:
    by_name = {column.name: column for column in columns}
    asked = sort_by(spec)
    names = [by.source for by in asked]
    for index, by in enumerate(asked):
        path = f"spec.sortOrder[{index}].column"
        column = by_name.get(by.source)
        if column is None:
            yield _no_such_column(who, path, by.source, spec, columns)
        elif not is_sortable(column.type):
            others = [each.name for each in columns if is_sortable(each.type)]
            what = f"rows cannot be sorted by a {column.type}"
            yield ResourceError(who, path, what, found=by.source, expected=f"one of {', '.join(others)}")
        elif by.source in names[:index]:
            what = f"is already spec.sortOrder[{names.index(by.source)}]"
            yield ResourceError(who, path, what, found=by.source, remedy="list each column once")


def _no_such_column(
    who: str, path: str, found: str, spec: IcebergTableSpec, columns: Sequence[TableColumn]
) -> ResourceError:
    names = ", ".join(column.name for column in columns)
    expected = f"a column of {spec.table_schema}: {names}"
    if found in {column.name for column in spec.columns}:
        what = "is a further column; rows are divided and sorted by columns of the built-in schema"
        return ResourceError(who, path, what, found=found, expected=expected)
    return ResourceError(who, path, "no such column", found=found, expected=expected)


def _property_errors(who: str, spec: IcebergTableSpec, columns: Sequence[TableColumn]) -> Iterator[ResourceError]:
    names = {column.name for column in columns} | {column.name for column in spec.columns}
    for mistake in property_mistakes(properties_of(spec), names):
        yield ResourceError(
            who,
            f"spec.properties.{mistake.name}",
            mistake.what,
            found=mistake.found,
            expected=mistake.expected,
            remedy=mistake.remedy,
        )
