"""Bars of trades: OHLCV, VWAP and TWAP for each bucket of an exchange's session, exact.

The ticks of a stretch of time come from one pass of DuckDB and are folded as columns; bars of successive stretches are
joined, so memory is bounded by a stretch, and the oldest bars of an open-ended question are had without reading the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.model.exchanges import Exchange
from k2.model.exchanges import exchange as exchange_of
from k2.model.prints import on_exchange
from k2.model.times import MIN_US
from k2.query.aggregates import sessions
from k2.query.aggregates.digits import Ints, digits_of
from k2.query.aggregates.folding import Folded, fold_ticks, joined, nothing_folded
from k2.query.aggregates.rows_of_bars import Traded, bar_rows, bar_schema
from k2.query.aggregates.ticks import Ticks, read_ticks
from k2.query.aggregates.time_slices import SLICE_ROWS, TimeSlices, following
from k2.query.asked.bar_requests import ALWAYS, BarsQuery, Dates, Empty
from k2.query.asked.requests import At, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.venue import ambiguous, checked_on, exchanges_ever, one_exchange
from k2.query.rows import sql
from k2.query.rows.errors import QueryTimeoutError
from k2.query.rows.relation import Relation
from k2.query.rows.schema import decimal_type
from k2.query.rows.statement import RowSource


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars by start, exchange and symbol (columns: `rows_of_bars.bar_schema`).

    Attributes:
        rows: the bars.
        time_zones: exchange → its time zone, of those that were asked, whether they have bars or not.
        more: the limit cut off others.
        provenance: what they were read from.
        note: why there are none.
    """

    rows: pa.Table
    time_zones: Mapping[str, str]
    more: bool
    provenance: Provenance
    note: str | None = None


def bars_of(
    engine: RowSource,
    planner: Planner,
    directory: SymbolDirectory,
    pinned: Pinned,
    query: BarsQuery,
    now_us: int,
) -> Bars:
    """Answer the question from the trades at a snapshot; no bucket that begins after `now_us` is said to be empty.

    Raises:
        AmbiguousSymbolError: a symbol is traded on several exchanges at that time, and none was asked for.
        UserError: the exchange is not known, or a volume fits no decimal.
        QueryTimeoutError, EngineBusyError, TooLargeError: see `RowSource.fetch`.
    """
    deadline = time.monotonic() + engine.timeout_seconds
    markets = _markets(planner, directory, pinned, query)
    prints = checked_on(query.prints, *(market.code for market in markets))
    columns = planner.columns(pinned, [(symbols, market.code) for market, symbols in markets.items()])
    price, quantity = (decimal_type(columns, name) for name in ("price", "quantity"))
    tables: list[pa.Table] = []
    relations: list[Relation] = []
    for market, symbols in sorted(markets.items(), key=lambda each: (each[0].code, each[1])):
        code = market.code
        question = _Question(query, market, Traded(symbols, code, price, quantity), _period(query, market))
        relation = planner.plan(pinned, symbols, code, question.to_read)
        relations.append(relation)
        if query.empty is Empty.SKIP:
            if relation:
                tables.append(_rows(_folded(engine, relation, question, deadline), question, None))
        else:
            known = _Known(planner, directory, pinned, code)
            tables.append(_filled(engine, relation, question, known, deadline, _known_until(pinned, query.at, now_us)))
    rows = pa.concat_tables([bar_schema(price, quantity).empty_table(), *tables])
    if len(tables) > 1 or len(query.symbols) > 1:
        rows = rows.sort_by([(name, "ascending") for name in ("start", "exchange", "symbol")])
    return Bars(
        rows.slice(0, query.limit),
        {code: exchange_of(code).time_zone for code in sorted({market.code for market in markets})},
        rows.num_rows > query.limit,
        replace(
            pinned.provenance(relations, prints),
            calendars=tuple(sorted((market.code, market.calendar.title) for market in markets)),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of one exchange; symbols in their alphabetical order, `window`: where buckets start."""

    query: BarsQuery
    market: Exchange
    traded: Traded
    window: Window

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those that are asked for."""
        return self.traded.symbols

    @property
    def to_read(self) -> Window:
        """What decides the bars."""
        return sessions.to_read(self.market, self.query.session, self.query.interval.width_us, self.window)

    def calendar(self, first_us: int, last_us: int) -> sessions.Calendar:
        """The buckets between two instants."""
        return sessions.calendar(self.market, self.query.session, self.query.interval.width_us, first_us, last_us)

    def grid(self, window: Window, most: int) -> Ints:
        """Starts of all buckets."""
        return sessions.grid(self.market, self.query.session, self.query.interval.width_us, window, most)


def _markets(
    planner: Planner, directory: SymbolDirectory, pinned: Pinned, query: BarsQuery
) -> dict[Exchange, tuple[str, ...]]:
    """Exchange, by a calendar of its → symbols, in their alphabetical order; a symbol that nothing is known of is absent.

    Of one without trades at that time empty buckets are asked for too: it is on the exchange that the table has it of.
    """
    symbols = sorted(set(query.symbols))
    if query.exchange is not None:
        return _by_calendar(dict.fromkeys(symbols, exchange_of(query.exchange).code))
    near = planner.plan(pinned, tuple(symbols), None, query.around)
    if query.empty is Empty.SKIP:
        codes = {symbol: one_exchange(directory, near, symbol, query.around) for symbol in symbols}
    else:
        codes = _with_empty(planner, directory, pinned, near, query)
    return _by_calendar(codes)


def _by_calendar(codes: Mapping[str, str | None]) -> dict[Exchange, tuple[str, ...]]:
    found: dict[Exchange, tuple[str, ...]] = {}
    for symbol, code in codes.items():
        if code is not None:
            market = exchange_of(code).of(symbol)
            found[market] = (*found.get(market, ()), symbol)
    return found


def _with_empty(
    planner: Planner, directory: SymbolDirectory, pinned: Pinned, near: Relation, query: BarsQuery
) -> dict[str, str | None]:
    symbols = sorted(set(query.symbols))
    found = directory.exchanges_within(near, symbols, query.around)
    if absent := tuple(symbol for symbol in symbols if symbol not in found):
        found |= exchanges_ever(directory, planner.plan(pinned, absent, None, ALWAYS), absent)
    for symbol, codes in found.items():
        if len(codes) > 1:
            raise ambiguous(symbol, codes)
    return {symbol: next(iter(found.get(symbol, ())), None) for symbol in symbols}


def _period(query: BarsQuery, market: Exchange) -> Window:
    if isinstance(query.period, Dates):
        return sessions.of_days(market, query.session, query.period.first, query.period.last)
    return query.period


def _known_until(pinned: Pinned, at: At, now_us: int) -> int:
    """Up to when nothing is known to have come beside what is there: of the past always the same, however late it is asked."""
    if at.as_of_us is not None:
        return min(now_us, at.as_of_us)
    committed = [each.snapshot.time_us for each in pinned.tables if each.snapshot is not None]
    return min(now_us, max(committed)) if at.is_past and committed else now_us


@dataclass(frozen=True, slots=True)
class _Known:
    """Which symbols the table has of an exchange at all."""

    planner: Planner
    directory: SymbolDirectory
    pinned: Pinned
    code: str

    def among(self, symbols: tuple[str, ...]) -> set[str]:
        """Those of them."""
        if not symbols:
            return set()
        found = exchanges_ever(self.directory, self.planner.plan(self.pinned, symbols, self.code, ALWAYS), symbols)
        return {symbol for symbol, codes in found.items() if self.code in codes}


def _filled(
    engine: RowSource, relation: Relation, question: _Question, known: _Known, deadline: float, now_us: int
) -> pa.Table:
    """The oldest bars of the exchange with the empty buckets between them: all of them, or more than the limit.

    What the question says and the symbol's own trades decide which they are, never what else was traded.
    """
    query, window = question.query, question.window
    end_us = None if window.end_us is None else min(window.end_us, now_us + 1)
    if window.start_us is not None and end_us is not None:
        # No more buckets are answered than the limit allows: what comes later need not be read.
        starts = question.grid(Window(window.start_us, max(window.start_us, end_us)), query.limit + 1)
        if len(starts) > query.limit:
            end_us = int(starts[-1]) + 1
            question = replace(question, window=Window(window.start_us, end_us))
    # Without an end each symbol's buckets go on to its own last trade, which must be known of all of them.
    whole = end_us is None and len(question.symbols) > 1
    folded = _folded(engine, relation, question, deadline, whole=whole)
    traded = {question.symbols[number] for number in np.unique(folded.series)}
    there = traded | known.among(tuple(symbol for symbol in question.symbols if symbol not in traded))
    grids: list[Ints] = []
    for number, symbol in enumerate(question.symbols):
        own = folded.start[folded.series == number]
        first_us = window.start_us if window.start_us is not None else int(own[0]) if len(own) else None
        last_us = end_us if end_us is not None else int(own[-1]) + 1 if len(own) else None
        if symbol in there and first_us is not None and last_us is not None and first_us < last_us:
            own = np.union1d(own, question.grid(Window(first_us, last_us), query.limit + 1))
        grids.append(own)
    return _rows(folded, question, grids)


def _rows(folded: Folded, question: _Question, grids: list[Ints] | None) -> pa.Table:
    carry = question.query.empty is Empty.CARRY
    return bar_rows(folded, question.traded, question.calendar, question.window, grids, carry=carry)


def _folded(
    engine: RowSource, relation: Relation, question: _Question, deadline: float, *, whole: bool = False
) -> Folded:
    """All bars of the question, or (unless the `whole` is needed) the oldest: more than the limit, and each whole."""
    wanted, limit = question.to_read, question.query.limit
    # Where the files prove their exchange, comparing each row's again would cost a tenth of the answer's time.
    proven = relation.tail is None and all(file.exchange == question.market.code for file in relation.files)
    code = None if proven else question.market.code
    prints = on_exchange(question.query.prints, question.market.code)
    which = sql.Filter(question.symbols, code, wanted.start_us, wanted.end_us, prints=prints)
    held = nothing_folded()
    cut = TimeSlices(relation, which)
    # Of several symbols more rows match, and each brings its symbol along.
    budget = least = SLICE_ROWS if len(question.symbols) == 1 else SLICE_ROWS // 4
    while stretch := cut.take(budget):
        if time.monotonic() > deadline:
            raise QueryTimeoutError(
                f"The bars query was stopped after {engine.timeout_seconds:g} s. Ask for a shorter time range or "
                "fewer symbols"
            )
        part = _fold(engine, stretch.relation, stretch.which, question)
        budget = following(stretch, int(part.count.sum()), least)
        held = joined([held, part])
        if not whole and stretch.which.end_us is not None and len(held) > limit:
            ended = _whole(held, question, stretch.which.end_us)
            if np.count_nonzero(ended.start >= (question.window.start_us or MIN_US)) > limit:
                return ended
    return held


def _whole(bars: Folded, question: _Question, until_us: int) -> Folded:
    """The bars whose buckets end by then."""
    calendar = question.calendar(int(bars.start.min()), int(bars.start.max()))
    return bars.chosen(calendar.ends(bars.start) <= until_us)


def _fold(engine: RowSource, relation: Relation, which: sql.Filter, question: _Question) -> Folded:
    """The bars of the ticks that lie in session."""
    ticks = read_ticks(engine, "bars", relation, which, ("price", "quantity"))
    if not len(ticks.us):
        return nothing_folded()
    return fold_in_session(ticks, question.calendar(int(ticks.us.min()), int(ticks.us.max())), question.traded)


def fold_in_session(
    ticks: Ticks, calendar: sessions.Calendar, traded: Traded, counted: NDArray[np.bool_] | None = None
) -> Folded:
    """The bars of the ticks that lie in session, at least one tick; `counted`: of those that are marked so."""
    start, inside = calendar.starts(ticks.us)
    inside = inside if counted is None else inside & counted
    series, us = ticks.series, ticks.us
    price, quantity = (
        digits_of(ticks.rows[name], kind.scale)
        for name, kind in (("price", traded.price), ("quantity", traded.quantity))
    )
    if not inside.all():
        series, start, us = series[inside], start[inside], us[inside]
        price, quantity = price.chosen(inside), quantity.chosen(inside)
    return fold_ticks(series, start, calendar.trading_us(us), price, quantity) if len(us) else nothing_folded()
