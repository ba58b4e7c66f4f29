"""The SQL of every question, built from constants and from the table's own column names; text is always a bound parameter.

Integers (limits, instants) are written out: DuckDB's Python client looks for pandas anew at each bound value, 50 µs a time.

Pure. Where the table's schema was ever changed, files are read by Iceberg's field ids: a column that an old file lacks is null
there, and a renamed one is found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.lake.scan import DataFileRef
from k2.model.errors import WorldError
from k2.model.events import SortKey
from k2.model.further import decimal_digits
from k2.model.locations import local_path
from k2.model.prints import EVERY_PRINT, Prints, on_exchange
from k2.model.times import iso
from k2.query.rows import adjusted, deletes, order_sql, print_sql
from k2.query.rows.relation import Relation, TableRows
from k2.query.rows.statement import TAIL, FilesRead, Statement
from k2.query.rows.visibility import EVERYTHING

# The total order of events of a data type, whichever of its tables they lie in. Types are told apart above this layer.
ORDER = (
    "timestamp",
    "exchange",
    "symbol",
    "source_sequence",
    "kafka_topic_id",
    "kafka_partition",
    "kafka_offset",
)
# Reference data has its own event time in the place of `timestamp`.
_TIMES = ("timestamp", "effective_timestamp")
LINEAGE = ("kafka_topic_id", "kafka_partition", "kafka_offset")
# The total order within one symbol of one exchange.
SERIES_ORDER = ("timestamp", "source_sequence", *LINEAGE)
# Decides there unless two rows tie: of rows with numbers hardly any do, and lineage need not be read.
SHORT_ORDER = ("timestamp", "source_sequence")

_TYPES = {
    "string": "VARCHAR",
    "uuid": "UUID",
    "timestamptz": "TIMESTAMPTZ",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "long": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "binary": "BLOB",
    "list<string>": "VARCHAR[]",
    "map<string, string>": "MAP(VARCHAR, VARCHAR)",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which rows: of any of these symbols, of this exchange, within [start_us, end_us).

    Attributes:
        after: only rows that come later in the order.
        beyond: (topic id, partition, offset): only rows that are not before that offset of that partition.
        before: (topic id, partition, offset): only rows that are before that offset of that partition.
        within: only rows in one of these stretches [start, end), which come one after the other; none: no such condition.
        prints: only trades that these let through.
    """

    symbols: tuple[str, ...] = ()
    exchange: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    after: SortKey = ()
    beyond: tuple[tuple[str, int, int], ...] = ()
    before: tuple[tuple[str, int, int], ...] = ()
    within: tuple[tuple[int, int], ...] = ()
    prints: Prints = EVERY_PRINT

    @property
    def columns(self) -> frozenset[str]:
        """Columns that the conditions are about, beside symbol, exchange and time."""
        lineage = LINEAGE if self.beyond or self.before else ()
        return frozenset((*lineage, *(name for name, _ in self.after), *print_sql.columns_of(self.prints)))


def events(
    relation: Relation,
    which: Filter,
    *,
    limit: int | None = None,
    lineage: bool = False,
    by: Sequence[str] = ORDER,
    fields: Sequence[str] = (),
) -> Statement:
    """Rows in the total order, at most `limit`; `by` shortens the order (empty: as they lie, file after file).

    `fields` names the columns (none: all but those that tell where in Kafka a row came from, which `lineage` adds). No other
    column is read but those of the order and of the conditions.
    """
    known = {column.name: column for column in relation.columns}
    chosen = [known[name] for name in fields] or [c for c in relation.columns if lineage or c.name not in LINEAGE]
    order = order_of(relation, by)
    condition, params = where(relation, which)
    read = None
    if fields:
        read = {*fields, *order, *which.columns, "symbol", "exchange", *_TIMES}
    sql = (
        f"SELECT {', '.join(_name(column.name) for column in chosen if duck_type(column) is not None)} "
        f"FROM {source(relation, names=read)}{condition}"
    )
    if order:
        sql += f" ORDER BY {', '.join(f'{_name(name)} NULLS LAST' for name in order)}"
    if limit is not None:
        sql += f" LIMIT {int(limit)}"
    return statement(sql, params, relation)


def instant_of(relation: Relation, which: Filter, number: int) -> Statement:
    """Time (`us`: µs since 1970 UTC) of row `number`, counted from one, by time; no row when there are fewer."""
    condition, params = where(relation, which)
    time = _name(time_of(relation))
    read = {*_TIMES, "symbol", "exchange", *which.columns}
    sql = (
        f"SELECT epoch_us({time}) AS us FROM {source(relation, names=read)}{condition} "
        f"ORDER BY {time} LIMIT 1 OFFSET {int(number) - 1}"
    )
    return statement(sql, params, relation)


def order_of(relation: Relation, by: Sequence[str] = ORDER) -> tuple[str, ...]:
    """The columns of the order as this table has them."""
    known = {column.name for column in relation.columns}
    time = time_of(relation)
    named = (time if name == "timestamp" else name for name in by)
    return tuple(name for name in named if name in known)


def series_order(relation: Relation) -> tuple[str, ...]:
    """The columns by which rows of one symbol of one exchange are put in order: without numbers of their source ties are the rule."""
    return order_of(relation, SHORT_ORDER if relation.is_numbered else SERIES_ORDER)


def time_of(relation: Relation) -> str:
    """The column of the event's time."""
    known = {column.name for column in relation.columns}
    return next((name for name in _TIMES if name in known), _TIMES[0])


def listing(relation: Relation, *, visible: bool = False) -> Statement:
    """What each file holds: its exchanges and symbols with their number of rows and first and last time (µs).

    Of all rows, whoever asks, for what it says is remembered for everybody; `visible`: of those that may be seen.
    """
    condition, params = where(relation, Filter()) if visible else ("", {})
    time = _name(time_of(relation))
    sql = (
        "SELECT filename, exchange, symbol, count(*) AS rows, "
        f"epoch_us(min({time})) AS first_us, epoch_us(max({time})) AS last_us "
        f"FROM {source(relation, ', filename = true', {'exchange', 'symbol', *_TIMES})}{condition} "
        "GROUP BY ALL ORDER BY ALL"
    )
    return statement(sql, params, relation)


def origins(relation: Relation, symbols: Sequence[str]) -> Statement:
    """Of which topics and partitions each file has rows of the symbols; of all rows, for it is remembered."""
    tables = tuple(replace(each, left_out=()) for each in relation.tables)
    relation = replace(relation, sight=EVERYTHING, tables=tables)
    condition, params = where(relation, Filter(tuple(symbols)))
    names = ("symbol", *LINEAGE[:-1])
    read = {*names, "exchange", *_TIMES}
    sql = f"SELECT DISTINCT filename, {', '.join(names)} FROM {source(relation, ', filename = true', read)}{condition}"
    return statement(sql, params, relation)


def venues(relation: Relation, which: Filter) -> Statement:
    """The exchanges that there are rows of, by symbol."""
    condition, params = where(relation, which)
    sql = (
        f"SELECT DISTINCT symbol, exchange FROM {source(relation, names={'symbol', 'exchange', *_TIMES})}{condition} "
        "ORDER BY ALL"
    )
    return statement(sql, params, relation)


def histogram(relation: Relation, which: Filter, bin_us: int) -> Statement:
    """Rows per bin of `bin_us` microseconds (`bin`: microseconds since 1970 divided by it, rounded down)."""
    condition, params = where(relation, which)
    sql = (
        f'SELECT floor(epoch_us("timestamp") / {int(bin_us)})::BIGINT AS bin, count(*) AS rows '
        f"FROM {source(relation)}{condition} GROUP BY ALL ORDER BY ALL"
    )
    return statement(sql, params, relation)


def duck_type(column: ColumnInfo) -> str | None:
    """DuckDB's type of a column; None for a type that events never have (it cannot be asked for)."""
    return _duck_type(column.type)


@cache
def _duck_type(kind: str) -> str | None:
    digits = decimal_digits(kind)
    return f"DECIMAL({digits[0]}, {digits[1]})" if digits else _TYPES.get(kind)


def source(relation: Relation, options: str = "", names: Collection[str] | None = None) -> str:
    """The rows as a table; `names`: the columns that are read, where they are few."""
    read = [c for c in relation.columns if (names is None or c.name in names) and duck_type(c) is not None]
    if relation.series and (changed := adjusted.adjustable(read, relation.series)):
        needed = None if names is None else {*names, *adjusted.KEYS}
        plain = source(replace(relation, series=()), options, needed)
        listed = {c.name: _name(c.name) for c in read} | ({"filename": "filename"} if "filename" in options else {})
        return adjusted.adjusted(plain, listed, changed, relation.series)
    sources = [
        _of_table(table, files, read, options, _mark(number))
        for number, (table, files) in enumerate(relation.parts)
        if files
    ]
    if relation.tail is not None:
        cast = ", ".join(f"{_in_tail(relation.tail, c)} AS {_name(c.name)}" for c in read)
        sources.append(f"(SELECT {cast} FROM {TAIL})")
    if len(sources) == 1:
        return sources[0]
    columns = ", ".join([*(_name(c.name) for c in read), *(["filename"] if "filename" in options else [])])
    return f"({' UNION ALL '.join(f'SELECT {columns} FROM {each}' for each in sources)})"


def name_in_tail(name: str, number: int) -> str:
    """What a column is called in a tail: those that hold its values of further types have numbers from 1 on."""
    return f"k2_{number}_of_{name}" if number else name


def _in_tail(tail: pa.Table, column: ColumnInfo) -> str:
    """A column's values in the tail, as its type."""
    names = [column.name]
    while (further := name_in_tail(column.name, len(names))) in tail.column_names:
        names.append(further)
    values = [f"{_name(name)}::{duck_type(column)}" for name in names]
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"


def _mark(number: int) -> str:
    """What the names of a table's bound values end with: those of the first are plain."""
    return f"_of{number}" if number else ""


def _of_table(
    table: TableRows, files: Sequence[DataFileRef], read: Sequence[ColumnInfo], options: str, mark: str
) -> str:
    """The rows of a table's files with these columns and types: null where the table has none of that name."""
    wanted = {column.name: column for column in read}
    needed = {*wanted, *(LINEAGE if table.left_out else ())}
    own = [c for c in table.columns if c.name in needed and duck_type(c) is not None]
    with_file = "filename" in options
    if any(file.deletes for file in files):
        rows = _without_deleted(table, files, own, mark, with_file=with_file)
    else:
        rows = _scan(f"files{mark}", own, options)
    types = {column.name: column.type for column in own}
    if not table.left_out and all(types.get(column.name) == column.type for column in read):
        return rows
    cast = [
        _name(c.name)
        if types.get(c.name) == c.type
        else f"{_name(c.name) if c.name in types else 'NULL'}::{duck_type(c)} AS {_name(c.name)}"
        for c in read
    ]
    others = [
        f"NOT (kafka_topic_id = $left_{number}{mark} AND kafka_partition = {int(partition)} "
        f"AND kafka_offset >= {int(start)} AND kafka_offset < {int(stop)})"
        for number, (_, partition, start, stop) in enumerate(table.left_out)
    ]
    condition = f" WHERE {' AND '.join(others)}" if others else ""
    return f"(SELECT {', '.join([*cast, *(['filename'] if with_file else [])])} FROM {rows}{condition})"


def _scan(param: str, read: Sequence[ColumnInfo], options: str = "") -> str:
    if not all(column.stable for column in read):  # names may mean other columns in other files: go by ids (1 to 2 ms)
        fields = {column.field_id: (column.name, duck_type(column) or "") for column in read}
        options = f", schema = {deletes.fields_by_id(fields)}{options}"
    # One text for all paths: a list would be as many bound values as files.
    return f"read_parquet(str_split(${param}, chr(10)), hive_partitioning = false{options})"


def _without_deleted(
    table: TableRows, files: Sequence[DataFileRef], read: Sequence[ColumnInfo], mark: str, *, with_file: bool
) -> str:
    """The rows of all files, less those that were deleted from some of them."""
    deleted = deletes.deleted_from(files)
    by_value = deletes.equality_ids(deleted)
    keys = [c for c in (*table.columns, *table.hidden) if c.field_id in by_value]
    types = {column.field_id: (column.name, duck_type(column) or "") for column in keys}
    columns = ", ".join(_name(column.name) for column in read)
    scanned = [*read, *(column for column in keys if column not in read)]
    scan = _scan(f"deleted{mark}", scanned, f", filename = '{deletes.FILE}', {deletes.ROW} = true")
    file = f", d.{deletes.FILE} AS filename" if with_file else ""
    living = f"SELECT {columns}{file} FROM {scan} d{deletes.conditions(deleted, types, mark)}"
    if len(deleted) == len(files):
        return f"({living})"
    whole = _scan(f"files{mark}", read, ", filename = true" if with_file else "")
    return f"(SELECT {columns}{', filename' if with_file else ''} FROM {whole} UNION ALL {living})"


def where(relation: Relation, which: Filter) -> tuple[str, dict[str, Any]]:
    """The condition on the rows, with what may be seen of them, and the values of its names."""
    clauses: list[str] = []
    params: dict[str, Any] = {}

    def among(column: str, values: Collection[str], name: str) -> None:
        names = [f"{name}_{number}" for number in range(len(values))]
        params.update(zip(names, values, strict=True))
        listed = ", ".join(f"${name}" for name in names)
        clauses.append(f"{column} = {listed}" if len(names) == 1 else f"{column} IN ({listed})")

    if which.symbols:
        among("symbol", which.symbols, "symbol")
    if which.exchange is not None:
        among("exchange", (which.exchange,), "exchange")
    start_us = which.start_us
    sight = relation.sight
    if sight.symbols is not None and not (which.symbols and sight.symbols.issuperset(which.symbols)):
        among("symbol", sorted(sight.symbols), "seen_symbol")
    if sight.exchanges is not None and which.exchange not in sight.exchanges:
        among("exchange", sorted(sight.exchanges), "seen_exchange")
    if sight.oldest_us is not None:
        start_us = sight.oldest_us if start_us is None else max(start_us, sight.oldest_us)
    time = _name(time_of(relation))
    for operator, bound in ((">=", start_us), ("<", which.end_us)):
        if bound is not None:
            clauses.append(f"{time} {operator} TIMESTAMPTZ '{iso(bound)}'")
    if which.within:
        clauses.append(order_sql.within(time, which.within, start_us, which.end_us))
    if which.after:
        clauses.append(order_sql.later(which.after, _TIMES, params))
    prints = which.prints if which.exchange is None else on_exchange(which.prints, which.exchange)
    of_prints, values = print_sql.conditions(prints, relation.columns)
    clauses += of_prints
    params |= values
    sides = [("<", each) for each in which.beyond] + [(">=", each) for each in which.before]
    for number, (operator, (topic_id, partition, offset)) in enumerate(sides):
        params[f"topic_{number}"] = topic_id
        clauses.append(
            f"NOT (kafka_topic_id = $topic_{number} AND kafka_partition = {int(partition)} "
            f"AND kafka_offset {operator} {int(offset)})"
        )
    return (" WHERE " + " AND ".join(clauses) if clauses else ""), params


def statement(sql: str, params: dict[str, Any], relation: Relation) -> Statement:
    """A statement that reads `source(relation)`; a relation without anything to read has none."""
    if not relation:
        raise WorldError("A query was planned without anything to read")
    reads: list[FilesRead] = []
    for number, (table, files) in enumerate(relation.parts):
        mark, whole = _mark(number), files
        if deleted := deletes.deleted_from(files):
            params = {**params, **deletes.params(deleted, mark), f"deleted{mark}": _lines(deleted)}
            whole = tuple(file for file in files if not file.deletes)
        if whole:
            params = {**params, f"files{mark}": _lines(whole)}
        if files:
            params |= {f"left_{at}{mark}": topic_id for at, (topic_id, *_) in enumerate(table.left_out)}
        read = {file.path: file.bytes for file in files}
        reads.append(FilesRead(table.table, read, table.of_files - len(read)))
    params = {**params, **adjusted.params(relation.series)} if "$adjusted_0" in sql else params
    return Statement(sql, params, relation.roots, relation.tail, reads=tuple(reads))


def _lines(files: Sequence[DataFileRef]) -> str:
    return "\n".join(local_path(file.path) for file in files)


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
