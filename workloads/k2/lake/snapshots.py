"""Keeping the number of snapshots bounded: a commit costs more with every snapshot in the metadata.

Expiring here changes metadata alone. The files stay until upkeep removes them, after the longest query and page token
can have ended. The last snapshot of every hour and of every day gets a tag first, so that time travel keeps working. What
any tag holds stays; tags of hours and of pins go when they lapse.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update.snapshot import ExpireSnapshots

from k2.lake.offsets import OFFSETS, ancestors, summary_of
from k2.lake.pins import lapsed
from k2.model.times import DAY_SECONDS

HOUR_TAG, DAY_TAG = "k2-hour-", "k2-day-"
HOUR_TAGS_KEPT_MS = 30 * DAY_SECONDS * 1000

BEGAN = "k2.began-ms"
"""Property: when the table's first snapshot was committed, milliseconds since 1970. Noted when that one is expired, so that it
stays known from when on the table had anything."""


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What `trim_snapshots` did; all empty when another writer was quicker (it is tried again after a later commit)."""

    expired: int = 0
    tagged: tuple[str, ...] = ()
    untagged: tuple[str, ...] = ()


def began_ms(metadata: TableMetadata) -> int | None:
    """When the table's first snapshot was committed, milliseconds since 1970; None: there is none, or nobody noted it."""
    noted = metadata.properties.get(BEGAN, "")
    if noted.isdecimal():
        return int(noted)
    first = min(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number or 0, default=None)
    is_first = first is not None and first.parent_snapshot_id is None and (first.sequence_number or 0) <= 1
    return first.timestamp_ms if first is not None and is_first else None


def untagged_snapshots(table: Table) -> list[Snapshot]:
    """Snapshots that no tag or branch holds, oldest first."""
    held = {reference.snapshot_id for reference in table.metadata.refs.values()}
    free = [snapshot for snapshot in table.metadata.snapshots if snapshot.snapshot_id not in held]
    return sorted(free, key=lambda snapshot: (snapshot.sequence_number or 0, snapshot.timestamp_ms))


def trim_snapshots(table: Table, most: int, now: datetime) -> Trimmed:
    """Tag the hours and days that ended, and expire the oldest untagged snapshots beyond `most`.

    A tenth more than needed is expired at once, so that most commits are followed by nothing. The newest ancestor that
    carries the offset map always stays.
    """
    try:
        tagged, untagged = move_tags(table, now)
        excess = untagged_snapshots(table)
        if len(excess) <= most:
            return Trimmed(0, tagged, untagged)
        keep = newest_with_offsets(table)
        expired = [s.snapshot_id for s in excess[: len(excess) - most + most // 10] if s.snapshot_id != keep]
        expire_ids(table, expired)
    except CommitFailedException:
        return Trimmed()
    return Trimmed(len(expired), tagged, untagged)


def expire_ids(table: Table, ids: list[int]) -> None:
    """Expire these snapshots in one commit, which notes when the table began. Raises `CommitFailedException` when another was quicker."""
    began = began_ms(table.metadata)
    with table.transaction() as transaction:
        if began is not None and BEGAN not in table.properties:
            transaction.set_properties({BEGAN: str(began)})
        ExpireSnapshots(transaction).by_ids(ids).commit()


def newest_with_offsets(table: Table) -> int | None:
    """The newest ancestor of the current snapshot that carries the offset map; None where there is none."""
    return next((s.snapshot_id for s in ancestors(table.metadata) if OFFSETS in summary_of(s)), None)


def move_tags(table: Table, now: datetime) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tag the last snapshots of hours and days that ended, and drop tags that have lapsed: the names of both."""
    wanted: dict[str, tuple[int, int | None]] = {}
    child: Snapshot | None = None
    for snapshot in ancestors(table.metadata):
        if child is not None:
            here, next_ = _time(snapshot), _time(child)
            if (hour := f"{HOUR_TAG}{here:%Y%m%dT%HZ}") != f"{HOUR_TAG}{next_:%Y%m%dT%HZ}":
                wanted[hour] = (snapshot.snapshot_id, HOUR_TAGS_KEPT_MS)
            if here.date() != next_.date():
                wanted[f"{DAY_TAG}{here:%Y%m%d}"] = (snapshot.snapshot_id, None)
        child = snapshot
    new = {name: at for name, at in wanted.items() if name not in table.metadata.refs and not _lapsed(table, at, now)}
    old = lapsed(table, now) + [
        name
        for name, reference in table.metadata.refs.items()
        if reference.snapshot_ref_type is SnapshotRefType.TAG
        and name.startswith(HOUR_TAG)
        and _lapsed(table, (reference.snapshot_id, reference.max_ref_age_ms), now)
    ]
    if new or old:
        with table.manage_snapshots() as manage:
            for name, (snapshot_id, age) in new.items():
                manage.create_tag(snapshot_id, name, max_ref_age_ms=age)
            for name in old:
                manage.remove_tag(name)
    return tuple(new), tuple(old)


def _lapsed(table: Table, tag: tuple[int, int | None], now: datetime) -> bool:
    snapshot_id, age = tag
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    return age is not None and snapshot is not None and snapshot.timestamp_ms + age < now.timestamp() * 1000


def _time(snapshot: Snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
