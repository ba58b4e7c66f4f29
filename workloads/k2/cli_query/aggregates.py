"""Commands that add trades up: bars and daily summaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from k2.cli_query.destination import with_out, write
from k2.cli_query.options import (
    DEFAULT_ROWS,
    Adjusted,
    As,
    AsOf,
    Date,
    End,
    Exchange,
    Hybrid,
    LastDate,
    Local,
    NeededSymbols,
    Output,
    Pin,
    Session,
    Snapshot,
    Start,
    Symbol,
    Tz,
    Url,
    at,
    examples,
    opened,
    when,
)
from k2.cli_query.print_options import NO_PRINTS, Prints, with_prints
from k2.cli_query.printing import coloured, print_records, print_rows, remarks
from k2.cli_query.waiting import Waiting
from k2.model.errors import UserError
from k2.model.exchanges import Session as SessionName
from k2.query.asked.bar_requests import MOST_BARS, Empty, Interval

_BAR = ("start", "symbol", "exchange", "open", "high", "low", "close", "volume", "vwap", "twap", "trade_count")
_SUMMARY = ("symbol", "exchange", "date", "open", "high", "low", "close", "volume", "vwap", "trade_count", "currency")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "k2-query bars BHP --interval 5m --date 2014-03-10 --session regular --chart",
            "k2-query bars BHP DVN --interval 1h --date 2014-03-10 --last-date 2014-03-14 --empty carry --output csv",
            "k2-query bars BHP --start 2014-03-09T23:00Z --end 2014-03-10T00:00Z",
            "k2-query bars BHP --interval 1d --exclude-conditions 1,3,9",
        )
    )(bars)
    app.command(
        epilog=examples("k2-query summary BHP 2014-03-10", "k2-query summary BHP 2014-03-10 --session regular -o json")
    )(summary)


@with_prints
@with_out()
def bars(
    symbols: NeededSymbols,
    interval: Annotated[Interval, typer.Option("--interval", "-i", help="Length of a bucket.")] = Interval.MINUTE,
    date: Date = None,
    last_date: LastDate = None,
    start: Start = None,
    end: End = None,
    tz: Tz = None,
    session: Session = SessionName.ALL,
    empty: Annotated[
        Empty, typer.Option(help="Buckets without trades: left out, null, or at the last price of the date.")
    ] = Empty.SKIP,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help=f"Most bars (default: {MOST_BARS:,}; of a table without dates or times {DEFAULT_ROWS}).",
            show_default=False,
        ),
    ] = None,
    chart: Annotated[
        bool, typer.Option("--chart", help="Draw candlesticks and volume, as wide and high as the terminal is.")
    ] = False,
    exchange: Exchange = None,
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
    """Open, high, low, close, volume, VWAP and TWAP of each bucket of time."""
    if chart and output is not Output.TABLE:
        raise UserError("--chart is a picture", found=f"--output {output.value}", expected="one of them")
    asked = {
        "interval": interval.value,
        **when(start, end, date, last_date, session, tz),
        "empty": empty.value,
        "limit": limit or _some(output, chart, (start, end, date)),
        "exchange": exchange,
        **prints,
        "adjusted": adjusted,
        **at(snapshot, as_of, pin, hybrid),
    }
    with opened(local=local, url=url, live=bool(hybrid)) as client, Waiting() as waiting:
        found = client.bars(tuple(symbols), asked)
        if not chart:
            # A day begins in another one of UTC where the exchange is far from it: its date says which it is.
            print_rows(found, output, waiting, ("date", *_BAR[1:]) if interval is Interval.DAY else _BAR)
            return
        rows = found.arrow()
    from k2.cli_query.candles import charts

    for text in charts(rows, interval, colour=coloured()):
        write(text.encode())
    remarks(found.envelope)


def _some(output: Output, chart: bool, period: Sequence[str | None]) -> int | None:
    """A screen or two of the first bars, for a person who did not say when; that there are more is said below them."""
    is_open = output is Output.TABLE and not chart and not any(period)
    return DEFAULT_ROWS if is_open else None


@with_prints
def summary(
    symbol: Symbol,
    date: Annotated[str, typer.Argument(help="Trading date, YYYY-MM-DD, in the exchange's own time zone.")],
    session: Session = SessionName.ALL,
    exchange: Exchange = None,
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
    """Open, high, low, close, volume and VWAP of a trading date."""
    asked = (
        {"exchange": exchange, "session": session.value, "adjusted": adjusted}
        | prints
        | at(snapshot, as_of, pin, hybrid)
    )
    with opened(local=local, url=url, live=bool(hybrid)) as client, Waiting():
        found = client.summary(symbol, date, asked)
    print_records([found], output, whole=found, columns=_SUMMARY)
    remarks(found)
