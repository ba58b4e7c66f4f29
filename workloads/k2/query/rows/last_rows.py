"""The SQL of each symbol's last row in the total order. Pure, as `sql`."""

from __future__ import annotations

from collections.abc import Sequence

from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import Statement


def last_times(relation: Relation, which: sql.Filter) -> Statement:
    """Of each symbol the time (`us`: µs since 1970 UTC) of its last rows."""
    condition, params = sql.where(relation, which)
    time = sql.time_of(relation)
    rows = sql.source(relation, names={"symbol", "exchange", time})
    return sql.statement(
        f'SELECT symbol, epoch_us(max("{time}")) AS us FROM {rows}{condition} GROUP BY symbol', params, relation
    )


def last_rows(relation: Relation, which: sql.Filter, names: Sequence[str]) -> Statement:
    """Of each symbol the last row in the total order, with these columns, which are named in the code; by symbol."""
    condition, params = sql.where(relation, which)
    order = sql.order_of(relation)
    rows = sql.source(relation, names={*names, *order, "symbol", "exchange"})
    backwards = ", ".join(f'"{name}" DESC NULLS FIRST' for name in order)
    columns = ", ".join(f'"{name}"' for name in names)
    return sql.statement(
        f"SELECT {columns} FROM {rows}{condition} "
        f"QUALIFY row_number() OVER (PARTITION BY symbol ORDER BY {backwards}) = 1 ORDER BY symbol",
        params,
        relation,
    )
