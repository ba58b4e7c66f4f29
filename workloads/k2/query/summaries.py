"""The figures of a trading date, exact: one pass over the rows, and another where equal times leave open or close undecided."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from k2.query import sql
from k2.query.engine import Engine, OverflowingError
from k2.query.relation import Relation
from k2.query.requests import micros


def summary_row(engine: Engine, relation: Relation, which: sql.Filter) -> dict[str, Any]:
    """The row of `sql.summary` with `open` and `close` decided; `trade_count` is 0 where nothing matches."""
    if not relation:
        return {"trade_count": 0}
    try:
        row = engine.fetch("summary", sql.summary(relation, which)).to_pylist()[0]
    except OverflowingError:
        row = engine.fetch("summary", sql.summary(relation, which, wide=True)).to_pylist()[0]
    for name, times, last in (("open", row["first_times"], False), ("close", row["last_times"], True)):
        if row["trade_count"] > 1 and times[0] == times[1]:
            row[name] = _edge_price(engine, relation, which, micros(times[0]), last=last)
    return row


def _edge_price(engine: Engine, relation: Relation, which: sql.Filter, instant_us: int, *, last: bool) -> Decimal:
    """Price of the first or last of several trades at one instant: their order decides."""
    there = tuple(file for file in relation.files if file.start_us <= instant_us <= file.end_us)
    at_instant = replace(which, start_us=instant_us, end_us=instant_us + 1)
    rows = engine.fetch("summary", sql.edge(replace(relation, files=there), at_instant, last=last))
    price: Decimal = rows.to_pylist()[0]["price"]
    return price
