"""Expiring snapshots by age and number. What tags, branches and pins hold stays; the files of those that went are noted, and deleted later.

Hours and days that ended get their tags first, as after a sink's commit, so that time travel to them goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from k2.lake.catalog import TableSource, load_table
from k2.lake.landed import TRIES, guard, tried_again
from k2.lake.offsets import ancestors
from k2.lake.snapshots import expire_ids, move_tags, newest_with_offsets, untagged_snapshots
from k2.lake.upkeep.noted import Emptied, Survey, empty, note
from k2.lake.upkeep.referred import keys_of, referred_files
from k2.model.errors import WorldError
from k2.model.times import micros


@dataclass(frozen=True, slots=True)
class ExpiredSnapshots:
    """What was expired.

    Attributes:
        kept: snapshots that stay.
        tagged, untagged: tags that were made, and that have lapsed.
        noted: files that nothing refers to since then, to be deleted by a run after the delay; `list_path`: where they are listed.
        emptied: files of earlier lists that were deleted.
    """

    table: str
    expired: int
    kept: int
    tagged: tuple[str, ...] = ()
    untagged: tuple[str, ...] = ()
    noted: int = 0
    list_path: str | None = None
    emptied: Emptied = field(default_factory=Emptied)


def expire(
    catalog: TableSource,
    identifier: str,
    retain_last: int,
    older_than: timedelta,
    now: datetime,
    *,
    dry_run: bool = False,
) -> ExpiredSnapshots:
    """Expire snapshots that are older, but for the newest ones and what is held.

    Args:
        catalog: where the table is loaded from.
        identifier: the table.
        retain_last: how many of the current snapshot's ancestors stay in any case, itself among them.
        older_than: younger ones stay.
        now: what time it is.
        dry_run: only say what would be expired.

    Raises:
        UserError: there is no such table.
        WorldError: others committed each time.
    """

    # A sink may commit at any moment: then it is done again on the table as it is now.
    @tried_again()
    def once() -> ExpiredSnapshots:
        table = load_table(catalog, identifier)
        guard(table)
        tagged, untagged = ((), ()) if dry_run else move_tags(table, now)
        gone = expirable(table, retain_last, now - older_than)
        if gone and not dry_run:
            expire_ids(table, [snapshot.snapshot_id for snapshot in gone])
        kept = len(table.metadata.snapshots) - (len(gone) if dry_run else 0)
        return ExpiredSnapshots(identifier, len(gone), kept, tagged, untagged)

    try:
        return once()
    except CommitFailedException as error:
        raise WorldError(f"Others committed to {identifier} each of {TRIES} times: nothing was expired") from error


def expire_with_files(
    catalog: TableSource,
    identifier: str,
    retain_last: int,
    older_than: timedelta,
    delay: timedelta,
    now: datetime,
) -> ExpiredSnapshots:
    """Delete the files that earlier runs noted, expire (see `expire`), and note the files that only the expired snapshots had.

    Args:
        catalog: where the table is loaded from.
        identifier: the table.
        retain_last: see `expire`.
        older_than: see `expire`.
        delay: how long a file is on a list before it is deleted: longer than any question takes.
        now: what time it is.

    Raises:
        UserError: as `expire`, or the store cannot be listed.
        StoreError: the store did not answer, or a manifest or a list cannot be read. Nothing was expired.
        WorldError: as `expire`.
    """
    survey, now_us = Survey.of(catalog, identifier), micros(now)
    before = referred_files(survey.table)
    emptied = empty(survey, survey.due(delay // timedelta(microseconds=1), now_us), before)
    done = expire(catalog, identifier, retain_last, older_than, now)
    table = load_table(catalog, identifier)
    gone = before.missing_in(referred_files(table))
    files = [file for file in survey.there if keys_of(file.path)[0] in gone]
    return replace(
        done, noted=len(files), list_path=note(table, files, "of expired snapshots alone", now_us), emptied=emptied
    )


def expirable(table: Table, retain_last: int, before: datetime) -> list[Snapshot]:
    """Snapshots that may go: older, none of the newest, held by nothing, and not the newest that tells the offsets."""
    stay = {newest_with_offsets(table), *(each.snapshot_id for each in islice(ancestors(table.metadata), retain_last))}
    return [
        snapshot
        for snapshot in untagged_snapshots(table)
        if snapshot.snapshot_id not in stay and datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) < before
    ]
