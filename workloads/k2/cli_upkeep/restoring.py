"""`k2 upkeep restore`: what a person sees of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from k2.cli_upkeep.options import DryRun, Output, TableName, record
from k2.cli_upkeep.scrubbing import damaged_figures
from k2.model.errors import UserError
from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.lake.catalog import TableSource
    from k2.lake.upkeep.restore import Restored

INCOMPLETE = 1
"""Exit code when the topics do not have all of the rows any more."""


def restore(
    *,
    table: TableName,
    file: Annotated[
        list[str] | None, typer.Option(help="A file by its name below the table's location. May be given again.")
    ] = None,
    all_damaged: Annotated[
        bool, typer.Option("--all-damaged", help="All files that the last scrub found damaged, or that are gone.")
    ] = False,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Commit also when the topics do not have all of the rows any more. The others are lost."
        ),
    ] = False,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Build the rows of damaged or missing files again from the topics that they came from, and put them in the files' place.

    Every row comes back exactly once: what other files hold, dead letters and duplicates are not read into it, and as many rows as the files'
    manifests say have to come out. Nothing is committed otherwise. What the topics have no more is told by range, with exit code 1.
    """
    from k2.bus.registry import Schemas
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep.restore import Restorer
    from k2.obs.stopping import stop_on_signals
    from k2.sink.again import TopicsAgain

    if bool(file) == all_damaged:
        raise UserError(
            "It is to be said which files",
            expected="--file NAME, or --all-damaged",
            remedy="k2 upkeep scrub names those that are damaged",
        )
    env, began = settings(), time.monotonic()
    catalog, schemas = LastingCatalog(env), Schemas(env.registry_config)
    try:
        with stop_on_signals(second_ends=True) as stop, _bar() as told:
            topics = TopicsAgain(env.kafka_config, schemas, catalog, table)
            restorer = Restorer(catalog, table, topics, progress=told, stop=stop)
            paths = restorer.damaged() if all_damaged else restorer.named(file or [])
            done = restorer.run(paths, partial=partial, dry_run=dry_run)
    finally:
        schemas.close()
    if done.snapshot_id is not None:
        figures = {"files": len(done.files), "rows": done.rows, "found": done.found, "tries": done.tries}
        record(catalog, table, "restore", began, figures)
        _tell_scrub(catalog, table)
    _show(done, output, dry_run=dry_run)
    if not done.whole:
        raise typer.Exit(INCOMPLETE)


def _tell_scrub(catalog: TableSource, identifier: str) -> None:
    """What the last scrub left in the table is so no more."""
    from dataclasses import replace

    from k2.lake.catalog import load_table
    from k2.lake.upkeep.scrub import damaged_now
    from k2.lake.upkeep_runs import last_runs, record_run

    table = load_table(catalog, identifier)
    if (run := last_runs(table.metadata).get("scrub")) is not None:
        record_run(catalog, identifier, replace(run, figures={**run.figures, **damaged_figures(damaged_now(table))}))


def _show(done: Restored, output: str, *, dry_run: bool) -> None:
    if output == "json":
        print(json.dumps(asdict(done) | {"whole": done.whole}, indent=2))
        return
    for name in done.files:
        print(name)
    for each in done.gone:
        print(f"no topic has any more: {each}")
    what = f"{done.table}: {len(done.files):,} files of {done.rows:,} rows"
    if not done.files:
        print(f"{done.table}: no file is damaged or gone")
    elif dry_run:
        rest = (
            "the topics have all offsets that may be theirs"
            if done.whole
            else "some of their offsets are gone, as said above"
        )
        print(f"{what} would be built again: {rest}; nothing was done")
    elif done.snapshot_id is None:
        print(
            f"{what}: the topics give {done.found or 0:,} of them; nothing was done. To go on without the others: --partial"
        )
    else:
        print(
            f"{what} were built again with {done.found or 0:,} rows in {done.seconds:.1f} s, {done.tries} tries: snapshot {done.snapshot_id}"
        )


@contextmanager
def _bar() -> Generator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("restore"), BarColumn(), MofNCompleteColumn(), TextColumn("offsets"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda read, total: bar.update(task, completed=read, total=total)
