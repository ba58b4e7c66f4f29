"""A table's upkeep on a real API server: CronJobs as the resource says, repaired, removed, and what the table says of their runs."""

import pytest
from k2_testing.cluster import until
from k2_testing.resources import events_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

UPKEEP = {
    "compaction": {"schedule": "15 3 * * *"},
    "orphanRemoval": {"schedule": "30 4 * * sun", "olderThan": "7d"},
    "timeZone": "Australia/Sydney",
}


def cron_jobs(cluster, namespace):
    return {each["metadata"]["name"]: each for each in cluster.list("CronJob", namespace)}


def test_each_task_with_a_schedule_is_a_cron_job_that_belongs_to_the_table(cluster, operator, namespace):
    made = cluster.apply(table(namespace, upkeep=UPKEEP))
    found = until(lambda: len(cron_jobs(cluster, namespace)) == 2 and cron_jobs(cluster, namespace), "no CronJobs")
    assert set(found) == {"trades-compact", "trades-orphans"}
    job = found["trades-compact"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert (job["spec"]["schedule"], job["spec"]["timeZone"]) == ("15 3 * * *", "Australia/Sydney")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 7200
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    until(lambda: "Created" in {reason for reason, _ in events_of(cluster, namespace, "trades")}, "no Event")


def test_a_schedule_is_changed_suspended_repaired_and_taken_away(cluster, operator, namespace):
    cluster.apply(table(namespace, upkeep=UPKEEP))
    until(lambda: len(cron_jobs(cluster, namespace)) == 2, "no CronJobs")
    changed = {"compaction": {"schedule": "0 5 * * *"}, "suspend": True}
    cluster.apply(table(namespace, upkeep=changed))
    until(lambda: set(cron_jobs(cluster, namespace)) == {"trades-compact"}, "a CronJob that nobody asks for")

    def spec():
        return cron_jobs(cluster, namespace)["trades-compact"]["spec"]

    until(lambda: spec()["schedule"] == "0 5 * * *", "the schedule is not changed")
    assert spec()["suspend"] is True
    operator.watches("CronJob")
    cluster.patch("CronJob", namespace, "trades-compact", {"spec": {"schedule": "* * * * *", "suspend": False}})
    until(lambda: spec()["schedule"] == "0 5 * * *", "the edit stays")
    assert spec()["suspend"] is True
    cluster.delete("CronJob", namespace, "trades-compact")
    until(lambda: "trades-compact" in cron_jobs(cluster, namespace), "it is not back")
    cluster.apply(table(namespace))
    until(lambda: not cron_jobs(cluster, namespace), "a CronJob that nobody asks for")


def test_a_table_that_goes_takes_its_cron_jobs_along(cluster, operator, namespace):
    cluster.apply(table(namespace, upkeep=UPKEEP))
    until(lambda: len(cron_jobs(cluster, namespace)) == 2, "no CronJobs")
    cluster.delete("IcebergTable", namespace, "trades")
    until(lambda: not cron_jobs(cluster, namespace), "CronJobs are left")


def test_the_table_says_how_the_last_run_went(cluster, operator, namespace):
    schedule = {"snapshotExpiry": {"schedule": "0 0 1 1 *"}}
    cluster.apply(table(namespace, upkeep=schedule))

    def expired(reason):
        return cluster.until_condition("IcebergTable", namespace, "trades", reason, "SnapshotsExpired")

    assert expired("NotYetRun")[0] == "Unknown"

    def ran(**times):
        cluster.patch("CronJob", namespace, "trades-expire", {"status": times}, sub="status")

    ran(lastScheduleTime="2026-11-20T03:00:00Z", lastSuccessfulTime="2026-11-20T03:01:00Z")
    assert expired("RunSucceeded")[0] == "True"
    ran(lastScheduleTime="2026-11-21T03:00:00Z")
    status, _, message = expired("RunFailed")
    assert status == "False"
    assert "instance=trades-expire" in message
    # A run that failed makes no table unready.
    assert cluster.condition("IcebergTable", namespace, "trades")[0] == "True"


def test_a_time_that_only_the_operator_can_judge_is_a_condition_and_makes_nothing(cluster, operator, namespace):
    cluster.apply(table(namespace, upkeep={"compaction": {"schedule": "0 4 31 2 *"}}))
    _, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "InvalidSpec")
    assert "spec.upkeep.compaction.schedule: a range that ends before it begins, or a day that no month has" in message
    assert cron_jobs(cluster, namespace) == {}
