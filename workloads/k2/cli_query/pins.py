"""Commands that fix the snapshots of several tables: pin, pins, unpin."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from k2.cli_query.destination import write
from k2.cli_query.options import As, Local, Output, Url, examples, opened
from k2.cli_query.printing import print_records, say
from k2.cli_query.waiting import Waiting
from k2.model.errors import UserError
from k2.model.times import SECOND_US, duration_us
from k2.model.topics import DataType

_HELD = ("snapshot_time", "snapshot_id")
_UNITS = ("s", "m", "h", "d", "w")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "k2-query pin --ttl 7d",
            "PIN=$(k2-query pin); k2-query trades BHP --pin $PIN; k2-query quotes BHP --pin $PIN",
        )
    )(pin)
    app.command(epilog=examples("k2-query pins"))(pins)
    app.command(epilog=examples("k2-query unpin $(k2-query pin)"))(unpin)


def pin(
    table: Annotated[
        list[DataType] | None, typer.Option(help="Of this table (repeatable; default: trades and quotes).")
    ] = None,
    as_of: Annotated[str | None, typer.Option(help="The snapshots of this time (default: the current ones).")] = None,
    snapshot: Annotated[
        list[str] | None, typer.Option(metavar="TABLE=ID", help="This snapshot of a table (repeatable).")
    ] = None,
    ttl: Annotated[str, typer.Option(help="For how long: 10m, 12h, 7d; at most 30d.")] = "1d",
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Fix the snapshots of tables at one moment, and keep them from being expired. Prints the pin, for `--pin`."""
    body: dict[str, Any] = {
        "as_of": as_of,
        "snapshots": dict(map(_pair, snapshot)) if snapshot else None,
        "ttl_seconds": _seconds(ttl),
        "tables": [each.value for each in table] if table else None,
    }
    with opened(local=local, url=url) as client, Waiting():
        made = client.make_pin(body)
    if output is Output.TABLE:
        write(f"{made['pin']}\n".encode())
        held = ", ".join(f"{name} at {each['snapshot_time']}" for name, each in _named(made).items())
        say(f"until {made['until']}: {held}")
    else:
        print_records([made], output, whole=made, columns=("pin",))


def pins(output: As = Output.TABLE, local: Local = False, url: Url = None) -> None:
    """Pins that have not lapsed, the first to lapse first."""
    with opened(local=local, url=url) as client, Waiting():
        found = client.pins()
    shown = [
        {"pin": each["pin"], "until": each["until"]}
        | {f"{table} {name}": held[name] for table, held in _named(each).items() for name in _HELD}
        for each in found["data"]
    ]
    columns = list(dict.fromkeys(name for each in shown for name in each)) or ["pin", "until"]
    complete = [dict.fromkeys(columns) | each for each in shown]
    print_records(complete, output, whole=found, columns=columns)


def _named(pin: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What a pin holds of each table: by its data type, or where that has several by its own name."""
    held: list[dict[str, str]] = pin["snapshots"]
    first = {each["table"] for each in pin["tables"].values()}
    return {each["data_type"] if each["table"] in first else each["table"]: each for each in held}


def unpin(
    pin: Annotated[str, typer.Argument(help="A pin (see `pins`).")], local: Local = False, url: Url = None
) -> None:
    """Let go of a pin: its snapshots may be expired from now on."""
    with opened(local=local, url=url) as client, Waiting():
        client.delete_pin(pin)
    say(f"{pin} is gone")


def _seconds(text: str) -> int:
    found = duration_us(text, _UNITS)
    if found is None:
        raise UserError("--ttl is no duration", found=text, expected="a number and s, m, h, d or w, such as 7d")
    return found // SECOND_US


def _pair(text: str) -> tuple[str, str]:
    table, found, snapshot = text.partition("=")
    if not found:
        raise UserError("--snapshot of a pin", found=text, expected="TABLE=ID, such as trades=6427219016970560606")
    return table, snapshot
