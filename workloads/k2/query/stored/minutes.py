"""The one-minute bars of a day of trades, of every symbol and session, as rows of a table of bars: exact, a function of the trades.

A bar of an answer is folded by the same code from the same ticks; what is stored is what it is folded to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from k2.model.bar_tables import BAR_US
from k2.model.calendars import OutsideCalendarError
from k2.model.errors import UserError
from k2.model.exchanges import Exchange, Session
from k2.model.exchanges import exchange as exchange_of
from k2.model.prints import Prints
from k2.model.times import DAY_US
from k2.model.topics import DataType
from k2.query.aggregates import sessions
from k2.query.aggregates.bars import fold_in_session
from k2.query.aggregates.digits import Ints, decimals, wide
from k2.query.aggregates.exact_decimals import quotients
from k2.query.aggregates.folding import Folded, joined
from k2.query.aggregates.rows_of_bars import Traded
from k2.query.aggregates.ticks import KEPT, Ticks, read_ticks
from k2.query.aggregates.time_slices import SLICE_ROWS, TimeSlices
from k2.query.asked.profiles import with_profile
from k2.query.asked.requests import MOST_SYMBOLS
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import decimal_type
from k2.query.rows.statement import RowSource

_TIME = pa.timestamp("us", tz="UTC")
_LABEL = "bars"


@dataclass(frozen=True, slots=True)
class TradesRead:
    """The trades of a snapshot.

    Attributes:
        relation: all of them.
        newest_us: time of the newest one, microseconds since 1970 UTC; None: not known.
    """

    relation: Relation
    newest_us: int | None


def bars_of_day(engine: RowSource, trades: TradesRead, day: int, chosen: Sequence[Session]) -> Iterator[pa.Table]:
    """The bars of all symbols that start on a UTC day, in tables of some symbols each.

    Args:
        engine: reads the trades.
        trades: of the table.
        day: days since 1970.
        chosen: the sessions.

    Raises:
        UserError: an exchange is not known, or a sum fits no decimal.
        TooLargeError, WorldError: see `RowSource.fetch`.
    """
    # The last bucket may reach into the next day.
    within = sql.Filter(start_us=day * DAY_US, end_us=(day + 1) * DAY_US + BAR_US)
    relation = _reaching(trades.relation, within)
    if not relation:
        return
    for market, symbols in _groups(engine, relation, within):
        kinds = (decimal_type(relation.columns, name) for name in ("price", "quantity"))
        traded = Traded(symbols, market.code, *kinds)
        for session in chosen:
            folded = _folded(engine, relation, within, (market, traded, session))
            folded = folded.chosen((folded.start >= day * DAY_US) & (folded.start < (day + 1) * DAY_US))
            if len(folded):
                yield _rows(folded, traded, market, session, trades.newest_us)


def _reaching(relation: Relation, within: sql.Filter) -> Relation:
    start_us, end_us = within.start_us or 0, within.end_us or 0
    return relation.of([file for file in relation.files if file.end_us >= start_us and file.start_us < end_us])


def _groups(engine: RowSource, relation: Relation, within: sql.Filter) -> Iterator[tuple[Exchange, tuple[str, ...]]]:
    """The day's symbols by exchange and calendar, so many together that their trades fit into memory."""
    condition, params = sql.where(relation, within)
    source = sql.source(relation, names={"symbol", "exchange", "timestamp"})
    text = f"SELECT exchange, symbol, count(*) AS rows FROM {source}{condition} GROUP BY ALL ORDER BY ALL"
    held: dict[Exchange, list[str]] = {}
    rows: dict[Exchange, int] = {}
    for each in engine.fetch(_LABEL, sql.statement(text, params, relation)).to_pylist():
        market = exchange_of(each["exchange"]).of(each["symbol"])
        if held.get(market) and (rows[market] + each["rows"] > SLICE_ROWS // 2 or len(held[market]) == MOST_SYMBOLS):
            yield market, tuple(held.pop(market))
            rows[market] = 0
        held.setdefault(market, []).append(each["symbol"])
        rows[market] = rows.get(market, 0) + each["rows"]
    for market, symbols in held.items():
        yield market, tuple(symbols)


def _folded(engine: RowSource, relation: Relation, within: sql.Filter, of: tuple[Exchange, Traded, Session]) -> Folded:
    market, traded, session = of
    prints: Prints = with_profile((), None, session, market.code, (DataType.TRADES,))
    which = sql.Filter(traded.symbols, market.code, within.start_us, within.end_us)
    cut, parts = TimeSlices(relation, which), list[Folded]()
    while stretch := cut.take(SLICE_ROWS):
        ticks = read_ticks(engine, _LABEL, stretch.relation, stretch.which, ("price", "quantity"), prints)
        if len(ticks.us) and (calendar := _calendar(market, session, ticks)) is not None:
            counted = ticks.rows[KEPT].to_numpy() if prints else None
            parts.append(fold_in_session(ticks, calendar, traded, counted))
    return joined(parts)


def _calendar(market: Exchange, session: Session, ticks: Ticks) -> sessions.Calendar | None:
    """The buckets; None on dates whose regular session nobody knows: they have no such bars."""
    try:
        return sessions.calendar(market, session, BAR_US, int(ticks.us.min()), int(ticks.us.max()))
    except OutsideCalendarError:
        return None


def _rows(bars: Folded, traded: Traded, market: Exchange, session: Session, newest_us: int | None) -> pa.Table:
    """The rows by symbol and start; `revision` is that of a first one."""
    calendar = sessions.calendar(market, session, BAR_US, int(bars.start.min()), int(bars.start.max()))
    price, count = traded.price, len(bars)
    amount = pa.decimal128(38, price.scale)
    unit = 10**traded.quantity.scale
    notional = wide(bars.notional)
    ends = calendar.ends(bars.start)
    has_volume = np.array(bars.volume > 0, np.bool_)
    # Ticks are folded on the session's own clock, which stands still in its pauses: here it runs on by what it stood.
    stood = bars.start - calendar.trading_us(bars.start)
    try:
        columns = {
            "symbol": pa.array(traded.symbols, pa.string()).take(pa.array(bars.series)),
            "exchange": pa.repeat(market.code, count),
            "session": pa.repeat(session.value, count),
            "date": pa.array(calendar.days[calendar.index(bars.start)].astype(np.int32)).cast(pa.date32()),
            "start": _times(bars.start),
            "end": _times(ends),
            **{name: decimals(getattr(bars, name), price) for name in ("open", "high", "low", "close")},
            "volume": decimals(bars.volume, pa.decimal128(38, traded.quantity.scale)),
            "notional": decimals(notional // unit, amount),
            "notional_rest": decimals(notional % unit, pa.decimal128(38, price.scale + traded.quantity.scale)),
            "price_time": decimals(bars.integral, amount),
            "vwap": decimals(quotients(notional, np.where(has_volume, bars.volume, 1)), price, valid=has_volume),
            "trade_count": pa.array(bars.count),
            "first_time": _times(bars.first_us + stood),
            "last_time": _times(bars.last_us + stood),
            "complete": pa.array(ends <= (newest_us or 0)),
            "revision": pa.array(np.ones(count, np.int32)),
        }
    except OverflowError as error:
        raise UserError(
            f"A sum over a minute of {market.code} fits no decimal of 38 digits", found=str(error)
        ) from error
    return pa.table(columns)


def _times(us: Ints) -> pa.Array:
    return pa.array(us).cast(_TIME)
