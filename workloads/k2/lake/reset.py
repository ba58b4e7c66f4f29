"""What a person decides when the sink refused to go on: new offsets for a table, recorded like any other commit.

Each reset is one transaction that appends an empty snapshot with the new map, so that it is fenced like the sink's own
commits, stands in the history, and leaves property and snapshot agreeing again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.lake.landed import guard
from k2.lake.offsets import COMMIT_ID, OFFSETS, OPERATION, OffsetMap, ancestors, snapshot_offsets, summary_of
from k2.model.errors import UserError, WorldError


def reset_to_snapshot(table: Table, snapshot_id: int) -> OffsetMap:
    """Take the offsets of a snapshot in the current history: the sink reads again what came after it.

    Raises:
        UserError: the snapshot is not an ancestor of the current one, or carries no offsets and none before it does.
    """
    history = list(ancestors(table.metadata))
    position = next((index for index, found in enumerate(history) if found.snapshot_id == snapshot_id), None)
    if position is None:
        raise UserError(
            "That snapshot is not in the table's current history",
            found=snapshot_id,
            expected="one of "
            + ", ".join(str(found.snapshot_id) for found in history[:5])
            + (" …" if history[5:] else ""),
            remedy="To go back to it, roll the table back first; then reset to it",
        )
    if position > 0:
        raise UserError(
            "The table holds rows that came after that snapshot: to read them again would double them",
            found=snapshot_id,
            expected=f"the current snapshot, {history[0].snapshot_id}",
            remedy="Roll the table back to it first, or reset to the current snapshot",
        )
    offsets = snapshot_offsets(table.metadata) or OffsetMap()
    return _record(table, offsets)


def forget_topic(table: Table, topic: str) -> OffsetMap:
    """Forget a topic's offsets: a topic made anew under the same name is then read from its beginning.

    Raises:
        UserError: the table records nothing of the topic.
    """
    offsets = _current(table)
    _known(table, offsets, topic)
    return _record(table, OffsetMap({name: held for name, held in offsets.topics.items() if name != topic}))


def skip_to_earliest(table: Table, topic: str, earliest: Mapping[int, int]) -> OffsetMap:
    """Give up offsets that retention has deleted: they are counted as lost, for ever visible in the audit.

    Raises:
        UserError: the table records nothing of the topic, or nothing was lost.
    """
    offsets = _current(table)
    _known(table, offsets, topic)
    held = offsets.topics[topic]
    behind = {n: part for n, part in held.partitions.items() if part.next < earliest.get(n, part.next)}
    if not behind:
        raise UserError(
            f"Nothing of {topic} is lost: retention has not passed what {'.'.join(table.name())} still has to read",
            remedy="There is nothing to do",
        )
    skipped = {
        number: replace(part, next=earliest[number], lost=part.lost + earliest[number] - part.next)
        for number, part in behind.items()
    }
    return _record(table, offsets.with_topic(topic, replace(held, partitions={**held.partitions, **skipped})))


def _current(table: Table) -> OffsetMap:
    return OffsetMap.from_json(table.metadata.properties.get(OFFSETS))


def _known(table: Table, offsets: OffsetMap, topic: str) -> None:
    if topic not in offsets.topics:
        raise UserError(
            f"{'.'.join(table.name())} records no offsets of that topic",
            found=topic,
            expected="one of " + (", ".join(sorted(offsets.topics)) or "(it records none at all)"),
        )


def _record(table: Table, offsets: OffsetMap) -> OffsetMap:
    text = offsets.to_json()
    commit_id = uuid.uuid4().hex
    guard(table)
    try:
        with table.transaction() as transaction:
            transaction.set_properties({OFFSETS: text})
            summary = {OFFSETS: text, COMMIT_ID: commit_id, OPERATION: "reset"}
            with transaction.update_snapshot(snapshot_properties=summary).fast_append():
                pass
    except CommitFailedException as error:
        raise WorldError(
            f"{'.'.join(table.name())} was committed to meanwhile; stop its sink and try again: {error}"
        ) from error
    current = table.current_snapshot()
    assert current is not None
    assert summary_of(current)[COMMIT_ID] == commit_id
    return offsets
