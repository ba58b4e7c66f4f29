"""A Prometheus histogram that takes a whole column at once: a batch of a million values costs one pass of numpy."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import REGISTRY
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class ColumnHistogram(Collector):
    """Counts and sums by labels. Safe to use from any thread.

    Args:
        name: with its base unit at the end.
        documentation: one sentence.
        labels: names of the labels.
        buckets: upper bounds, ascending; the last one, +Inf, comes by itself.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, buckets: Sequence[float]) -> None:
        self.name = name
        self._documentation, self._labels = documentation, tuple(labels)
        self._bounds = np.array(buckets, np.float64)
        self._names = [*map(floatToGoString, buckets), "+Inf"]
        self._lock = threading.Lock()
        self._found: dict[tuple[str, ...], tuple[npt.NDArray[np.int64], float]] = {}
        REGISTRY.register(self)

    def observe(self, labels: tuple[str, ...], values: npt.NDArray[np.float64]) -> None:
        """Take in a column of values under one set of labels' values."""
        places = np.searchsorted(self._bounds, values, side="left")  # a bucket holds its bound: le
        counts = np.bincount(places, minlength=len(self._names)).astype(np.int64)
        total = float(values.sum())
        with self._lock:
            before = self._found.get(labels)
            self._found[labels] = (counts, total) if before is None else (before[0] + counts, before[1] + total)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The family without samples, so that a registry knows its name."""
        return [HistogramMetricFamily(self.name, self._documentation, labels=self._labels)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family as it is now."""
        family = HistogramMetricFamily(self.name, self._documentation, labels=self._labels)
        with self._lock:
            found = dict(self._found)
        for labels, (counts, total) in found.items():
            cumulative = np.cumsum(counts).tolist()
            family.add_metric(labels, list(zip(self._names, map(float, cumulative), strict=True)), total)
        return [family]
