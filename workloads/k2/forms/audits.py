"""Audits as JSON objects, the same over REST and on the command line. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.lake.audit import Audit, PartitionAudit
from k2.lake.sequence_audit import SequenceAudit
from k2.query.plan.audits import Audited


def all_audited(found: Sequence[Audited]) -> dict[str, Any]:
    """The audits of several tables."""
    return {"ok": all(each.ok for each in found), "tables": [audited(each) for each in found]}


def audited(found: Audited) -> dict[str, Any]:
    """An audit with what was said beside it."""
    return {
        **audit(found.audit),
        "ok": found.ok,
        "commits_checked": found.commits,
        "gaps": [
            {
                "snapshot_id": str(gap.snapshot_id),
                "topic": gap.topic,
                "partition": gap.partition,
                "expected": gap.expected,
                "found": gap.found,
            }
            for gap in found.gaps
        ],
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
                "day": each.day.isoformat(),
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
    """An audit of a table's rows."""
    return {
        "table": found.table,
        "snapshot_id": None if found.snapshot_id is None else str(found.snapshot_id),
        "ok": found.ok,
        "rows": sum(part.rows for part in found.partitions),
        "rows_of_unknown_topics": found.strangers,
        "partitions": [_partition(part) for part in found.partitions],
    }


def _partition(part: PartitionAudit) -> dict[str, Any]:
    return {
        "topic": part.topic,
        "partition": part.partition,
        "first": part.offsets.first,
        "next": part.offsets.next,
        "rows": part.rows,
        "duplicates": part.offsets.duplicates,
        "dead_letters": part.offsets.dead_letters,
        "lost": part.offsets.lost,
        "non_records": part.offsets.non_records,
        "missing": part.missing,
        "doubled": part.doubled,
        "outside": part.outside,
        "examples": list(part.examples),
        "end": part.end,
        "behind": part.behind,
        "ok": part.ok,
    }
