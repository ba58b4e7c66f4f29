"""`k2 audit …`: proof that tables hold what they say, and what a person accepts of what it finds."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid
from typer.core import TyperGroup

from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings, settings

if TYPE_CHECKING:
    from k2.lake.proof.audit import Audit
    from k2.lake.proof.deep import DeepAudit
    from k2.lake.proof.sequence_audit import SequenceAudit
    from k2.model.sequences import SequenceScope

FOUND = 1
"""Exit code of `k2 audit` when anything is missing or doubled."""

MOST_DAYS = 20
"""Days with missing or doubled numbers that are printed."""

_DEFAULT = "tables"


class _TablesByDefault(TyperGroup):
    """`k2 audit …` is `k2 audit tables …`: nobody should have to say it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit_app = typer.Typer(
        cls=_TablesByDefault,
        help="Prove that tables hold every offset they say, once. `k2 audit` is short for `k2 audit tables`.",
    )
    audit_app.command(_DEFAULT)(audit)
    audit_app.command("accept")(accept)
    app.add_typer(audit_app, name="audit")


def audit(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables; default: trades, quotes, reference_data.")] = None,
    output: Annotated[str, typer.Option(help="table or json.")] = "table",
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask Kafka for the topics' ends.")] = False,
    sequences: Annotated[
        Literal["symbol", "exchange", "symbol-continuous", "exchange-continuous"] | None,
        typer.Option(
            help="Also show which numbers of the source's own sequence are missing or there twice, by trading day. symbol: each "
            "symbol's events are numbered for themselves; exchange: those of all symbols together; with -continuous: the numbers "
            "go on over midnight, without end."
        ),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Read every byte instead: whether each file is what was written, by its digest. Can be stopped, and goes on.",
        ),
    ] = False,
    progress: Annotated[
        Path | None, typer.Option(help="Where --deep keeps how far it came (default: in the data directory).")
    ] = None,
) -> None:
    """Prove that tables hold every offset they say, once: anything missing, doubled or broken ends with exit code 1.

    Files are looked for by a listing: one that is gone or was cut is found, a changed byte is not. What people decided of a
    table is told, and what it covers is no fault any more: `k2 audit accept`, `k2 sink reset`. What the source itself left out (--sequences) is shown, and is no fault of the table: it leaves the exit code alone.

    Examples:
        k2 audit
        k2 audit market_data.trades --output json
        k2 audit market_data.trades --sequences symbol
        k2 audit market_data.trades --deep
    """
    from k2.forms.audits import audit as audit_body
    from k2.forms.audits import sequences as sequences_body
    from k2.lake.catalog import open_catalog
    from k2.model.sequences import SequenceScope
    from k2.model.tables import NAMESPACE

    if output not in {"table", "json"}:
        raise UserError("Unknown output", found=output, expected="table or json")
    if deep and sequences is not None:
        raise UserError("--deep looks at bytes, --sequences at numbers", expected="one of them")
    if progress is not None and (not deep or len(tables or ()) != 1):
        raise UserError(
            "--progress is of the deep audit of one table", expected="k2 audit TABLE --deep --progress FILE"
        )
    env = settings()
    catalog = open_catalog(env)
    names = tables or [f"{namespace}.{name}" for namespace, name in catalog.list_tables(NAMESPACE)]
    if deep:
        found_deep = [deep_one(env, name, progress) for name in sorted(names)]
        _print_deep(found_deep, output)
        if not all(each.ok for each in found_deep):
            raise typer.Exit(FOUND)
        return
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


def accept(
    tables: Annotated[list[str], typer.Argument(help="The tables, `namespace.name`.")],
    reason: Annotated[str, typer.Option(help="Why it is right as it is; each later audit tells it.")],
    by: Annotated[str | None, typer.Option(help="Who decides (default: this user at this host).")] = None,
) -> None:
    """Accept what an audit finds now: a deliberate delete, or a back-fill by another engine, is no fault any more.

    Audits the tables and shows what is accepted. Only that is: what goes missing later is found as ever, and so is this when
    it changes. The table keeps who accepted what, when and why; each later audit tells it.

    Examples:
        k2 audit accept market_data.trades --reason "2014-03-10 deleted on request of the exchange, ticket 4711"
    """
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.proof.decisions import sign
    from k2.lake.proof.reset import accept as record

    env = settings()
    for name in sorted(tables):
        found = audit_one(env, name, offline=True)
        _print(found)
        record(load_table(open_catalog(env), name), found, sign(reason, by))
        Console(stderr=True).print(f"{name}: accepted; k2 audit tells it from now on", markup=False, highlight=False)


def audit_one(env: Settings, name: str, *, offline: bool) -> Audit:
    """Audit one table, with a progress bar on stderr."""
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.offsets import recorded_offsets
    from k2.lake.proof.audit import audit_table

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


def deep_one(env: Settings, name: str, progress: Path | None) -> DeepAudit:
    """Read every byte of one table, with a progress bar on stderr."""
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.proof.deep import audit_deep

    table = load_table(open_catalog(env), name)
    kept = progress or env.data_dir / "audit" / f"{table.metadata.table_uuid}.jsonl"
    with _progress(f"every byte of {name}") as told:
        return audit_deep(table, kept, told)


def sequences_one(env: Settings, name: str, scope: SequenceScope) -> SequenceAudit:
    """Look at the source's numbers in one table, with a progress bar on stderr."""
    from k2.lake.catalog import load_table, open_catalog
    from k2.lake.proof.sequence_audit import audit_sequences

    with _progress(f"sequences of {name}") as told:
        return audit_sequences(load_table(open_catalog(env), name), scope, told)


_COUNTS = (
    "first",
    "next",
    "rows",
    "duplicates",
    "dead_letters",
    "lost",
    "non_records",
    "missing",
    "doubled",
    "behind",
)
_TITLES = {"non_records": "no record"}


@contextmanager
def _progress(what: str) -> Generator[Callable[[int, int], None]]:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _console() -> Console:
    # As wide as it wants to be: a number cut to fit a narrow terminal would be another number.
    return Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)


def _print_deep(audits: Sequence[DeepAudit], output: str) -> None:
    from k2.forms.audits import deep

    if output == "json":
        print(json.dumps([deep(each) for each in audits], indent=2))
        return
    console = _console()
    for found in audits:
        for each in found.findings:
            where = f": {each.where}" if each.where else ""
            console.print(f"file {each.name} {each.problem}{where}", markup=False)
        by_pages = f", {found.by_pages:,} without a digest, by their pages" if found.by_pages else ""
        console.print(
            f"{found.table}: {found.files:,} files, {found.by_digest:,} byte for byte as they were written{by_pages}, "
            f"{len(found.findings):,} NOT ({found.bytes:,} bytes)\n"
            if found.findings
            else f"{found.table}: {found.files:,} files, {found.by_digest:,} byte for byte as they were written{by_pages} "
            f"({found.bytes:,} bytes)\n",
            style=None if found.ok else "bold red",
        )


def _print_sequences(table: str, found: SequenceAudit) -> None:
    from k2.lake.proof.sequence_audit import worst

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
            grid.add_row(
                who, "all" if each.day is None else each.day.isoformat(), *(f"{number:,}" for number in numbers)
            )
        console.print(grid)
    if len(days) > MOST_DAYS:
        console.print(f"… and {len(days) - MOST_DAYS:,} more with fewer missing; --output json lists them.")
    said = (
        f"{found.rows:,} numbers of the source's own, by {found.scope.described}: {found.missing:,} missing, "
        f"{found.duplicated:,} there more than once"
    )
    without = f"; {found.unnumbered:,} rows have none" if found.unnumbered else ""
    console.print(f"{table}: {said}{without}. What the source left out never reached K2.\n")


def _print(found: Audit) -> None:
    from k2.forms.audit_text import lines, verdict
    from k2.forms.audits import audit as audit_body

    console, body = _console(), audit_body(found)
    grid = Grid(box=None, pad_edge=False)
    grid.add_column("topic/partition", no_wrap=True)
    for name in _COUNTS:
        grid.add_column(_TITLES.get(name, name.replace("_", " ")), justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    for part in body["partitions"]:
        part["doubled"] += part["outside"]
        cells = ["?" if part[name] is None else f"{part[name]:,}" for name in _COUNTS]
        grid.add_row(f"{part['topic']}/{part['partition']}", *cells, verdict(part))
    if body["partitions"]:
        console.print(grid)
    for line in lines(body):
        # As text: what stands in brackets in a person's reason is no markup.
        console.print(line, markup=False, style=None if found.ok else "bold red")
    console.print()
