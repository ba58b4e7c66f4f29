"""Commands about the tables themselves: what they hold, which snapshots there are, and whether nothing is missing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from k2.cli_query.destination import write
from k2.cli_query.options import As, AsOf, EventTable, Local, Output, Pin, Snapshot, Url, examples, opened
from k2.cli_query.printing import print_records, print_table, say
from k2.cli_query.waiting import Waiting
from k2.forms import audit_text
from k2.model.sequences import SequenceScope
from k2.model.topics import DataType

_NOT_WHOLE = 1
_SYMBOL = ("symbol", "exchange", "rows", "first_time", "last_time")
_STATS = ("table", "rows", "files", "bytes", "first_time", "last_time", "snapshots", "snapshot_id")
_SNAPSHOT = (
    "snapshot_id",
    "time",
    "current",
    "operation",
    "rows_added",
    "files_added",
    "total_rows",
    "total_files",
    "table",
)
_DAY = ("exchange", "symbol", "day", "first", "last", "distinct", "missing", "duplicated")
_MOST_DAYS = 20
_COUNTS = ("first", "next", "rows", "duplicates", "dead_letters", "lost", "non_records", "missing", "doubled", "behind")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples("k2-query symbols --table quotes", "k2-query symbols --exchange ASX --output csv | cut -d, -f1")
    )(symbols)
    app.command(epilog=examples("k2-query stats", 'k2-query stats --as-of "$(date -u +%FT%TZ)" --output json'))(stats)
    app.command(epilog=examples("k2-query snapshots --table trades -n 10"))(snapshots)
    app.command(epilog=examples("k2-query audit", "k2-query audit --table trades --sequences symbol --output json"))(
        audit
    )


def symbols(
    table: Annotated[EventTable, typer.Option(help="Which table.")] = EventTable.TRADES,
    exchange: Annotated[str | None, typer.Option(help="Only symbols of this exchange.")] = None,
    snapshot: Snapshot = None,
    as_of: AsOf = None,
    pin: Pin = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Every symbol with its exchange, number of rows, first and last time."""
    asked = {"table": table.value, "exchange": exchange, "snapshot": snapshot, "as_of": as_of, "pin": pin}
    with opened(local=local, url=url) as client, Waiting():
        found = client.symbols(asked)
    print_records(found["data"], output, whole=found, columns=_SYMBOL)


def stats(as_of: AsOf = None, output: As = Output.TABLE, local: Local = False, url: Url = None) -> None:
    """Size and reach of each table, and how far it has taken its topics."""
    with opened(local=local, url=url) as client, Waiting():
        found = client.stats({"as_of": as_of})
    print_records(found["tables"], output, whole=found, columns=_STATS)


def snapshots(
    table: Annotated[DataType, typer.Option(help="Which table.")] = DataType.TRADES,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most snapshots.")] = 20,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Retained snapshots, newest first: what each added, and the totals after it."""
    with opened(local=local, url=url) as client, Waiting():
        found = client.snapshots({"table": table.value, "limit": limit})
    print_records(found["data"], output, whole=found, columns=_SNAPSHOT)


def audit(
    table: Annotated[DataType | None, typer.Option(help="This table (default: all).", show_default=False)] = None,
    sequences: Annotated[
        SequenceScope | None,
        typer.Option(
            help="Also which of the source's own numbers are missing or there twice, by trading day: `symbol`, where each "
            "symbol's events are numbered for themselves, `exchange`, where those of all are; with `-continuous`: over midnight, without end.",
            show_default=False,
        ),
    ] = None,
    output: As = Output.TABLE,
    local: Local = False,
    url: Url = None,
) -> None:
    """Whether every offset that the tables record is in them once. Exit code 1 when anything is missing or doubled."""
    with opened(local=local, url=url) as client, Waiting("counting"):
        asked = {"table": table, "sequences": sequences}
        found = client.audit({name: None if value is None else value.value for name, value in asked.items()})
    if output is Output.TABLE:
        for each in found["tables"]:
            _print_audit(each)
            if each.get("sequences"):
                _print_sequences(each["table"], each["sequences"])
    else:
        parts = [{"table": each["table"], **part} for each in found["tables"] for part in each["partitions"]]
        print_records(parts, output, whole=found, columns=("table", "topic", "partition", *_COUNTS, "ok"))
    if not found["ok"]:
        say("NOT every offset is in the tables once")
        raise typer.Exit(_NOT_WHOLE)


def _print_audit(found: dict[str, Any]) -> None:
    rows = [
        (f"{part['topic']}/{part['partition']}", *(part.get(name) for name in _COUNTS), audit_text.verdict(part))
        for part in found["partitions"]
    ]
    if rows:
        print_table(("topic/partition", *(name.replace("_", " ") for name in _COUNTS), ""), rows)
    lines = audit_text.lines(found)
    if found.get("topics_unknown"):
        lines.append(f"how far it is behind is not known: {found['topics_unknown']}")
    write("".join(f"{line}\n" for line in [*lines, ""]).encode())


def _print_sequences(table: str, found: dict[str, Any]) -> None:
    """The days with most missing or doubled numbers; that is the source's doing, and no fault of the table."""
    days = [day for day in found["days"] if day["missing"] or day["duplicated"]]
    days.sort(key=lambda day: (-day["missing"], -day["duplicated"]))
    if days:
        print_table(_DAY, [[day[name] for name in _DAY] for day in days[:_MOST_DAYS]])
    more = f" ({len(days) - _MOST_DAYS:,} more days: --output json)" if len(days) > _MOST_DAYS else ""
    said = f"{found['missing']:,} missing, {found['duplicated']:,} there more than once{more}"
    without = f"; {found['unnumbered']:,} rows have none" if found["unnumbered"] else ""
    text = f"{table}: {found['rows']:,} numbers of the source's own, by {SequenceScope(found['scope']).described}: {said}{without}"
    write(f"{text}\n\n".encode())
