"""Trades with the quotes that prevailed: for each the last quote, in the total order, that is strictly before it in time.

The trades are the first ones of the question; quotes are read for the time between them alone, stretch by stretch, so memory
is bounded by the limit and a stretch. A quote that is too old, or of another trading date, prevails no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.lake.reader import ColumnInfo
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.exchanges import Exchange, Session
from k2.model.exchanges import exchange as exchange_of
from k2.model.prints import Prints, on_exchange
from k2.model.times import MAX_US, MIN_US, MINUTE_US
from k2.query.aggregates import lee_ready, sessions
from k2.query.aggregates.digits import Ints, Wide, aligned, decimals, digits_of, widest
from k2.query.aggregates.ticks import KEPT, Ticks, last_before, read_ticks
from k2.query.aggregates.time_slices import SLICE_ROWS, TimeSlices
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.requests import Window
from k2.query.events.first_rows import first_rows
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.venue import checked_on, one_exchange
from k2.query.rows import sql
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema, decimal_type
from k2.query.rows.statement import RowSource

# pyarrow makes its compute functions at import: no type checker sees them.

NEAR_US = MINUTE_US
"""So far before the first trade quotes are looked for at first: most often one of them prevails."""

QUOTE = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
JOINED = ("quote_timestamp", *QUOTE, "mid", "spread", "effective_spread", "inferred_side")
"""Columns that a trade gets of its quote."""
_NEEDED = ("symbol", "exchange", "timestamp", "price")
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class _Types:
    """Types of what is joined: `quote` of a quote's own columns, `price` of the prices of trades and quotes together."""

    quote: Mapping[str, pa.Decimal128Type]
    price: pa.Decimal128Type

    @property
    def spread(self) -> pa.Decimal128Type:
        """Of a difference of two prices: a digit more, where there is one."""
        return pa.decimal128(min(38, self.price.precision + 1), self.price.scale)

    @property
    def quotes(self) -> pa.Schema:
        """Quotes as they are read: their times (µs since 1970 UTC), and `QUOTE`."""
        return pa.schema([("us", pa.int64()), *self.quote.items()])

    @property
    def joined(self) -> pa.Schema:
        """What a trade gets of its quote."""
        return pa.schema(
            [
                ("quote_timestamp", _TIME),
                *self.quote.items(),
                ("mid", self.price),
                ("spread", self.spread),
                ("effective_spread", self.spread),
                ("inferred_side", pa.string()),
            ]
        )


def _types(trades: Sequence[ColumnInfo], quotes: Sequence[ColumnInfo]) -> _Types:
    trade = decimal_type(trades, "price")
    quote = {name: decimal_type(quotes, name) for name in QUOTE}
    return _Types(quote, widest(trade, quote["bid_price"], quote["ask_price"]))


@dataclass(frozen=True, slots=True)
class Asof:
    """Trades in the total order, each with the quote that prevailed.

    Attributes:
        rows: columns of trades and then those of the quote, or the fields asked for.
        more: the limit cut off others.
        provenance: what the trades were read from.
        quotes: what the quotes were read from.
        note: why there are none.
    """

    rows: pa.Table
    more: bool
    provenance: Provenance
    quotes: Provenance
    note: str | None = None


def asof_of(
    engine: RowSource,
    planner: Planner,
    directory: SymbolDirectory,
    pinned: tuple[Pinned, Pinned],
    query: AsofQuery,
) -> Asof:
    """Answer the question from trades and quotes, each at a snapshot.

    Raises:
        AmbiguousSymbolError: a symbol is traded on several exchanges in that window, and none was asked for.
        UserError: a field or the exchange is not known, or a spread fits no decimal.
        QueryTimeoutError, EngineBusyError, TooLargeError: see `RowSource.fetch`.
    """
    of_trades, of_quotes = pinned
    known = arrow_schema(of_trades.columns).names
    relation = planner.plan(of_trades, query.symbols, query.exchange, query.window)
    fields = _fields(query, arrow_schema(relation.columns).names, known)
    venues = {
        symbol: query.exchange or one_exchange(directory, relation, symbol, query.window)
        for symbol in dict.fromkeys(query.symbols)
    }
    codes = set(venues.values())
    if len(relation.tables) > 1 and len(codes) == 1:  # tables of other exchanges need not be asked
        relation = planner.plan(of_trades, query.symbols, codes.pop(), query.window)
    quoted = [((symbol,), code) for symbol, code in venues.items() if code is not None]
    types = _types(relation.columns, planner.columns(of_quotes, quoted))
    which = sql.Filter(query.symbols, query.exchange, *query.window.bounds, within=query.window.within)
    prints = checked_on(query.prints, *(code for code in venues.values() if code is not None))
    which = replace(which, prints=prints)
    wanted = tuple(dict.fromkeys((*_NEEDED, *(name for name in fields if name in known))))
    relation = relation.having(of_trades.columns, wanted)
    trades = first_rows(
        engine, "asof", relation, which, query.limit + 1, one_series=len(venues) == 1, fields=wanted
    ).select(list(wanted))
    more = trades.num_rows > query.limit
    trades = trades.slice(0, query.limit)
    relations: list[Relation] = []
    parts: list[pa.Table] = []
    places: list[NDArray[Any]] = []
    markets = {symbol: exchange_of(code).of(symbol) for symbol, code in venues.items() if code is not None}
    for each in sorted(set(markets.values()), key=lambda each: (each.code, each.calendar.title)):
        symbols = tuple(sorted(symbol for symbol, its in markets.items() if its == each))
        mine = pc.and_(pc.equal(trades["exchange"], each.code), pc.is_in(trades["symbol"], pa.array(symbols)))
        at = np.flatnonzero(mine.to_numpy(zero_copy_only=False))
        if len(at):
            market = _Market(engine, planner, of_trades, each, symbols, query, types)
            rows, quotes = _joined(market, of_quotes, trades.take(pa.array(at)))
            parts.append(rows)
            places.append(at)
            relations.append(quotes)
    joined = pa.concat_tables([types.joined.empty_table(), *parts])
    if len(parts) > 1:
        joined = joined.take(pa.array(np.argsort(np.concatenate(places))))
    rows = pa.table({name: (trades if name in known else joined)[name] for name in fields})
    return Asof(
        rows,
        more,
        replace(
            of_trades.provenance((relation,), prints),
            calendars=tuple(sorted({(each.code, each.calendar.title) for each in markets.values()})),
        ),
        of_quotes.provenance(relations),
    )


@dataclass(frozen=True, slots=True)
class _Market:
    """What is asked of one exchange; `symbols` in their alphabetical order."""

    engine: RowSource
    planner: Planner
    trades: Pinned
    exchange: Exchange
    symbols: tuple[str, ...]
    query: AsofQuery
    types: _Types

    @property
    def profile(self) -> Prints:
        """Which trades count at all."""
        return tuple(each for each in on_exchange(self.query.prints, self.exchange.code) if each.profile is not None)

    @property
    def own_filters(self) -> Prints:
        """Which of these are asked for."""
        return tuple(each for each in self.query.prints if each.profile is None)


def _joined(market: _Market, of_quotes: Pinned, trades: pa.Table) -> tuple[pa.Table, Relation]:
    """The columns of `_Types.joined` for the trades, which are in the total order, and what the quotes were read from."""
    types, us = market.types, trades["timestamp"].cast(pa.int64()).to_numpy()
    series = pc.index_in(trades["symbol"], pa.array(market.symbols)).to_numpy().astype(np.int64)
    calendar = sessions.calendar(market.exchange, Session.ALL, None, int(us.min()), int(us.max()))
    day = calendar.index(us)
    opens = calendar.opens[day]
    lookback_us = market.query.lookback_us
    oldest_us = opens if lookback_us is None else np.maximum(us - lookback_us, MIN_US)
    window = Window(int(oldest_us.min()), int(us.max()))
    relation = market.planner.plan(of_quotes, market.symbols, market.exchange.code, window)
    quotes = _prevailing(market, relation, window, series, us, oldest_us)
    two_sided = pc.and_(quotes["bid_price"].is_valid(), quotes["ask_price"].is_valid()).to_numpy(zero_copy_only=False)
    bid_ask = (
        digits_of(quotes[name].fill_null(pa.scalar(0, types.quote[name])), types.price.scale)
        for name in ("bid_price", "ask_price")
    )
    (price, bid, ask), zeros = aligned([digits_of(trades["price"], types.price.scale), *bid_ask])
    usable = two_sided & (bid <= ask)
    tick = _tick_signs(
        market, trades["price"], _Place(series, day, opens, us, price), usable & (2 * price == bid + ask)
    )
    # Half of what ends with zeros is exact: so many times a half of ten to their power.
    mid, half = (bid + ask, 10**zeros // 2) if zeros else (_half(bid + ask), 1)
    columns = {
        "quote_timestamp": quotes["us"].cast(_TIME),
        **{name: quotes[name] for name in QUOTE},
        "mid": decimals(mid, types.price, factor=half, valid=two_sided),
        "spread": _spreads(ask - bid, types.spread, 10**zeros, two_sided),
        "effective_spread": _spreads(np.abs(2 * price - (bid + ask)), types.spread, 10**zeros, usable),
        "inferred_side": pa.array(lee_ready.sides(price, bid, ask, usable, tick), pa.string()),
    }
    return pa.table(columns, schema=types.joined), relation


def _spreads(numbers: Ints | Wide, kind: pa.Decimal128Type, factor: int, valid: NDArray[np.bool_]) -> pa.Array:
    try:
        return decimals(numbers, kind, factor=factor, valid=valid)
    except OverflowError as error:
        raise UserError(
            f"A spread does not fit {kind}",
            found=f"{max(np.abs(numbers)) * factor // 10**kind.scale} units",
            expected=f"less than 10^{kind.precision - kind.scale}",
            remedy="Ask for the trades and the quotes themselves",
        ) from error


def _prevailing(
    market: _Market, relation: Relation, window: Window, series: Ints, us: Ints, oldest_us: Ints
) -> pa.Table:
    """For each trade the quote that prevailed: `us` and `QUOTE`, null where there was none."""
    proven = relation.tail is None and all(file.exchange == market.exchange.code for file in relation.files)
    which = sql.Filter(market.symbols, None if proven else market.exchange.code, window.start_us, window.end_us)
    first_us, near_us = int(oldest_us.min()), int(us.min()) - NEAR_US
    # Of many symbols too many would have no quote so near: then everything is read at once.
    near_us = near_us if len(market.symbols) == 1 and near_us > first_us else first_us
    found = np.full(len(us), -1)
    last = np.full(len(market.symbols), -1)  # of each series so far
    schema = market.types.quotes
    kept = [schema.empty_table()]
    decided = np.zeros(len(us), np.bool_)
    size = 0
    cut = TimeSlices(relation, replace(which, start_us=near_us))
    while stretch := cut.take(SLICE_ROWS):
        quotes = read_ticks(market.engine, "asof", stretch.relation, stretch.which, QUOTE)
        until_us = stretch.which.end_us
        here = ~decided & (us <= (MAX_US if until_us is None else until_us))
        place, latest = _matched(quotes, series[here], us[here], len(market.symbols))
        used, position = np.unique(np.concatenate((place, latest)), return_inverse=True)
        # Only quotes that prevail, now or perhaps later, are kept.
        absent = int(len(used) > 0 and used[0] < 0)
        rows = quotes.rows.take(pa.array(used[absent:])).add_column(0, "us", pa.array(quotes.us[used[absent:]]))
        kept.append(rows.cast(schema))
        position = np.where(used[position] < 0, -1, position - absent + size)
        found[here] = np.where(place >= 0, position[: len(place)], last[series[here]])
        last = np.where(latest >= 0, position[len(place) :], last)
        decided |= here
        size += rows.num_rows
    found = np.where(decided, found, last[series])
    if near_us > first_us and relation and (found < 0).any():
        earlier = last_before(market.engine, "asof", relation, replace(which, end_us=near_us), QUOTE)
        if earlier.num_rows:
            kept.append(earlier.cast(schema))
            found = np.where(found < 0, size, found)
    quotes = pa.concat_tables(kept).combine_chunks()
    at_us = quotes["us"].to_numpy()
    if len(at_us):
        found = np.where((found >= 0) & (at_us[found] >= oldest_us), found, -1)
    return quotes.take(pa.array(found, mask=found < 0))


def _matched(quotes: Ticks, series: Ints, us: Ints, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """For each trade the last quote of its series strictly before it, and the last one of each series; -1: there is none."""
    bounds = np.searchsorted(quotes.series, np.arange(number + 1))
    place = np.full(len(us), -1)
    for each in np.unique(series):
        first, end = bounds[each], bounds[each + 1]
        mine = series == each
        before = np.searchsorted(quotes.us[first:end], us[mine], side="left") - 1
        place[mine] = np.where(before >= 0, before + first, -1)
    return place, np.where(bounds[1:] > bounds[:-1], bounds[1:] - 1, -1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Of each trade: number of its symbol, its date and when that opened, its time, and its price."""

    series: Ints
    day: NDArray[Any]
    opens: Ints
    us: Ints
    price: Ints | Wide


def _tick_signs(market: _Market, prices: pa.ChunkedArray, trades: _Place, needed: NDArray[np.bool_]) -> Ints:
    """The tick test of each trade against its trading date's earlier ones, those before the window among them."""
    if market.own_filters:
        return _signs_among_all(market, trades, needed)
    order = np.argsort(trades.series, kind="stable")
    group = trades.series * (int(trades.day.max()) + 1) + trades.day
    signs = np.zeros(len(group), np.int64)
    signs[order] = lee_ready.tick_signs(trades.price[order], group[order])
    window = market.query.window
    open_ended = needed & (signs == 0)
    if window.start_us is None or not open_ended.any():
        return signs
    for each in np.unique(group[open_ended]):
        members = np.flatnonzero(group == each)
        first = int(members[0])
        start_us = window.opened_us(int(trades.us[first]))
        if start_us is None or start_us <= trades.opens[first]:
            continue  # all of the date's trades before these are among them
        symbol = market.symbols[trades.series[first]]
        earlier = Window(int(trades.opens[first]), start_us)
        relation = market.planner.plan(market.trades, (symbol,), market.exchange.code, earlier)
        if not relation:
            continue
        which = sql.Filter((symbol,), market.exchange.code, *earlier.bounds, prints=market.profile)
        own = prices[first].as_py()
        before = last_before(market.engine, "asof", relation, which, ("price",), unlike=f"{own:f}")
        if before.num_rows:
            sign = 1 if own > before["price"][0].as_py() else -1
            signs[members] = np.where(signs[members] == 0, sign, signs[members])
    return signs


def _signs_among_all(market: _Market, trades: _Place, needed: NDArray[np.bool_]) -> Ints:
    """The same where a filter chose the trades: their prices are compared with all of the date that the profile lets through.

    So a trade's side does not depend on what else was asked for.
    """
    signs = np.zeros(len(trades.us), np.int64)
    group = trades.series * (int(trades.day.max()) + 1) + trades.day
    for each in np.unique(group[needed]):
        members = np.flatnonzero(group == each)
        first, last = int(members[0]), int(members[-1])
        symbol = market.symbols[trades.series[first]]
        whole = Window(int(trades.opens[first]), int(trades.us[last]) + 1)
        relation = market.planner.plan(market.trades, (symbol,), market.exchange.code, whole)
        which = sql.Filter((symbol,), market.exchange.code, *whole.bounds, prints=market.profile)
        ticks = read_ticks(market.engine, "asof", relation, which, ("price",), market.own_filters)
        kept = ticks.rows[KEPT].to_numpy() & _within(market.query.window, ticks.us)
        # The limit cut off the last ones of each symbol, so these are its first.
        at = np.flatnonzero(kept)[: len(members)]
        (price,), _ = aligned([digits_of(ticks.rows["price"], market.types.price.scale)])
        signs[members] = lee_ready.tick_signs(price, np.zeros(len(ticks.us), np.int64))[at]
    return signs


def _within(window: Window, us: Ints) -> NDArray[np.bool_]:
    """Which instants lie in a window."""
    start_us, end_us = (MIN_US if window.start_us is None else window.start_us), window.end_us
    held = (us >= start_us) & (us < end_us if end_us is not None else us >= start_us)
    if not window.within:
        return held
    starts, ends = np.array(window.within, np.int64).T
    at = np.searchsorted(starts, us, side="right") - 1
    return held & (at >= 0) & (us < ends[at])


def _half(values: Ints | Wide) -> Ints | Wide:
    """Half of each, rounded half to even."""
    half = values >> 1
    return half + (values & half & 1)


def _fields(query: AsofQuery, usual: list[str], known: list[str]) -> tuple[str, ...]:
    """The columns of the answer; `usual`: those of trades where none is named."""
    for name in query.fields:
        if name not in known and name not in JOINED:
            raise UserError("Unknown field", found=name, expected=f"one of {', '.join((*known, *JOINED))}")
    return tuple(dict.fromkeys(query.fields)) or (*usual, *JOINED)
