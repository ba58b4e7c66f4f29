"""What a table got between two snapshots, whatever compaction did to its files in between.

Each row says where in Kafka it came from, and each snapshot how far the table had read: a row was added between two
snapshots exactly when its offset lies beyond what the earlier one records. That holds when the snapshots in between were
expired, and when their files were written anew. Tables whose snapshots record no offsets are compared by their files.
"""

from __future__ import annotations

from collections.abc import Iterator

from k2.lake.offsets import OFFSETS
from k2.lake.reader import SnapshotInfo, TableState
from k2.model.errors import UserError
from k2.query.plan.pinned import TableAt
from k2.query.rows.relation import Relation

Beyond = tuple[tuple[str, int, int], ...]
"""(topic id, partition, offset): rows before that offset are not new."""


def added(earlier: TableAt, later: TableAt, relation: Relation) -> tuple[Relation, Beyond]:
    """The files of the relation (which is of `later`) that may hold rows that `earlier` does not have, and which of them are new.

    Raises:
        UserError: `later` is the older one, or the difference cannot be told.
    """
    before, after = earlier.snapshot, later.snapshot
    if before is None or after is None or before.id == after.id:
        return relation.of(()), ()
    if before.sequence > after.sequence:
        raise UserError(
            "The snapshots are reversed", found=f"from {before.id} to {after.id}", expected="the older one as from"
        )
    known = {file.path for file in earlier.files.files}
    files = relation.of([file for file in relation.files if file.path not in known])
    if OFFSETS in before.summary and OFFSETS in after.summary:
        return files, tuple(
            (topic.topic_id, number, partition.next)
            for topic in before.offsets.topics.values()
            for number, partition in sorted(topic.partitions.items())
        )
    _check_appends(later.state, before, after)
    return files, ()


def _check_appends(state: TableState, before: SnapshotInfo, after: SnapshotInfo) -> None:
    """Without offsets only appends can be told from files that were written anew."""
    for snapshot in _back(state, after):
        if snapshot.id == before.id:
            return
        if snapshot.operation != "append":
            break
    raise UserError(
        f"What {state.identifier} got between these snapshots cannot be told",
        found=f"snapshots without offsets that were expired, or rewrote files, between {before.id} and {after.id}",
        expected="snapshots that record offsets, or appends alone in between",
    )


def _back(state: TableState, snapshot: SnapshotInfo) -> Iterator[SnapshotInfo]:
    found: SnapshotInfo | None = snapshot
    while found is not None:
        yield found
        found = None if found.parent_id is None else state.by_id.get(found.parent_id)
