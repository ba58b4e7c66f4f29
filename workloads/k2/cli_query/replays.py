"""The command that plays events: quotes and trades in one order, as fast as can be or paced, resumable."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2.cli_query.destination import with_out, write
from k2.cli_query.options import (
    Adjusted,
    AsOf,
    Date,
    End,
    EventTable,
    Hybrid,
    LastDate,
    Local,
    Pin,
    Session,
    Snapshot,
    Start,
    Symbols,
    Tz,
    Url,
    examples,
    opened,
    when,
)
from k2.cli_query.print_options import NO_PRINTS, Prints, with_prints
from k2.cli_query.printing import say
from k2.cli_query.waiting import Waiting
from k2.model.errors import UserError
from k2.model.exchanges import Session as SessionName

if TYPE_CHECKING:
    import pyarrow as pa


class Lines(StrEnum):
    """How a replay is printed."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"
    """The same."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "k2-query replay BHP --date 2014-03-10 --out bhp.ndjson",
            "k2-query replay BHP DVN --merged --rate 5000 | head -20",
            "k2-query replay --table quotes --end 2014-03-09T23:30Z --speed 1e9",
        )
    )(replay)


@with_prints
@with_out(kept_when_interrupted=True)
def replay(
    symbols: Symbols = None,
    table: Annotated[EventTable | None, typer.Option(help="Which table (default: trades).", show_default=False)] = None,
    merged: Annotated[bool, typer.Option("--merged", help="Quotes and trades, in one order of events.")] = False,
    symbol: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    start: Start = None,
    end: End = None,
    date: Date = None,
    last_date: LastDate = None,
    session: Session = SessionName.ALL,
    tz: Tz = None,
    speed: Annotated[float | None, typer.Option(help="Times the events' own pace; default: as fast as can be.")] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes in when history is at its end, until Ctrl-C.")
    ] = False,
    cursor: Annotated[
        str | None,
        typer.Option(help="Go on where another replay stood (it says so at its end); says all but the pace."),
    ] = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    adjusted: Adjusted = None,
    output: Annotated[
        Lines, typer.Option("--output", "-o", help="csv, or ndjson (one object a line; json is the same).")
    ] = Lines.CSV,
    local: Local = False,
    url: Url = None,
    prints: Prints = NO_PRINTS,
) -> None:
    """All events in event order, as a stream: memory does not grow with their number."""
    words, table = _named(symbols or [], table)
    if merged and table is not None:
        raise UserError("--merged is of both tables", found=table.value, expected="one of them")
    tables = [EventTable.QUOTES.value, EventTable.TRADES.value] if merged else [(table or EventTable.TRADES).value]
    if snapshot is not None and merged:
        raise UserError("--snapshot is of one table", expected="--pin or --as-of with --merged")
    asked: dict[str, Any] = {
        "symbols": [*words, *(symbol or ())] or None,
        "exchange": exchange,
        **when(start, end, date, last_date, session, tz),
        "snapshots": None if snapshot is None else {tables[0]: snapshot},
        "as_of": as_of,
        "pin": pin,
        "hybrid": hybrid,
        "follow": follow or None,
        "adjusted": adjusted,
        **prints,
    }
    pace = {"speed": speed, "rate": rate}
    if cursor is None:
        _play({"tables": tables, **asked, **pace}, output, local, url, live=follow or bool(hybrid))
        return
    given = [name for name, value in asked.items() if value is not None] + (["tables"] if merged or table else [])
    if given:
        raise UserError(
            "A cursor is given with what it says itself", found=", ".join(given), expected="--speed or --rate at most"
        )
    _play({"cursor": cursor, **pace}, output, local, url, live=False)


def _named(words: list[str], table: EventTable | None) -> tuple[list[str], EventTable | None]:
    """Symbols and table: a first word that is a table's name is the table, unless --table says one."""
    if table is None and words and words[0] in set(EventTable):
        return words[1:], EventTable(words[0])
    return words, table


def _play(asked: dict[str, Any], output: Lines, local: bool, url: str | None, *, live: bool) -> None:
    rows = 0
    with (
        opened(local=local, url=url, live=live) as client,
        Waiting("waiting for events") as waiting,
        client.replay(asked) as playback,
    ):
        cursor = playback.cursor
        try:
            for batch in playback:
                waiting.will_write()
                with _Unbroken():
                    _write_batch(batch, output, header=rows == 0)
                    cursor = playback.cursor
                    rows += batch.num_rows
                waiting.came(batch.num_rows)
        finally:
            waiting.end()
            say(f"{rows:,} events in {waiting.seconds:.1f} s ({rows / waiting.seconds:,.0f} a second)")
            say(f"to go on after the last: --cursor {cursor}")


class _Unbroken:
    """Ctrl-C is heeded after the block, so that the cursor is of what was written; a second one is heeded at once."""

    def __init__(self) -> None:
        self._asked = False
        # In the background of a script it is ignored, and stays so.
        self._heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def __enter__(self) -> None:
        if self._heeded:
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._asked and kind is None:
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


def _write_batch(batch: pa.RecordBatch, output: Lines, *, header: bool) -> None:
    import pyarrow as pa

    from k2.forms.formats import Format, encode

    pieces = encode(pa.Table.from_batches([batch]), Format.CSV if output is Lines.CSV else Format.NDJSON, {})
    for number, piece in enumerate(pieces):
        if output is not Lines.CSV or header or number:
            write(piece)
