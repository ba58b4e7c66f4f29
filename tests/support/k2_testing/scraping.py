"""A Prometheus that an operator runs in a cluster, asked by way of the API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from k2_testing.cluster import Cluster, RefusedError


class Scraping:
    """Its HTTP API. `namespace` is where the operator runs it."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._cluster = Cluster(kubeconfig)
        self._path = f"/api/v1/namespaces/{namespace}/services/prometheus-operated:web/proxy"

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._ask("query", query="vector(1)") is not None
        except (RefusedError, httpx.HTTPError, ValueError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now: samples with their labels."""
        return self._ask("query", query=expression)["result"]

    def ranges(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """What it gave, from time to time (Unix seconds): series with their `values`."""
        return self._ask("query_range", query=expression, start=start, end=end, step=step)["result"]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped: `scrapePool`, `labels`, `health`, `lastError`."""
        return self._ask("targets")["activeTargets"]

    def rules(self) -> list[dict[str, Any]]:
        """All rules that were loaded, with their health."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, what: str, **params: object) -> Any:
        answer = self._cluster.request("GET", f"{self._path}/api/v1/{what}", params=params)
        assert answer["status"] == "success", answer
        return answer["data"]
