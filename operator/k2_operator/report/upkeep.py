"""What a table's CronJobs, and the table itself, say of its upkeep: conditions and figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from k2_operator.plan.plans import UpkeepPlan
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object

CONDITIONS: Mapping[str, ConditionType] = {
    "compact": ConditionType.COMPACTED,
    "expire": ConditionType.SNAPSHOTS_EXPIRED,
    "orphans": ConditionType.ORPHANS_REMOVED,
    "metadata": ConditionType.METADATA_TIDY,
    "scrub": ConditionType.FILES_INTACT,
}


def upkeep_finding(plan: UpkeepPlan, cron_job: Object | None) -> Finding:
    """What a task's CronJob says of its last run."""
    if plan.suspended:
        return unknown(Reason.SUSPENDED, "spec.upkeep.suspend is true; set it to false to go on.")
    found = (cron_job or {}).get("status") or {}
    # RFC 3339 in UTC sorts as text.
    begun, well = str(found.get("lastScheduleTime") or ""), str(found.get("lastSuccessfulTime") or "")
    if not begun:
        return unknown(Reason.NOT_YET_RUN, f"It runs at {plan.schedule} ({plan.time_zone}).")
    if well >= begun or (well and found.get("active")):
        return yes(Reason.RUN_SUCCEEDED, "The last run ended well.")
    if found.get("active"):
        return unknown(Reason.RUNNING, "The first run is under way.")
    name = cron_job["metadata"]["name"] if cron_job else ""
    return no(
        Reason.RUN_FAILED,
        f"The last run of CronJob {name} failed; `kubectl get jobs -l app.kubernetes.io/instance={name}` names it, "
        "its log tells why. The next run tries again.",
    )


def run_ended(run: Object | None, cron_job: Object | None) -> datetime | None:
    """When a task last ended well, by the table or by its CronJob; None: it never did.

    Args:
        run: what the table keeps of it, as `status.upkeep` has it.
        cron_job: the task's.
    """
    told = ((run or {}).get("lastSuccessTime"), ((cron_job or {}).get("status") or {}).get("lastSuccessfulTime"))
    return max((datetime.fromisoformat(each) for each in told if each), default=None)


def on_time_finding(late: Sequence[str], schedules: int) -> Finding:
    """`UpkeepOnTime` of a table with so many scheduled tasks, of which these have missed two periods."""
    if late:
        return no(
            Reason.RUNS_MISSED,
            f"Not ended well for two periods or more: {', '.join(late)}. Their last Jobs' logs tell why; a suspended "
            "CronJob, or one whose pods cannot start, has none. Docs: docs/runbooks/K2UpkeepMissed.md.",
        )
    return yes(Reason.RUNS_ON_TIME, f"{schedules} scheduled tasks have ended well within two of their periods.")


def intact_finding(run: Object | None, job: Finding | None, cron_job: Object | None) -> Finding | None:
    """`FilesIntact` of a table; None where it has no scrub.

    Args:
        run: what the table keeps of its last scrub. A run that finds damage ends with an error, and has come to its end all the same.
        job: what the scrub's CronJob says.
        cron_job: the CronJob.
    """
    if run is None:
        return job
    begun = str(((cron_job or {}).get("status") or {}).get("lastScheduleTime") or "")
    damaged = int(run.get("damaged") or 0)
    if damaged:
        more = f" and {damaged - len(run['named'])} more" if damaged > len(run.get("named") or ()) else ""
        return no(
            Reason.FILES_DAMAGED,
            f"{damaged} files with {run.get('damagedRows', 0)} rows are not what was written: "
            f"{', '.join(run.get('named') or ())}{more}. `k2 upkeep restore --all-damaged` builds them again from the topic.",
        )
    if job is not None and job.reason is Reason.RUN_FAILED and run["lastSuccessTime"] < begun:
        return job
    unread = f"; {run['unread']} are left for the next run" if run.get("unread") else ""
    return yes(
        Reason.ALL_FILES_INTACT,
        f"The scrub of {run['lastSuccessTime']} has read {run.get('checked', 0)} of {run.get('files', 0)} files{unread}, and none is damaged.",
    )


_FIGURES = {
    "tries": "tries",
    "files_before": "filesBefore",
    "files_after": "filesAfter",
    "bytes_before": "bytesBefore",
    "bytes_after": "bytesAfter",
    "noted": "noted",
    "deleted": "deleted",
    "files": "files",
    "checked": "checked",
    "unread": "unread",
    "damaged": "damaged",
    "damaged_rows": "damagedRows",
    "named": "named",
}


def run_status(task: str, ended_us: int, seconds: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    """A run as `status.upkeep` has it. Figures that are none are left out: the table's property may have been written by anybody."""
    ended = datetime.fromtimestamp(ended_us / 1e6, UTC)
    told: dict[str, Any] = {
        "task": task,
        "lastSuccessTime": ended.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round(seconds),
    }
    for name, shown in _FIGURES.items():
        value = figures.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            told[shown] = value
        elif name == "named" and isinstance(value, list):
            told[shown] = [str(each)[:256] for each in value[:8]]  # pyright: ignore[reportUnknownVariableType]
    return told
