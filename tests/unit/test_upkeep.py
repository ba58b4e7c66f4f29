"""Upkeep by schedule: cron lines on which everybody agrees, and what a CronJob says of its last run."""

from datetime import UTC, datetime

import pytest

from k2_operator.plan.planning import plan
from k2_operator.reconcile.reconciler import _is_late
from k2_operator.report.upkeep import (
    CONDITIONS,
    intact_finding,
    on_time_finding,
    run_ended,
    run_status,
    upkeep_finding,
)
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
    assert set(CONDITIONS) == {"compact", "expire", "orphans", "metadata", "scrub"}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("ended", "well", "now", "late"),
    [
        # Daily at 3; the deadline is 2 h. The CronJob is there since the 20th, 12:00.
        (None, None, "2026-11-22T04:59:00", False),
        (None, None, "2026-11-22T05:00:00", True),
        ("2026-11-21T03:00:40Z", None, "2026-11-23T04:00:00", False),
        ("2026-11-21T03:00:40Z", None, "2026-11-23T06:00:00", True),
        # The later of what the table and what the CronJob says counts: by hand is as good.
        ("2026-11-21T03:00:40Z", "2026-11-22T03:01:00Z", "2026-11-23T06:00:00", False),
        ("2026-11-22T13:00:00Z", "2026-11-21T03:01:00Z", "2026-11-23T06:00:00", False),
        # Runs of before the schedule was put in say nothing of it.
        ("2025-01-01T00:00:00Z", None, "2026-11-21T06:00:00", False),
    ],
)
def test_a_task_is_late_once_it_has_missed_two_periods_and_its_deadline(ended, well, now, late):
    job = {
        "metadata": {"name": "trades-compact", "creationTimestamp": "2026-11-20T12:00:00Z"},
        "status": {"lastSuccessfulTime": well},
    }
    runs = {"compact": {"task": "compact", "lastSuccessTime": ended}} if ended else {}
    assert _is_late(task(), job, runs, at(now)) is late


def test_what_is_late_is_named():
    assert on_time_finding([], 3).reason == "RunsOnTime"
    found = on_time_finding(["compact", "scrub"], 3)
    assert (found.status, found.reason) == ("False", "RunsMissed")
    assert "compact, scrub" in found.message
    assert run_ended(None, None) is None


def scrubbed(**figures):
    return run_status("scrub", 1_795_000_000_000_000, 12.4, {"files": 9, "checked": 9, "unread": 0, **figures})


def test_a_run_is_told_as_the_table_keeps_it_and_what_is_no_figure_is_left_out():
    told = scrubbed(damaged=2, named=["a (missing)", "b (damaged)"], bytes_before="many", other=1)
    assert told == {
        "task": "scrub",
        "lastSuccessTime": "2026-11-18T11:06:40Z",
        "seconds": 12,
        "files": 9,
        "checked": 9,
        "unread": 0,
        "damaged": 2,
        "named": ["a (missing)", "b (damaged)"],
    }


def test_damage_is_told_with_the_way_out_and_ends_when_it_is_mended():
    failed = upkeep_finding(task(), {"metadata": {"name": "trades-scrub"}, "status": {"lastScheduleTime": EARLY}})
    began = {"status": {"lastScheduleTime": "2026-11-18T10:00:00Z"}}
    found = intact_finding(scrubbed(damaged=3, damaged_rows=70, named=["a (missing)"]), failed, began)
    assert (found.status, found.reason) == ("False", "FilesDamaged")
    assert "3 files with 70 rows" in found.message
    assert "a (missing) and 2 more" in found.message
    assert "k2 upkeep restore --all-damaged" in found.message
    # A run that finds damage ends with an error: once it is mended that says nothing any more.
    assert intact_finding(scrubbed(damaged=0), failed, began).reason == "AllFilesIntact"
    later = {"status": {"lastScheduleTime": "2026-11-19T10:00:00Z"}}
    assert intact_finding(scrubbed(damaged=0), failed, later).reason == "RunFailed"
    assert intact_finding(None, failed, later) == failed
    assert intact_finding(None, None, None) is None
    assert "4 are left for the next run" in intact_finding(scrubbed(unread=4), None, None).message
