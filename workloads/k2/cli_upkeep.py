"""`k2 upkeep …`: what is done for a table now and then, by hand or by a CronJob."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.lake.upkeep.choice import Choice
    from k2.lake.upkeep.compact import Compacted, Compactor
    from k2.lake.upkeep.noted import Emptied

TARGET_BYTES = 512 * 1024 * 1024

TableName = Annotated[str, typer.Option("--table", "-t", help="The table, `namespace.name`.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="How to show it.")]
Delay = Annotated[
    int, typer.Option(min=0, help="How long a file is noted before a run deletes it: longer than any question takes.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    upkeep_app = typer.Typer(
        help="Keep a table fast and small: by hand, or by the schedules of its IcebergTable.", no_args_is_help=True
    )
    upkeep_app.callback()(lambda: None)
    upkeep_app.command("compact", epilog="Example: k2 upkeep compact --table market_data.trades --dry-run")(compact)
    upkeep_app.command("expire", epilog="Example: k2 upkeep expire --table market_data.trades --dry-run")(expire)
    upkeep_app.command("orphans", epilog="Example: k2 upkeep orphans --table market_data.trades --dry-run")(orphans)
    app.add_typer(upkeep_app, name="upkeep")


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

        compactor = Compactor(
            LastingCatalog(settings()), table, target_file_bytes, Path(folder), progress=told, stop=stop
        )
        if dry_run:
            _show_choice(compactor, compactor.chosen(partition), output)
            return
        done = compactor.run(partition)
    _show_done(done, output)
    if done.overtaken:
        raise typer.Exit(1)


def expire(
    *,
    table: TableName,
    retain_last: Annotated[
        int, typer.Option(min=1, max=100_000, help="Newest snapshots that stay, however old they are.")
    ] = 100,
    older_than_seconds: Annotated[int, typer.Option(min=3600, help="Younger snapshots stay.")] = 7 * 86_400,
    delete_after_seconds: Delay = 86_400,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Drop old snapshots. What a tag, a branch or a pin holds stays, and so does the last snapshot of every hour and day.

    Files that only they had are noted in the table's folder, in a list that a person can read and undo, and deleted by a later run.
    """
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep import expire as expiry

    catalog, older_than, now = LastingCatalog(settings()), timedelta(seconds=older_than_seconds), datetime.now(UTC)
    if dry_run:
        told = expiry.expire(catalog, table, retain_last, older_than, now, dry_run=True)
    else:
        delay = timedelta(seconds=delete_after_seconds)
        told = expiry.expire_with_files(catalog, table, retain_last, older_than, delay, now)
    if output == "json":
        print(json.dumps(asdict(told), indent=2))
        return
    would = "would be " if dry_run else ""
    print(
        f"{table}: {told.expired:,} snapshots {would}expired, {told.kept:,} stay"
        + ("; nothing was done" if dry_run else f"; {_noted(told.noted, told.list_path)}{_emptied(told.emptied)}")
    )


def orphans(
    *,
    table: TableName,
    older_than_seconds: Annotated[
        int, typer.Option(min=3600, help="Younger files stay: a commit under way may be about to refer to them.")
    ] = 3 * 86_400,
    delete_after_seconds: Delay = 86_400,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Delete files in the table's folder that nothing refers to, in two steps: noted by one run, deleted by a later one.

    The list lies in the table's folder (metadata/k2-noted): a person can read it, and undo it by deleting it or its lines. A folder that holds
    another table is left alone.
    """
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep.orphans import remove_orphans

    second = 1_000_000
    told = remove_orphans(
        LastingCatalog(settings()), table, older_than_seconds * second, delete_after_seconds * second, dry_run=dry_run
    )
    if output == "json":
        print(json.dumps(asdict(told), indent=2))
        return
    if dry_run:
        for file in told.noted:
            print(f"would be noted: {file.path} ({file.bytes:,} bytes)")
    print(
        f"{table}: {told.files:,} files, {told.waiting:,} noted before, {told.young:,} too young to tell; "
        f"{_noted(len(told.noted), told.list_path)}{_emptied(told.emptied)}" + ("; nothing was done" if dry_run else "")
    )


def _noted(number: int, path: str | None) -> str:
    return f"{number:,} files noted" + (f" in {path}" if path else "")


def _emptied(emptied: Emptied) -> str:
    kept = (
        f", {emptied.kept:,} of earlier lists stay: they changed, or something refers to them" if emptied.kept else ""
    )
    return f", {emptied.deleted:,} of {_mib(emptied.bytes)} deleted{kept}"


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
            f"{group.name}: {len(group.files):,} files of {_mib(group.bytes)} with {group.rows:,} rows would become "
            f"{group.outcome(target):,}"
        )
    print(
        f"{_partitions(choice.groups)} of {compactor.identifier} would be compacted{_left(choice.left)}; nothing was done"
    )


def _show_done(done: Compacted, output: str) -> None:
    if output == "json":
        groups = [asdict(each) for each in done.groups]
        told = {"table": done.table, "groups": groups, "left": done.left, "overtaken": done.overtaken}
        print(json.dumps(told, indent=2))
        return
    for each in done.groups:
        print(
            f"{each.partition}: {each.files_before:,} files of {_mib(each.bytes_before)} became {each.files_after:,} of "
            f"{_mib(each.bytes_after)}; {each.rows:,} rows, {each.seconds:.1f} s, {each.tries} tries"
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


def _mib(size: float) -> str:
    return f"{size / (1 << 20):,.1f} MiB"
