"""Upkeep by schedule: cron lines on which everybody agrees, and what a CronJob says of its last run."""

from datetime import UTC, datetime

import pytest

from k2_operator.plan.planning import plan
from k2_operator.report.upkeep import CONDITIONS, upkeep_finding
from k2_operator.spec import schedules


@pytest.mark.parametrize(
    "line", ["15 3 * * *", "*/15 * * * *", "0 0 1 JAN mon-fri", "0,30 8-18/2 1,15 * *", "5/10 * * * 0", "00 03 * * *"]
)
def test_lines_that_kubernetes_takes(line):
    assert schedules.schedule_problem(line) == ""


@pytest.mark.parametrize(
    "line",
    [
        *("", "* * * *", "0 0 * * * *", "@daily", "@every 1h", "0 25 * * *", "60 * * * *", "0 0 0 * *", "0 0 * 13 *"),
        *("0 0 * * 7", "0 0 L * *", "0 0 * * 1#2", "*/0 * * * *", "0 0 30 2 *", "0 5-3 * * *", "TZ=UTC 0 0 * * *"),
        *("0 0 * * foo", "0 0 * * *\n", "-5 * * * *"),
    ],
)
def test_lines_that_it_does_not(line):
    assert schedules.schedule_problem(line)


def test_the_pattern_needs_no_escaping_where_the_api_server_reads_it():
    assert not set("\\'\n") & set(schedules.PATTERN)


@pytest.mark.parametrize(
    ("line", "zone", "after", "expected"),
    [
        ("30 2 * * *", "Etc/UTC", "2026-11-21T02:30:00", "2026-11-22T02:30:00"),
        ("30 2 * * *", "Australia/Sydney", "2026-11-21T00:00:00", "2026-11-21T15:30:00"),
        # Sydney puts its clocks back on 5 April 2026: what was 11 hours ahead is 10.
        ("30 4 * * *", "Australia/Sydney", "2026-04-04T00:00:00", "2026-04-04T18:30:00"),
        ("0 * * * *", "Etc/UTC", "2026-12-31T23:30:00", "2027-01-01T00:00:00"),
    ],
)
def test_the_next_time_is_that_of_the_time_zone(line, zone, after, expected):
    found = schedules.next_run(line, zone, datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def task(**upkeep):
    from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform

    platform = Platform(
        kafka=KafkaPlatform(bootstrap_servers="k:9092"),
        registry=RegistryPlatform(url="http://r"),
        catalog=CatalogPlatform(properties={}),
    )
    spec = {"identifier": "a.trades", "schema": "trades", "upkeep": {"compaction": {"schedule": "0 3 * * *"}} | upkeep}
    document = {"apiVersion": "k2.dev/v1alpha1", "kind": "IcebergTable", "metadata": {"name": "trades"}, "spec": spec}
    return plan([document], platform).tables[0].upkeep[0]


EARLY, LATE = "2026-11-20T03:00:00Z", "2026-11-21T03:00:00Z"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, ("Unknown", "NotYetRun")),
        ({}, ("Unknown", "NotYetRun")),
        ({"lastScheduleTime": EARLY, "active": [{}]}, ("Unknown", "Running")),
        ({"lastScheduleTime": EARLY, "lastSuccessfulTime": LATE}, ("True", "RunSucceeded")),
        # While the next one runs the last one holds: a condition that comes and goes with every run says nothing.
        ({"lastScheduleTime": LATE, "lastSuccessfulTime": EARLY, "active": [{}]}, ("True", "RunSucceeded")),
        ({"lastScheduleTime": LATE, "lastSuccessfulTime": EARLY}, ("False", "RunFailed")),
        ({"lastScheduleTime": LATE}, ("False", "RunFailed")),
    ],
)
def test_what_a_cron_job_says(status, expected):
    job = None if status is None else {"metadata": {"name": "trades-compact"}, "status": status}
    found = upkeep_finding(task(), job)
    assert (found.status, found.reason) == expected


def test_a_failed_run_leads_to_its_log():
    found = upkeep_finding(task(), {"metadata": {"name": "trades-compact"}, "status": {"lastScheduleTime": LATE}})
    assert "app.kubernetes.io/instance=trades-compact" in found.message


def test_suspended_upkeep_says_how_it_goes_on():
    assert upkeep_finding(task(suspend=True), None).reason == "Suspended"


def test_every_task_has_its_condition():
    assert set(CONDITIONS) == {"compact", "expire", "orphans"}
