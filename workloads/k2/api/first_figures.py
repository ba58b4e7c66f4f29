"""The service's counters at zero from its start: Prometheus sees no increase in one that begins with its first event.

Six failures that were the first of their route would be an error ratio of nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from k2.obs import metrics

FAILURES = ("500", "503", "504")
"""What the service answers when the fault is its own."""

_METHODS = {"GET", "POST"}
_STATEMENTS = (
    "trades",
    "quotes",
    "reference_data",
    "bars",
    "asof",
    "last",
    "summary",
    "symbols",
    "date_range",
    "stats",
    "replay",
)
"""The kinds of question that run statements, as `measured` and the engine call them."""


def begin(routes: Iterable[BaseRoute]) -> None:
    """Start the counters that alerts read, of every question's route."""
    for route in routes:
        if isinstance(route, APIRoute) and route.path.startswith("/v1/"):
            metrics.HTTP_STALLED.labels(route.path)
            for method in _METHODS & (route.methods or set()):
                for status in FAILURES:
                    metrics.HTTP_REQUESTS.labels(method, route.path, status)
    for query in _STATEMENTS:
        for outcome in ("timeout", "error"):
            metrics.QUERY_EXECUTIONS.labels(query, outcome)
        metrics.QUERY_TIMEOUTS.labels(query)
        metrics.QUERY_ABANDONED.labels(query)
    for reason in ("key", "rules", "rate", "body", "encoding", "queue", "wait", "answers", "connections"):
        metrics.HTTP_REFUSED.labels(reason)
    for reason in ("head", "body", "untaken", "room", "refused"):
        metrics.HTTP_CONNECTIONS_CLOSED.labels(reason)
    for outcome in ("read", "failed"):
        metrics.KEY_FILE_READS.labels(outcome)
    for outcome in ("hit", "miss"):
        metrics.PLAN_CACHE.labels(outcome)
