"""`k2 doctor --pre` against a real API server: what an installation would miss is named before it is made."""

import pytest
import yaml
from k2_testing.cluster import until

from k2.doctor.checks import Standing, examined
from k2.model.errors import UserError
from k2_local import before_install
from k2_local.before_install import Values, from_a_pod
from k2_local.before_install import cluster as cluster_group

PLATFORM = {
    "kafka": {"bootstrapServers": "kafka:9092", "secretName": "k2-kafka"},
    "registry": {"url": "http://registry:8080/apis/ccompat/v7"},
    "catalog": {"properties": {"type": "sql", "uri": "sqlite:////tmp/catalog.db", "warehouse": "file:///tmp/lake"}},
}
SCALED_BY_LAG = {"kind": "keda", "prometheus": {"url": "http://prometheus:9090"}}


@pytest.fixture
def given(tmp_path):
    """Makes a values file."""

    def written(**values):
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        return Values.read(path)

    return written


@pytest.fixture(autouse=True)
def administrator(cluster, control_plane, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(control_plane))


@pytest.fixture
def default_class(cluster):
    """A storage class as clouds bring it."""
    path = "/apis/storage.k8s.io/v1/storageclasses"
    mark = {"storageclass.kubernetes.io/is-default-class": "true"}
    cluster.request(
        "POST",
        path,
        json={"metadata": {"name": "standard", "annotations": mark}, "provisioner": "example.com/disk"},
    )
    yield
    cluster.request("DELETE", f"{path}/standard")


def wrong(namespace, values=None):
    found = examined([cluster_group(namespace, values or Values({}))])
    return {each.code: each.text for each in found if each.standing in {Standing.WRONG, Standing.DOUBTFUL}}


def test_no_kubeconfig_or_no_server_is_all_that_is_said(namespace, tmp_path, monkeypatch, control_plane):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    assert list(wrong(namespace)) == ["kube-reachable"]
    known = yaml.safe_load(control_plane.read_text())
    known["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "away").write_text(yaml.safe_dump(known))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "away"))
    assert list(wrong(namespace)) == ["kube-reachable"]


def test_a_cluster_that_has_everything(namespace, default_class):
    assert wrong(namespace) == {}


def test_what_the_values_ask_for_and_the_cluster_lacks(cluster, namespace, default_class, given):
    values = given(
        platform=PLATFORM | {"kafka": PLATFORM["kafka"] | {"topics": "strimzi"}, "autoscaling": SCALED_BY_LAG},
        monitoring={"rules": {"enabled": True}, "serviceMonitors": {"enabled": True}},
    )
    found = wrong(namespace, values)
    assert list(found) == ["kube-companions", "kube-secrets"]
    for name in ("kafkatopics.kafka.strimzi.io", "scaledobjects.keda.sh", "prometheusrules", "servicemonitors"):
        assert name in found["kube-companions"]
    assert found["kube-secrets"] == f"there is no Secret k2-kafka in namespace {namespace}"
    metadata = {"name": "k2-kafka", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"username": "k2"}})
    assert wrong(namespace, given(platform=PLATFORM)) == {
        "kube-secrets": f"there is no key password of Secret k2-kafka in namespace {namespace}"
    }


def test_one_who_may_not_install_is_told_what_is_missing(cluster, namespace, tmp_path, monkeypatch, limited):
    monkeypatch.setenv("KUBECONFIG", str(limited))
    found = wrong(namespace)
    assert {"kube-permissions"} <= set(found)
    assert "create deployments.apps" in found["kube-permissions"]


@pytest.fixture
def limited(cluster, namespace, tmp_path):
    """The kubeconfig of a service account without any rights."""
    metadata = {"name": "nobody", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = cluster.path("ServiceAccount", namespace, "nobody", "token")
    token = cluster.request("POST", path, json=request)["status"]["token"]
    server = {"server": cluster.server, "certificate-authority-data": cluster.authority}
    made = tmp_path / "limited"
    made.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": server}],
                "users": [{"name": "nobody", "user": {"token": token}}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "nobody"}}],
                "current-context": "it",
            }
        )
    )
    return made


def test_values_that_are_wrong_are_said_with_their_field(given, tmp_path):
    with pytest.raises(UserError, match="of platform are wrong at kafka"):
        _ = given(platform={"kafka": {}}).platform
    with pytest.raises(UserError, match="cannot be read"):
        Values.read(tmp_path / "nothing.yaml")


def test_a_pod_that_nobody_runs_is_said_with_what_keeps_it_and_its_job_is_gone(cluster, namespace, monkeypatch, given):
    monkeypatch.setattr(before_install, "JOB_SECONDS", 3.0)
    assert wrong(namespace).keys() <= {"kube-storage-class"}
    (found,) = from_a_pod(namespace, given(platform=PLATFORM))
    assert (found.code, found.standing) == ("data-from-a-pod", Standing.WRONG)
    assert "did not end within 3 s" in found.text
    until(lambda: cluster.get("Job", "k2-doctor", namespace) is None, "the Job is still there", 60)
    (found,) = from_a_pod(namespace, Values({}))
    assert found.standing is Standing.SKIPPED
