"""Audits as JSON objects, the same over REST and on the command line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.lake.proof.audit import Audit, PartitionAudit
from k2.lake.proof.decisions import Decision
from k2.lake.proof.deep import DeepAudit
from k2.lake.proof.gaps import Gap
from k2.lake.proof.sequence_audit import SequenceAudit
from k2.model.times import iso, micros
from k2.query.plan.audits import Audited


def all_audited(found: Sequence[Audited]) -> dict[str, Any]:
    """The audits of several tables."""
    return {"ok": all(each.ok for each in found), "tables": [audited(each) for each in found]}


def audited(found: Audited) -> dict[str, Any]:
    """An audit with what was said beside it."""
    return {
        **audit(found.audit),
        **({} if found.problem is None else {"topics_unknown": found.problem}),
        **({} if found.sequences is None else {"sequences": sequences(found.sequences)}),
    }


def sequences(found: SequenceAudit) -> dict[str, Any]:
    """What the source's own numbers show."""
    return {
        "scope": str(found.scope),
        "rows": found.rows,
        "unnumbered": found.unnumbered,
        "missing": found.missing,
        "duplicated": found.duplicated,
        "groups": found.groups,
        "days": [
            {
                "exchange": each.exchange,
                "symbol": each.symbol,
                "day": None if each.day is None else each.day.isoformat(),
                "first": each.first,
                "last": each.last,
                "distinct": each.distinct,
                "missing": each.missing,
                "duplicated": each.duplicated,
            }
            for each in found.days
        ],
    }


def audit(found: Audit) -> dict[str, Any]:
    """An audit of a table's rows and files."""
    return {
        "table": found.table,
        "snapshot_id": None if found.snapshot_id is None else str(found.snapshot_id),
        "ok": found.ok,
        "rows": sum(part.rows for part in found.partitions),
        "missing": found.missing,
        "lost": found.lost,
        "deleted": found.deleted,
        "files_with_untold_deletes": found.untold_deletes,
        "rows_of_unknown_topics": sum(found.strangers.values()),
        "partitions": [_partition(part) for part in found.partitions],
        "files": _files(found),
        "commits_checked": found.commits,
        "gaps": [_gap(gap, found) for gap in found.gaps],
        "decisions": [decision(each) for each in found.decisions],
    }


def decision(made: Decision) -> dict[str, Any]:
    """What a person decided, and what it covers."""
    told: dict[str, Any] = {
        "what": made.kind.value,
        "by": made.signed.by,
        "at": iso(micros(made.signed.at)),
        "reason": made.signed.reason or None,
        "snapshot_id": None if made.snapshot_id is None else str(made.snapshot_id),
        "topic": made.topic,
    }
    if made.lost:
        told["lost"] = [_range(number, *lost) for number, lost in sorted(made.lost.items())]
    if made.again:
        told["read_again"] = [
            {"topic": topic, **_range(number, *again)}
            for topic, parts in sorted(made.again.items())
            for number, again in sorted(parts.items())
        ]
    if made.forgotten is not None:
        told["forgotten"] = [
            {**_range(number, part.first, part.next), "rows": part.rows}
            for number, part in sorted(made.forgotten.partitions.items())
        ]
    if made.schema_ids:
        told["schema_ids"] = list(made.schema_ids)
    if made.accepted is not None:
        rows = made.accepted.rows.values()
        told["accepted"] = {
            "missing": sum(each.missing for each in rows),
            "doubled": sum(each.doubled for each in rows),
            "outside": sum(each.outside for each in rows),
            "rows_of_unknown_topics": sum(made.accepted.strangers.values()),
            "files": sorted(made.accepted.files),
        }
    return told


def deep(found: DeepAudit) -> dict[str, Any]:
    """What reading every byte of a table has shown."""
    return {
        "table": found.table,
        "snapshot_id": None if found.snapshot_id is None else str(found.snapshot_id),
        "ok": found.ok,
        "files": found.files,
        "bytes": found.bytes,
        "by_digest": found.by_digest,
        "by_pages": found.by_pages,
        "findings": [
            {"file": each.name, "problem": each.problem.value, "where": each.where or None} for each in found.findings
        ],
    }


def _files(found: Audit) -> dict[str, Any]:
    unaccepted = set(found.open_files)
    return {
        "checked": found.files.checked,
        "findings": [
            {
                "file": each.name,
                "problem": each.problem.value,
                "expected_bytes": each.expected,
                "found_bytes": each.found,
                "accepted": each not in unaccepted,
            }
            for each in found.files.findings
        ],
    }


def _gap(gap: Gap, found: Audit) -> dict[str, Any]:
    return {
        "snapshot_id": str(gap.snapshot_id),
        "topic": gap.topic,
        "partition": gap.partition,
        "expected": gap.expected,
        "found": gap.found,
        "accepted": gap not in found.open_gaps,
    }


def _range(partition: int, start: int, stop: int) -> dict[str, int]:
    return {"partition": partition, "from": start, "to": stop, "offsets": stop - start}


def _partition(part: PartitionAudit) -> dict[str, Any]:
    known = part.accepted
    return {
        "topic": part.topic,
        "partition": part.partition,
        "first": part.offsets.first,
        "next": part.offsets.next,
        "rows": part.rows,
        "duplicates": part.offsets.duplicates,
        "dead_letters": part.offsets.letters,
        "sent_again": part.offsets.repeated,
        "lost": part.offsets.lost,
        "lost_in": [list(each) for each in part.lost_in],
        "non_records": max(0, part.offsets.non_records),
        "missing": part.missing,
        "missing_in": [list(each) for each in part.missing_in],
        "missing_exactly": part.exactly,
        "doubled": part.doubled,
        "outside": part.outside,
        "accepted": None
        if known is None
        else {"missing": known.missing, "doubled": known.doubled, "outside": known.outside},
        "forgotten": part.forgotten,
        "examples": list(part.examples),
        "end": part.end,
        "behind": part.behind,
        "ok": part.ok,
    }
