"""Commands that list events: trades, quotes, trades with their quotes, and what a table got between two snapshots."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from k2.cli_query.destination import with_out
from k2.cli_query.options import (
    Adjusted,
    All,
    As,
    AsOf,
    Date,
    End,
    EventTable,
    Exchange,
    Fields,
    Hybrid,
    LastDate,
    Limit,
    Local,
    NeededSymbols,
    Output,
    Pin,
    Session,
    Snapshot,
    Start,
    Symbols,
    Tz,
    Url,
    at,
    examples,
    listed,
    opened,
    rows_asked,
    when,
)
from k2.cli_query.print_options import NO_PRINTS, Prints, with_prints
from k2.cli_query.printing import print_rows
from k2.cli_query.waiting import Waiting
from k2.model.exchanges import Session as SessionName
from k2.model.topics import DataType

_COMMON = ("timestamp", "symbol", "exchange")
_SHOWN = {
    DataType.TRADES: (*_COMMON, "price", "quantity", "currency", "side", "trade_conditions"),
    DataType.QUOTES: (*_COMMON, "bid_quantity", "bid_price", "ask_price", "ask_quantity", "currency"),
}
_LAST = ("symbol", "exchange", "timestamp", "price", "quantity", "quote_timestamp", "bid_price", "ask_price")
_JOINED = (*_COMMON, "price", "quantity", "bid_price", "ask_price", "mid", "effective_spread", "inferred_side")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "k2-query trades BHP --date 2014-03-10 --session regular -n 20",
            "k2-query trades BHP --date 2014-03-10 --adjusted all -n 20",
            "k2-query trades BHP --start 2014-03-10T10:00 --end 2014-03-10T10:30 --tz Australia/Sydney -n 20",
            "k2-query trades BHP --all --out bhp.parquet",
            "k2-query trades BHP DVN --fields timestamp,symbol,price --all --output csv | tail -5",
            "k2-query trades BHP --exclude-conditions 1,3,9 --min-quantity 1000 -n 20",
            'k2-query trades BHP --as-of "$(date -u +%FT%TZ)" --output json',
        )
    )(trades)
    app.command(epilog=examples("k2-query quotes BHP -n 5 --output csv", "k2-query quotes BHP DVN --no-hybrid"))(quotes)
    app.command(
        epilog=examples(
            "k2-query asof BHP --date 2014-03-10 --session regular -n 20",
            "k2-query asof BHP --lookback 30s --fields timestamp,price,mid,inferred_side --output csv",
        )
    )(asof)
    app.command(epilog=examples("k2-query last BHP", "k2-query last BHP --output json"))(last)
    app.command(
        epilog=examples(
            "k2-query diff --from $(k2-query snapshots --output csv | tail -1 | cut -d, -f1) -n 20",
        )
    )(diff)


@with_prints
@with_out()
def trades(
    symbols: Symbols = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    date: Date = None,
    last_date: LastDate = None,
    session: Session = SessionName.ALL,
    tz: Tz = None,
    limit: Limit = None,
    everything: All = False,
    fields: Fields = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    adjusted: Adjusted = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
    prints: Prints = NO_PRINTS,
) -> None:
    """Trades, oldest first."""
    asked = _chosen(symbols, exchange, fields) | when(start, end, date, last_date, session, tz)
    asked |= {"limit": rows_asked(limit, everything), "adjusted": adjusted}
    _events(DataType.TRADES, asked | prints | at(snapshot, as_of, pin, hybrid), output, local, url)


@with_out()
def quotes(
    symbols: Symbols = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    date: Date = None,
    last_date: LastDate = None,
    session: Session = SessionName.ALL,
    tz: Tz = None,
    limit: Limit = None,
    everything: All = False,
    fields: Fields = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    adjusted: Adjusted = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Quotes, oldest first."""
    asked = _chosen(symbols, exchange, fields) | when(start, end, date, last_date, session, tz)
    asked |= {"limit": rows_asked(limit, everything), "adjusted": adjusted}
    _events(DataType.QUOTES, asked | at(snapshot, as_of, pin, hybrid), output, local, url)


@with_prints
@with_out()
def asof(
    symbols: NeededSymbols,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    date: Date = None,
    last_date: LastDate = None,
    session: Session = SessionName.ALL,
    tz: Tz = None,
    lookback: Annotated[
        str | None,
        typer.Option(help="How old a quote may be: 500ms, 30s, 5m, 2h, 1d; or `day` (default), the trade's own date."),
    ] = None,
    limit: Limit = None,
    fields: Fields = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    adjusted: Adjusted = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
    prints: Prints = NO_PRINTS,
) -> None:
    """Trades with the quote that prevailed: the last one strictly before it; with spread, and the side that began it."""
    asked = _chosen(symbols, exchange, fields) | when(start, end, date, last_date, session, tz)
    asked |= at(snapshot, as_of, pin, hybrid)
    asked |= {"limit": rows_asked(limit, everything=False), "lookback": lookback, "adjusted": adjusted, **prints}
    with opened(local=local, url=url, live=bool(hybrid)) as client, Waiting() as waiting:
        print_rows(client.asof(asked), output, waiting, asked["fields"] or _JOINED, chosen=bool(fields))


@with_out()
def last(
    symbols: NeededSymbols,
    exchange: Exchange = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """The newest trade and quote of each symbol."""
    asked = {"symbols": symbols, "exchange": exchange} | at(snapshot, as_of, pin, hybrid)
    with opened(local=local, url=url, live=bool(hybrid)) as client, Waiting() as waiting:
        print_rows(client.last(asked), output, waiting, _LAST)


@with_prints
@with_out()
def diff(
    since: Annotated[str, typer.Option("--from", help="The earlier snapshot (see `snapshots`).")],
    symbols: Symbols = None,
    table: Annotated[EventTable, typer.Option(help="Which table.")] = EventTable.TRADES,
    to: Annotated[str | None, typer.Option(help="The later snapshot (default: the current one).")] = None,
    exchange: Exchange = None,
    start: Start = None,
    end: End = None,
    date: Date = None,
    last_date: LastDate = None,
    session: Session = SessionName.ALL,
    tz: Tz = None,
    limit: Limit = None,
    everything: All = False,
    fields: Fields = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
    prints: Prints = NO_PRINTS,
) -> None:
    """Events that a table got between two snapshots, whatever compaction did in between."""
    between: dict[str, Any] = {"table": table.value, "from": since, "to": to, "limit": rows_asked(limit, everything)}
    between |= prints
    asked = _chosen(symbols, exchange, fields) | when(start, end, date, last_date, session, tz) | between
    with opened(local=local, url=url) as client, Waiting() as waiting:
        shown = asked["fields"] or _SHOWN[DataType(table.value)]
        print_rows(client.diff(asked), output, waiting, shown, chosen=bool(fields))


def _chosen(symbols: list[str] | None, exchange: str | None, fields: list[str] | None) -> dict[str, Any]:
    return {"symbols": symbols or None, "exchange": exchange, "fields": listed(fields)}


def _events(data_type: DataType, asked: dict[str, Any], output: Output, local: bool, url: str | None) -> None:
    with opened(local=local, url=url, live=bool(asked["hybrid"])) as client, Waiting() as waiting:
        shown = asked["fields"] or _SHOWN[data_type]
        print_rows(client.events(data_type, asked), output, waiting, shown, chosen=bool(asked["fields"]))
