"""`k2 keys …`: the file of API keys as a person meets it. A key is printed once; the file holds what cannot open anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from k2.model.errors import UserError
from k2.model.identity import API_KEYS_FOLDER
from k2.model.settings import settings
from k2.model.times import DAY_US, duration_us, parse_time, to_datetime
from k2.model.topics import DataType

if TYPE_CHECKING:
    from k2.api.access.keys import ApiKey, KeyLimits, KeyRules

_UNITS = ("m", "h", "d", "w")
_LONGEST_DAYS = 36_525
SECRET = "k2-api-keys"  # noqa: S105 - its name
"""The Secret that the query service mounts, and its folder in the data directory of `k2 up`."""

_File = Annotated[
    Path | None,
    typer.Option("--file", help="The keys' file (default: the one that `k2 up` reads in the data directory)."),
]
_Name = Annotated[str, typer.Argument(help="Whose key it is: the name in logs. It may have several keys.")]
_Kubernetes = Annotated[
    bool, typer.Option("--kubernetes", help="Print the Secret of the whole file on stdout, and a new key on stderr.")
]
_SecretName = Annotated[str, typer.Option("--secret-name", help="With --kubernetes: name of the Secret.")]
_Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="With --kubernetes: its namespace.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keys_app = typer.Typer(
        help="API keys of the query service: who may ask, until when, what they see and how much.", no_args_is_help=True
    )
    keys_app.command("create", epilog="Example: k2 keys create desk --exchange ASX --oldest 2024-01-01 --rate 20")(
        create
    )
    keys_app.command("list", epilog="Example: k2 keys list --output json")(list_keys)
    keys_app.command("revoke", epilog="Example: k2 keys revoke aB3dE6gH")(revoke)
    keys_app.command("rotate", epilog="Example: k2 keys rotate desk --overlap 7d")(rotate)
    app.add_typer(keys_app, name="keys")


def create(
    name: _Name,
    expires: Annotated[str | None, typer.Option(help="When it stops to open: 90d, 12h, or a time.")] = None,
    not_before: Annotated[str | None, typer.Option(help="From when it opens: 1d, or a time.")] = None,
    exchange: Annotated[list[str] | None, typer.Option(help="It sees this exchange alone (repeatable).")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="It sees this symbol alone (repeatable).")] = None,
    table: Annotated[list[DataType] | None, typer.Option(help="It sees this table alone (repeatable).")] = None,
    oldest: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day (UTC) that it sees.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once (default: those of a second).")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests under way.")] = None,
    rows_per_day: Annotated[int | None, typer.Option(help="Rows in answers, per UTC day.")] = None,
    file: _File = None,
    kubernetes: _Kubernetes = False,
    secret_name: _SecretName = SECRET,
    namespace: _Namespace = None,
) -> None:
    """Make a key, add it to the file and print it: once, for nothing keeps it."""
    from k2.api.access.keys import new_key

    now = datetime.now(UTC)
    path, keys = _open(file)
    key, entry = new_key(
        name,
        now=now,
        not_before=_moment(not_before, "--not-before", now),
        expires=_moment(expires, "--expires", now),
        rules=_rules(table, exchange, symbol, None if oldest is None else oldest.date()),
        limits=_limits(rate, burst, concurrent, rows_per_day),
    )
    _save(path, [*keys, entry], key, kubernetes=kubernetes, secret=(secret_name, namespace))
    _say(f"{name}: key {entry.prefix} is in {path}; a service that reads the file opens to it at once")


def list_keys(
    file: _File = None,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json.")] = "table",
    kubernetes: _Kubernetes = False,
    secret_name: _SecretName = SECRET,
    namespace: _Namespace = None,
) -> None:
    """The keys of the file: names, prefixes, times, rules and limits."""
    path, keys = _open(file)
    now = datetime.now(UTC)
    if kubernetes:
        _print_secret(keys, secret_name, namespace)
        return
    shown = [entry.model_dump(mode="json", exclude={"sha256"}, exclude_none=True) for entry in keys]
    for record, entry in zip(shown, keys, strict=True):
        record["state"] = entry.state(now)
    if output == "json":
        print(json.dumps(shown, indent=2))
        return
    if output != "table":
        raise UserError("--output cannot be used", found=output, expected="table or json")
    grid = Table(box=None, pad_edge=False)
    for heading in ("name", "prefix", "state", "created", "not before", "expires", "rules", "limits"):
        grid.add_column(heading, no_wrap=True)
    for record in shown:
        times = [str(record.get(field, ""))[:16] for field in ("created", "not_before", "expires")]
        grid.add_row(record["name"], record.get("prefix", ""), record["state"], *times, *map(_brief, _both(record)))
    Console(width=10_000, highlight=False).print(grid)
    _say(f"{len(keys)} keys in {path}")


def revoke(
    which: Annotated[str, typer.Argument(help="Prefix of a key (see `k2 keys list`), or the name of its holder.")],
    every: Annotated[bool, typer.Option("--all", help="All keys of the name.")] = False,
    file: _File = None,
    kubernetes: _Kubernetes = False,
    secret_name: _SecretName = SECRET,
    namespace: _Namespace = None,
) -> None:
    """Take a key out of the file: it opens nothing from the next request on."""
    path, keys = _open(file)
    gone = [entry for entry in keys if entry.prefix == which]
    if not gone:
        gone = [entry for entry in keys if entry.name == which]
    if not gone:
        raise UserError("There is no such key", found=which, expected=f"a prefix or name of {path}")
    if len(gone) > 1 and not every:
        prefixes = ", ".join(entry.prefix or "(no prefix)" for entry in gone)
        raise UserError(f"{which} has several keys", found=prefixes, expected="a prefix, or --all")
    left = [entry for entry in keys if entry not in gone]
    _save(path, left, None, kubernetes=kubernetes, secret=(secret_name, namespace))
    _say(f"{len(gone)} of {len(keys)} keys taken out of {path}")


def rotate(
    name: _Name,
    overlap: Annotated[str, typer.Option(help="How long the keys before it stay good: 7d, 12h, 0m.")] = "7d",
    expires: Annotated[str | None, typer.Option(help="When the new one stops to open: 90d, or a time.")] = None,
    file: _File = None,
    kubernetes: _Kubernetes = False,
    secret_name: _SecretName = SECRET,
    namespace: _Namespace = None,
) -> None:
    """Make a further key with the rules and limits of the newest of the name; those before it expire after the overlap."""
    from k2.api.access.keys import new_key

    now = datetime.now(UTC)
    path, keys = _open(file)
    before = [entry for entry in keys if entry.name == name]
    if not before:
        raise UserError("There is no key of that name", found=name, expected=f"a name in {path}")
    end = (now + _duration(overlap, "--overlap")).replace(microsecond=0)
    # Nobody's key lives longer by this; those that have expired are cleared away.
    kept = [
        entry.model_copy(update={"expires": min(entry.expires or end, end)}) if entry.name == name else entry
        for entry in keys
        if entry.state(now) != "expired" or entry.name != name
    ]
    newest = before[-1]
    key, entry = new_key(
        name, now=now, expires=_moment(expires, "--expires", now), rules=newest.rules, limits=newest.limits
    )
    _save(path, [*kept, entry], key, kubernetes=kubernetes, secret=(secret_name, namespace))
    _say(f"{name}: key {entry.prefix} is in {path}; the keys before it open until {end:%Y-%m-%dT%H:%M:%SZ}")


def _open(file: Path | None) -> tuple[Path, tuple[ApiKey, ...]]:
    from k2.api.access.keys import read_keys

    path = file or settings().data_dir / API_KEYS_FOLDER / "keys.json"
    return path, read_keys(path)


def _save(
    path: Path, keys: Sequence[ApiKey], key: str | None, *, kubernetes: bool, secret: tuple[str, str | None]
) -> None:
    from k2.api.access.keys import write_keys

    write_keys(path, keys)
    if kubernetes:
        _print_secret(keys, *secret)
    if key is not None:
        print(key, file=sys.stderr if kubernetes else sys.stdout)


def _print_secret(keys: Sequence[ApiKey], name: str, namespace: str | None) -> None:
    from k2.api.access.keys import kubernetes_secret

    print(yaml.safe_dump(kubernetes_secret(keys, name, namespace), sort_keys=False), end="")


def _rules(
    tables: list[DataType] | None, exchanges: list[str] | None, symbols: list[str] | None, oldest: date | None
) -> KeyRules | None:
    from k2.api.access.keys import KeyRules
    from k2.query.asked.requests import check_symbol, exchange_code

    if not (tables or exchanges or symbols or oldest):
        return None
    codes = [exchange_code(code) for code in exchanges or ()]
    return KeyRules(
        tables=tuple(tables) if tables else None,
        exchanges=tuple(code for code in codes if code is not None) or None,
        symbols=tuple(check_symbol(symbol) for symbol in symbols or ()) or None,
        oldest=oldest,
    )


def _limits(rate: float | None, burst: int | None, concurrent: int | None, rows: int | None) -> KeyLimits | None:
    from pydantic import ValidationError

    from k2.api.access.keys import KeyLimits

    given: dict[str, Any] = {
        "requests_per_second": rate,
        "burst": burst,
        "concurrent": concurrent,
        "rows_per_day": rows,
    }
    if all(value is None for value in given.values()):
        return None
    if burst is not None and rate is None:
        raise UserError("--burst means nothing without --rate", expected="both")
    try:
        return KeyLimits.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{first['loc'][0]} cannot be used", found=first["input"], expected=first["msg"]) from error


def _moment(text: str | None, option: str, now: datetime) -> datetime | None:
    if text is None:
        return None
    if duration_us(text, _UNITS) is not None:
        return (now + _duration(text, option)).replace(microsecond=0)
    return to_datetime(parse_time(text, option))


def _duration(text: str, option: str) -> timedelta:
    found = duration_us(text, _UNITS)
    if found is None:
        raise UserError(f"{option} is no duration", found=text, expected="a number and m, h, d or w, such as 7d")
    if found > _LONGEST_DAYS * DAY_US:
        raise UserError(f"{option} is too long", found=text, expected="at most 100 years")
    return timedelta(microseconds=found)


def _both(record: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return record.get("rules", {}), record.get("limits", {})


def _brief(values: dict[str, Any]) -> str:
    return " ".join(f"{name}={','.join(v) if isinstance(v, list) else v}" for name, v in values.items())


def _say(text: str) -> None:
    print(text, file=sys.stderr)
