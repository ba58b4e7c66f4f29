"""The further columns of an IcebergTable: what is wrong with the list by itself, and the columns that it asks for. Pure.

What an edit would do to the table's rows is found where the table is known: by the API server, which has the list from
before, and by `k2.lake.columns`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from k2.model.further import canonical, decimal_digits, is_reserved
from k2.model.tables import TableColumn, event_columns
from k2_operator.spec.resources import FurtherColumn, IcebergTableSpec
from k2_operator.spec.validate import ResourceError

_NOT_RESERVED = "a name that no built-in column of any schema has, and that does not begin with k2_ or kafka_"


def further_columns(columns: Sequence[FurtherColumn]) -> tuple[TableColumn, ...]:
    """The list as columns of a table."""
    return tuple(TableColumn(each.name, canonical(each.type), doc=each.doc, was=each.was or "") for each in columns)


def column_errors(who: str, spec: IcebergTableSpec) -> list[ResourceError]:
    """Everything that is wrong with the list."""
    columns, own = spec.columns, frozenset(column.name for column in event_columns(spec.table_schema))
    return [
        ResourceError(who, f"spec.columns[{index}].{field}", what, found=found, expected=expected, remedy=remedy)
        for index, column in enumerate(columns)
        for field, what, found, expected, remedy in _mistakes(index, column, columns, own)
    ]


_Mistake = tuple[str, str, object, str, str]
"""Field, what is wrong, found, expected, remedy."""


def _mistakes(
    index: int, column: FurtherColumn, columns: Sequence[FurtherColumn], own: Collection[str]
) -> Iterator[_Mistake]:
    names = [each.name for each in columns]
    if is_reserved(column.name):
        yield "name", "is taken by K2", column.name, _NOT_RESERVED, "choose another"
    if column.name in names[:index]:
        yield "name", f"is already spec.columns[{names.index(column.name)}]", column.name, "", "list each column once"
    if column.was is not None:
        was = [each.was for each in columns[:index]]
        if column.was in own:
            yield "was", "is a built-in column, which keeps its name", column.was, "", "leave it out"
        elif column.was != column.name and column.was in names:
            yield "was", "is a column of the list itself", column.was, "the name that this one had before", ""
        elif column.was in was:
            yield "was", f"spec.columns[{was.index(column.was)}] was that column", column.was, "", "leave it out"
    if column.required:
        remedy = "leave it out: rows and writers from before have no value for it"
        yield "required", "a further column cannot be required", True, "false", remedy
    digits = decimal_digits(column.type)
    if digits is not None and digits[1] > digits[0]:
        yield "type", "more digits behind the point than in all", column.type, f"a scale of at most {digits[0]}", ""
