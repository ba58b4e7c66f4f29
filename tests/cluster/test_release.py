"""The chart installed, removed and installed again by Helm on a real API server: what stays, and what the notes say."""

import base64
import subprocess

import pytest
from k2_testing import charts
from k2_testing.kind import GIVEN

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]


@pytest.fixture
def helm(cluster, namespace, request):
    """Runs Helm in the namespace; its answer."""
    program = charts.program("helm")
    kubeconfig = GIVEN or request.getfixturevalue("control_plane")

    def run(*arguments):
        command = [str(program), "--kubeconfig", str(kubeconfig), "-n", namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    # The operator is none that runs here: there are no nodes.
    subprocess.run(
        [str(program), "--kubeconfig", str(kubeconfig), "-n", namespace, "uninstall", "k2", "--ignore-not-found"],
        check=False,
    )


CHART = str(charts.CHARTS / "k2")
# The definitions are the tests' already.
VALUES = ("--set", "crds.install=false", "--set", "platform.registry.secretName=k2-registry")


def key_of(cluster, namespace):
    return base64.b64decode(cluster.get("Secret", "k2-api-key", namespace)["data"]["api-key"])


def digests_of(cluster, namespace):
    return base64.b64decode(cluster.get("Secret", "k2-api-keys", namespace)["data"]["keys.json"])


def test_the_api_key_survives_the_release_and_the_next_one_takes_it_over(cluster, namespace, helm):
    helm("install", "k2", CHART, *VALUES)
    key, digests = key_of(cluster, namespace), digests_of(cluster, namespace)
    helm("upgrade", "k2", CHART, *VALUES)
    assert key_of(cluster, namespace) == key
    helm("uninstall", "k2")
    assert key_of(cluster, namespace) == key
    assert cluster.get("Secret", "k2-api-keys", namespace) is None
    helm("install", "k2", CHART, *VALUES)
    assert (key_of(cluster, namespace), digests_of(cluster, namespace)) == (key, digests)
    cluster.delete("Secret", namespace, "k2-api-key")
    helm("upgrade", "k2", CHART, *VALUES)
    assert key_of(cluster, namespace) != key, "another one for who wants another"


def test_the_notes_tell_of_missing_secrets_while_they_are_missing_and_which_namespaces_are_watched(
    cluster, namespace, helm
):
    notes = helm("install", "k2", CHART, *VALUES, "--set", "platform.catalog.secretName=k2-catalog")
    assert (
        f"Missing are these Secrets (namespace/name); the workloads wait until they exist: {namespace}/k2-catalog\n"
        in notes
    )
    assert (
        f"The operator watches {namespace}. A MarketFeed or IcebergTable anywhere else stays as it is, without a status"
        in notes
    )
    metadata = {"name": "k2-catalog", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "t"}})
    notes = helm("upgrade", "k2", CHART, *VALUES, "--set", "platform.catalog.secretName=k2-catalog")
    assert "Missing" not in notes
