"""`k2 sink …` and `k2 audit`: the sink as a person meets it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid

from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings, settings

if TYPE_CHECKING:
    from k2.lake.audit import Audit
    from k2.lake.sequence_audit import SequenceAudit
    from k2.model.sequences import SequenceScope

FOUND = 1
"""Exit code of `k2 audit` when anything is missing or doubled."""

MOST_DAYS = 20
"""Days with missing or doubled numbers that are printed."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    sink_app = typer.Typer(help="What a person decides for a sink that refused to go on.", no_args_is_help=True)
    sink_app.command("reset")(reset)
    app.add_typer(sink_app, name="sink")
    app.command("audit")(audit)


def reset(
    table: Annotated[str, typer.Argument(help="The table, `namespace.name`.")],
    to_snapshot: Annotated[
        int | None, typer.Option(help="Take the offsets of this snapshot (the current one, after a rollback).")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The topic, for --forget and --skip-to-earliest.")] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="The topic was made anew: read it from its beginning.")
    ] = False,
    skip_to_earliest: Annotated[
        bool, typer.Option("--skip-to-earliest", help="Give up what retention deleted; counted as lost in the audit.")
    ] = False,
) -> None:
    """Decide where a sink goes on that refused to (rolled-back table, topic made anew, retention). Stop the sink first."""
    from k2.bus.admin import beginning_offsets
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.reset import forget_topic, reset_to_snapshot
    from k2.lake.reset import skip_to_earliest as skip

    chosen = [to_snapshot is not None, forget, skip_to_earliest]
    if sum(chosen) != 1 or ((forget or skip_to_earliest) and topic is None):
        raise UserError(
            "k2 sink reset needs one decision",
            expected="--to-snapshot ID, or --topic T with --forget or with --skip-to-earliest",
        )
    env = settings()
    loaded = load_table(open_catalog(env), table)
    if to_snapshot is not None:
        offsets = reset_to_snapshot(loaded, to_snapshot)
    elif forget:
        offsets = forget_topic(loaded, topic or "")
    else:
        offsets = skip(loaded, topic or "", beginning_offsets(env.kafka_config(), topic or ""))
    Console(stderr=True).print(f"{table} now records: {offsets.to_json()}", highlight=False, soft_wrap=True)


def audit(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables; default: trades, quotes, reference_data.")] = None,
    output: Annotated[str, typer.Option(help="table or json.")] = "table",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask Kafka for the topics' ends.")] = False,
    sequences: Annotated[
        Literal["symbol", "exchange"] | None,
        typer.Option(
            help="Also show which numbers of the source's own sequence are missing or there twice, by trading day. symbol: each "
            "symbol's events are numbered for themselves; exchange: those of all symbols together."
        ),
    ] = None,
) -> None:
    """Prove that tables hold every offset they say, once: missing or doubled rows end with exit code 1.

    What the source itself left out (--sequences) is shown, and is no fault of the table: it leaves the exit code alone.

    Examples:
        k2 audit
        k2 audit market_data.trades --output json
        k2 audit market_data.trades --sequences symbol
    """
    from k2.forms.audits import audit as audit_body
    from k2.forms.audits import sequences as sequences_body
    from k2.lake.catalog import open_catalog
    from k2.model.sequences import SequenceScope
    from k2.model.tables import NAMESPACE

    if output not in {"table", "json"}:
        raise UserError("Unknown output", found=output, expected="table or json")
    env = settings()
    catalog = open_catalog(env)
    names = tables or [f"{namespace}.{name}" for namespace, name in catalog.list_tables(NAMESPACE)]
    audits = [audit_one(env, name, offline=offline) for name in sorted(names)]
    scope = None if sequences is None else SequenceScope(sequences)
    numbers = [None if scope is None else sequences_one(env, name, scope) for name in sorted(names)]
    pairs = list(zip(audits, numbers, strict=True))
    if output == "json":
        bodies = [
            audit_body(found) | ({} if each is None else {"sequences": sequences_body(each)}) for found, each in pairs
        ]
        print(json.dumps(bodies, indent=2))
    else:
        for found, each in pairs:
            _print(found)
            if each is not None:
                _print_sequences(found.table, each)
    if not all(found.ok for found in audits):
        raise typer.Exit(FOUND)


def audit_one(env: Settings, name: str, *, offline: bool) -> Audit:
    """Audit one table, with a progress bar on stderr."""
    from k2.lake.audit import audit_table
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.offsets import recorded_offsets

    table = load_table(open_catalog(env), name)
    ends: dict[str, dict[int, int]] = {}
    if not offline:
        from k2.bus.admin import end_offsets, topic_ids

        # A topic that is gone is not compared: what was read of it is in the table all the same.
        known = recorded_offsets(table).topics
        try:
            there = topic_ids(env.kafka_config(), known) if known else {}
            same = [topic for topic in there if there[topic] == known[topic].topic_id]
            ends = {topic: end_offsets(env.kafka_config(), topic) for topic in same}
        except WorldError as error:
            raise WorldError(f"{error}. To audit the table alone: k2 audit --offline") from error
    with _progress(f"audit {name}") as told:
        return audit_table(table, ends, told)


def sequences_one(env: Settings, name: str, scope: SequenceScope) -> SequenceAudit:
    """Look at the source's numbers in one table, with a progress bar on stderr."""
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.sequence_audit import audit_sequences

    with _progress(f"sequences of {name}") as told:
        return audit_sequences(load_table(open_catalog(env), name), scope, told)


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console() -> Console:
    # As wide as it wants to be: a number cut to fit a narrow terminal would be another number.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def _print_sequences(table: str, found: SequenceAudit) -> None:
    from k2.lake.sequence_audit import worst
    from k2.model.sequences import SequenceScope

    console = _console()
    days = worst(found)
    if days:
        grid = Grid(box=None, pad_edge=False)
        grid.add_column("sequence of", no_wrap=True)
        grid.add_column("trading day", no_wrap=True)
        for name in ("first", "last", "distinct", "missing", "duplicated"):
            grid.add_column(name, justify="right", no_wrap=True)
        for each in days[:MOST_DAYS]:
            numbers = (each.first, each.last, each.distinct, each.missing, each.duplicated)
            who = each.exchange if each.symbol is None else f"{each.exchange} {each.symbol}"
            grid.add_row(who, each.day.isoformat(), *(f"{number:,}" for number in numbers))
        console.print(grid)
    if len(days) > MOST_DAYS:
        console.print(f"… and {len(days) - MOST_DAYS:,} more with fewer missing; --output json lists them.")
    each = "symbol and trading day" if found.scope is SequenceScope.SYMBOL else "exchange and trading day"
    said = (
        f"{found.rows:,} numbers of the source's own, by {each}: {found.missing:,} missing, "
        f"{found.duplicated:,} there more than once"
    )
    without = f"; {found.unnumbered:,} rows have none" if found.unnumbered else ""
    console.print(f"{table}: {said}{without}. What the source left out never reached K2.\n")


def _print(found: Audit) -> None:
    console = _console()
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("topic/partition", no_wrap=True)
    columns = (
        "first",
        "next",
        "rows",
        "duplicates",
        "dead letters",
        "lost",
        "no record",
        "missing",
        "doubled",
        "behind",
    )
    for name in columns:
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for part in found.partitions:
        held = part.offsets
        numbers = (held.first, held.next, part.rows, held.duplicates, held.dead_letters, held.lost, held.non_records)
        findings = (part.missing, part.doubled + part.outside)
        verdict = "ok" if part.ok else f"WRONG at offsets {', '.join(map(str, part.examples)) or 'beyond next'}"
        behind = "?" if part.behind is None else f"{part.behind:,}"
        cells = [f"{number:,}" for number in (*numbers, *findings)]
        grid.add_row(f"{part.topic}/{part.partition}", *cells, behind, verdict)
    if found.partitions:
        console.print(grid)
    total = sum(part.rows for part in found.partitions)
    at = f" at snapshot {found.snapshot_id}" if found.snapshot_id else ""
    if found.ok:
        console.print(f"{found.table}{at}: {total:,} rows, every offset once, nothing missing.\n")
    else:
        strangers = f" {found.strangers:,} rows come from topics that it does not know." if found.strangers else ""
        console.print(f"{found.table}{at}: NOT what its offsets say; see above.{strangers}\n", style="bold red")
