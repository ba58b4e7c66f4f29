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

from k2.model.compute import pc
from k2.query.aggregates.digits import Ints
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource, Statement

# pyarrow makes its compute functions at import: no type checker sees them.

_KEY = {"symbol", "exchange", "timestamp", "source_sequence"}
_LAST_SEQUENCE = 2**63 - 1


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


def read_ticks(engine: RowSource, label: str, relation: Relation, which: sql.Filter, figures: Sequence[str]) -> Ticks:
    """The rows of `which.symbols`, all of one exchange. Raises as `RowSource.fetch` does."""
    rows = engine.fetch(label, _statement(relation, which, figures, ordered=False))
    found, is_decided = _in_order(rows, which.symbols, figures, by_rows=False)
    if not is_decided:
        rows = engine.fetch(label, _statement(relation, which, figures, ordered=True))
        found, _ = _in_order(rows, which.symbols, figures, by_rows=True)
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
    source = sql.source(relation, names={*_KEY, *figures, *order})
    return engine.fetch(
        label, sql.statement(f"SELECT {columns} FROM {source}{condition} ORDER BY {by} LIMIT 1", params, relation)
    )


def _statement(relation: Relation, which: sql.Filter, figures: Sequence[str], *, ordered: bool) -> Statement:
    condition, params = sql.where(relation, which)
    order = sql.order_of(relation)
    columns = ['epoch_us("timestamp") AS us', "source_sequence", *figures, *(["symbol"] * (len(which.symbols) != 1))]
    names = {*_KEY, *figures, *(order if ordered else ())}
    text = f"SELECT {', '.join(columns)} FROM {sql.source(relation, names=names)}{condition}"
    if ordered:
        text += " ORDER BY " + ", ".join(f'"{name}" NULLS LAST' for name in order)
    return sql.statement(text, params, relation)


def _in_order(rows: pa.Table, symbols: Sequence[str], figures: Sequence[str], *, by_rows: bool) -> tuple[Ticks, bool]:
    """The rows in order, and whether it is decided.

    It is by time and the source's sequence, or (`by_rows`) by time and as the rows come. Figures that differ at one place
    of it leave the order open.
    """
    us = rows["us"].to_numpy()
    sequence = np.arange(len(us)) if by_rows else rows["source_sequence"].fill_null(_LAST_SEQUENCE).to_numpy()
    series = np.zeros(len(us), np.int64)
    if len(symbols) > 1:
        series = pc.index_in(rows["symbol"], pa.array(symbols)).to_numpy().astype(np.int64)
    table = rows.select(list(figures))
    same = (series[1:] == series[:-1]) & (us[1:] == us[:-1])
    follows = (us[1:] > us[:-1]) & (series[1:] == series[:-1])
    if not (follows | (same & (sequence[1:] >= sequence[:-1])) | (series[1:] > series[:-1])).all():
        order = np.lexsort((sequence, us, series))
        series, us, sequence, table = series[order], us[order], sequence[order], table.take(pa.array(order))
        same = (series[1:] == series[:-1]) & (us[1:] == us[:-1])
    tied = np.flatnonzero(same & (sequence[1:] == sequence[:-1]))
    return Ticks(table, series, us), not _differ(table, tied)


def _differ(table: pa.Table, places: NDArray[Any]) -> bool:
    """Whether a row at one of the places has other figures than the row after it."""
    if not len(places):
        return False
    return table.take(pa.array(places)) != table.take(pa.array(places + 1))
