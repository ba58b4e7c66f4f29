"""What a table's CronJobs say of its upkeep, as conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from k2_operator.plan.plans import UpkeepPlan
from k2_operator.report.status import Finding, no, unknown, yes
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object

CONDITIONS: Mapping[str, ConditionType] = {
    "compact": ConditionType.COMPACTED,
    "expire": ConditionType.SNAPSHOTS_EXPIRED,
    "orphans": ConditionType.ORPHANS_REMOVED,
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
