"""`k2 query …` and `k2-query …`: questions on the command line. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from k2.model.errors import K2Error, UserError
from k2.model.settings import settings
from k2.model.topics import DataType

if TYPE_CHECKING:
    from k2.client.protocol import Client

_USER_ERROR, _WORLD_ERROR, _INTERRUPTED = 2, 1, 130
_TABLE_COLUMNS = {
    DataType.TRADES: ("timestamp", "symbol", "exchange", "price", "quantity", "currency", "side", "trade_conditions"),
    DataType.QUOTES: (
        "timestamp",
        "symbol",
        "exchange",
        "bid_quantity",
        "bid_price",
        "ask_price",
        "ask_quantity",
        "currency",
    ),
}
_EXAMPLES = """
Examples:

    k2-query trades BHP --start 2014-03-09T23:00Z --limit 20

    k2-query summary BHP 2014-03-10 --output json

    k2-query quotes BHP --output csv > quotes.csv

    k2-query snapshots

    k2-query replay trades --symbol BHP | head
"""


class Output(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Lines(StrEnum):
    """How a replay is printed."""

    CSV = "csv"
    JSON = "json"


_As = Annotated[Output, typer.Option("--output", "-o", help="table, json or csv; decimals are exact in all of them.")]
_Local = Annotated[bool, typer.Option("--local", help="Ask the catalog itself, without the query service.")]
_Url = Annotated[str | None, typer.Option("--url", help="The query service (default: K2_API_URL, or `k2 up`'s).")]
_Symbol = Annotated[str, typer.Argument(help="Symbol on its exchange, such as BHP.")]
_Exchange = Annotated[str | None, typer.Option(help="Needed where the symbol is traded on several.")]
_Start = Annotated[
    str | None, typer.Option(help="First instant: ISO 8601 (UTC when it has no offset) or nanoseconds since 1970.")
]
_End = Annotated[str | None, typer.Option(help="First instant no more.")]
_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Most rows.")]
_Snapshot = Annotated[str | None, typer.Option(help="Answer from this snapshot (see `snapshots`).")]
_AsOf = Annotated[str | None, typer.Option(help="Answer as was known at this time.")]

app = typer.Typer(
    name="k2-query",
    help="Ask the tables: trades, quotes, daily summaries, symbols, statistics, snapshots, replay.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(parent: typer.Typer) -> None:
    """Add the commands as `k2 query …`."""
    parent.add_typer(app, name="query")


@app.command(epilog="Example: k2-query trades BHP --start 2014-03-09T23:00Z --end 2014-03-09T23:30Z -n 20")
def trades(
    symbol: _Symbol,
    exchange: _Exchange = None,
    start: _Start = None,
    end: _End = None,
    limit: _Limit = 100,
    snapshot: _Snapshot = None,
    as_of: _AsOf = None,
    output: _As = Output.TABLE,
    local: _Local = False,
    url: _Url = None,
) -> None:
    """Trades of a symbol, oldest first."""
    params = {"symbol": symbol, "exchange": exchange, "start": start, "end": end, "limit": limit}
    _events(DataType.TRADES, params | {"snapshot": snapshot, "as_of": as_of}, output, local, url)


@app.command(epilog="Example: k2-query quotes BHP -n 5 --output csv")
def quotes(
    symbol: _Symbol,
    exchange: _Exchange = None,
    start: _Start = None,
    end: _End = None,
    limit: _Limit = 100,
    snapshot: _Snapshot = None,
    as_of: _AsOf = None,
    output: _As = Output.TABLE,
    local: _Local = False,
    url: _Url = None,
) -> None:
    """Quotes of a symbol, oldest first."""
    params = {"symbol": symbol, "exchange": exchange, "start": start, "end": end, "limit": limit}
    _events(DataType.QUOTES, params | {"snapshot": snapshot, "as_of": as_of}, output, local, url)


@app.command(epilog="Example: k2-query summary BHP 2014-03-10")
def summary(
    symbol: _Symbol,
    date: Annotated[str, typer.Argument(help="Trading date, YYYY-MM-DD, in the exchange's own time zone.")],
    exchange: _Exchange = None,
    snapshot: _Snapshot = None,
    as_of: _AsOf = None,
    output: _As = Output.TABLE,
    local: _Local = False,
    url: _Url = None,
) -> None:
    """Open, high, low, close, volume and VWAP of all prints of a trading date."""
    with _client(local, url) as client:
        found = client.summary(symbol, date, {"exchange": exchange, "snapshot": snapshot, "as_of": as_of})
    shown = ("symbol", "exchange", "date", "open", "high", "low", "close", "volume", "vwap", "trade_count", "currency")
    _records([found], output, whole=found, columns=shown)


@app.command(epilog="Example: k2-query symbols --table quotes")
def symbols(
    table: Annotated[DataType, typer.Option(help="Which table.")] = DataType.TRADES,
    exchange: Annotated[str | None, typer.Option(help="Only symbols of this exchange.")] = None,
    output: _As = Output.TABLE,
    local: _Local = False,
    url: _Url = None,
) -> None:
    """Every symbol with its exchange, number of rows, first and last time."""
    with _client(local, url) as client:
        found = client.symbols({"table": table.value, "exchange": exchange})
    _records(found["data"], output, whole=found, columns=("symbol", "exchange", "rows", "first_time", "last_time"))


@app.command(epilog="Example: k2-query stats --output json")
def stats(output: _As = Output.TABLE, local: _Local = False, url: _Url = None) -> None:
    """Size and reach of each table, and how far it has taken its topics."""
    with _client(local, url) as client:
        found = client.stats({})
    shown = ("table", "rows", "files", "bytes", "first_time", "last_time", "snapshots", "snapshot_id")
    _records(found["tables"], output, whole=found, columns=shown)


@app.command(epilog="Example: k2-query snapshots --table trades -n 10")
def snapshots(
    table: Annotated[DataType, typer.Option(help="Which table.")] = DataType.TRADES,
    limit: _Limit = 20,
    output: _As = Output.TABLE,
    local: _Local = False,
    url: _Url = None,
) -> None:
    """Retained snapshots, newest first: what each added, and the totals after it."""
    with _client(local, url) as client:
        found = client.snapshots({"table": table.value, "limit": limit})
    shown = ("snapshot_id", "time", "current", "operation", "rows_added", "files_added", "total_rows", "total_files")
    _records(found["data"], output, whole=found, columns=shown)


@app.command(epilog="Example: k2-query replay trades --symbol BHP --start 2014-03-10 --output json > bhp.ndjson")
def replay(
    table: Annotated[DataType, typer.Argument(help="trades or quotes.")] = DataType.TRADES,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol (default: all).")] = None,
    exchange: Annotated[str | None, typer.Option(help="Only this exchange.")] = None,
    start: _Start = None,
    end: _End = None,
    snapshot: _Snapshot = None,
    as_of: _AsOf = None,
    merged: Annotated[bool, typer.Option("--merged", help="Quotes and trades, in one order of events.")] = False,
    speed: Annotated[float | None, typer.Option(help="Times the events' own pace; default: as fast as can be.")] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Go on where another replay stood (it says so at its end).")
    ] = None,
    output: Annotated[Lines, typer.Option("--output", "-o", help="csv, or json (one object a line).")] = Lines.CSV,
) -> None:
    """All events in event order, as a stream: memory does not grow with their number. Reads the catalog itself."""
    asked: dict[str, Any] = {
        "tables": [DataType.QUOTES, DataType.TRADES] if merged else [table],
        "symbols": [] if symbol is None else [symbol],
        "exchange": exchange,
        "start": start,
        "end": end,
        "snapshots": None if snapshot is None else {table: snapshot},
        "as_of": as_of,
        "speed": speed,
        "rate": rate,
    }
    if cursor is not None:
        asked = {"cursor": cursor, "speed": speed, "rate": rate}
    started, rows = time.monotonic(), 0
    from k2.client.local import Local

    with Local(settings()) as client, client.replay(asked) as playback:
        try:
            for batch in playback:
                _write_batch(batch, output, header=rows == 0)
                rows += batch.num_rows
        finally:
            seconds = max(time.monotonic() - started, 1e-9)
            _say(f"{rows:,} events in {seconds:.1f} s ({rows / seconds:,.0f} a second)")
            _say(f"to go on after the last: --cursor {playback.cursor}")


def main() -> None:
    """Entry point of `k2-query`: exit code 2 for what the user can mend, 1 for what the world did."""
    try:
        app()
    except UserError as error:
        _say(f"error: {error}")
        sys.exit(_USER_ERROR)
    except K2Error as error:
        _say(f"error: {error}")
        sys.exit(_WORLD_ERROR)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _client(local: bool, url: str | None) -> Client:
    found = settings()
    if local and url:
        raise UserError("Both --local and --url are given", expected="one of them")
    if local:
        from k2.client.local import Local

        return Local(found)
    from k2.client.remote import Remote

    return Remote(found.model_copy(update={"api_url": url}) if url else found)


def _events(data_type: DataType, params: dict[str, Any], output: Output, local: bool, url: str | None) -> None:
    from k2.api.formats import Format, encode
    from k2.api.texts import plain_text

    with _client(local, url) as client:
        found = client.events(data_type, params)
        rows = found.arrow()
    if output is Output.TABLE:
        names = [name for name in _TABLE_COLUMNS[data_type] if name in rows.column_names]
        columns = [plain_text(rows[name].combine_chunks()).to_pylist() for name in names]
        _print_table(names, zip(*columns, strict=True), decimals=_decimal_columns(rows, names))
    else:
        for piece in encode(rows, Format(output.value), found.envelope):
            _write(piece)
        if output is Output.JSON:
            _write(b"\n")
    if found.envelope.get("note"):
        _say(str(found.envelope["note"]))
    elif found.envelope["more"]:
        _say(f"the first {rows.num_rows:,} only: there are more (--limit)")


def _records(
    records: Sequence[dict[str, Any]], output: Output, *, whole: dict[str, Any], columns: Sequence[str]
) -> None:
    """Print objects of the API: JSON as the API gave it, CSV with every plain member, a table with the chosen ones."""
    if output is Output.JSON:
        _write(json.dumps(whole, ensure_ascii=False, indent=2).encode() + b"\n")
    elif output is Output.CSV:
        import csv

        flat = [{k: json.dumps(v) if isinstance(v, dict) else v for k, v in record.items()} for record in records]
        writer = csv.DictWriter(sys.stdout, list(flat[0]) if flat else list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    else:
        amounts = {"open", "high", "low", "close", "volume", "vwap"}
        _print_table(columns, ([r.get(name) for name in columns] for r in records), decimals=amounts)


def _print_table(names: Sequence[str], rows: Iterable[Sequence[object]], *, decimals: set[str]) -> None:
    terminal = sys.stdout.isatty()
    # Wide as the table wants to be: a number cut to fit a narrow terminal would be another number.
    console = Console(no_color=not terminal, highlight=False, width=10_000)
    grid = Table(box=None, header_style="bold" if terminal else None, pad_edge=False)
    values = [list(row) for row in rows]
    for number, name in enumerate(names):
        numeric = name in decimals or any(isinstance(row[number], int) for row in values)
        grid.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    shown = [[_cell(value, name in decimals) for name, value in zip(names, row, strict=True)] for row in values]
    for row in shown:
        grid.add_row(*row)
    console.print(grid)


def _write_batch(batch: Any, output: Lines, *, header: bool) -> None:
    import pyarrow as pa

    from k2.api.formats import Format, encode

    pieces = encode(pa.Table.from_batches([batch]), Format.CSV if output is Lines.CSV else Format.NDJSON, {})
    for number, piece in enumerate(pieces):
        if output is Lines.JSON or header or number:
            _write(piece)


def _decimal_columns(rows: Any, names: Sequence[str]) -> set[str]:
    import pyarrow as pa

    return {name for name in names if pa.types.is_decimal(rows.schema.field(name).type)}


def _cell(value: object, is_decimal: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "*" if value else ""
    if is_decimal:
        whole, _, places = str(value).partition(".")
        places = places.rstrip("0")
        return f"{int(whole):,}" + (f".{places}" if places else "") if whole != "-0" else f"-0.{places}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write(data: bytes | memoryview) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # `| head` has read enough: that is a good end. The interpreter must not try to flush again.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _say(text: str) -> None:
    print(text, file=sys.stderr)
