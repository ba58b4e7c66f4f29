"""The command that prints what is known of companies."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from k2.cli_query.destination import with_out
from k2.cli_query.options import (
    As,
    AsOf,
    Exchange,
    Hybrid,
    Local,
    Output,
    Pin,
    Snapshot,
    Symbols,
    Url,
    at,
    examples,
    opened,
)
from k2.cli_query.printing import print_rows
from k2.cli_query.waiting import Waiting

_ALWAYS = ("exchange", "company_id", "symbol", "kind")
_COMPANY = ("company_name", "isin", "listing_date", "delisting_date")
_EVENT = ("ex_date", "ratio", "net_amount", "gross_amount", "currency", "pay_date")


class ReferenceKindName(StrEnum):
    """What a record tells of its company."""

    COMPANY = "company"
    DIVIDEND = "dividend"
    SPLIT = "split"
    MERGER = "merger"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "k2-query reference BHP",
            "k2-query reference BHP --kind company --date 2014-03-10",
            "k2-query reference --company-id 7078 --kind dividend --history --output csv",
        )
    )(reference)


@with_out()
def reference(
    symbols: Symbols = None,
    company_id: Annotated[
        list[str] | None, typer.Option(help="Of the company with this id (repeatable).", show_default=False)
    ] = None,
    kind: Annotated[
        list[ReferenceKindName] | None,
        typer.Option(help="Only these records (repeatable; default: all).", show_default=False),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(help="YYYY-MM-DD: a symbol means the company that it belonged to then; records that hold on it."),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Also records that newer ones took the place of.")] = False,
    exchange: Exchange = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Most records.", show_default=False)] = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    hybrid: Hybrid = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Companies with their symbols by date, dividends, splits and mergers: of each the newest record."""
    asked: dict[str, Any] = {
        "symbols": symbols or None,
        "company_id": company_id or None,
        "kind": [each.value for each in kind] if kind else None,
        "date": date,
        "history": history or None,
        "exchange": exchange,
        "limit": limit,
        **at(snapshot, as_of, pin, hybrid),
    }
    shown = [*_ALWAYS]
    if not kind or ReferenceKindName.COMPANY in kind:
        shown += _COMPANY
    if not kind or set(kind) != {ReferenceKindName.COMPANY}:
        shown += _EVENT
    with opened(local=local, url=url, live=bool(hybrid)) as client, Waiting() as waiting:
        print_rows(client.reference(asked), output, waiting, (*shown, "superseded"))
