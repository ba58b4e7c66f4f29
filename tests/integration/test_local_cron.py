"""CronJobs on this machine, with a clock that the test moves and real, tiny processes."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from k2_local.pods.executor import Executor
from k2_local.pods.subset import UnsupportedError

TINY = Path(__file__).with_name("tiny_workload.py")
EVENING = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)


class Calendar:
    def __init__(self):
        self.now = EVENING

    def __call__(self):
        return self.now


@pytest.fixture
def calendar():
    return Calendar()


@pytest.fixture
def machine(tmp_path, calendar):
    """Makes an executor whose `k2` is the tiny workload; it is stopped at the end."""
    made = []

    def executor(*manifests) -> Executor:
        made.append(Executor(tmp_path / "data", program=(sys.executable, str(TINY)), today=calendar))
        made[-1].apply(manifests)
        return made[-1]

    yield executor
    for each in made:
        each.stop()


def cron_job(config=None, deadline=60, schedule="0 3 * * *", zone="Etc/UTC", limit=0, **spec):
    container = {
        "name": "upkeep",
        "command": ["k2"],
        "args": ["upkeep", "compact", "--table", "market_data.trades"],
        "env": [
            {"name": "K2_CONFIG_FILE", "value": "/etc/k2/config/config.json"},
            {"name": "K2_DATA_DIR", "value": "/var/lib/k2"},
            {"name": "K2_HTTP_HOST", "value": "0.0.0.0"},
            {"name": "K2_METRICS_PORT", "value": "9090"},
        ],
        "ports": [{"name": "metrics", "containerPort": 9090}],
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/k2/config", "readOnly": True},
            {"name": "state", "mountPath": "/var/lib/k2"},
        ],
    }
    volumes = [{"name": "config", "configMap": {"name": "upkeep-config"}}, {"name": "state", "emptyDir": {}}]
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
    labels = {"app.kubernetes.io/component": "upkeep"}
    job = {"backoffLimit": limit, "activeDeadlineSeconds": deadline}
    job["template"] = {"metadata": {"labels": labels}, "spec": pod}
    described = {"schedule": schedule, "timeZone": zone, "suspend": False, "concurrencyPolicy": "Forbid"}
    metadata = {"name": "trades-compact", "namespace": "default"}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "upkeep-config", "namespace": "default"},
            "data": {"config.json": json.dumps({"once": True} if config is None else config)},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": metadata,
            "spec": described | {"startingDeadlineSeconds": 3600, "jobTemplate": {"spec": job}} | spec,
        },
    ]


def until(executor, condition, within=20.0):
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, [(s.name, s.phase, s.message) for s in executor.statuses()]
        executor.step()
        time.sleep(0.02)


def runs(tmp_path):
    log = tmp_path / "data/logs/trades-compact-0.log"
    return log.read_text().count("['upkeep', 'compact', '--table', 'market_data.trades']") if log.exists() else 0


def phase(executor):
    (status,) = executor.statuses()
    return status.phase


def test_it_runs_when_its_time_has_come_and_not_before(tmp_path, machine, calendar):
    executor = machine(*cron_job())
    executor.step()
    assert phase(executor) == "Scheduled"
    assert executor.statuses()[0].message == "next at 2026-11-22 03:00 UTC"
    assert executor.settled  # nobody waits for it
    calendar.now += timedelta(hours=6, minutes=59)
    executor.step()
    assert runs(tmp_path) == 0
    calendar.now += timedelta(minutes=1)
    until(executor, lambda: phase(executor) == "Completed")
    assert runs(tmp_path) == 1
    calendar.now += timedelta(days=1)
    until(executor, lambda: runs(tmp_path) == 2)
    # Each run is a pod of its own: it does not find what the last one left.
    until(executor, lambda: phase(executor) == "Completed")
    assert (tmp_path / "data/pods/trades-compact-0/state/runs").read_text() == "x"


def test_its_time_is_that_of_its_time_zone(machine, calendar):
    executor = machine(*cron_job(zone="Australia/Sydney"))
    executor.step()
    assert executor.statuses()[0].message == "next at 2026-11-22 16:00 UTC"


def test_two_runs_are_never_at_once_and_all_end_with_the_platform(tmp_path, machine, calendar):
    executor = machine(*cron_job(config={}))  # serves until it is stopped
    executor.step()
    calendar.now += timedelta(hours=8)
    until(executor, lambda: runs(tmp_path) == 1 or phase(executor) == "Running")
    calendar.now += timedelta(days=1)
    until(executor, lambda: executor.crons[0].skipped == 1)
    assert runs(tmp_path) <= 1
    executor.stop()
    assert phase(executor) == "Stopped"
    assert list((tmp_path / "data/run").glob("*.json")) == []


def test_a_run_that_takes_too_long_is_stopped(machine, calendar):
    executor = machine(*cron_job(config={}, deadline=0.3))
    executor.step()
    calendar.now += timedelta(hours=8)
    until(executor, lambda: phase(executor) == "Failed")
    assert executor.statuses()[0].message == "it took longer than its deadline"


def test_a_run_that_fails_says_why_and_the_next_one_comes(tmp_path, machine, calendar):
    executor = machine(*cron_job(config={"exit": 3, "why": "no such table"}))
    executor.step()
    calendar.now += timedelta(hours=8)
    until(executor, lambda: phase(executor) == "Failed")
    assert "no such table" in executor.statuses()[0].message
    calendar.now += timedelta(days=1)
    until(executor, lambda: runs(tmp_path) == 2)


def test_after_a_long_sleep_of_the_machine_a_run_is_left_out(tmp_path, machine, calendar):
    executor = machine(*cron_job())
    executor.step()
    calendar.now += timedelta(hours=9)  # two hours after its time
    executor.step()
    assert (phase(executor), runs(tmp_path)) == ("Scheduled", 0)


def test_suspended_it_does_not_run(tmp_path, machine, calendar):
    executor = machine(*cron_job(suspend=True))
    executor.step()
    calendar.now += timedelta(hours=7)
    executor.step()
    assert runs(tmp_path) == 0
    assert executor.statuses()[0].message == "suspended"


@pytest.mark.parametrize(
    ("spec", "found"),
    [({"concurrencyPolicy": "Allow"}, "Allow"), ({"ttlSecondsAfterFinished": 1}, "ttlSecondsAfterFinished")],
)
def test_what_it_does_not_do_is_refused(machine, spec, found):
    with pytest.raises(UnsupportedError) as failure:
        machine(*cron_job(**spec))
    assert found in str(failure.value)
