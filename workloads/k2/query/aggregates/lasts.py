"""The newest trade and quote of each symbol: the last of each in the total order.

Most often the tail has them, and no file is read. Files are looked at newest first, until none is left that may end later than
what was found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from k2.lake.reader import ColumnInfo
from k2.model.compute import pc
from k2.model.events import TIMESTAMP
from k2.query.asked.last_requests import LastQuery
from k2.query.asked.requests import Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.plan.provenance import Provenance
from k2.query.plan.venue import check_exchanges
from k2.query.rows import sql
from k2.query.rows.last_rows import last_rows, last_times
from k2.query.rows.relation import Relation
from k2.query.rows.schema import arrow_schema, decimal_type
from k2.query.rows.statement import RowSource

QUOTE = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
_COMMON = ("symbol", "exchange", "currency", "timestamp")
_TRADE = (*_COMMON, "price", "quantity", "side")
_FILES_AT_FIRST = 4


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
    engine: RowSource,
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
        found.append(newest(engine, relation, sql.Filter(symbols, query.exchange), names))
        provenances.append(each.provenance((relation,)))
        columns.append(relation.columns)
    rows = _side_by_side(symbols, found, columns)
    held = set(rows.column("symbol").to_pylist())
    missing = [symbol for symbol in symbols if symbol not in held]
    note = f"There is nothing of {', '.join(missing)}" if missing else None
    return Last(rows, provenances[0], provenances[1] if len(provenances) > 1 else None, note)


def newest(engine: RowSource, relation: Relation, which: sql.Filter, names: Sequence[str]) -> pa.Table:
    """Of each symbol of the condition its last row with these columns, by symbol."""
    schema = arrow_schema(relation.columns, names=names)
    times: dict[str, int] = {}

    def look(part: Relation, symbols: tuple[str, ...]) -> None:
        for row in engine.fetch("last", last_times(part, replace(which, symbols=symbols))).to_pylist():
            name, us = str(row["symbol"]), int(row["us"])
            times[name] = max(times.get(name, us), us)

    if relation.tail is not None and relation.tail.num_rows:
        tail, times = _newest_of_tail(relation.tail, which.symbols)
        relation = replace(relation, tail=tail)
    left = sorted(relation.files, key=lambda file: file.end_us)
    at_once = _FILES_AT_FIRST
    while left:
        # What ties with the last row decides with it, so a file that may reach its instant is still to be looked at.
        open_still = tuple(name for name in which.symbols if name not in times or times[name] <= left[-1].end_us)
        if not open_still:
            break
        left, chosen = left[:-at_once], left[-at_once:]
        at_once *= 2
        look(relation.of(chosen), open_still)
    if not times:
        return schema.empty_table()
    instants = sorted(set(times.values()))
    files = [file for file in relation.files if any(file.start_us <= us <= file.end_us for us in instants)]
    rows = replace(relation, files=tuple(files))
    within = tuple((us, us + 1) for us in instants)
    only = replace(which, start_us=instants[0], end_us=instants[-1] + 1, within=within if len(within) > 1 else ())
    # Where one symbol's instant is another's earlier one, that one's last row is later still: the last of all is the last.
    return engine.fetch("last", last_rows(rows, only, names)).cast(schema)


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
