"""`k2 upkeep bars`: what a person sees of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from k2.cli_upkeep.options import DryRun, Output
from k2.model.errors import UserError
from k2.model.exchanges import Session
from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.query.stored.refresh import Refreshed

EXAMPLE = "Example: k2 upkeep bars --table market_data.bars_1m --of market_data.trades --dry-run"
DIFFER = 1
"""Exit code when stored bars are not what the trades say."""


def bars(
    *,
    table: Annotated[
        str, typer.Option("--table", "-t", help="The table of bars, `namespace.name`; made by the first run.")
    ],
    of: Annotated[str, typer.Option("--of", help="The table of trades.")] = "market_data.trades",
    session: Annotated[
        list[Session] | None, typer.Option(help="Bars of these sessions (repeatable; default: all and regular).")
    ] = None,
    everything: Annotated[bool, typer.Option("--everything", help="Compute every day again.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compute every day, compare with what is stored, and write nothing.")
    ] = False,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Keep one-minute bars of a table of trades in a table of their own, exactly as the trades say.

    Days that trades came to, or went from, since the last run are computed again as a whole, however old they are; one commit puts their
    bars in the place of those before. Exit code 1 when --check finds bars that are not what the trades say, or that are missing.
    """
    from k2.model.workload import QueryConfig
    from k2.query.opening import open_questions
    from k2.query.stored.refresh import StoredBars

    if check and dry_run:
        raise UserError("Both --check and --dry-run are given", expected="one of them")
    questions, engine = open_questions(QueryConfig(timeout_seconds=3_600), settings())
    try:
        stored = StoredBars(questions.planner, engine, of, table, session or tuple(Session))
        with _bar() as told:
            done = stored.refresh(everything=everything, dry_run=dry_run, check=check, told=told)
    finally:
        questions.close()
        engine.close()
    print(json.dumps(asdict(done), indent=2) if output == "json" else _sentence(done, dry_run=dry_run, check=check))
    if check and done.differ:
        raise typer.Exit(DIFFER)


def _sentence(done: Refreshed, *, dry_run: bool, check: bool) -> str:
    if done.snapshot_id is None:
        return f"{done.table}: {done.why}"
    days = f"{done.days:,} {'day' if done.days == 1 else 'days'}"
    figures = f"{done.bars_new:,} new, {done.bars_revised:,} revised, {done.bars_gone:,} gone"
    if dry_run:
        return f"{done.table}: {days} would be computed ({done.why}); nothing was done"
    if check:
        verdict = "as the trades say" if not done.differ else f"NOT what the trades say: {figures}"
        return f"{done.table}: {days} compared with snapshot {done.snapshot_id} of {done.of}: {verdict}"
    made = "as it was" if done.committed is None else f"snapshot {done.committed}"
    return (
        f"{done.table}: {days} computed from snapshot {done.snapshot_id} of {done.of} ({done.why}): {figures}; {made}"
    )


@contextmanager
def _bar() -> Generator[Callable[[int, int], None]]:
    """How far it is, on a terminal; nothing in a log."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("days"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("bars", total=None)
        yield lambda done, days: bar.update(task, completed=done, total=days)
