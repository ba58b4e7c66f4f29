"""What a process shows at /metrics: the families of its kind, and the process itself. What it never sets is left out."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

# When a series began would be one more series for each, which nobody reads.
disable_created_metrics()


class Exposed:
    """The figures of one kind of process.

    Args:
        families: those that it sets; `k2.obs.metrics.OF_…` has them by kind.
    """

    def __init__(self, families: Iterable[Collector]) -> None:
        self._registry = CollectorRegistry()
        for each in families:
            self._registry.register(each)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """All of them now, in Prometheus' text format (`prometheus_client.CONTENT_TYPE_LATEST`)."""
        return generate_latest(self._registry)
