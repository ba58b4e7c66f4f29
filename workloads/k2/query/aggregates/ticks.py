"""What bars and as-of joins read of trades and quotes: the SQL of a few columns, and their order, decided in numpy.

Files come sorted by symbol and time, so most often there is nothing to sort: asking DuckDB for the order costs more than
all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.lake.scan import DataFileRef
from k2.model.compute import pc
from k2.model.locations import local_path
from k2.model.lru import Lru
from k2.model.prints import EVERY_PRINT, Prints
from k2.query.aggregates.digits import Ints
from k2.query.rows import print_sql, sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource, Statement

# pyarrow makes its compute functions at import: no type checker sees them.

KEPT = "k2_kept"
"""Column that says whether filters let a row through."""

_KEY = {"symbol", "exchange", "timestamp", "source_sequence"}
_LAST_SEQUENCE = 2**63 - 1
_OFFSET = sql.LINEAGE[-1]

_FILES_A_QUERY = 64
_Origin = tuple[str, int]
"""A topic's id and a partition."""
# A file never changes, so what was read of it is of all questions.
_origins: Lru[tuple[str, str], frozenset[_Origin]] = Lru(200_000)


@dataclass(frozen=True, slots=True, eq=False)
class Ticks:
    """Rows by series and, within one, in the total order.

    Attributes:
        rows: their figures.
        series: place of each one's symbol among those asked for.
        us: their times, microseconds since 1970 UTC.
    """

    rows: pa.Table
    series: Ints
    us: Ints


def read_ticks(
    engine: RowSource,
    label: str,
    relation: Relation,
    which: sql.Filter,
    figures: Sequence[str],
    marked: Prints = EVERY_PRINT,
) -> Ticks:
    """The rows of `which.symbols`, all of one exchange; with `marked` also `KEPT`: whether it lets a row through.

    Raises as `RowSource.fetch` does.
    """
    numbered = relation.is_numbered
    read = _Read(relation, which, tuple(figures), marked)
    figures = read.given
    rows = engine.fetch(label, _statement(read, with_offset=not numbered))
    if numbered:
        found, tied = _in_order(rows, which.symbols, figures, (_sequence(rows),))
        is_decided = not _differ(found.rows, tied)
    else:
        # Where the source gives no numbers ties are the rule, and of one partition the offset decides them.
        ranks = (_sequence(rows), rows[_OFFSET].to_numpy())
        if rows["source_sequence"].null_count == rows.num_rows:
            ranks = ranks[1:]
        found, tied = _in_order(rows, which.symbols, figures, ranks, decisive=len(ranks) - 1)
        is_decided = not len(tied) or _are_of_one_partition(engine, label, relation, which.symbols)
    if not is_decided:
        rows = engine.fetch(label, _statement(read, ordered=True))
        found, _ = _in_order(rows, which.symbols, figures, (np.arange(rows.num_rows),))
    return found


def last_before(
    engine: RowSource,
    label: str,
    relation: Relation,
    which: sql.Filter,
    figures: Sequence[str],
    unlike: str | None = None,
) -> pa.Table:
    """The last row in the total order, if there is one; `unlike`: a price that it shall not have."""
    condition, params = sql.where(relation, which)
    if unlike is not None:
        kind = next(sql.duck_type(column) for column in relation.columns if column.name == "price")
        condition += f" AND price <> $unlike::{kind}"
        params = {**params, "unlike": unlike}
    order = sql.order_of(relation)
    by = ", ".join(f'"{name}" DESC NULLS FIRST' for name in order)
    columns = ", ".join(('epoch_us("timestamp") AS us', *figures))
    source = sql.source(relation, names={*_KEY, *figures, *order, *which.columns})
    return engine.fetch(
        label, sql.statement(f"SELECT {columns} FROM {source}{condition} ORDER BY {by} LIMIT 1", params, relation)
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What is read: see `read_ticks`."""

    relation: Relation
    which: sql.Filter
    figures: tuple[str, ...]
    marked: Prints

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that it gives."""
        return (*self.figures, KEPT) if self.marked else self.figures


def _statement(read: _Read, *, with_offset: bool = False, ordered: bool = False) -> Statement:
    relation, which = read.relation, read.which
    condition, params = sql.where(relation, which)
    columns = ['epoch_us("timestamp") AS us', "source_sequence", *read.figures]
    if read.marked:
        clauses, values = print_sql.conditions(read.marked, relation.columns, mark="kept")
        columns.append(f"coalesce({' AND '.join(clauses)}, false) AS {KEPT}")
        params = {**params, **values}
    columns += ["symbol"] * (len(which.symbols) != 1) + [_OFFSET] * with_offset
    order = sql.order_of(relation) if ordered else ()
    names = {*_KEY, *read.figures, *order, *which.columns, *([_OFFSET] * with_offset)}
    names |= print_sql.columns_of(read.marked)
    text = f"SELECT {', '.join(columns)} FROM {sql.source(relation, names=names)}{condition}"
    if ordered:
        text += " ORDER BY " + ", ".join(f'"{name}" NULLS LAST' for name in order)
    return sql.statement(text, params, relation)


def _are_of_one_partition(engine: RowSource, label: str, relation: Relation, symbols: Sequence[str]) -> bool:
    """Whether the rows of each symbol, in all of the files, are of one partition of one topic: unless either was made anew."""
    known = {symbol: set[_Origin]() for symbol in symbols}
    missing: list[DataFileRef] = []
    for file in relation.files:
        held = [_origins.get((file.path, symbol)) for symbol in symbols]
        if None in held:
            missing.append(file)
        for symbol, origins in zip(symbols, held, strict=True):
            known[symbol] |= origins or frozenset()
    for start in range(0, len(missing), _FILES_A_QUERY):
        files = missing[start : start + _FILES_A_QUERY]
        found: dict[tuple[str, str], set[_Origin]] = {(local_path(f.path), s): set() for f in files for s in symbols}
        for row in engine.fetch(label, sql.origins(relation.of(files), symbols)).to_pylist():
            found[row["filename"], row["symbol"]].add((row["kafka_topic_id"], row["kafka_partition"]))
        for file in files:
            for symbol in symbols:
                known[symbol] |= _origins.put((file.path, symbol), frozenset(found[local_path(file.path), symbol]))
    if relation.tail is not None:
        columns = (relation.tail.column(name).to_pylist() for name in ("symbol", *sql.LINEAGE[:-1]))
        for symbol, topic_id, partition in set(zip(*columns, strict=True)):
            known.setdefault(symbol, set()).add((topic_id, partition))
    return all(len(each) <= 1 for each in known.values())


def _sequence(rows: pa.Table) -> Ints:
    return rows["source_sequence"].fill_null(_LAST_SEQUENCE).to_numpy()


def _in_order(
    rows: pa.Table,
    symbols: Sequence[str],
    figures: Sequence[str],
    ranks: Sequence[Ints],
    decisive: int | None = None,
) -> tuple[Ticks, NDArray[Any]]:
    """The rows by series, time and `ranks`, and the places of those that the row after them ties with.

    They tie where series, time and the first `decisive` of the ranks are equal (None: all of them).
    """
    us = rows["us"].to_numpy()
    series = np.zeros(len(us), np.int64)
    if len(symbols) > 1:
        series = pc.index_in(rows["symbol"], pa.array(symbols)).to_numpy().astype(np.int64)
    table = rows.select(list(figures))
    same = (series[1:] == series[:-1]) & (us[1:] == us[:-1])
    follows = (us[1:] > us[:-1]) & (series[1:] == series[:-1])
    if not (follows | (same & _never_falls(ranks)) | (series[1:] > series[:-1])).all():
        order = np.lexsort((*reversed(ranks), us, series))
        series, us, table = series[order], us[order], table.take(pa.array(order))
        ranks = [rank[order] for rank in ranks]
        same = (series[1:] == series[:-1]) & (us[1:] == us[:-1])
    for rank in ranks[:decisive]:
        same &= rank[1:] == rank[:-1]
    return Ticks(table, series, us), np.flatnonzero(same)


def _never_falls(ranks: Sequence[Ints]) -> NDArray[np.bool_]:
    """Whether each row's ranks are those of the row before it, or come after them."""
    held = ranks[-1][1:] >= ranks[-1][:-1]
    for rank in reversed(ranks[:-1]):
        held = (rank[1:] > rank[:-1]) | ((rank[1:] == rank[:-1]) & held)
    return held


def _differ(table: pa.Table, places: NDArray[Any]) -> bool:
    """Whether a row at one of the places has other figures than the row after it."""
    if not len(places):
        return False
    return table.take(pa.array(places)) != table.take(pa.array(places + 1))
