"""The newest trade and quote of each symbol: the last of each in the total order.

Most often the tail has them, and no file is read; what files have is remembered by snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.model.compute import pc
from k2.model.events import TIMESTAMP
from k2.query.aggregates.last_in_files import LastInFiles, SnapshotRows
from k2.query.asked.last_requests import LastQuery
from k2.query.asked.requests import Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.venue import check_exchanges
from k2.query.rows import sql
from k2.query.rows.schema import arrow_schema, decimal_type

QUOTE = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
_COMMON = ("symbol", "exchange", "currency", "timestamp")
_TRADE = (*_COMMON, "price", "quantity", "side")


@dataclass(frozen=True, slots=True)
class Last:
    """One row a symbol that has a trade or a quote, in the order in which they were asked for.

    Attributes:
        rows: `symbol`, `exchange`, `currency`; `timestamp`, `price`, `quantity`, `side` of the newest trade; `quote_timestamp` and
            `QUOTE` of the newest quote; null where there is none.
        provenance: what the trades were read from.
        quotes: what the quotes were read from; None: there is no table of quotes.
        note: which symbols there is nothing of.
    """

    rows: pa.Table
    provenance: Provenance
    quotes: Provenance | None
    note: str | None = None


def last_of(
    kept: LastInFiles,
    planner: Planner,
    directory: SymbolDirectory,
    pinned: tuple[Pinned, Pinned | None],
    query: LastQuery,
) -> Last:
    """Answer the question from trades and quotes, each at a snapshot.

    Raises:
        AmbiguousSymbolError: a symbol is traded on several exchanges, and none was asked for.
        QueryTimeoutError, EngineBusyError, TooLargeError: see `RowSource.fetch`.
    """
    of_trades, of_quotes = pinned
    symbols = tuple(dict.fromkeys(query.symbols))
    found: list[pa.Table] = []
    provenances: list[Provenance] = []
    columns: list[Sequence[ColumnInfo]] = []
    for each, names in ((of_trades, _TRADE), (of_quotes, (*_COMMON, *QUOTE))):
        if each is None:
            continue
        relation = planner.plan(each, symbols, query.exchange, Window())
        if query.exchange is None:
            check_exchanges(directory, relation, symbols, Window())
        rows = SnapshotRows(each.snapshots, relation)
        found.append(newest(kept, rows, sql.Filter(symbols, query.exchange), names))
        provenances.append(each.provenance((relation,)))
        columns.append(relation.columns)
    rows = _side_by_side(symbols, found, columns)
    held = set(rows.column("symbol").to_pylist())
    missing = [symbol for symbol in symbols if symbol not in held]
    note = f"There is nothing of {', '.join(missing)}" if missing else None
    return Last(rows, provenances[0], provenances[1] if len(provenances) > 1 else None, note)


def newest(kept: LastInFiles, rows: SnapshotRows, which: sql.Filter, names: Sequence[str]) -> pa.Table:
    """Of each symbol of the condition its last row in files and tail with these columns, by symbol."""
    relation = rows.relation
    order = sql.order_of(relation)
    read = tuple(dict.fromkeys(("symbol", *names, *order)))
    schema = arrow_schema(relation.columns, names=read)
    found: list[pa.Table] = []
    times: dict[str, int] = {}
    if relation.tail is not None and relation.tail.num_rows:
        tail, times = _newest_of_tail(relation.tail, which.symbols)
        found.append(tail.select(read).cast(schema))
    # What ties with the last row of the tail decides with it, so a file that may reach its instant is still to be looked at.
    in_files = tuple(
        symbol
        for symbol in which.symbols
        if any(file.may_hold(symbol) and times.get(symbol, file.end_us) <= file.end_us for file in relation.files)
    )
    if in_files:
        only_files = replace(rows, relation=relation.of(relation.files))
        found += kept.rows(only_files, replace(which, symbols=in_files), read)
    return _last_of_each(pa.concat_tables([schema.empty_table(), *found]), order).select(names)


def _last_of_each(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """Of each symbol the last of a few rows in the total order, by symbol. Arrow puts nulls last, as the order does."""
    keys = [(name, "ascending") for name in ("symbol", *order)]
    rows = rows.take(pc.sort_indices(rows, sort_keys=keys))
    last = {symbol: number for number, symbol in enumerate(rows.column("symbol").to_pylist())}
    return rows.take(pa.array(last.values(), pa.int64()))


def _newest_of_tail(tail: pa.Table, symbols: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Of each of the symbols the rows at its newest instant, and that instant.

    Without the engine, to which a tail of a hundred thousand rows would have to be handed over first.
    """
    code = pc.index_in(tail.column("symbol").cast(pa.string()), pa.array(symbols, pa.string())).to_numpy()
    us = tail.column("timestamp").cast(TIMESTAMP).cast(pa.int64()).to_numpy()
    newest_us = np.full(len(symbols), np.iinfo(np.int64).min)
    np.maximum.at(newest_us, code, us)
    kept = tail.filter(pa.array(us == newest_us[code]))
    return kept, {symbols[int(n)]: int(newest_us[n]) for n in np.unique(code)}


def _side_by_side(
    symbols: Sequence[str], found: Sequence[pa.Table], columns: Sequence[Sequence[ColumnInfo]]
) -> pa.Table:
    """Trades and quotes of a symbol in one row."""
    trades = found[0]
    quotes = found[1] if len(found) > 1 else None
    of_trade, of_quote = (
        {} if rows is None else {name: row for row, name in enumerate(rows.column("symbol").to_pylist())}
        for rows in (trades, quotes)
    )
    kept = [symbol for symbol in symbols if symbol in of_trade or symbol in of_quote]
    trade_at, quote_at = (pa.array([of.get(name) for name in kept], pa.int64()) for of in (of_trade, of_quote))
    made: dict[str, pa.Array | pa.ChunkedArray] = {"symbol": pa.array(kept, pa.string())}
    for name in ("exchange", "currency"):
        own = trades.column(name).take(trade_at)
        if quotes is not None:
            theirs = quotes.column(name).take(quote_at)
            own = pa.chunked_array(
                [
                    pa.array(
                        [a if a is not None else b for a, b in zip(own.to_pylist(), theirs.to_pylist(), strict=True)],
                        pa.string(),
                    )
                ]
            )
        made[name] = own
    for name in ("timestamp", *_TRADE[len(_COMMON) :]):
        made[name] = trades.column(name).take(trade_at)
    if quotes is None:
        price, quantity = (decimal_type(columns[0], name) for name in ("price", "quantity"))
        made["quote_timestamp"] = pa.nulls(len(kept), TIMESTAMP)
        made |= {name: pa.nulls(len(kept), price if name.endswith("price") else quantity) for name in QUOTE}
    else:
        made["quote_timestamp"] = quotes.column("timestamp").take(quote_at)
        made |= {name: quotes.column(name).take(quote_at) for name in QUOTE}
    return pa.table(made)
