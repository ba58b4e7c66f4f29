"""The test cluster: the one of KUBECONFIG, or a control plane built from Go modules (everything but pods is real)."""

import os
from pathlib import Path

import pytest
from k2_testing.cluster import Cluster, Operator, crds, grant, until
from k2_testing.controlplane import ControlPlane, UnavailableError

from k2_operator.local.kafka import LocalKafka
from k2_operator.local.registry import LocalRegistry


@pytest.fixture(scope="session")
def kafka(tmp_path_factory):
    """A broker of the cluster's own: hundreds of feeds make topics that other tests would take for theirs."""
    folder = tmp_path_factory.mktemp("cluster-parts")
    broker = LocalKafka(folder / "kafka", logs=folder / "logs", run_dir=folder / "run")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A registry of the cluster's own, for the same reason."""
    folder = tmp_path_factory.mktemp("cluster-registry")
    service = LocalRegistry(folder / "registry", logs=folder / "logs", run_dir=folder / "run")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """A kubeconfig's path with an administrator's rights."""
    if given := os.environ.get("KUBECONFIG"):
        yield Path(given)
        return
    try:
        started = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    except UnavailableError as reason:
        pytest.skip(str(reason))
    try:
        started.start()
        yield started.kubeconfig
    finally:
        started.stop()


@pytest.fixture(scope="session")
def cluster(control_plane) -> Cluster:
    """The cluster, with K2's definitions."""
    found = Cluster(control_plane)
    for each in crds():
        found.apply(each)
    for plural in ("marketfeeds", "icebergtables"):
        until(lambda plural=plural: served(found, plural), f"{plural} are not served")
    return found


def served(cluster, plural) -> bool:
    definition = cluster.get("CustomResourceDefinition", f"{plural}.k2.dev")
    conditions = (definition or {}).get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


@pytest.fixture(scope="session")
def platform(kafka, registry, tmp_path_factory) -> dict:
    """platform.yaml of the tests: real Kafka, real registry, a catalog in SQLite."""
    folder = tmp_path_factory.mktemp("lake")
    return {
        "kafka": {"bootstrapServers": kafka.bootstrap_servers},
        # The registry asks for no password; that its Secret has to be there is tested all the same.
        "registry": {"url": registry.url, "secretName": "k2-registry"},
        "catalog": {
            "properties": {
                "type": "sql",
                "uri": f"sqlite:///{folder / 'catalog.db'}",
                "warehouse": (folder / "warehouse").as_uri(),
            }
        },
    }


@pytest.fixture(scope="session")
def operator(cluster, platform, tmp_path_factory):
    """The operator at work in the whole cluster, under the chart's rules. Who stops it starts it again."""
    make_namespace(cluster, "k2-system")
    grant(cluster, "k2-system", ["k2-registry"])
    running = Operator(
        cluster, tmp_path_factory.mktemp("operator"), "k2-system", platform, K2_OPERATOR_CLUSTER_WIDE="true"
    )
    running.start()
    yield running
    assert running.stop() == 0


def make_namespace(cluster, name):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def make_secret(cluster, namespace):
    """The Secret that platform.yaml names."""
    metadata = {"name": "k2-registry", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"username": "k2"}})


@pytest.fixture
def namespace(cluster, unique):
    """A namespace of this test's own, emptied at the end."""
    name = make_namespace(cluster, f"k2-{unique}")
    make_secret(cluster, name)
    yield name
    for feed in cluster.list("MarketFeed", name):
        where = feed["metadata"]["name"]
        cluster.patch("MarketFeed", name, where, {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
        cluster.delete("MarketFeed", name, where)
    until(lambda: not cluster.list("MarketFeed", name), "feeds are left")
    for table in cluster.list("IcebergTable", name):
        cluster.delete("IcebergTable", name, table["metadata"]["name"])
    until(lambda: not cluster.list("IcebergTable", name), "tables are left")
    cluster.delete("Namespace", None, name)
