"""The figures of a trading date, exact: its ticks folded into one bar, stretch by stretch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import numpy as np

from k2.model.exchanges import Exchange, Session
from k2.query.aggregates.digits import digits_of
from k2.query.aggregates.exact_decimals import quotients
from k2.query.aggregates.folding import fold_ticks, joined, nothing_folded
from k2.query.aggregates.ticks import read_ticks
from k2.query.aggregates.time_slices import SLICE_ROWS, TimeSlices, following
from k2.query.asked.requests import SummaryQuery
from k2.query.plan.provenance import Provenance
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import decimal_type
from k2.query.rows.statement import RowSource


@dataclass(frozen=True, slots=True)
class Summary:
    """OHLCV and VWAP of a trading date's session. Prices and VWAP in `currency`, volume in units of the instrument.

    VWAP has the places of the prices, half to even; None where the volume is zero. Times are µs since 1970 UTC.
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
    places = {name: decimal_type(relation.columns, name).scale for name in ("price", "quantity")}
    cut, budget = TimeSlices(relation, which), SLICE_ROWS
    while stretch := cut.take(budget):
        ticks = read_ticks(engine, "summary", stretch.relation, stretch.which, ("price", "quantity", "currency"))
        budget = following(stretch, len(ticks.us), SLICE_ROWS)
        if len(ticks.us):
            currency = currency or ticks.rows["currency"][0].as_py()
            price, quantity = (digits_of(ticks.rows[name], scale) for name, scale in places.items())
            bar = joined([bar, fold_ticks(ticks.series, np.zeros_like(ticks.us), ticks.us, price, quantity)])
    if not len(bar):
        return None

    def amount(number: int, of: str = "price") -> Decimal:
        # Of its digits: an operation would round to the precision of the context.
        return Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -places[of]))

    return Summary(
        symbol=query.symbol,
        exchange=market.code,
        day=query.day,
        time_zone=market.time_zone,
        currency=currency,
        open=amount(bar.open[0]),
        high=amount(bar.high[0]),
        low=amount(bar.low[0]),
        close=amount(bar.close[0]),
        volume=amount(bar.volume[0], "quantity"),
        # The places of prices and quantities by those of quantities are those of prices.
        vwap=amount(quotients(bar.notional, bar.volume)[0]) if bar.volume[0] else None,
        trade_count=int(bar.count[0]),
        first_us=int(bar.first_us[0]),
        last_us=int(bar.last_us[0]),
        provenance=provenance,
        session=query.session,
    )
