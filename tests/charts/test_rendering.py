"""Every chart, with several sets of values: helm is content, and the API server's schemas are."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from k2_testing import charts, values_schema

from k2.model.platform import KafkaSecrets

VALUES = Path(__file__).parent / "values"
SETS = {
    "k2": ("k2",),
    "k2 for the dev loop": ("k2", "-f", str(charts.CHARTS / "k2" / "values-dev.yaml")),
    "k2 with everything": ("k2", "-f", str(VALUES / "everything.yaml")),
    "k2 with nothing but queries": ("k2", "-f", str(VALUES / "bare.yaml")),
    "k2 for all namespaces": ("k2", "-f", str(VALUES / "cluster-wide.yaml")),
    "kafka by Strimzi": ("kafka",),
    "kafka by Strimzi, small": ("kafka", "--set", "strimzi.brokers.replicas=1,strimzi.controllers.replicas=1"),
    "kafka by Strimzi, in zones": (
        *("kafka", "--set", "strimzi.rackTopologyKey=zone,strimzi.version=4.2.0,strimzi.monitor.enabled=true"),
        *("--set", "strimzi.brokers.storage.className=fast"),
    ),
    "kafka, single": ("kafka", "--set", "mode=single,single.storage.className=fast"),
    "registry": ("registry", "--set", "monitor.enabled=true"),
    "registry in memory": ("registry", "--set", "storage=memory"),
    "registry, in a claim of some class": ("registry", "--set", "storage=file,file.className=fast"),
    "registry in Kafka": (
        *("registry", "--set", "storage=kafka,kafka.secretName=k2-kafka-registry,kafka.securityProtocol=SASL_SSL"),
        *("--set", "kafka.caSecretName=ca"),
    ),
    "registry in a database": ("registry", "--set", "storage=sql,sql.url=jdbc:postgresql://db/r,sql.secretName=db"),
    "minio": ("minio",),
    "minio with a Secret": ("minio", "--set", "existingSecret=mine,storage.className=fast"),
    "postgresql": ("postgresql",),
    "dev": ("dev",),
    "dev with one's own Kafka and S3": ("dev", "--set", "kafka.enabled=false,minio.enabled=false"),
}


@pytest.mark.parametrize("name", SETS)
def test_the_api_server_would_take_it(name, helm, kubeconform, schemas):
    rendered = charts.template(helm, *SETS[name])
    done = _check(kubeconform, schemas, rendered)
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["resources"]
    assert report["summary"]["valid"] == sum(1 for document in yaml.safe_load_all(rendered) if document)


def test_the_check_finds_a_field_that_is_misspelt(helm, kubeconform, schemas):
    rendered = charts.template(helm, "k2").replace("terminationGracePeriodSeconds", "terminationGracePeriod")
    done = _check(kubeconform, schemas, rendered)
    assert done.returncode != 0
    assert "terminationGracePeriod" in done.stdout


def _check(kubeconform, schemas, rendered):
    # For kinds of the core group kubeconform gives the version as the group.
    location = f"{schemas}/{{{{ .ResourceKind }}}}-{{{{ .Group }}}}-{{{{ .ResourceAPIVersion }}}}.json"
    command = [str(kubeconform), "-strict", "-summary", "-output", "json", "-schema-location", location]
    return subprocess.run(command, input=rendered, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("chart", sorted(path.parent.name for path in charts.CHARTS.glob("*/Chart.yaml")))
def test_helm_lint(chart, helm):
    done = subprocess.run(
        [str(helm), "lint", "--strict", str(charts.CHARTS / chart)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_of_the_restricted_kind(name, helm):
    pods = [pod for manifest in charts.render(helm, *SETS[name]) if (pod := _pod_spec(manifest))]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is (pod.get("serviceAccountName") is not None)
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.get("hostNetwork")
        assert not pod.get("hostPID")
        assert not pod.get("hostIPC")
        assert not any("hostPath" in volume for volume in pod.get("volumes", ()))
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert "cpu" not in container["resources"]["limits"], "a limit of CPU only slows down what could run"
            assert ":" in container["image"]
            assert not container["image"].endswith(":latest")


@pytest.mark.parametrize("name", SETS)
def test_everything_goes_into_the_releases_namespace_but_what_says_why_not(name, helm):
    elsewhere = {"kafka", "desk-a", "desk-b"}
    for manifest in charts.render(helm, *SETS[name]):
        if manifest["kind"] in ("CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"):
            continue
        namespace = manifest["metadata"]["namespace"]
        assert namespace == "markets" or (manifest["kind"] in ("Role", "RoleBinding") and namespace in elsewhere)


@pytest.mark.parametrize("name", SETS)
def test_each_object_is_there_once(name, helm):
    keys = [
        (manifest["kind"], manifest["metadata"].get("namespace"), manifest["metadata"]["name"])
        for manifest in charts.render(helm, *SETS[name])
    ]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("name", SETS)
def test_what_a_pod_refers_to_by_a_key_that_it_does_not_have_is_found_here(name, helm):
    manifests = charts.render(helm, *SETS[name])
    secrets = {manifest["metadata"]["name"]: manifest for manifest in charts.kind(manifests, "Secret")}
    for pod in filter(None, map(_pod_spec, manifests)):
        names = {volume["name"] for volume in pod.get("volumes", ())} | {
            claim["metadata"]["name"]
            for manifest in manifests
            for claim in manifest.get("spec", {}).get("volumeClaimTemplates", ())
        }
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= names
            for variable in container.get("env", ()):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and reference["name"] in secrets:
                    assert reference["key"] in secrets[reference["name"]]["data"]


def test_values_that_the_code_would_refuse_are_refused_by_helm(update_golden):
    path = charts.CHARTS / "k2" / "values.schema.json"
    schema = json.loads(path.read_text())
    if update_golden:
        path.write_text(json.dumps(schema | {"definitions": values_schema.definitions()}, indent=2) + "\n")
    assert json.loads(path.read_text())["definitions"] == values_schema.definitions(), "run pytest with --update-golden"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("query.replcas=2", "replcas"),
        ("query.replicas=two", "/query/replicas"),
        ("platform.kafka.bootstrap=x", "bootstrap"),
        ("platform.registry.url=null", "url"),
        ("platform.kafka.replicationFactor=0", "replicationFactor"),
        ("query.config.threds=2", "threds"),
        ("query.config.host=x", "host"),
        ("query.config.max_rows=0", "max_rows"),
        ("images.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespaces={Desk_A}", "watchNamespaces"),
        ("query.service.nodePort=80", "nodePort"),
        ("query.apiKeys.digests[0].name=x,query.apiKeys.digests[0].sha256=secret", "sha256"),
        ("ingress.hosts={k2 example}", "hosts"),
        ("monitoring.rules.slo.availability=1", "availability"),
        ("clusterWide=true,watchNamespaces={desk-a}", "watchNamespaces"),
        ("unknown=1", "unknown"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong, said, helm):
    done = charts.run_template(helm, "k2", "--set", wrong)
    assert done.returncode != 0
    assert said in done.stderr


def test_an_http_route_needs_its_gateway(helm):
    done = charts.run_template(helm, "k2", "--set", "httpRoute.enabled=true")
    assert "name at least one Gateway" in done.stderr


def test_every_role_has_a_user_of_its_own_and_none_may_do_anothers_work(helm):
    users = {
        manifest["metadata"]["name"].removesuffix("-user"): manifest["spec"]["authorization"]["acls"]
        for manifest in charts.render(helm, "kafka")
        if manifest["kind"] == "KafkaUser"
    }
    named = KafkaSecrets(**{role: f"k2-kafka-{role}" for role in KafkaSecrets.model_fields})
    assert set(users) == {*named.model_dump().values(), "k2-kafka-registry"}

    def may(user, kind):
        return {each for acl in users[user] if acl["resource"]["type"] == kind for each in acl["operations"]}

    assert "Write" not in may("k2-kafka-query", "topic") | may("k2-kafka-operator", "topic")
    assert "Read" not in may("k2-kafka-producer", "topic") | may("k2-kafka-operator", "topic")
    for user in ("k2-kafka-producer", "k2-kafka-sink", "k2-kafka-query"):
        assert not {"Create", "Delete", "Alter"} & (may(user, "topic") | may(user, "group"))


def test_a_role_that_no_user_can_have_is_refused(helm):
    done = charts.run_template(helm, "kafka", "--set", "users[0].name=x,users[0].roles={admin}")
    assert "no such role: admin" in done.stderr


def _pod_spec(manifest):
    if manifest["kind"] == "Pod":
        return manifest["spec"]
    if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        return manifest["spec"]["template"]["spec"]
    return None
