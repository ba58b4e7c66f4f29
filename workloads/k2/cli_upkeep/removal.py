"""`k2 upkeep expire | orphans | metadata`: what of a table nobody needs any more, and what a person sees of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from k2.cli_upkeep.options import SECOND_US, Delay, DryRun, Output, TableName, emptied_lists, noted_files, record
from k2.model.settings import settings

if TYPE_CHECKING:
    from k2.lake.upkeep.noted import Emptied


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
    began = time.monotonic()
    if dry_run:
        told = expiry.expire(catalog, table, retain_last, older_than, now, dry_run=True)
    else:
        delay = timedelta(seconds=delete_after_seconds)
        told = expiry.expire_with_files(catalog, table, retain_last, older_than, delay, now)
        figures = {"expired": told.expired, "kept": told.kept, "noted": told.noted}
        record(catalog, table, "expire", began, figures | _gone(told.emptied))
    if output == "json":
        print(json.dumps(asdict(told), indent=2))
        return
    would = "would be " if dry_run else ""
    print(
        f"{table}: {told.expired:,} snapshots {would}expired, {told.kept:,} stay"
        + (
            "; nothing was done"
            if dry_run
            else f"; {noted_files(told.noted, told.list_path)}{emptied_lists(told.emptied)}"
        )
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

    catalog, began = LastingCatalog(settings()), time.monotonic()
    told = remove_orphans(
        catalog, table, older_than_seconds * SECOND_US, delete_after_seconds * SECOND_US, dry_run=dry_run
    )
    if not dry_run:
        record(catalog, table, "orphans", began, {"noted": len(told.noted)} | _gone(told.emptied))
    if output == "json":
        print(json.dumps(asdict(told), indent=2))
        return
    if dry_run:
        for file in told.noted:
            print(f"would be noted: {file.path} ({file.bytes:,} bytes)")
    print(
        f"{table}: {told.files:,} files, {told.waiting:,} noted before, {told.young:,} too young to tell; "
        f"{noted_files(len(told.noted), told.list_path)}{emptied_lists(told.emptied)}"
        + ("; nothing was done" if dry_run else "")
    )


def metadata(
    *,
    table: TableName,
    older_than_seconds: Annotated[
        int,
        typer.Option(min=3600, help="Younger metadata files stay: a commit under way may be about to refer to them."),
    ] = 86_400,
    delete_after_seconds: Delay = 86_400,
    dry_run: DryRun = False,
    output: Output = "table",
) -> None:
    """Write a table's small manifests anew by partition, and delete metadata files that its log does not name any more.

    Each question and each commit reads the manifests, so few are better than many. The files that they name stay as they are: what was written is
    read back and compared before it is committed. Metadata files go in two steps, as those of `k2 upkeep orphans` do.
    """
    from k2.lake.catalog import LastingCatalog
    from k2.lake.upkeep.manifests import rewrite_manifests
    from k2.lake.upkeep.orphans import OLD_METADATA, remove_orphans

    catalog, began = LastingCatalog(settings()), time.monotonic()
    manifests = rewrite_manifests(catalog, table, dry_run=dry_run)
    old = remove_orphans(
        catalog,
        table,
        older_than_seconds * SECOND_US,
        delete_after_seconds * SECOND_US,
        kind=OLD_METADATA,
        dry_run=dry_run,
    )
    if not dry_run:
        figures = {"files_before": manifests.before, "files_after": manifests.after, "tries": manifests.tries}
        record(catalog, table, "metadata", began, figures | {"noted": len(old.noted)} | _gone(old.emptied))
    if output == "json":
        print(json.dumps({"manifests": asdict(manifests), "old_metadata": asdict(old)}, indent=2))
        return
    if dry_run:
        for file in old.noted:
            print(f"would be noted: {file.path} ({file.bytes:,} bytes)")
    became = "would become" if dry_run else "became"
    print(
        f"{table}: {manifests.before:,} manifests {became} {manifests.after:,}, {manifests.entries:,} entries written anew; "
        f"{noted_files(len(old.noted), old.list_path)}{emptied_lists(old.emptied)}"
        + ("; nothing was done" if dry_run else "")
    )


def _gone(emptied: Emptied) -> dict[str, int]:
    return {"deleted": emptied.deleted, "deleted_bytes": emptied.bytes}
