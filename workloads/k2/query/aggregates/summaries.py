"""The figures of a trading date, exact: its ticks folded into one bar, stretch by stretch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from k2.model.exchanges import Exchange, Session
from k2.query.aggregates.exact_decimals import quotients, unscaled
from k2.query.aggregates.folding import fold_ticks, joined, nothing_folded
from k2.query.aggregates.ticks import read_ticks
from k2.query.aggregates.time_slices import SLICE_ROWS, TimeSlices, following
from k2.query.asked.requests import SummaryQuery
from k2.query.plan.provenance import Provenance
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.statement import RowSource

PLACES = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """OHLCV and VWAP of a trading date's session. Prices and VWAP in `currency`, volume in units of the instrument.

    VWAP has 8 places, half to even; None where the volume is zero. Times are µs since 1970 UTC.
    """

    symbol: str
    exchange: str
    day: date
    time_zone: str
    currency: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal | None
    trade_count: int
    first_us: int
    last_us: int
    provenance: Provenance
    session: Session = Session.ALL


def summary_of(
    engine: RowSource,
    relation: Relation,
    which: sql.Filter,
    query: SummaryQuery,
    market: Exchange,
    provenance: Provenance,
) -> Summary | None:
    """The summary of all trades of `which`, which are of the query's symbol and session; None: there are none.

    Raises as `RowSource.fetch` does.
    """
    bar, currency = nothing_folded(), ""
    cut, budget = TimeSlices(relation, which), SLICE_ROWS
    while stretch := cut.take(budget):
        ticks = read_ticks(engine, "summary", stretch.relation, stretch.which, ("price", "quantity", "currency"))
        budget = following(stretch, len(ticks.us), SLICE_ROWS)
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
