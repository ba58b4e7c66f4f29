"""`k2 feed …`: what a live feed hears and has not got. docs/gaps.md."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Grid

from k2.model.errors import UserError
from k2.model.settings import settings
from k2.model.topics import DataType, TopicName

MISSING = 1
"""Exit code when something is missing."""

MOST_SHOWN = 100


def register(app: typer.Typer) -> None:
    """Add the commands."""
    feed_app = typer.Typer(help="Live feeds: what they have not got, since when and why.", no_args_is_help=True)
    feed_app.command("gaps", epilog="Example: k2 feed gaps binance")(gaps)
    app.add_typer(feed_app, name="feed")


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
            _print(body)
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


def _print(body: dict[str, Any]) -> None:
    # As wide as it wants to be: a number cut to fit a narrow terminal would be another number.
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    found = body["gaps"]
    if found:
        grid = Grid(box=None, pad_edge=False)
        for title in ("symbol", "state"):
            grid.add_column(title, no_wrap=True)
        for title in ("first", "last", "trades"):
            grid.add_column(title, justify="right", no_wrap=True)
        for title in ("from", "to", "since"):
            grid.add_column(title, no_wrap=True)
        grid.add_column("why")
        for each in found[:MOST_SHOWN]:
            numbers = ("" if each[part] is None else f"{each[part]}" for part in ("first", "last", "trades"))
            times = (_seconds(each[part], each["state"]) for part in ("after", "before", "since"))
            grid.add_row(each["symbol"], each["state"], *numbers, *times, each["reason"])
        console.print(grid, markup=False)
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
