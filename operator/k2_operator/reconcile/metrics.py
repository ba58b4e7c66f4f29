"""The Prometheus metrics of the operator's work: name, unit, labels. Labels come from short fixed lists, never from names."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
)
"""What the operator shows of its work; of what it looks after `CacheFigures` tells."""

# At zero from the start: Prometheus sees no increase in a counter that begins with its first event.
for _outcome in ("ok", "waiting", "error"):
    for _kind in ("MarketFeed", "IcebergTable"):
        RECONCILES.labels(_kind, _outcome)
for _outcome in ("ok", "error"):
    COLLECTIONS.labels(_outcome)
