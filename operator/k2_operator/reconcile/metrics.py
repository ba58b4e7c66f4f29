"""The Prometheus metrics of the operator's work: name, unit, labels. Labels come from short fixed lists, never from names."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from k2.lake.upkeep_runs import TASKS, TaskRun

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

RECONCILES = Counter(
    "k2_operator_reconciles_total", "Reconciles by kind and outcome: ok, waiting, error.", ("kind", "outcome")
)
RECONCILE_DURATION = Histogram(
    "k2_operator_reconcile_duration_seconds",
    "One reconcile, from the cache to the status.",
    ("kind",),
    buckets=_SECONDS,
)
QUEUE = Gauge("k2_operator_queue_resources", "Resources that wait for a reconcile or are in one.")
APPLIED = Counter("k2_operator_objects_applied_total", "Objects created or changed.", ("kind",))
DELETED = Counter("k2_operator_objects_deleted_total", "Objects deleted that nothing asks for any more.", ("kind",))
LAST_RESYNC = Gauge("k2_operator_last_resync_timestamp_seconds", "When everything was last looked at, Unix time.")
COLLECTIONS = Counter(
    "k2_operator_collections_total", "Rounds in which lag, freshness and tables were measured: ok, error.", ("outcome",)
)
REACHABLE = Gauge(
    "k2_operator_world_reachable", "Whether a part of the world outside answers (1) or is away (0), by part.", ("part",)
)
BROKEN_FILES = Gauge(
    "k2_operator_broken_files", "Files of all tables that are missing or have another size than their manifest says."
)
MISSING_ROWS = Gauge(
    "k2_operator_missing_rows",
    "Rows of all tables that their recorded offsets count and their newest snapshots do not hold, beyond what was accepted.",
)
DAMAGED_FILES = Gauge(
    "k2_operator_damaged_files", "Files of all tables that the last scrubs found not to be what was written."
)
UPKEEP_SUCCESS = Gauge(
    "k2_operator_upkeep_last_success_timestamp_seconds",
    "When a task of upkeep last came to its end, of the table where that is longest ago, Unix time; 0: nowhere yet.",
    ("task",),
)
UPKEEP_SECONDS = Gauge(
    "k2_operator_upkeep_last_run_seconds", "How long the last runs of a task of upkeep took, the longest.", ("task",)
)
UPKEEP_TRIES = Gauge(
    "k2_operator_upkeep_last_run_tries", "Commits that the last runs of a task of upkeep began, the most.", ("task",)
)
UPKEEP_FILES = Gauge(
    "k2_operator_upkeep_last_run_files",
    "Files that the last runs of a task of upkeep replaced (before), and those in their place (after).",
    ("task", "when"),
)
UPKEEP_BYTES = Gauge(
    "k2_operator_upkeep_last_run_bytes",
    "Bytes that the last runs of a task of upkeep replaced (before), and those in their place (after).",
    ("task", "when"),
)

ALL = (
    RECONCILES,
    RECONCILE_DURATION,
    QUEUE,
    APPLIED,
    DELETED,
    LAST_RESYNC,
    COLLECTIONS,
    BROKEN_FILES,
    REACHABLE,
    MISSING_ROWS,
    DAMAGED_FILES,
    UPKEEP_SUCCESS,
    UPKEEP_SECONDS,
    UPKEEP_TRIES,
    UPKEEP_FILES,
    UPKEEP_BYTES,
)
"""What the operator shows of its work; of what it looks after `CacheFigures` tells."""

# At zero from the start: Prometheus sees no increase in a counter that begins with its first event.
for _outcome in ("ok", "waiting", "error"):
    for _kind in ("MarketFeed", "IcebergTable"):
        RECONCILES.labels(_kind, _outcome)
for _outcome in ("ok", "error"):
    COLLECTIONS.labels(_outcome)


def show_runs(runs: Iterable[TaskRun]) -> None:
    """Show what the last runs of upkeep came to, of all tables together. A run's own pod is gone before anybody reads it."""
    by_task: dict[str, list[TaskRun]] = {task: [] for task in TASKS}
    for run in runs:
        by_task.get(run.task, []).append(run)
    for task, some in by_task.items():
        UPKEEP_SUCCESS.labels(task).set(min((run.ended_us for run in some), default=0) / 1e6)
        UPKEEP_SECONDS.labels(task).set(max((run.seconds for run in some), default=0.0))
        UPKEEP_TRIES.labels(task).set(max((run.number("tries") for run in some), default=0))
        for when in ("before", "after"):
            UPKEEP_FILES.labels(task, when).set(sum(run.number(f"files_{when}") for run in some))
            UPKEEP_BYTES.labels(task, when).set(sum(run.number(f"bytes_{when}") for run in some))
    DAMAGED_FILES.set(sum(run.number("damaged") for run in by_task["scrub"]))


show_runs(())
