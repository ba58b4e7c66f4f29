"""Which metrics there are, and which of them an expression of PromQL reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.registry import Collector

from k2.obs import metrics
from k2_operator.kube import metrics as kube_metrics
from k2_operator.kube.cache import Cache
from k2_operator.reconcile import metrics as operator_metrics
from k2_operator.reconcile.cache_figures import CacheFigures
from k2_testing import charts

BY_PROCESS: Mapping[str, tuple[Collector, ...]] = {
    "producer": metrics.OF_PRODUCERS,
    "load": metrics.OF_LOADS,
    "sink": metrics.OF_SINKS,
    "query": metrics.OF_QUERIES,
    "operator": (*kube_metrics.ALL, *operator_metrics.ALL, CacheFigures(Cache())),
}
"""What each kind of process shows of its own."""

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
_SELECTOR = re.compile(r"\b(k2[_:][a-z0-9_:]+|up|process_[a-z_]+)\b(\{[^}]*\})?")


def families(collectors: Iterable[Collector]) -> dict[str, str]:
    """Name → type of the families of these collectors."""
    described = (getattr(each, "describe", each.collect) for each in collectors)
    return {family.name: family.type for describe in described for family in describe()}


def series_names(name: str, kind: str) -> set[str]:
    """The names under which a family's series are stored."""
    return {name + suffix for suffix in _SUFFIXES[kind]}


def every_series_name() -> set[str]:
    """Of all processes."""
    found = (families(each).items() for each in BY_PROCESS.values())
    return {name for pairs in found for pair in pairs for name in series_names(*pair)}


def selectors(expression: str) -> set[str]:
    """The selectors of an expression, `name` or `name{matchers}`; what is grouped by is none."""
    plain = re.sub(r"\b(by|on|without|ignoring) \([^)]*\)", "", expression)
    return {name + (matchers or "") for name, matchers in _SELECTOR.findall(plain)}


def rules(manifests: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The specs of PrometheusRules by their names."""
    return {m["metadata"]["name"]: m["spec"] for m in charts.kind(manifests, "PrometheusRule")}  # pyright: ignore[reportArgumentType]


def each_rule(specs: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """All rules, alerts and records."""
    return (rule for spec in specs.values() for group in spec["groups"] for rule in group["rules"])


def dashboards(manifests: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Grafana's JSON by the names of the ConfigMaps."""
    found = [m for m in charts.kind(manifests, "ConfigMap") if "dashboard" in m["metadata"]["name"]]  # pyright: ignore[reportArgumentType]
    return {m["metadata"]["name"]: json.loads(next(iter(m["data"].values()))) for m in found}


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something: rows are headings."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def plain(expression: str) -> str:
    """A panel's expression with Grafana's variables filled in."""
    return expression.replace('=~"$namespace"', '=~".*"').replace("$__rate_interval", "1m")
