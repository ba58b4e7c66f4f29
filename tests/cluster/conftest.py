"""The clusters that these tests run on, and the operator at work in them.

Each file has a control plane of its own, built from Go modules: on it everything but pods is real, and tests say themselves when a
pod runs. The one story that needs pods has a cluster of kind; it skips where none can be made, and says why. With KUBECONFIG set all
of them run on that cluster, a file at a time, for each file's operator watches the whole of it: there the tests' pods ask for more
than a node has.
"""

import fcntl
from pathlib import Path

import pytest
from k2_testing.cluster import QUICK, Cluster, cluster_wide_operator, with_definitions
from k2_testing.controlplane import ControlPlane, UnavailableError
from k2_testing.kind import GIVEN, Kind
from k2_testing.resources import remove_all


@pytest.fixture(scope="module", autouse=True)
def turn(tmp_path_factory):
    """One file at a time on a cluster that was given."""
    if not GIVEN:
        yield
        return
    with (tmp_path_factory.getbasetemp().parent / "given-cluster").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory):
    """The kubeconfig of a control plane without nodes, with an administrator's rights.

    A file's own: it starts in three seconds, and one that nobody asks any more still takes a twentieth of a core.
    """
    try:
        made = ControlPlane.made(tmp_path_factory.mktemp("control-plane"))
        with made as running:
            yield running.kubeconfig
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def with_pods(tmp_path_factory):
    """A cluster of kind: the one that KUBECONFIG leads to, or one made from the project's kind-config.yaml.

    Gone after the file, for at rest it takes a fifth of a core.
    """
    folder = tmp_path_factory.mktemp("kind")
    try:
        if GIVEN:
            yield Kind.given(Path(GIVEN), folder)
            return
        with Kind.made(folder) as made:
            yield made
    except UnavailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def cluster(request) -> Cluster:
    """A client of the cluster, with K2's definitions in it."""
    return with_definitions(Path(GIVEN) if GIVEN else request.getfixturevalue("control_plane"))


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
                "warehouse": f"file://{folder / 'warehouse'}",
            }
        },
    }


@pytest.fixture(scope="module")
def operator(cluster, platform, tmp_path_factory):
    """The operator at work in the whole cluster, under the chart's rules. Who stops it starts it again."""
    with cluster_wide_operator(cluster, tmp_path_factory.mktemp("operator"), platform, **QUICK) as running:
        yield running


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
    remove_all(cluster, name, 600)
    cluster.delete("Namespace", None, name)


@pytest.fixture(scope="module")
def lasting_namespace(cluster, request):
    """A namespace of this file's own. Whoever puts resources there removes them."""
    name = make_namespace(cluster, request.module.__name__.rpartition(".")[2].replace("_", "-"))
    make_secret(cluster, name)
    keep_off_nodes(cluster, name)
    yield name
    cluster.delete("Namespace", None, name)
