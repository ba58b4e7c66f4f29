"""What people decided of a table, kept in the table: who, when, why, and what it covers.

They stand in the property `k2.decisions`, so that they outlive the snapshots, which are expired, and a rollback, which undoes
snapshots and no property. Each is written together with an empty snapshot that carries the whole offset map: a commit
that only sets properties is not fenced, so of two people who decide at once one decision would be gone.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from k2.lake.offsets import PartitionOffsets, TopicOffsets
from k2.lake.proof.files_audit import FileFinding
from k2.model.errors import UserError

DECISIONS = "k2.decisions"

MOST = 100
"""Decisions that are kept; beyond it the oldest that cover nothing any more are forgotten first."""

LONGEST_REASON = 500
"""Characters: the property is read with every load of the table."""

Range = tuple[int, int]
"""Offsets [first, next)."""


class DecisionKind(StrEnum):
    """What was decided."""

    TO_SNAPSHOT = "to-snapshot"
    FORGET = "forget"
    SKIP_TO_EARLIEST = "skip-to-earliest"
    ACCEPT = "accept"
    KEEP_SCHEMAS = "keep-schemas"
    TAKE_SCHEMA = "take-schema"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who decides, when (aware of its zone), and why ("" where nobody said)."""

    by: str
    at: datetime
    reason: str = ""

    def __post_init__(self) -> None:
        if len(self.reason) > LONGEST_REASON:
            raise UserError(
                "The reason is too long", found=f"{len(self.reason)} characters", expected=f"at most {LONGEST_REASON}"
            )


@dataclass(frozen=True, slots=True)
class AcceptedRows:
    """What was accepted of the offsets [first, through) of a partition, and how often each of them was there.

    Attributes:
        state: a digest of these counts: as long as it stays, so does what was accepted.
        missing, doubled, outside: rows.
    """

    first: int
    through: int
    state: str
    missing: int = 0
    doubled: int = 0
    outside: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What was found and accepted as it is; nothing that comes later.

    Attributes:
        rows: by topic id and partition.
        strangers: rows by the id of a topic that the map does not know ("": they have none).
        files: name → the size that was found; None: it was missing.
        sequence: number of the newest snapshot then: gaps between commits up to it are accepted.
    """

    rows: Mapping[tuple[str, int], AcceptedRows] = field(default_factory=dict[tuple[str, int], AcceptedRows])
    strangers: Mapping[str, int] = field(default_factory=dict[str, int])
    files: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    sequence: int = 0

    def not_accepted(self, findings: Iterable[FileFinding]) -> tuple[FileFinding, ...]:
        """Files that are not as they should be, and not as they were when they were accepted."""
        return tuple(each for each in findings if self.files.get(each.name, -1) != each.found)


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision.

    Attributes:
        kind: what was decided.
        signed: by whom, when and why.
        snapshot_id: the table's current snapshot when it was made.
        topic, topic_id: the topic it is about; None: about all.
        lost: by partition, the offsets that were given up.
        again: by topic and partition, the offsets that are read again.
        forgotten: what the table held of the topic that was forgotten.
        accepted: what an audit had found.
        schema_ids: those of the registry that it is about.
    """

    kind: DecisionKind
    signed: Signature
    snapshot_id: int | None
    topic: str | None = None
    topic_id: str | None = None
    lost: Mapping[int, Range] = field(default_factory=dict[int, Range])
    again: Mapping[str, Mapping[int, Range]] = field(default_factory=dict[str, Mapping[int, Range]])
    forgotten: TopicOffsets | None = None
    accepted: Accepted | None = None
    schema_ids: tuple[int, ...] = ()

    @property
    def lost_offsets(self) -> int:
        """How many offsets were given up."""
        return sum(stop - start for start, stop in self.lost.values())


def sign(reason: str = "", by: str | None = None, *, at: datetime | None = None) -> Signature:
    """A signature of this process's user on this host (or `by`), now (or `at`)."""
    return Signature(by or f"{_user()}@{socket.gethostname()}", at or datetime.now(UTC), reason)


def decisions_of(metadata: TableMetadata) -> tuple[Decision, ...]:
    """The table's decisions, oldest first.

    Raises:
        UserError: the property was written by somebody else and cannot be read.
    """
    text = metadata.properties.get(DECISIONS)
    if not text:
        return ()
    try:
        return tuple(_read(each) for each in json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"The property {DECISIONS} cannot be read",
            found=text[:80],
            expected="what k2 wrote there",
            remedy="Restore it from an older metadata file of the table, or remove it: what it covered is red again",
        ) from error


def with_decision(table: Table, decision: Decision) -> str:
    """The property's text once this decision is added; the newest acceptance replaces what older ones cover."""
    kept = [*decisions_of(table.metadata), decision]
    covering = in_force(kept)
    spare = len(kept) - MOST
    for each in list(kept):
        idle = each.accepted is not covering and not each.lost and each.forgotten is None
        if spare > 0 and idle and each is not decision:
            kept.remove(each)
            spare -= 1
    return json.dumps([_written(each) for each in kept], separators=(",", ":"))


def in_force(decisions: Sequence[Decision]) -> Accepted | None:
    """What is accepted: the newest acceptance covers all that was found when it was made."""
    return next((each.accepted for each in reversed(decisions) if each.accepted is not None), None)


def forgotten_of(decisions: Iterable[Decision]) -> dict[tuple[str, int], tuple[str, PartitionOffsets]]:
    """(Topic id, partition) → topic and what the table holds of it, of all that were forgotten."""
    found: dict[tuple[str, int], tuple[str, PartitionOffsets]] = {}
    for each in decisions:
        if each.forgotten is not None and each.topic is not None:
            for number, part in each.forgotten.partitions.items():
                key = each.forgotten.topic_id, number
                found[key] = each.topic, joined(found[key][1], part) if key in found else part
    return found


def lost_ranges(decisions: Iterable[Decision], topic_id: str, partition: int) -> tuple[Range, ...]:
    """Offsets of a partition that were given up."""
    return tuple(each.lost[partition] for each in decisions if each.topic_id == topic_id and partition in each.lost)


def joined(before: PartitionOffsets, after: PartitionOffsets) -> PartitionOffsets:
    """The same partition read twice: from where to where in all, and the counts together."""
    return PartitionOffsets(
        min(before.first, after.first),
        max(before.next, after.next),
        before.rows + after.rows,
        before.duplicates + after.duplicates,
        before.dead_letters + after.dead_letters,
        before.lost + after.lost,
        before.repeated + after.repeated,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user has no name
        return f"uid {os.getuid()}"


def _written(each: Decision) -> dict[str, Any]:
    text: dict[str, Any] = {
        "what": each.kind.value,
        "by": each.signed.by,
        "at": each.signed.at.astimezone(UTC).isoformat(timespec="seconds"),
        "why": each.signed.reason,
        "snapshot": each.snapshot_id,
        "topic": each.topic,
        "topic_id": each.topic_id,
        "lost": each.lost,
        "again": each.again,
        "schemas": list(each.schema_ids) or None,
    }
    if each.forgotten is not None:
        text["forgotten"] = {
            "cluster": each.forgotten.cluster_id,
            "partitions": {
                number: [p.first, p.next, p.rows, p.duplicates, p.dead_letters, p.lost, p.repeated]
                for number, p in each.forgotten.partitions.items()
            },
        }
    if each.accepted is not None:
        text["accepted"] = {
            "rows": [
                [*key, r.first, r.through, r.state, r.missing, r.doubled, r.outside]
                for key, r in each.accepted.rows.items()
            ],
            "strangers": each.accepted.strangers,
            "files": each.accepted.files,
            "sequence": each.accepted.sequence,
        }
    return {name: value for name, value in text.items() if value not in (None, "", {})}


def _read(text: Mapping[str, Any]) -> Decision:
    forgotten, accepted = text.get("forgotten"), text.get("accepted")
    return Decision(
        DecisionKind(text["what"]),
        Signature(text["by"], datetime.fromisoformat(text["at"]), text.get("why", "")),
        text.get("snapshot"),
        text.get("topic"),
        text.get("topic_id"),
        _ranges(text.get("lost", {})),
        {topic: _ranges(parts) for topic, parts in text.get("again", {}).items()},
        None
        if forgotten is None
        else TopicOffsets(
            text["topic_id"],
            forgotten["cluster"],
            {int(number): PartitionOffsets(*counts) for number, counts in forgotten["partitions"].items()},
        ),
        None
        if accepted is None
        else Accepted(
            {(topic_id, number): AcceptedRows(*rest) for topic_id, number, *rest in accepted["rows"]},
            accepted["strangers"],
            accepted["files"],
            accepted["sequence"],
        ),
        tuple(text.get("schemas", ())),
    )


def _ranges(found: Mapping[str, Sequence[int]]) -> dict[int, Range]:
    return {int(number): (start, stop) for number, (start, stop) in found.items()}
