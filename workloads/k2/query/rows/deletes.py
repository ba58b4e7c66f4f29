"""Rows less those that delete files take out: anti-joins by file and position, and by values. Pure.

Iceberg's format version 2 lets any engine delete without rewriting a data file. Which delete files apply to which data
file was decided by the plan (`lake/scan.py`); a question about files without any never comes here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef, DeleteFileRef
from k2.model.locations import local_path

FILE, ROW = "k2_file", "file_row_number"
"""Columns that a scan of files with deletes has beside the table's: the row's file and its number there."""

# Field ids that the specification reserves for the two columns of a file of position deletes.
_POSITION_COLUMNS = {2_147_483_546: ("k2_uri", "VARCHAR"), 2_147_483_545: ("k2_pos", "BIGINT")}


def deleted_from(files: Iterable[DataFileRef]) -> tuple[DataFileRef, ...]:
    """The files that rows were deleted from."""
    return tuple(file for file in files if file.deletes)


def equality_ids(files: Iterable[DataFileRef]) -> frozenset[int]:
    """Ids of all fields by whose values rows of the files were deleted."""
    return frozenset(number for file in files for delete in file.deletes for number in delete.equality_ids)


def conditions(files: Sequence[DataFileRef], types: dict[int, tuple[str, str]], mark: str = "") -> str:
    """Conditions (` WHERE …`) under which a row of the scan `d` of these files is still there.

    Args:
        files: data files that have deletes.
        types: field id → name of the column in `d` and DuckDB's type, of at least `equality_ids(files)`.
        mark: what the names of the bound values end with, where a statement has several of these.
    """
    gone: list[str] = []
    for number, ids in enumerate(_groups(files)):
        if ids:
            columns = {field_id: (f"k2_by_{field_id}", types[field_id][1]) for field_id in ids}
            match = " AND ".join(f"g.k2_by_{i} IS NOT DISTINCT FROM d.{_name(types[i][0])}" for i in ids)
            taken = ", ".join(f"p.{name}" for name, _ in columns.values())
            join = "p.filename = m.k2_delete"
        else:
            columns, match, taken = _POSITION_COLUMNS, f"g.k2_pos = d.{ROW}", "p.k2_pos"
            join = "p.filename = m.k2_delete AND p.k2_uri = m.k2_uri"
        pairs = ", ".join(
            f"unnest(str_split($del{number}_{part}{mark}, chr(10))) AS k2_{part}" for part in ("data", "uri", "delete")
        )
        scan = f"read_parquet(str_split($del{number}_files{mark}, chr(10)), filename = true, schema = {fields_by_id(columns)})"
        gone.append(
            f"NOT EXISTS (SELECT 1 FROM (SELECT m.k2_data, {taken} FROM {scan} p JOIN (SELECT {pairs}) m ON {join}) g "
            f"WHERE g.k2_data = d.{FILE} AND {match})"
        )
    return f" WHERE {' AND '.join(gone)}"


def params(files: Sequence[DataFileRef], mark: str = "") -> dict[str, Any]:
    """Values of the names in `conditions(files, …, mark)`: one text a list, for each bound value costs time."""
    bound: dict[str, Any] = {}
    for number, pairs in enumerate(_groups(files).values()):
        bound[f"del{number}_files{mark}"] = "\n".join(sorted({local_path(delete.path) for _, delete in pairs}))
        bound[f"del{number}_data{mark}"] = "\n".join(local_path(file.path) for file, _ in pairs)
        bound[f"del{number}_uri{mark}"] = "\n".join(file.path for file, _ in pairs)
        bound[f"del{number}_delete{mark}"] = "\n".join(local_path(delete.path) for _, delete in pairs)
    return bound


def fields_by_id(columns: dict[int, tuple[str, str]]) -> str:
    """DuckDB's map of field ids to columns, for `schema =` of `read_parquet`."""
    fields = [
        f"{i}: {{name: {_text(name)}, type: {_text(kind)}, default_value: NULL}}" for i, (name, kind) in columns.items()
    ]
    return f"MAP {{{', '.join(fields)}}}"


def hidden(
    columns: Collection[ColumnInfo], schemas: Iterable[Sequence[ColumnInfo]], ids: Collection[int]
) -> tuple[ColumnInfo, ...]:
    """Columns that rows were deleted by and that the table no longer has, under names that no column of its own has."""
    missing = set(ids) - {column.field_id for column in columns}
    found: dict[int, ColumnInfo] = {}
    for schema in schemas:
        for column in schema:
            if column.field_id in missing:
                found[column.field_id] = ColumnInfo(column.field_id, f"k2_hidden_{column.field_id}", column.type)
    return tuple(found.values())


def _groups(files: Sequence[DataFileRef]) -> dict[tuple[int, ...], list[tuple[DataFileRef, DeleteFileRef]]]:
    """The pairs of data and delete file, by the fields that are deleted by (none: positions)."""
    groups: dict[tuple[int, ...], list[tuple[DataFileRef, DeleteFileRef]]] = {}
    for file in files:
        for delete in file.deletes:
            groups.setdefault(delete.equality_ids, []).append((file, delete))
    return groups


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
