"""`k2 sql`: DuckDB's SQL over the catalog, in this process. It asks no service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from k2.cli_query.destination import with_out
from k2.cli_query.options import As, AsOf, Hybrid, Output, Pin, Snapshot, at, examples, opened
from k2.cli_query.printing import print_rows, say
from k2.cli_query.waiting import Waiting
from k2.model.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from k2.client.answer import Answer

TABLE_ROWS = 1_000

EXAMPLES = examples(
    'k2 sql "SELECT symbol, count(*) AS trades, sum(quantity) AS volume FROM trades GROUP BY symbol"',
    'k2 sql "SELECT t.timestamp, t.symbol, price, bid_price, ask_price FROM trades t ASOF JOIN quotes q '
    'ON t.symbol = q.symbol AND t.timestamp > q.timestamp LIMIT 10"',
    'k2 sql "SHOW TABLES"',
    'k2 sql "FROM trades" --out trades.parquet',
    'echo "FROM trades LIMIT 5" | k2 sql - -o ndjson',
)


@with_out()
def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="SQL", help="One statement, or several with ; between; `-`: from stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the SQL from this file.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "-n",
            min=1,
            help=f"Most rows (default: {TABLE_ROWS:,} of a table, all of the other forms).",
            show_default=False,
        ),
    ] = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    output: As = Output.TABLE,
) -> None:
    """Ask in DuckDB's SQL, in this process: `trades`, `quotes`, `reference_data` and every other table, all at one moment.

    It reads the catalog itself (`k2 up`'s, or K2_CATALOG_PROPERTIES), and files of this machine that the SQL names. Ctrl-C stops it.
    """
    from k2.client.protocol import SqlAsking

    text = _text(query, file)
    most = TABLE_ROWS if limit is None and output is Output.TABLE else limit
    with opened(local=True, url=None, live=bool(hybrid)) as client, Waiting() as waiting:
        asking = SqlAsking(limit=most, told=waiting.done)
        answer = client.sql(text, at(snapshot, as_of, pin, hybrid), asking)
        refuse_types(answer, output)
        print_rows(answer, output, waiting, narrow="SELECT fewer columns; --output csv has all")
        if output is Output.TABLE:
            for name, view in answer.envelope["views"].items():
                say(_told(name, view))


def _text(query: str | None, file: Path | None) -> str:
    if (query is None) == (file is None):
        raise UserError(
            "There is no SQL" if query is None else "Both SQL and --file are given",
            expected="one of: the SQL itself, --file NAME, or - for what comes from stdin",
            remedy='For example k2 sql "SHOW TABLES"',
        )
    if file is not None:
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("The file of SQL cannot be read", found=str(file), expected="a text") from error
    return sys.stdin.read() if query == "-" else str(query)


def refuse_types(answer: Answer, output: Output) -> None:
    """A `UserError` for columns of types that Parquet has not."""
    if output is Output.PARQUET and (odd := [field.name for field in answer.schema if _is_interval(field.type)]):
        answer.close()
        raise UserError(
            "Parquet has no intervals",
            found=", ".join(odd),
            expected="numbers or texts",
            remedy="Cast them: …::VARCHAR",
        )


def _is_interval(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_interval(kind)


def _told(name: str, view: dict[str, Any]) -> str:
    """From where the rows are, and up to when that is complete."""
    snapshots = [each for each in view["sources"] if each["kind"] == "iceberg"]
    which = " and ".join(
        f"{each['table']} at {each['snapshot_id']} ({each['snapshot_time']})"
        if each["snapshot_id"]
        else f"{each['table']}, which has no snapshot yet"
        for each in snapshots
    )
    until = f", complete until {view['complete_until']}" if view["complete_until"] else ""
    return f"{name}: {which}{until}"
