"""CronJobs of a table's upkeep: `k2 upkeep compact | expire | orphans | metadata | scrub`, only where the resource gives a schedule."""

from __future__ import annotations

from k2.model.platform import Platform
from k2_operator.build import environment, names, pod
from k2_operator.build.types import CronJob
from k2_operator.plan.plans import TablePlan, UpkeepPlan
from k2_operator.spec import labels

LATE_SECONDS = 3600
"""A run that could not begin for so long is left out; the next one does its work as well."""


def upkeep(table: TablePlan, platform: Platform) -> list[CronJob]:
    """A CronJob for each task with a schedule."""
    return [_cron_job(table, plan, platform) for plan in table.upkeep]


def _cron_job(table: TablePlan, plan: UpkeepPlan, platform: Platform) -> CronJob:
    name = names.upkeep(table.name, plan.task)
    marks = labels.of("upkeep", name, table=table.name)
    limits = [text for option, value in plan.limits for text in (f"--{option}", str(value))]
    workload = pod.Workload(
        args=("upkeep", plan.task, "--table", table.table.identifier, *limits),
        # The table is all that it touches: no Kafka, no registry.
        env=pod.base_env() + environment.catalog(platform),
        ports={},
        probed=None,
        resources=plan.resources,
        mounts=environment.catalog_volumes(platform),
        # A pod that failed stays for its log.
        restart_policy="Never",
        configured=False,
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "namespace": table.namespace, "labels": dict(marks)},
        "spec": {
            "schedule": plan.schedule,
            "timeZone": plan.time_zone,
            "suspend": plan.suspended,
            # Two at once would undo each other's work.
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": LATE_SECONDS,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "metadata": {"labels": dict(marks)},
                "spec": {
                    "backoffLimit": 2,
                    "activeDeadlineSeconds": plan.deadline_seconds,
                    "template": pod.template(name, marks, platform.images, workload),
                },
            },
        },
    }
