"""The Prometheus metrics of the traffic with the API server."""

from __future__ import annotations

from prometheus_client import Counter

API_REQUESTS = Counter("k2_operator_api_requests_total", "Requests to the Kubernetes API, watches aside.", ("method",))
EVENTS = Counter("k2_operator_watch_events_total", "Events that the watches brought.", ("kind",))

ALL = (API_REQUESTS, EVENTS)
