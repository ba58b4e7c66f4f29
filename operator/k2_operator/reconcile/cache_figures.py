"""Figures of what the cache holds, counted when they are asked for: never older than what the watches have seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from k2_operator.kube.cache import FEED, TABLE, Cache
from k2_operator.spec import labels
from k2_operator.spec.conditions import ConditionType
from k2_operator.spec.objects import condition

_STATUSES = ("True", "False", "Unknown")
_COMPONENTS = ("producer", "sink")
_LOADS = ("running", "succeeded", "failed")


class CacheFigures(Collector):
    """Resources, their conditions, and the workloads that were made for them. To be asked in the loop that fills the cache."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families as they are now."""
        return [self._resources(), self._conditions(), self._pods(), self._loads()]

    def _resources(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "k2_operator_resources", "Resources by kind and whether they are ready.", labels=("kind", "ready")
        )
        for kind in (FEED, TABLE):
            ready = [_is_true(condition(obj, ConditionType.READY)) for obj in self._objects(kind)]
            family.add_metric((kind, "true"), sum(ready))
            family.add_metric((kind, "false"), len(ready) - sum(ready))
        return family

    def _conditions(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "k2_operator_conditions_resources",
            "Resources by the status of each of their conditions.",
            labels=("kind", "type", "status"),
        )
        for kind in (FEED, TABLE):
            found = Counter(
                (str(each["type"]), str(each["status"]))
                for obj in self._objects(kind)
                for each in (obj.get("status") or {}).get("conditions") or ()
                if each["type"] in set(ConditionType)
            )
            for name in sorted({name for name, _ in found}):
                for status in _STATUSES:
                    family.add_metric((kind, name, status), found[name, status])
        return family

    def _pods(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "k2_operator_workload_pods",
            "Pods of sinks and producers: wanted, available.",
            labels=("component", "state"),
        )
        wanted, available = Counter[str](), Counter[str]()
        for obj in self._objects("Deployment"):
            component = obj["metadata"].get("labels", {}).get(labels.COMPONENT, "")
            wanted[component] += int(obj["spec"].get("replicas", 1))
            available[component] += int((obj.get("status") or {}).get("availableReplicas") or 0)
        for component in _COMPONENTS:
            family.add_metric((component, "wanted"), wanted[component])
            family.add_metric((component, "available"), available[component])
        return family

    def _loads(self) -> GaugeMetricFamily:
        """A load may take seconds, and is over before anybody reads its own figures: its Job stays."""
        family = GaugeMetricFamily(
            "k2_operator_load_jobs", "Jobs of loads: running, succeeded, failed.", labels=("state",)
        )
        found = Counter(
            _load_state(obj)
            for obj in self._objects("Job")
            if obj["metadata"].get("labels", {}).get(labels.COMPONENT) == "load"
        )
        for state in _LOADS:
            family.add_metric((state,), found[state])
        return family

    def _objects(self, kind: str) -> Iterator[dict[str, Any]]:
        return (obj for where in self._cache.refs(kind) if (obj := self._cache.get(where)) is not None)


def _is_true(found: Any) -> bool:
    return found is not None and found["status"] == "True"


def _load_state(job: dict[str, Any]) -> str:
    if _is_true(condition(job, "Failed")):
        return "failed"
    return "succeeded" if _is_true(condition(job, "Complete")) else "running"
