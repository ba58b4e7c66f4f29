"""What a person decides of a table: new offsets where the sink refused to go on, or that what an audit found stays so.

Each decision is one transaction that appends an empty snapshot with the whole map, so that it is fenced like the sink's own
commits, stands in the history, and leaves property and snapshot agreeing again. Who, when and why go with it
(`k2.lake.proof.decisions`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from k2.lake.landed import guard
from k2.lake.offsets import (
    COMMIT_ID,
    OFFSETS,
    OPERATION,
    OffsetMap,
    TopicOffsets,
    ancestors,
    recorded_offsets,
    snapshot_offsets,
    summary_of,
)
from k2.lake.proof.audit import Audit, acceptance
from k2.lake.proof.decisions import DECISIONS, Decision, DecisionKind, Range, Signature, with_decision
from k2.model.errors import RefusedError, UserError, WorldError

_NOTHING: Mapping[str, str] = MappingProxyType({})


def reset_to_snapshot(table: Table, snapshot_id: int, signed: Signature) -> OffsetMap:
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
    decision = Decision(DecisionKind.TO_SNAPSHOT, signed, snapshot_id, again=_read_again(table, offsets))
    return record(table, offsets, decision)


def forget_topic(table: Table, topic: str, signed: Signature) -> OffsetMap:
    """Forget a topic's offsets: a topic made anew under the same name is then read from its beginning.

    What the table held of it stands in the decision: its rows are still there, and the audit goes on counting them.

    Raises:
        UserError: the table records nothing of the topic.
    """
    offsets = _current(table)
    held = known_topic(table, offsets, topic)
    decision = Decision(
        DecisionKind.FORGET, signed, table.metadata.current_snapshot_id, topic, held.topic_id, forgotten=held
    )
    rest = OffsetMap({name: each for name, each in offsets.topics.items() if name != topic})
    return record(table, rest, decision)


def skip_to_earliest(table: Table, topic: str, earliest: Mapping[int, int], signed: Signature) -> OffsetMap:
    """Give up offsets that retention has deleted: they are counted as lost, for ever visible in the audit.

    Raises:
        UserError: the table records nothing of the topic, or nothing was lost.
    """
    offsets = _current(table)
    held = known_topic(table, offsets, topic)
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
    decision = Decision(
        DecisionKind.SKIP_TO_EARLIEST,
        signed,
        table.metadata.current_snapshot_id,
        topic,
        held.topic_id,
        lost={number: (part.next, earliest[number]) for number, part in behind.items()},
    )
    return record(table, offsets.with_topic(topic, replace(held, partitions={**held.partitions, **skipped})), decision)


def accept(table: Table, found: Audit, signed: Signature) -> Decision:
    """Accept all that an audit found, as it is: later audits tell it as accepted, and only what comes beyond it is a fault.

    Args:
        table: as it was loaded, before the audit or since.
        found: what the person has seen.
        signed: by whom, when, and why.

    Raises:
        UserError: nobody said why, the audit found nothing, or the table has changed since the audit.
        RefusedError: the table was rolled back.
    """
    if not signed.reason.strip():
        raise UserError("Nobody will know why this was accepted", expected="a reason", remedy="Give one: --reason TEXT")
    if found.ok:
        raise UserError(
            f"The audit of {found.table} found nothing that is not accepted yet", remedy="There is nothing to do"
        )
    if table.metadata.current_snapshot_id != found.snapshot_id:
        raise WorldError(f"{found.table} was committed to since the audit: audit it again, and then accept it")
    decision = Decision(DecisionKind.ACCEPT, signed, found.snapshot_id, accepted=acceptance(found))
    record(table, recorded_offsets(table), decision)
    return decision


def _read_again(table: Table, offsets: OffsetMap) -> dict[str, dict[int, Range]]:
    """Offsets that the property records and the snapshot does not: the sink reads them again."""
    found: dict[str, dict[int, Range]] = {}
    try:
        recorded = _current(table).topics
    except RefusedError:  # cut short: that is what this reset mends
        recorded = {}
    for topic, held in recorded.items():
        then = offsets.topics.get(topic)
        for number, part in held.partitions.items():
            known = None if then is None else then.partitions.get(number)
            start = part.first if known is None else known.next
            if start < part.next:
                found.setdefault(topic, {})[number] = (start, part.next)
    return found


def _current(table: Table) -> OffsetMap:
    return OffsetMap.from_json(table.metadata.properties.get(OFFSETS))


def known_topic(table: Table, offsets: OffsetMap, topic: str) -> TopicOffsets:
    """What a map holds of a topic; a `UserError` names those that the table knows when it is none of them."""
    if topic not in offsets.topics:
        raise UserError(
            f"{'.'.join(table.name())} records no offsets of that topic",
            found=topic,
            expected="one of " + (", ".join(sorted(offsets.topics)) or "(it records none at all)"),
        )
    return offsets.topics[topic]


def record(table: Table, offsets: OffsetMap, decision: Decision, properties: Mapping[str, str] = _NOTHING) -> OffsetMap:
    """Record a decision, the map that holds from now on, and these properties, in one commit that is fenced like a sink's.

    Raises:
        WorldError: somebody has committed to the table since it was loaded.
    """
    decisions = with_decision(table, decision)
    text = offsets.to_json()
    commit_id = uuid.uuid4().hex
    guard(table)
    try:
        with table.transaction() as transaction:
            transaction.set_properties({OFFSETS: text, DECISIONS: decisions, **properties})
            operation = "accept" if decision.accepted is not None else "reset"
            summary = {OFFSETS: text, COMMIT_ID: commit_id, OPERATION: operation}
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
