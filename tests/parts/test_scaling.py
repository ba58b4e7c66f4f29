"""Sinks scaled by their lag: by a HorizontalPodAutoscaler and an adapter that serves Prometheus' figures to it, and by KEDA.

Under a load the sink goes from one pod to as many as it may have, and back when the load is over, each once: no flapping.
"""

import json

import pytest
from k2_testing.cluster import Cluster, until
from k2_testing.kind import NAMESPACE
from k2_testing.resources import feed

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200, func_only=True)]

MOST = 3
BUSY, QUIET = 3000, 10
SYMBOLS = [f"SYM{number}" for number in range(12)]
KEDA = (
    *("--set", "platform.autoscaling.kind=keda"),
    *("--set", "platform.autoscaling.prometheus.url=http://prometheus-operated.monitoring:9090"),
)


def busy_feed(rate):
    """Between two commits, 20 seconds apart, it is as far behind as its rate has it: three pods' worth, or next to nothing."""
    bounds = {"maxReplicas": MOST, "targetLag": 2000}
    source = {"synthetic": {"start": "2026-03-02", "symbols": SYMBOLS, "days": 0, "eventsPerSecond": rate}}
    asked = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}
    sink = asked | {"commitInterval": "20s", "autoscaling": bounds}
    return feed(NAMESPACE, "busy", source=source, exchange="ASX", topic={"partitions": MOST}, sink=sink, producer=asked)


class Pods:
    """How many pods the sink's Deployment asks for, and every change of that while it was looked at."""

    def __init__(self, cluster, name):
        self._cluster, self._name = cluster, name
        self.seen = [self._found()["spec"]["replicas"]]

    def _found(self):
        return self._cluster.get("Deployment", self._name, NAMESPACE)

    def are(self, wanted):
        """Whether so many are asked for, and ready."""
        found = self._found()
        asked = found["spec"]["replicas"]
        if asked != self.seen[-1]:
            self.seen.append(asked)
        return asked == wanted == found["status"].get("availableReplicas", 0)


@pytest.fixture(params=["hpa", "keda"])
def scaler(request, installed_again):
    """The platform's way to scale; the default is a HorizontalPodAutoscaler of the operator's own."""
    if request.param == "keda":
        request.getfixturevalue("keda")
        installed_again(*KEDA)
    else:
        request.getfixturevalue("adapter")
    return request.param


def test_a_sink_is_scaled_out_by_its_lag_and_back_without_flapping(scaler, kind, flowing, monitoring, measured):
    cluster = Cluster(kind.kubeconfig)
    cluster.apply(busy_feed(QUIET))
    (name,) = until(lambda: sinks(cluster), "no sink", 300, 1, why=kind.what_is_wrong)
    until(lambda: scaled_by(kind, name) == scaler, "not scaled as the platform says", 300, 1)
    until(lambda: lag(monitoring, name), "its lag is not known", 600, 1, why=kind.what_is_wrong)
    pods = Pods(cluster, name)
    assert pods.seen == [1]
    cluster.apply(busy_feed(BUSY))
    until(lambda: pods.are(MOST), "not scaled out", 900, 1, why=lambda: said(kind))
    cluster.apply(busy_feed(QUIET))
    until(lambda: pods.are(1), "not scaled back", 1200, 1, why=lambda: said(kind))
    measured("pods", pods.seen)
    top = pods.seen.index(MOST)
    assert pods.seen[: top + 1] == sorted(set(pods.seen[: top + 1])), pods.seen
    assert pods.seen[top:] == sorted(set(pods.seen[top:]), reverse=True), pods.seen
    found = json.loads(kind.kubectl("exec", "deploy/k2-query", "--", "k2", "audit", "--output=json", timeout=600))
    assert found
    assert all(each["ok"] for each in found), found


def sinks(cluster):
    found = cluster.list("Deployment", NAMESPACE, "k2.dev/feed=busy,app.kubernetes.io/component=sink")
    return [each["metadata"]["name"] for each in found]


def scaled_by(kind, name):
    """Whose the one autoscaler of the sink is."""
    targets = {
        each["metadata"]["name"]: each["spec"]["scaleTargetRef"]["name"]
        for each in kind.get("horizontalpodautoscalers")["items"]
    }
    ours = {scaler for scaler, target in targets.items() if target == name}
    return {(name,): "hpa", (f"keda-hpa-{name}",): "keda"}.get(tuple(ours))


def lag(monitoring, name):
    return monitoring.query(f'k2_sink_lag_messages{{namespace="{NAMESPACE}",pod=~"{name}-.+"}}')


def said(kind):
    """What the autoscaler says of it."""
    return kind.kubectl("describe", "horizontalpodautoscalers", check=False)[-4000:] + kind.what_is_wrong()
