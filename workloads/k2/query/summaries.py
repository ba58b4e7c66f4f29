"""The figures of a trading date, exact: its ticks folded into one bar, stretch by stretch."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from k2.model.exchanges import Exchange
from k2.query import sql
from k2.query.engine import Engine
from k2.query.exact import quotients, unscaled
from k2.query.folding import fold_ticks, joined, nothing_folded
from k2.query.relation import Relation
from k2.query.requests import SummaryQuery
from k2.query.results import PLACES, Provenance, Summary
from k2.query.stretches import STRETCH_ROWS, Stretches, following
from k2.query.ticks import read_ticks


def summary_of(
    engine: Engine, relation: Relation, which: sql.Filter, query: SummaryQuery, market: Exchange, provenance: Provenance
) -> Summary | None:
    """The summary of all trades of `which`, which are of the query's symbol and session; None: there are none.

    Raises as `Engine.fetch` does.
    """
    bar, currency = nothing_folded(), ""
    cut, budget = Stretches(relation, which), STRETCH_ROWS
    while stretch := cut.take(budget):
        ticks = read_ticks(engine, "summary", stretch.relation, stretch.which, ("price", "quantity", "currency"))
        budget = following(stretch, len(ticks.us), STRETCH_ROWS)
        if len(ticks.us):
            currency = currency or ticks.rows["currency"][0].as_py()
            price, quantity = unscaled(ticks.rows["price"]), unscaled(ticks.rows["quantity"])
            bar = joined([bar, fold_ticks(ticks.series, np.zeros_like(ticks.us), ticks.us, price, quantity)])
    if not len(bar):
        return None
    return Summary(
        symbol=query.symbol,
        exchange=market.code,
        day=query.day,
        time_zone=market.time_zone,
        currency=currency,
        open=_decimal(bar.open[0]),
        high=_decimal(bar.high[0]),
        low=_decimal(bar.low[0]),
        close=_decimal(bar.close[0]),
        volume=_decimal(bar.volume[0]),
        # 16 places by 8 places are 8 places.
        vwap=_decimal(quotients(bar.notional, bar.volume)[0]) if bar.volume[0] else None,
        trade_count=int(bar.count[0]),
        first_us=int(bar.first_us[0]),
        last_us=int(bar.last_us[0]),
        provenance=provenance,
        session=query.session,
    )


def _decimal(digits: Any) -> Decimal:
    """Exact, whatever the precision of the context is."""
    number = int(digits)
    return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -PLACES))
