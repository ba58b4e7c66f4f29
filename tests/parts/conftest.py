"""One cluster of kind with K2 and the parts that people run beside it: the Prometheus operator, Prometheus, the metrics adapter.

`make test-parts` alone collects this folder: the parts are built from source, for half an hour the first time.
"""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from k2_testing import charts, cluster_parts, images
from k2_testing.cluster import until
from k2_testing.controlplane import UnavailableError
from k2_testing.kind import GIVEN, NAMESPACE, ROOT, Kind
from k2_testing.resources import LIVE, feed
from k2_testing.scraping import Scraping

HERE = Path(__file__).parent
MONITORING = "monitoring"
PARTS = (
    *("parts", str(ROOT / "charts" / "dev"), "-f", str(ROOT / "tests" / "cluster" / "values" / "parts.yaml")),
    *("--set", "registry.monitor.enabled=true,registry.monitor.interval=5s"),
)
K2 = (
    *("k2", str(ROOT / "charts" / "k2"), "-f", str(ROOT / "charts" / "k2" / "values-dev.yaml")),
    *("-f", str(HERE / "values" / "k2.yaml")),
)
UNREAD = [{"dataType": "trades", "tableRef": {"name": "trades"}, "sink": {"enabled": False}}]
SLOW_LOAD = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 1, "eventsPerSecond": 20}}


@pytest.fixture(scope="session")
def kind(tmp_path_factory):
    """The cluster, with everything installed; gone after the run, unless KUBECONFIG has named it."""
    folder = tmp_path_factory.mktemp("kind")
    try:
        with nullcontext(Kind.given(Path(GIVEN), folder)) if GIVEN else Kind.made(folder, "k2-parts") as cluster:
            cluster.load(*images.build())
            install(cluster)
            yield cluster
    except UnavailableError as reason:
        pytest.skip(str(reason))


def install(cluster):
    """Everything, where it is not there yet."""
    for name in (NAMESPACE, MONITORING):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    install_monitoring(cluster)
    cluster.helm("upgrade", "--install", *PARTS, "--wait", "--timeout=10m", timeout=660)
    cluster.helm("upgrade", "--install", *K2)
    cluster.wait("deployment/k2-operator", "Available")
    # Two cores hold all of it when nobody asks for more than he needs.
    cluster.kubectl("scale", "deployment/coredns", "-n", "kube-system", "--replicas=1")


def install_monitoring(cluster):
    """The operator with its definitions, then what it looks after."""
    cluster.load(*map(cluster_parts.image, ("prometheus", "prometheus-operator", "prometheus-config-reloader")))
    cluster.apply(*cluster_parts.prometheus_operator(MONITORING))
    cluster.wait("crd/prometheuses.monitoring.coreos.com", "Established")
    cluster.apply(*told("monitoring.yaml", "prometheus"))


def told(file, name):
    """Manifests of this folder, with an image that was built here."""
    return yaml.safe_load_all(
        (HERE / file).read_text().replace(f"image: {name}\n", f"image: {cluster_parts.image(name)}\n")
    )


@pytest.fixture(scope="session")
def monitoring(kind):
    """The Prometheus that the operator runs, once it answers."""
    scraping = Scraping(kind.kubeconfig, MONITORING)
    until(scraping.is_ready, "Prometheus does not answer", 600, 1, why=lambda: monitoring_says(kind))
    return scraping


def monitoring_says(kind):
    return "\n".join(
        kind.kubectl(*asked, "-n", MONITORING, check=False)
        for asked in (
            ("get", "pods,prometheuses"),
            ("logs", "deploy/prometheus-operator", "--tail=20"),
            ("events", "--field-selector=type=Warning"),
        )
    )


@pytest.fixture(scope="session")
def flowing(kind, monitoring):
    """A live feed, a load that takes its time, and a query service that answers."""
    asked = {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}}  # without, a busy node lets them starve
    sink = asked | {"commitInterval": "2s"}
    # The query service is ready when there is a table of each kind.
    kind.kubectl("apply", "-f", str(ROOT / "manifests" / "samples" / "tables.yaml"))
    kind.apply(
        feed(NAMESPACE, "live", source=LIVE, sequencePolicy="PerSymbol", sink=sink, producer=asked),
        feed(NAMESPACE, "slow", UNREAD, SLOW_LOAD, exchange="BINANCE", assetClass="fx", producer=asked),
    )
    key = kind.api_key()

    def answered():
        status, body = kind.ask("/v1/trades?symbol=ACME&limit=10", key)
        return status == 200 and body["data"]

    until(answered, "no row by REST", 600, 1, why=kind.what_is_wrong)
    return lambda: kind.ask("/v1/trades?symbol=ACME&limit=10", key)


def install_api(kind, manifests, namespace, *deployments):
    """What serves a part of the Kubernetes API: its APIService last, when its Service leads to it.

    Before the node knows the Service's address, the API server's connection goes wherever that leads outside, and is kept.
    """
    of_api, others = [], []
    for each in manifests:
        (of_api if each["kind"] == "APIService" else others).append(each)
    kind.apply(*others)
    for name in deployments:
        kind.wait(f"deployment/{name}", "Available", namespace)
    kind.apply(*of_api)
    for each in of_api:
        kind.wait(f"apiservice/{each['metadata']['name']}", "Available")


@pytest.fixture(scope="session")
def adapter(kind):
    """The adapter at work: `custom.metrics.k8s.io` is served."""
    kind.load(cluster_parts.image("prometheus-adapter"))
    install_api(kind, told("adapter.yaml", "prometheus-adapter"), MONITORING, "prometheus-adapter")


@pytest.fixture(scope="session")
def keda(kind):
    """KEDA at work in its namespace."""
    kind.load(*map(cluster_parts.image, ("keda-operator", "keda-adapter")))
    install_api(kind, cluster_parts.keda(), "keda", "keda-operator", "keda-metrics-apiserver")


@pytest.fixture(scope="session")
def installed_again(kind):
    """Upgrades K2 with further settings; returns when the new operator is at work."""

    def upgrade(*settings):
        kind.helm("upgrade", *K2, *settings)
        kind.kubectl("rollout", "status", "deployment/k2-operator", "--timeout=10m", timeout=660)

    return upgrade


@pytest.fixture(scope="session")
def manifests():
    """What the chart brings, as it was installed."""
    values = yaml.safe_load((HERE / "values" / "k2.yaml").read_text())["monitoring"]
    return charts.render(
        charts.program("helm"), "k2", "--set-json", f"monitoring={json.dumps(values)}", namespace=NAMESPACE
    )
