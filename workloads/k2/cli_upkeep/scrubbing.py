"""`k2 upkeep scrub`: what a person sees of it."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from k2.cli_upkeep.options import SECOND_US, DryRun, Output, TableName, bytes_a_second, mib, record
from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.lake.upkeep.scrub import DamagedFile, Scrubbed, ScrubProgress

DAMAGED = 1
"""Exit code when a file is not what was written."""

MOST_NAMED = 3
"""Damaged files that the table's own record of the run names."""


def scrub(
    *,
    table: TableName,
    rate: Annotated[
        str, typer.Option(help="Read so many bytes a second at most, such as 50MB/s; 0: without a limit.")
    ] = "0",
    older_than_seconds: Annotated[
        int,
        typer.Option(min=0, help="Leave files that were checked within so many seconds: what a run before has read."),
    ] = 7 * 86_400,
    most_seconds: Annotated[
        int | None,
        typer.Option(min=1, help="End after so long; the next run goes on with what was checked longest ago."),
    ] = None,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Read all bytes of a table's files and compare them with what was written, those checked longest ago first.

    Files are read in a process of their own: a damaged one may end it, and then ends only that one. How far it came is kept in the table's
    folder, so a run can be stopped at any time. Exit code 1 when a file is damaged or gone; each is told with the offsets that it held.
    """
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep.scrub import Scrubber
    from k2.obs.stopping import stop_on_signals

    limit, began = bytes_a_second(rate), time.monotonic()
    catalog = LastingCatalog(settings())
    with stop_on_signals(second_ends=True) as stop, _bar() as told:
        scrubber = Scrubber(
            catalog,
            table,
            limit,
            older_than_seconds * SECOND_US,
            float("inf") if most_seconds is None else most_seconds,
            told,
            stop,
        )
        if dry_run:
            due = scrubber.due()
            print(
                f"{table}: {len(due):,} files of {mib(sum(each.bytes for each in due))} would be read; nothing was done"
            )
            return
        done = scrubber.run()
    record(catalog, table, "scrub", began, scrub_figures(done))
    _show(done, output)
    if not done.ok:
        raise typer.Exit(DAMAGED)


def scrub_figures(done: Scrubbed) -> dict[str, Any]:
    """What the table keeps of a run."""
    return {
        "files": done.files,
        "bytes": done.bytes,
        "checked": done.checked,
        "checked_bytes": done.checked_bytes,
        "unread": done.unread,
        "oldest_us": done.oldest_us,
        **damaged_figures(done.damaged),
    }


def damaged_figures(damaged: Sequence[DamagedFile]) -> dict[str, Any]:
    """What of it is about files that are not what was written."""
    return {
        "damaged": len(damaged),
        "damaged_rows": sum(each.rows for each in damaged),
        "named": [f"{each.name} ({each.problem})" for each in damaged[:MOST_NAMED]],
    }


def _show(done: Scrubbed, output: str) -> None:
    if output == "json":
        print(json.dumps(asdict(done), indent=2))
        return
    for each in done.damaged:
        where = f" ({each.where})" if each.where else ""
        print(f"{each.name}: {each.problem}{where}; {each.rows:,} rows of {each.partition or 'the table'}")
        for offsets in each.offsets:
            print(f"  among {offsets}")
    oldest = (
        ""
        if done.oldest_us is None
        else f", the oldest check is of {datetime.fromtimestamp(done.oldest_us / 1e6, UTC):%Y-%m-%d}"
    )
    print(
        f"{done.table}: {done.checked:,} of {done.files:,} files read ({mib(done.checked_bytes)} in {done.seconds:.1f} s), "
        f"{done.fresh:,} checked lately, {done.unread:,} left for the next run, {len(done.damaged):,} damaged{oldest}"
    )
    if done.damaged:
        print(
            f"What the topic still has is built again by: k2 upkeep restore --table {done.table} --all-damaged --dry-run"
        )


@contextmanager
def _bar() -> Generator[ScrubProgress]:
    console = Console(stderr=True)
    columns = (TextColumn("scrub"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda read, total: bar.update(task, completed=read, total=total)
