"""One cluster of kind with K2 and the parts that people run beside it: the Prometheus operator and Prometheus.

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
    asked = {"resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}}  # without, a busy node lets them starve
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


@pytest.fixture(scope="session")
def manifests():
    """What the chart brings, as it was installed."""
    values = yaml.safe_load((HERE / "values" / "k2.yaml").read_text())["monitoring"]
    return charts.render(
        charts.program("helm"), "k2", "--set-json", f"monitoring={json.dumps(values)}", namespace=NAMESPACE
    )
