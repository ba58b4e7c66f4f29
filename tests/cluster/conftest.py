"""The cluster that these tests run on, and the operator at work in it.

`provided` alone decides: the cluster of KUBECONFIG, else one of kind, else a control plane built from Go modules, on which everything
but pods is real. Tests that need pods skip where there are none; all others say themselves when a pod runs, on any cluster: in
their namespaces pods ask for more than a node has.
"""

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from k2_testing.cluster import Cluster, Operator, grant, until, with_definitions
from k2_testing.controlplane import ControlPlane, UnavailableError
from k2_testing.kind import Kind
from k2_testing.parts import running_kafka, running_registry


def pytest_collection_modifyitems(items):
    """The dearest last: what they start then runs beside no other test."""
    here = Path(__file__).parent
    items.sort(key=lambda item: here in item.path.parents)


@dataclass(frozen=True, slots=True)
class Provided:
    """A cluster, by its kubeconfig. `pods` is kind's handle, or the reason why there are no pods to be had."""

    kubeconfig: Path
    pods: Kind | str


@pytest.fixture(scope="session")
def provided(request, tmp_path_factory):
    """The cluster, in the order that docs/operator.md states."""
    folder = tmp_path_factory.mktemp("provided")
    if path := os.environ.get("KUBECONFIG"):
        yield Provided(Path(path), kind_or_reason(Path(path), folder))
        return
    with ExitStack() as stack:
        try:
            made = stack.enter_context(Kind.made(folder))
        except UnavailableError as reason:
            yield Provided(request.getfixturevalue("control_plane"), str(reason))
        else:
            yield Provided(made.kubeconfig, made)


def kind_or_reason(kubeconfig, folder):
    try:
        return Kind.given(kubeconfig, folder)
    except UnavailableError as reason:
        return str(reason)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory):
    """The kubeconfig of a control plane without nodes, with an administrator's rights."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(ControlPlane.made(tmp_path_factory.mktemp("control-plane")))
        except UnavailableError as reason:
            pytest.skip(str(reason))
        yield made.kubeconfig


@pytest.fixture(scope="session")
def cluster(provided) -> Cluster:
    """A client of the cluster, with K2's definitions in it."""
    return with_definitions(provided.kubeconfig)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """A broker of the file's own: feeds of many tests want the same few exchanges' topics."""
    with running_kafka(tmp_path_factory.mktemp("cluster-kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry of the file's own, for the same reason."""
    with running_registry(tmp_path_factory.mktemp("cluster-registry")) as service:
        yield service


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        cluster.delete(kind, None, "k2-operator-k2-system")


def make_namespace(cluster, name):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def make_secret(cluster, namespace):
    """The Secret that platform.yaml names."""
    metadata = {"name": "k2-registry", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"username": "k2"}})


def keep_off_nodes(cluster, namespace):
    """No node has a disk of a pebibyte: a pod that asks for it is never started, so a test may say that it runs."""
    limit = {"type": "Container", "defaultRequest": {"ephemeral-storage": "1Pi"}}
    metadata = {"name": "off-nodes", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": [limit]}})


@pytest.fixture
def namespace(cluster, unique):
    """A namespace of this test's own, emptied at the end."""
    name = make_namespace(cluster, f"k2-{unique}")
    make_secret(cluster, name)
    keep_off_nodes(cluster, name)
    yield name
    for feed in cluster.list("MarketFeed", name):
        where = feed["metadata"]["name"]
        cluster.patch("MarketFeed", name, where, {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
        cluster.delete("MarketFeed", name, where)
    until(lambda: not cluster.list("MarketFeed", name), "feeds are left", 600)
    for table in cluster.list("IcebergTable", name):
        cluster.delete("IcebergTable", name, table["metadata"]["name"])
    until(lambda: not cluster.list("IcebergTable", name), "tables are left", 600)
    cluster.delete("Namespace", None, name)


@pytest.fixture
def measured(capsys):
    """Takes a figure by name; all are shown at the end of the test."""
    found = {}
    yield found.__setitem__
    with capsys.disabled():
        sys.stdout.write(f"\n{found}\n")
