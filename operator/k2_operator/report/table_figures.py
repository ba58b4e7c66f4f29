"""What is said of a table, from its metadata. Pure: layouts in, figures and findings out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from k2.lake.burden import TARGET_BYTES, crowded, described
from k2.lake.layout import Layout, PartitionFiles, Presence
from k2_operator.plan.plans import TablePlan
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.report.upkeep import run_status
from k2_operator.spec.conditions import ConditionType, Reason

MOST_NAMED = 3
"""Files that a condition names."""

MOST_RUNS = 16
"""Tasks of upkeep that a status tells of: there are six, and the property's names could be anybody's."""

FIELDS = ("lastSnapshot", "lastCommitTime", "rows", "bytes", "files", "upkeep")
MEASURED = (ConditionType.COMPACTED, ConditionType.FILES_PRESENT)
"""What the collector finds of a table."""

NOT_MEASURED = unknown(Reason.NOT_MEASURED, "The table's files have not been looked at yet.")


def not_known(reason: Reason, told: str) -> dict[ConditionType, Finding]:
    """What is said of a table while its catalog or its store is away; `told` says how."""
    return dict.fromkeys(MEASURED, unknown(reason, f"Not measured: {told}"))


def fields(found: Layout) -> dict[str, Any]:
    """The figures of a table's status."""
    totals, committed = found.totals, found.totals.committed
    return {
        "lastSnapshot": None if totals.snapshot is None else str(totals.snapshot),
        "lastCommitTime": None if committed is None else committed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": totals.rows,
        "bytes": totals.bytes,
        "files": totals.files,
        "upkeep": [
            run_status(run.task, run.ended_us, run.seconds, run.figures) for _, run in sorted(found.runs.items())
        ][:MOST_RUNS]
        or None,
    }


def compacted(plan: TablePlan, newest: Sequence[PartitionFiles] | None) -> Finding:
    """Whether the newest partitions lie in about as few files as their size takes."""
    if newest is None:
        return unknown(
            Reason.NOT_PARTITIONED_BY_TIME, "No partition is the newest, so all files would have to be looked at."
        )
    if not newest:
        return unknown(Reason.NO_DATA, "The table has no rows yet.")
    target = target_bytes(plan)
    if (worst := crowded(newest, target)) is not None:
        told = described(worst, target)
        return no(Reason.MANY_SMALL_FILES, f"{told[:1].upper()}{told[1:]}. {_remedy(plan)}")
    return yes(Reason.FEW_FILES, "The newest partitions lie in about as few files as their size takes.")


def present(files: Presence | Exception) -> Finding:
    """Whether the files of the newest snapshot are there."""
    if isinstance(files, Exception):
        return unknown(Reason.NOT_MEASURED, f"The table's files could not be listed: {files}")
    if not files.checked:
        return unknown(Reason.NO_DATA, "The table has no rows yet.")
    if not files.findings:
        return yes(Reason.ALL_FILES_PRESENT, "Every file is there with the size that its manifest says.")
    more = f" and {len(files.findings) - MOST_NAMED} more" if len(files.findings) > MOST_NAMED else ""
    named = ", ".join(f"{each.name} ({each.problem})" for each in files.findings[:MOST_NAMED])
    return no(
        Reason.FILES_MISSING,
        f"{len(files.findings)} of {files.checked} files are missing or have another size: {named}{more}. Bring them back from the "
        "store's versions or a backup; `k2 audit` says which rows are in them, and `k2 audit accept` that it stays so.",
    )


def whole(files: Finding, run: Finding | None) -> Finding:
    """`Compacted` from what the files say and what the last compaction says of itself, if there is one.

    Files that lie well are well, whoever did it. Where they do not, a run that failed is the reason.
    """
    if run is None or files.good:
        return files
    return run if run.reason is Reason.RUN_FAILED or files.status == "Unknown" else files


def target_bytes(plan: TablePlan) -> int:
    """The size that files should have: of the scheduled compaction, else what the sinks write at most."""
    for upkeep in plan.upkeep:
        for name, value in upkeep.limits:
            if upkeep.task == "compact" and name == "target-file-bytes":
                return value
    return int(plan.table.properties.get("write.target-file-size-bytes", TARGET_BYTES))


def _remedy(plan: TablePlan) -> str:
    for upkeep in plan.upkeep:
        if upkeep.task == "compact":
            return f"Compaction is scheduled at `{upkeep.schedule}`; look at its last Job."
    return "Schedule spec.upkeep.compaction."
