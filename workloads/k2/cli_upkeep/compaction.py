"""`k2 upkeep compact`: what a person sees of it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from k2.cli_upkeep.options import DryRun, Output, TableName, mib, record
from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.lake.upkeep.choice import Choice
    from k2.lake.upkeep.compact import Compacted, Compactor

TARGET_BYTES = 512 * 1024 * 1024


def compact(
    *,
    table: TableName,
    target_file_bytes: Annotated[
        int, typer.Option(min=1 << 20, max=1 << 34, help="About the size of the files to be made, in bytes.")
    ] = TARGET_BYTES,
    partition: Annotated[
        str | None,
        typer.Option(help="Only this partition: `timestamp_day=2026-11-30`, or the value alone."),
    ] = None,
    dry_run: DryRun = False,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Directory for partitions that do not fit into memory (default: the system's temporary one)."
        ),
    ] = None,
    output: Output = "table",
) -> None:
    """Make few large files of many small ones, partition by partition, the newest closed one first.

    Rows, their order and what the table holds of Kafka stay the same: what was written is read back and compared before it is
    committed. Sinks and questions go on meanwhile. Files of snapshots before stay until these expire.

    A million rows are sorted at a time, in about 600 MiB; a larger partition goes through the scratch directory, which needs
    twice its size. Exit code 1 when a partition was changed by others in between: the next run takes it.
    """
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep.compact import Compactor
    from k2.obs.stopping import stop_on_signals

    began, catalog = time.monotonic(), LastingCatalog(settings())
    with (
        stop_on_signals(second_ends=True) as stop,
        tempfile.TemporaryDirectory(prefix="k2-compact-", dir=scratch) as folder,
        _bar() as bar,
    ):
        tasks: dict[str, Any] = {}

        def told(name: str, read: int, rows: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=rows)
            bar.update(tasks[name], completed=read)

        compactor = Compactor(catalog, table, target_file_bytes, Path(folder), progress=told, stop=stop)
        if dry_run:
            _show_choice(compactor, compactor.chosen(partition), output)
            return
        done = compactor.run(partition)
    record(catalog, table, "compact", began, _figures(done))
    _show_done(done, output)
    if done.overtaken:
        raise typer.Exit(1)


@contextmanager
def _bar() -> Generator[Progress]:
    """How far it is, on a terminal; nothing in a log."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar


def _show_choice(compactor: Compactor, choice: Choice, output: str) -> None:
    target = compactor.target_bytes
    if output == "json":
        groups = [
            {
                "partition": group.name,
                "files": len(group.files),
                "files_after": group.outcome(target),
                "bytes": group.bytes,
                "rows": group.rows,
            }
            for group in choice.groups
        ]
        print(json.dumps({"table": compactor.identifier, "would_compact": groups, "left": choice.left}, indent=2))
        return
    for group in choice.groups:
        print(
            f"{group.name}: {len(group.files):,} files of {mib(group.bytes)} with {group.rows:,} rows would become "
            f"{group.outcome(target):,}"
        )
    print(
        f"{_partitions(choice.groups)} of {compactor.identifier} would be compacted{_left(choice.left)}; nothing was done"
    )


def _figures(done: Compacted) -> dict[str, int]:
    names = ("files_before", "files_after", "bytes_before", "bytes_after", "rows")
    sums = {name: sum(getattr(each, name) for each in done.groups) for name in names}
    tries = max((each.tries for each in done.groups), default=0)
    return {"partitions": len(done.groups), "overtaken": len(done.overtaken), "tries": tries, **sums}


def _show_done(done: Compacted, output: str) -> None:
    if output == "json":
        groups = [asdict(each) for each in done.groups]
        told = {"table": done.table, "groups": groups, "left": done.left, "overtaken": done.overtaken}
        print(json.dumps(told, indent=2))
        return
    for each in done.groups:
        print(
            f"{each.partition}: {each.files_before:,} files of {mib(each.bytes_before)} became {each.files_after:,} of "
            f"{mib(each.bytes_after)}; {each.rows:,} rows, {each.seconds:.1f} s, {each.tries} tries"
        )
    for name in done.overtaken:
        print(f"{name}: changed by others in between; the next run takes it")
    before, after = (sum(getattr(each, name) for each in done.groups) for name in ("files_before", "files_after"))
    print(f"{done.table}: {_partitions(done.groups)} compacted, {before:,} files became {after:,}{_left(done.left)}")


def _partitions(groups: Sequence[object]) -> str:
    return f"{len(groups):,} partition" + ("" if len(groups) == 1 else "s")


def _left(left: dict[str, int]) -> str:
    return "".join(
        f"; {number:,} {'file' if number == 1 else 'files'} left: {reason}" for reason, number in sorted(left.items())
    )
