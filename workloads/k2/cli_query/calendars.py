"""`k2-query calendar`: when an exchange trades."""

from __future__ import annotations

from typing import Annotated

import typer

from k2.cli_query.options import As, Local, Output, Url, examples, opened
from k2.cli_query.printing import print_records, say

_DATE = ("date", "status", "opens", "closes", "pauses")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "k2-query calendar NYSE --start 2024-11-25 --end 2024-11-29",
            "k2-query calendar TSE --start 2024-11-01 --end 2024-11-08 --output csv",
        )
    )(calendar)


def calendar(
    exchange: Annotated[str, typer.Argument(help="Code of the exchange, such as NYSE.")],
    start: Annotated[
        str | None, typer.Option(help="First trading date, YYYY-MM-DD; default: the exchange's of now.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last trading date, itself included; default: 30 days later.")] = None,
    symbol: Annotated[
        str | None, typer.Option(help="Whose calendar, where some of the exchange's symbols have another.")
    ] = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Trading dates of an exchange: when the session opens, pauses and closes (UTC), and which are holidays or half days."""
    with opened(local=local, url=url) as client:
        found = client.calendar(exchange, {"start": start, "end": end, "symbol": symbol})
    rows = [row | {"pauses": " ".join(row["pauses"])} for row in found["data"]]
    print_records(rows, output, whole=found, columns=_DATE)
    if output is Output.TABLE:
        by = " ".join(each for each in (found["calendar"], found["version"]) if each)
        known = f"from {found['known_from'] or 'ever'} until {found['known_until'] or 'for good'}"
        say(f"{found['name']}, {found['time_zone']}, by {by}, which knows the dates {known}")
