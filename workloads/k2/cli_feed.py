"""`k2 feed …`: live feeds, looked at from a terminal: what comes of an exchange, and what a feed has not got (docs/gaps.md)."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from k2.model.errors import UserError
from k2.model.settings import settings
from k2.model.topics import DataType, TopicName

if TYPE_CHECKING:
    from k2.feeds.live.check import FeedCheck

ODD = 4

MISSING = 1
"""Exit code when something is missing."""

MOST_SHOWN = 100


def register(app: typer.Typer) -> None:
    """Add the commands."""
    feed_app = typer.Typer(help="Live feeds of exchanges.", no_args_is_help=True)
    feed_app.command("check", epilog="Example: k2 feed check binance BTCUSDT")(check)
    feed_app.command("gaps", epilog="Example: k2 feed gaps binance")(gaps)
    app.add_typer(feed_app, name="feed")


def check(
    *,
    venue: Annotated[str, typer.Argument(help="The exchange: binance, bybit, coinbase, kraken or okx.")],
    symbols: Annotated[list[str], typer.Argument(help="Symbols as the exchange writes them.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="For how long to listen.")] = 10.0,
    url: Annotated[str | None, typer.Option(help="Another address of the WebSockets: wss://host:port.")] = None,
    rest_url: Annotated[str | None, typer.Option(help="Another address of the REST interface: https://…")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of the authorities to trust.")] = None,
    proxy: Annotated[str | None, typer.Option(help="URL of a proxy; default: what HTTPS_PROXY says.")] = None,
    output: Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to show it.")] = "table",
) -> None:
    """Listen to symbols of an exchange for ten seconds and show what came, how the clocks differ, and what is odd.

    Needs no platform. Exit code 0: all is well; 4: something is odd; 2: the venue or a symbol cannot be used; 1: the exchange cannot be reached.
    """
    from k2.feeds.live.check import check as listen
    from k2.feeds.live.source import HeardMarket
    from k2.feeds.venues.columns import EventColumns
    from k2.feeds.venues.registry import VENUES
    from k2.model.events import Decimals

    known = VENUES.get(venue.lower())
    if known is None:
        raise UserError("Unknown venue", found=venue, expected=f"one of {', '.join(VENUES)}")
    types = (DataType.TRADES, DataType.QUOTES)
    columns = EventColumns(venue.upper(), decimals=dict.fromkeys(types, Decimals.WIDE))
    source = _source(venue.lower(), symbols, url, rest_url, ca_file, proxy)
    stop = threading.Event()
    heard = HeardMarket(source, columns, types, stop, folder=Path())
    found = listen(heard, venue.lower(), symbols, seconds, stop)
    if output == "json":
        print(json.dumps(asdict(found), indent=2))
    else:
        _show(found)
    if not found.streams and found.odd:
        raise typer.Exit(1)
    if found.odd:
        raise typer.Exit(ODD)


def _source(
    venue: str, symbols: list[str], url: str | None, rest_url: str | None, ca_file: Path | None, proxy: str | None
) -> Any:
    from k2.model.sources import VenueSource

    urls = {"stream": url and url.rstrip("/"), "rest": rest_url and rest_url.rstrip("/")}
    said = {"venue": venue, "symbols": symbols, "urls": urls, "proxy": proxy}
    try:
        # A symbol in small letters is looked up in the listing, which names the right one.
        capitals = [symbol.upper() for symbol in symbols]
        checked = VenueSource.model_validate(said | {"symbols": capitals, "ca_file": ca_file and str(ca_file)})
    except ValidationError as error:
        first = error.errors()[0]
        where = {"urls": "--url or --rest-url", "symbols": "a symbol"}.get(str(first["loc"][0]), str(first["loc"][0]))
        raise UserError(f"{where} cannot be used", found=first["input"], expected=first["msg"]) from error
    return checked.model_copy(update={"symbols": tuple(symbols)})


def _show(found: FeedCheck) -> None:
    console = Console()
    table = Table("symbol", "what", "events", "a second", "numbers", "newest", "last", box=None)
    for each in found.streams:
        numbers = "" if each.first is None else f"{each.first}..{each.last}"
        last = " ".join(value for value in each.example.values() if value)
        rate = f"{each.events / max(found.seconds, 0.001):.1f}"
        table.add_row(each.symbol, each.data_type, str(each.events), rate, numbers, each.newest[11:26], last)
    console.print(table)
    if found.clock_difference is not None:
        console.print(f"clock difference with the way: {1000 * found.clock_difference:.0f} ms")
    if found.filled:
        console.print(f"{found.filled} trades were missed and filled")
    for each in found.odd:
        console.print(f"odd: {each}", markup=False, style="yellow")
    if not found.odd:
        console.print(f"{found.venue} can be heard from here.", style="green")


def gaps(
    name: Annotated[str, typer.Argument(help="The exchange's code, such as binance, or the topic of its account.")],
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
) -> None:
    """Show a live feed's account of gaps: trades that are missing now, that are missing for good, and times without a word.

    It is read from the account's topic, and goes back as far as that does. Exit codes: 0 nothing is missing, 1 something is, or Kafka or
    the registry failed, 2 there is no such account.
    """
    from k2.feeds.gaps.topic import read_account
    from k2.forms.gaps import account_body

    if output not in {"table", "json"}:
        raise UserError("Unknown --output", found=output, expected="table or json")
    env = settings()
    bodies = [account_body(topic, read_account(env, topic)) for topic in _topics(env.kafka_config(), name)]
    if output == "json":
        print(json.dumps(bodies[0] if len(bodies) == 1 else bodies, indent=2))
    else:
        for body in bodies:
            _print_gaps(body)
    if not all(body["complete"] for body in bodies):
        raise typer.Exit(MISSING)


def _topics(kafka: dict[str, str], name: str) -> list[str]:
    """The topics of accounts that a person means."""
    from k2.bus.admin import topics_ending

    wanted = name.strip().lower()
    if "." in wanted:
        if TopicName.parse(wanted).data_type is not DataType.GAPS:
            raise UserError(
                "This is no topic of an account", found=wanted, expected="market.<asset class>.gaps.<exchange>"
            )
        return [wanted]
    found = topics_ending(kafka, f".{DataType.GAPS}.{wanted}")
    if not found:
        known = sorted({each.rsplit(".", 1)[1] for each in _all(kafka)})
        raise UserError(
            "No feed of this exchange keeps an account of gaps",
            found=name,
            expected=f"one of {', '.join(known)}" if known else "",
            remedy="" if known else "Give a live feed a stream with dataType: gaps (docs/gaps.md)",
        )
    return found


def _all(kafka: dict[str, str]) -> list[str]:
    from k2.bus.admin import topics_ending

    return [
        topic
        for topic in topics_ending(kafka, "")
        if topic.split(".")[2:3] == [DataType.GAPS] and topic.count(".") == 3
    ]


def _print_gaps(body: dict[str, Any]) -> None:
    # As wide as it wants to be: a number cut to fit a narrow terminal would be another number.
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    found = body["gaps"]
    if found:
        table = Table(box=None, pad_edge=False)
        for title in ("symbol", "state"):
            table.add_column(title, no_wrap=True)
        for title in ("first", "last", "trades"):
            table.add_column(title, justify="right", no_wrap=True)
        for title in ("from", "to", "since"):
            table.add_column(title, no_wrap=True)
        table.add_column("why")
        for each in found[:MOST_SHOWN]:
            numbers = ("" if each[part] is None else f"{each[part]}" for part in ("first", "last", "trades"))
            times = (_seconds(each[part], each["state"]) for part in ("after", "before", "since"))
            table.add_row(each["symbol"], each["state"], *numbers, *times, each["reason"])
        console.print(table, markup=False)
    if len(found) > MOST_SHOWN:
        console.print(f"… and {len(found) - MOST_SHOWN:,} more; --output json lists them.")
    for each in body["restarts"]:
        console.print(
            f"{each['symbol']}: the exchange numbers anew since {_seconds(each['at'], '')}: {each['first']} after {each['last_before']}",
            markup=False,
        )
    as_of = "nothing was told yet" if body["as_of"] is None else f"as of {_seconds(body['as_of'], '')}"
    refused = f", {body['dead_lettered']:,} refused (dead letters)" if body["dead_lettered"] else ""
    console.print(
        f"{body['topic']}: {body['open']:,} trades missing now, {body['filled']:,} filled, {body['unfillable']:,} unfillable, "
        f"{body['unknown']:,} times unknown{refused}; {as_of}",
        markup=False,
        style=None if body["complete"] else "bold red",
    )


def _seconds(time: str | None, state: str) -> str:
    """To the second; an unknown time that has no end yet is still going on."""
    if time is None:
        return "still" if state == "unknown" else ""
    return f"{time[:19]}Z"
