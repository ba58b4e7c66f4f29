"""The SQL of bars: the prices and quantities of trades with what orders them."""

from __future__ import annotations

from k2.query import sql
from k2.query.engine import Statement
from k2.query.relation import Relation

_READ = {"symbol", "exchange", "timestamp", "price", "quantity", "source_sequence"}


def ticks_statement(relation: Relation, which: sql.Filter, *, ordered: bool = False) -> Statement:
    """Time (µs since 1970 UTC), source's sequence, price and quantity of trades of one exchange; the symbol where there are several.

    `ordered`: by time and then as the total order of events has it, which costs more than all the rest.
    """
    condition, params = sql.where(relation, which)
    names = _READ | set(sql.ORDER) if ordered else _READ
    columns = ['epoch_us("timestamp") AS us', "source_sequence", "price", "quantity"]
    if len(which.symbols) != 1:
        columns.append("symbol")
    text = f"SELECT {', '.join(columns)} FROM {sql.source(relation, names=names)}{condition}"
    if ordered:
        text += " ORDER BY " + ", ".join(f'"{name}" NULLS LAST' for name in sql.order_of(relation))
    return sql.statement(text, params, relation)
