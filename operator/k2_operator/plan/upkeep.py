"""A table's upkeep: what may be wrong with it, and its plans; a part of `planning`.

Nothing is planned that has no schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from k2_operator.plan.plans import UpkeepPlan
from k2_operator.spec.quantities import seconds, size_in_bytes
from k2_operator.spec.resources import (
    Compaction,
    MetadataUpkeep,
    OrphanRemoval,
    Resources,
    Scrub,
    SnapshotExpiry,
    Upkeep,
)
from k2_operator.spec.schedules import EXPECTED, known_zone, schedule_problem
from k2_operator.spec.validate import ResourceError

_Task = Compaction | SnapshotExpiry | OrphanRemoval | MetadataUpkeep | Scrub

LEAST = Resources(requests={"cpu": "100m", "memory": "256Mi"})


SPARE_SECONDS = 60
"""A scrub ends so long before the deadline of its Job, and the next one goes on."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a field may be: `text` in the words of the resource, numbers in seconds or bytes."""

    least: float
    most: float
    text: str


_FILE_SIZE = _Bounds(1 << 20, 1 << 34, "1Mi to 16Gi")
_DEADLINE = _Bounds(60, 7 * 86_400, "1m to 7d")
_SNAPSHOT_AGE = _Bounds(3600, 3650 * 86_400, "1h to 3650d")
# A commit that is under way refers to its files only at its end.
_ORPHAN_AGE = _Bounds(3600, 3650 * 86_400, "1h to 3650d")
_CHECK_AGE = _Bounds(0, 3650 * 86_400, "0s to 3650d")
_RATE = _Bounds(1 << 10, 1 << 40, "1Ki to 1Ti")


def upkeep_errors(who: str, upkeep: Upkeep | None) -> list[ResourceError]:
    """What is wrong with a table's upkeep."""
    if upkeep is None:
        return []
    errors: list[ResourceError] = []
    for name, task in _tasks(upkeep).items():
        if problem := schedule_problem(task.schedule):
            path = f"spec.upkeep.{name}.schedule"
            errors.append(ResourceError(who, path, problem, found=task.schedule, expected=EXPECTED))
    if not known_zone(upkeep.time_zone):
        expected = "a time zone such as Etc/UTC or Australia/Sydney"
        errors.append(ResourceError(who, "spec.upkeep.timeZone", "unknown", found=upkeep.time_zone, expected=expected))
    bounded = [("deadline", upkeep.deadline, seconds(upkeep.deadline), _DEADLINE)]
    if task := upkeep.compaction:
        size = task.target_file_size
        bounded.append(("compaction.targetFileSize", size, size_in_bytes(size), _FILE_SIZE))
    if task := upkeep.snapshot_expiry:
        bounded.append(("snapshotExpiry.olderThan", task.older_than, seconds(task.older_than), _SNAPSHOT_AGE))
    if task := upkeep.orphan_removal:
        bounded.append(("orphanRemoval.olderThan", task.older_than, seconds(task.older_than), _ORPHAN_AGE))
    if task := upkeep.metadata:
        bounded.append(("metadata.olderThan", task.older_than, seconds(task.older_than), _ORPHAN_AGE))
    if task := upkeep.scrub:
        bounded.append(("scrub.olderThan", task.older_than, seconds(task.older_than), _CHECK_AGE))
        bounded.append(("scrub.rate", task.rate, size_in_bytes(task.rate), _RATE))
    return errors + [
        ResourceError(who, f"spec.upkeep.{name}", "out of range", found=found, expected=bounds.text)
        for name, found, value, bounds in bounded
        if not bounds.least <= value <= bounds.most
    ]


def upkeep_plans(upkeep: Upkeep | None) -> tuple[UpkeepPlan, ...]:
    """The tasks that have a schedule. The upkeep has passed `upkeep_errors`."""
    if upkeep is None:
        return ()

    deadline = int(seconds(upkeep.deadline))

    def planned(task: _Task) -> UpkeepPlan:
        match task:
            case Compaction():
                name, limits = "compact", (("target-file-bytes", size_in_bytes(task.target_file_size)),)
            case SnapshotExpiry():
                age = ("older-than-seconds", int(seconds(task.older_than)))
                name, limits = "expire", (("retain-last", task.retain_last), age)
            case OrphanRemoval():
                name, limits = "orphans", (("older-than-seconds", int(seconds(task.older_than))),)
            case MetadataUpkeep():
                name, limits = "metadata", (("older-than-seconds", int(seconds(task.older_than))),)
            case Scrub():
                age = ("older-than-seconds", int(seconds(task.older_than)))
                most = ("most-seconds", max(1, deadline - SPARE_SECONDS))
                name, limits = "scrub", (("rate", size_in_bytes(task.rate)), age, most)
        return UpkeepPlan(
            task=name,
            schedule=task.schedule,
            time_zone=upkeep.time_zone,
            suspended=upkeep.suspend,
            deadline_seconds=deadline,
            limits=limits,
            resources=LEAST if upkeep.resources == Resources() else upkeep.resources,
        )

    return tuple(planned(task) for task in _tasks(upkeep).values())


def _tasks(upkeep: Upkeep) -> dict[str, _Task]:
    """The tasks that are asked for, by their field."""
    found = {
        "compaction": upkeep.compaction,
        "snapshotExpiry": upkeep.snapshot_expiry,
        "orphanRemoval": upkeep.orphan_removal,
        "metadata": upkeep.metadata,
        "scrub": upkeep.scrub,
    }
    return {name: task for name, task in found.items() if task is not None}
