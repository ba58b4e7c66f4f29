"""Several tables of a data type as one: each column as wide as the widest of them has it. Pure.

Tables of one data type have the columns of its built-in schema, and differ by how large and fine their decimals are and by
columns that a person added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import pyarrow as pa

from k2.lake.payloads import in_one_piece
from k2.lake.reader import ColumnInfo
from k2.model.further import decimal_digits, is_wider
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_type
from k2.query.rows.sql import duck_type, name_in_tail

_MOST_DIGITS = 38


@lru_cache(256)
def widest(tables: tuple[tuple[ColumnInfo, ...], ...]) -> tuple[ColumnInfo, ...]:
    """The columns of all tables, those of the first one first: of the same name one, of the type that holds the values of each.

    Where no number does, the values are text.
    """
    if len(tables) == 1:
        return tables[0]
    found: dict[str, ColumnInfo] = {}
    for column in (column for columns in tables for column in columns):
        known = found.get(column.name, column)
        found[column.name] = replace(known, type=_wider(known.type, column.type))
    return tuple(found.values())


def united(parts: Sequence[Relation]) -> Relation:
    """One relation of several, each of one table, the main one first; all with the same sight."""
    if len(parts) == 1:
        return parts[0]
    columns = widest(tuple(part.columns for part in parts))
    tables = tuple(
        replace(
            part.tables[0],
            paths=frozenset(file.path for file in part.files),
            tail_rows=0 if part.tail is None else part.tail.num_rows,
        )
        for part in parts
    )
    files = sorted(
        (file for part in parts for file in part.files), key=lambda file: (file.start_us, file.end_us, file.path)
    )
    tails = [part.tail for part in parts if part.tail is not None]
    return Relation(tables, columns, tuple(files), parts[0].sight, _tail(tails, columns) if tails else None)


def _tail(tails: Sequence[pa.Table], columns: Sequence[ColumnInfo]) -> pa.Table:
    """The rows of all tails, one chunk a column; a column that a tail does not have is null there.

    Values whose types have nothing in common but that they can be written as text stand in a column for each type, side by side:
    the statement writes them, in the words in which it writes those of files.
    """
    chosen = [(column.name, _kinds_of(column, tails)) for column in columns if duck_type(column) is not None]
    names = [name_in_tail(name, number) for name, kinds in chosen for number in range(len(kinds))]
    fitted = [
        pa.table(
            [_fitted(tail, name, kinds, number) for name, kinds in chosen for number in range(len(kinds))], names=names
        )
        for tail in tails
    ]
    return in_one_piece([batch for rows in fitted for batch in rows.to_batches()])


def _fitted(tail: pa.Table, name: str, kinds: Sequence[pa.DataType], number: int) -> pa.Array | pa.ChunkedArray:
    """The tail's values of a column, where they belong among those of that kind; else nulls."""
    kind = kinds[number]
    if name not in tail.column_names:
        return pa.nulls(tail.num_rows, kind)
    values = tail.column(name)
    if number != (kinds.index(values.type) if values.type in kinds else 0):
        return pa.nulls(tail.num_rows, kind)
    return values if values.type == kind else values.cast(kind)


def _kinds_of(column: ColumnInfo, tails: Sequence[pa.Table]) -> list[pa.DataType]:
    """The type that the tails have the column in where it is one (symbols are dictionaries), else the column's own.

    Of a column of text: text, and each other type that they have it in.
    """
    there = dict.fromkeys(tail.schema.field(column.name).type for tail in tails if column.name in tail.column_names)
    there.pop(pa.null(), None)
    if len(there) == 1:
        return list(there)
    own = arrow_type(column)
    return [own, *(kind for kind in there if not _is_text(kind))] if pa.types.is_string(own) else [own]


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _wider(one: str, other: str) -> str:
    if one == other:
        return one
    decimals = [digits for kind in (one, other) if (digits := decimal_digits(kind))]
    if len(decimals) == 2:
        scale = max(scale for _, scale in decimals)
        whole = max(precision - scale for precision, scale in decimals)
        if whole + scale <= _MOST_DIGITS:
            return f"decimal({whole + scale}, {scale})"
    unknown = next((kind for kind in (one, other) if duck_type(ColumnInfo(0, "", kind)) is None), None)
    if unknown:
        return unknown
    return other if is_wider(one, other) else one if is_wider(other, one) else "string"
