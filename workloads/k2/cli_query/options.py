"""What a person may type: the options that commands share, the parameters that they become, and whom to ask.

Nothing heavy is imported here: `--help` and completion wait for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from k2.cli_query import completing
from k2.model.adjusted import Adjusted as AdjustedName
from k2.model.errors import UserError
from k2.model.exchanges import Session as SessionName
from k2.model.topics import DataType
from k2.obs.without_extras import without_extras

if TYPE_CHECKING:
    from k2.client.protocol import Client

_SOURCE, _TRAVEL = "From where", "As of when"
DEFAULT_ROWS = 100


class Output(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    ARROW = "arrow"


class EventTable(StrEnum):
    """The tables that hold events."""

    TRADES = DataType.TRADES.value
    QUOTES = DataType.QUOTES.value


As = Annotated[
    Output,
    typer.Option(
        "--output", "-o", help="How; decimals are exact in all of them. Parquet and Arrow go to a file or a pipe."
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Ask the catalog itself, without a service.", rich_help_panel=_SOURCE)
]
Url = Annotated[
    str | None,
    typer.Option(help="The query service (default: K2_API_URL, or `k2 up`'s).", rich_help_panel=_SOURCE),
]
Symbol = Annotated[str, typer.Argument(help="Symbol on its exchange, such as BHP.", autocompletion=completing.symbols)]
Symbols = Annotated[
    list[str] | None,
    typer.Argument(metavar="SYMBOL", help="Symbols on their exchanges; none: all.", autocompletion=completing.symbols),
]
NeededSymbols = Annotated[
    list[str],
    typer.Argument(metavar="SYMBOL", help="Symbols on their exchanges.", autocompletion=completing.symbols),
]
Exchange = Annotated[str | None, typer.Option(help="Needed where a symbol is traded on several.")]
Start = Annotated[
    str | None,
    typer.Option(
        help="First instant: ISO 8601 (of --tz, or UTC, when it has no offset), or a number since 1970 with its unit (ns, us, ms, s)."
    ),
]
End = Annotated[str | None, typer.Option(help="First instant no more.")]
Date = Annotated[
    str | None,
    typer.Option(help="Trading date, YYYY-MM-DD, of the exchange's own calendar, instead of --start and --end."),
]
LastDate = Annotated[str | None, typer.Option(help="With --date: the last of several trading dates.")]
Tz = Annotated[
    str | None, typer.Option(help="Time zone of times without an offset, such as Australia/Sydney (default: UTC).")
]
Limit = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help=f"Most rows (default: {DEFAULT_ROWS}).", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All rows: they are printed while they come, whatever their number.")]
Fields = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,…",
        help="Columns, in this order (repeatable, or with commas).",
        autocompletion=completing.fields,
    ),
]
Session = Annotated[
    SessionName, typer.Option(help="All prints of a trading date, or those of the exchange's regular session.")
]
Snapshot = Annotated[
    str | None, typer.Option(help="Answer from this snapshot (see `snapshots`).", rich_help_panel=_TRAVEL)
]
AsOf = Annotated[str | None, typer.Option(help="Answer as was known at this time.", rich_help_panel=_TRAVEL)]
Pin = Annotated[
    str | None, typer.Option(help="Answer from the snapshots that this pin fixes (see `pin`).", rich_help_panel=_TRAVEL)
]
Hybrid = Annotated[
    bool | None,
    typer.Option(
        "--hybrid/--no-hybrid",
        help="With, or without, what the topics hold beyond the table (default: with it, where the service knows of "
        "Kafka; with --local: without).",
        rich_help_panel=_TRAVEL,
        show_default=False,
    ),
]
Adjusted = Annotated[
    AdjustedName | None,
    typer.Option(
        help="Prices and quantities by what reference data says: `splits` (and mergers), or `all`: prices for dividends too.",
        show_default=False,
    ),
]


def examples(*commands: str) -> str:
    """The end of a help text. Every command in it is run by the tests."""
    heading = "Example:" if len(commands) == 1 else "Examples:"
    return "\n\n".join([heading, *(f"    {command}" for command in commands)])


def with_options(
    command: Callable[..., None],
    run: Callable[..., None],
    options: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    without: str = "",
) -> Callable[..., None]:
    """`run` in place of a command, as typer sees it: with the options beside the command's own.

    Args:
        command: whose name, help and options it has.
        run: is called with all of them by keyword.
        options: what typer makes options of, by parameter.
        defaults: of these; None unless said.
        without: a parameter of the command that is none of the options.
    """
    own = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    kept = [each.replace(annotation=hints[each.name]) for each in own.parameters.values() if each.name != without]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=(defaults or {}).get(name), annotation=kind)
        for name, kind in options.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in kept] + more
    found = functools.wraps(command)(run)
    found.__dict__["__signature__"] = own.replace(parameters=parameters)
    found.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return found


def opened(*, local: bool, url: str | None, live: bool = False) -> Client:
    """The service, where one is known; else the catalog, where that is known. To be closed.

    Args:
        local: the catalog in any case.
        url: this service, and no other.
        live: a catalog's answers hold what is in the topics too.

    Raises:
        UserError: neither is known, or both are asked for.
    """
    if local and url:
        raise UserError("Both --local and --url are given", expected="one of them")
    without_extras()
    from k2.model.settings import settings

    found = settings()
    if local or (url is None and found.api_url is None and found.catalog_properties):
        try:
            from k2.client.local import Local as Catalog
        except ImportError as error:
            raise UserError(
                f"A catalog cannot be read here: {error.name} is not installed",
                remedy="pip install 'k2-market-data[lake,query]', or ask a service with --url",
            ) from error
        from k2.obs.logging import structlog_to_logging

        structlog_to_logging()
        return Catalog(found, live=live)
    from k2.client.remote import Remote

    return Remote(found.model_copy(update={"api_url": url}) if url else found, brief=True)


def listed(texts: Sequence[str] | None) -> list[str] | None:
    """What was given several times, or with commas; None where it was not given."""
    return [name for text in texts or () for name in text.split(",") if name] or None


def rows_asked(limit: int | None, everything: bool) -> int:
    """How many rows are asked for at most."""
    from k2.query.asked.requests import MOST_ROWS

    if everything and limit is not None:
        raise UserError("Both --limit and --all are given", expected="one of them")
    return MOST_ROWS if everything else limit or DEFAULT_ROWS


def when(
    start: str | None,
    end: str | None,
    date: str | None,
    last_date: str | None,
    session: SessionName,
    tz: str | None,
) -> dict[str, Any]:
    """The parameters that say from when to when."""
    part = None if session is SessionName.ALL else session.value
    return {"start": start, "end": end, "date": date, "last_date": last_date, "session": part, "tz": tz}


def at(snapshot: str | None, as_of: str | None, pin: str | None, hybrid: bool | None = None) -> dict[str, Any]:
    """The parameters that choose which rows answer."""
    return {"snapshot": snapshot, "as_of": as_of, "pin": pin, "hybrid": hybrid}
