"""charts/k2: what is rendered, looked at as the operator, the query service and a person will."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import yaml
from k2_testing import charts

from k2.model.platform import Platform
from k2.model.workload import QueryConfig
from k2_operator.build import deployment
from k2_operator.plan.plans import QueryPlan
from k2_operator.spec import labels
from k2_operator.spec.resources import Resources

VALUES = Path(__file__).parent / "values"
EVERYTHING = ("-f", str(VALUES / "everything.yaml"))


@pytest.fixture(scope="session")
def default(helm):
    return charts.render(helm, "k2")


@pytest.fixture(scope="session")
def everything(helm):
    return charts.render(helm, "k2", *EVERYTHING)


def test_the_platform_file_is_one_that_the_operator_reads(everything, tmp_path):
    file = tmp_path / "platform.yaml"
    file.write_text(charts.one(everything, "ConfigMap", "k2-platform")["data"]["platform.yaml"])
    platform = Platform.read(file)
    assert platform.kafka.ca_secret_name == "kafka-cluster-ca"
    assert platform.images.workload == "k2-workloads:0.1.0"
    assert platform.api.url == "http://k2-query.markets"
    assert platform.operator.max_concurrent_rollouts == 3
    assert [platform.kafka.secret_of(role) for role in ("operator", "producer", "sink", "query")] == [
        *("k2-kafka-operator", "k2-kafka", "k2-kafka-sink", "k2-kafka-query"),
    ]


def test_the_platform_may_name_another_image_and_address(helm):
    rendered = charts.render(
        helm, "k2", "--set", "platform.images.workload=mine:1,platform.api.url=https://k2.example.com"
    )
    found = yaml.safe_load(charts.one(rendered, "ConfigMap", "k2-platform")["data"]["platform.yaml"])
    assert found["images"] == {"workload": "mine:1", "pullPolicy": "IfNotPresent"}
    assert found["api"] == {"url": "https://k2.example.com"}


def test_the_query_services_configuration_is_one_that_it_reads(everything):
    text = charts.one(everything, "ConfigMap", "k2-query-config")["data"]["config.json"]
    config = QueryConfig.model_validate(json.loads(text))
    assert config.host == "0.0.0.0"
    assert str(config.api_keys_file) == "/etc/k2/api-keys/keys.json"


def test_the_query_pod_is_the_one_that_the_builder_makes(everything, tmp_path):
    """The builder's pod runs under `k2 up`; Helm's must tell the service the same things in the same places."""
    file = tmp_path / "platform.yaml"
    file.write_text(charts.one(everything, "ConfigMap", "k2-platform")["data"]["platform.yaml"])
    plan = QueryPlan("markets", "k2-query", QueryConfig(host="0.0.0.0"), 2, "k2-api-keys", Resources())
    built = deployment.query(plan, Platform.read(file))[1]
    chart = copy.deepcopy(charts.one(everything, "Deployment", "k2-query"))
    assert chart["spec"]["selector"] == built["spec"]["selector"]
    assert chart["spec"]["strategy"] == built["spec"]["strategy"]
    assert chart["spec"]["progressDeadlineSeconds"] == built["spec"]["progressDeadlineSeconds"]
    theirs, ours = built["spec"]["template"]["spec"], chart["spec"]["template"]["spec"]
    # What a chart leaves to its values: where the pod runs and where its image comes from.
    for only_here in ("imagePullSecrets", "affinity", "enableServiceLinks", "topologySpreadConstraints"):
        ours.pop(only_here, None)
        theirs.pop(only_here, None)
    (query,), (built_query,) = ours.pop("containers"), theirs.pop("containers")
    for container in (query, built_query):
        for variable in container["env"]:
            if variable["name"] in ("K2_CATALOG_PROPERTIES", "K2_EXCHANGES"):  # JSON with blanks or without is the same
                variable["value"] = json.loads(variable["value"])
    assert query.pop("env")[:-1] == built_query.pop("env")  # the last is the values' own
    assert query.pop("resources")
    built_query.pop("resources")
    assert query == built_query
    assert ours == theirs


def test_the_operator_is_told_the_same_connections(everything):
    query, operator = (charts.one(everything, "Deployment", f"k2-{name}") for name in ("query", "operator"))
    told = [
        [
            variable
            for variable in found["spec"]["template"]["spec"]["containers"][0]["env"]
            if variable["name"].startswith(("K2_KAFKA", "K2_REGISTRY", "K2_CATALOG"))
        ]
        for found in (query, operator)
    ]
    assert len(told[0]) == 10
    assert told[0] == told[1]
    assert not [variable for variable in told[0] if "valueFrom" in variable], "credentials are files"
    # Each as a user of its own; everything else is the same.
    mounted = [
        {
            volume["name"]: volume["secret"]["secretName"]
            for volume in found["spec"]["template"]["spec"]["volumes"]
            if "secret" in volume and volume["name"] != "api-keys"
        }
        for found in (query, operator)
    ]
    assert [each.pop("kafka") for each in mounted] == ["k2-kafka-query", "k2-kafka-operator"]
    assert mounted[0] == mounted[1]
    assert set(mounted[0].values()) == {"kafka-cluster-ca", "k2-registry", "k2-catalog"}
    for found in (query, operator):
        spec = found["spec"]["template"]["spec"]
        paths = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
        names = {each["name"]: each["value"] for each in told[0] if each["name"].endswith(("_SECRET_DIR", "_CA_FILE"))}
        assert names == {
            "K2_KAFKA_SECRET_DIR": paths["kafka"],
            "K2_KAFKA_CA_FILE": f"{paths['kafka-ca']}/ca.crt",
            "K2_REGISTRY_SECRET_DIR": paths["registry"],
            "K2_CATALOG_SECRET_DIR": paths["catalog"],
        }


def test_one_operator_and_never_two(default):
    operator = charts.one(default, "Deployment", "k2-operator")
    assert operator["spec"]["replicas"] == 1
    assert operator["spec"]["strategy"] == {"type": "Recreate"}
    assert not [
        budget for budget in charts.kind(default, "PodDisruptionBudget") if "operator" in budget["metadata"]["name"]
    ]


def test_a_changed_platform_rolls_the_operator_and_a_changed_configuration_the_service(helm):
    def stamp(name, *values):
        found = charts.one(charts.render(helm, "k2", *values), "Deployment", name)
        return found["spec"]["template"]["metadata"]["annotations"]["k2.dev/config-hash"]

    assert stamp("k2-operator") == stamp("k2-operator")
    assert stamp("k2-operator") != stamp("k2-operator", "--set", "platform.registry.url=http://other")
    assert stamp("k2-query") != stamp("k2-query", "--set", "query.config.threads=3")
    assert stamp("k2-query") == stamp("k2-query", "--set", "query.replicas=3")


def test_pods_are_told_apart_as_the_operators_are(default):
    for name in ("operator", "query"):
        found = charts.one(default, "Deployment", f"k2-{name}")
        labels = found["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "k2"
        assert labels["app.kubernetes.io/name"] == f"k2-{name}"
        assert found["spec"]["selector"]["matchLabels"].items() <= labels.items()
        service = charts.one(default, "Service", f"k2-{name}")
        assert service["spec"]["selector"] == found["spec"]["selector"]["matchLabels"]
        container = found["spec"]["template"]["spec"]["containers"][0]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {
            port["name"] for port in container["ports"]
        }


# --- API keys -----------------------------------------------------------------------------------------------------------
def test_a_key_is_made_and_the_service_gets_only_its_digest(default):
    key = charts.decoded(charts.one(default, "Secret", "k2-api-key"))["api-key"]
    assert len(key) == 40
    keys = json.loads(charts.decoded(charts.one(default, "Secret", "k2-api-keys"))["keys.json"])
    assert keys == [{"name": "helm", "sha256": hashlib.sha256(key.encode()).hexdigest()}]
    assert "k2-api-key" not in _mounted(charts.one(default, "Deployment", "k2-query"))


def test_the_key_stays_when_the_release_goes_and_its_digests_do_not(default):
    kept = charts.one(default, "Secret", "k2-api-key")["metadata"]["annotations"]
    assert kept["helm.sh/resource-policy"] == "keep"
    assert "annotations" not in charts.one(default, "Secret", "k2-api-keys")["metadata"]


def test_digests_are_enough(helm):
    manifests = charts.render(helm, "k2", "-f", str(VALUES / "bare.yaml"))
    assert [secret["metadata"]["name"] for secret in charts.kind(manifests, "Secret")] == ["k2-api-keys"]


def test_a_secret_of_ones_own_is_used_and_none_is_made(helm):
    manifests = charts.render(helm, "k2", "--set", "query.apiKeys.existingSecret=mine")
    assert not charts.kind(manifests, "Secret")
    assert "mine" in _mounted(charts.one(manifests, "Deployment", "k2-query"))
    assert not [
        variable
        for variable in charts.one(manifests, "Pod", "k2-test-query")["spec"]["containers"][0]["env"]
        if variable["name"] == "API_KEY"
    ]


# --- what the operator may do -------------------------------------------------------------------------------------------
def test_the_operator_has_a_role_where_it_watches_and_nowhere_else(everything, default):
    assert {role["metadata"]["namespace"] for role in charts.kind(everything, "Role", "k2-operator")} == {
        "markets",
        "desk-a",
        "desk-b",
    }
    assert [role["metadata"]["namespace"] for role in charts.kind(default, "Role")] == ["markets"]
    for manifests in (everything, default):
        assert not charts.kind(manifests, "ClusterRole")
    for binding in charts.kind(everything, "RoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "k2-operator", "namespace": "markets"}]


def test_it_may_make_topics_only_beside_kafka(everything, default):
    role = charts.one(everything, "Role", "k2-operator-topics")
    assert role["metadata"]["namespace"] == "kafka"
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"kafkatopics"}
    assert not charts.kind(default, "Role", "k2-operator-topics")


def test_it_looks_for_the_secrets_of_producers_and_sinks_and_no_others(everything):
    for role in charts.kind(everything, "Role", "k2-operator"):
        (secrets,) = [rule["resourceNames"] for rule in role["rules"] if "secrets" in rule["resources"]]
        assert set(secrets) == {"k2-kafka", "k2-kafka-sink", "kafka-cluster-ca", "k2-registry", "k2-catalog"}


def test_keda_without_an_address_of_prometheus_is_not_installed(helm):
    done = charts.run_template(helm, "k2", "--set", "platform.autoscaling.kind=keda")
    assert done.returncode, "an operator that would refuse its own settings"
    assert "platform.autoscaling.prometheus.url: KEDA (kind: keda) asks Prometheus" in done.stderr


def test_it_may_scale_by_keda_only_where_that_is_chosen(everything, default):
    def groups(manifests):
        return {
            group
            for role in charts.kind(manifests, "Role", "k2-operator")
            for rule in role["rules"]
            for group in rule["apiGroups"]
        }

    assert "keda.sh" in groups(everything)
    assert "keda.sh" not in groups(default)
    assert "autoscaling" in groups(default)


def test_the_whole_cluster_only_when_asked(helm):
    manifests = charts.render(helm, "k2", "-f", str(VALUES / "cluster-wide.yaml"))
    assert not charts.kind(manifests, "Role")
    assert charts.one(manifests, "ClusterRole")["metadata"]["name"] == "markets-k2-operator"
    assert charts.one(manifests, "PodMonitor")["spec"]["namespaceSelector"] == {"any": True}


@pytest.mark.parametrize("values", [(), EVERYTHING, ("--set", "clusterWide=true")])
def test_no_rule_is_a_blank_cheque(values, helm):
    for role in [r for r in charts.render(helm, "k2", *values) if r["kind"] in ("Role", "ClusterRole")]:
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"], "never list: that reads them all"
                assert rule["resourceNames"]
            assert not {"roles", "rolebindings", "clusterroles", "pods/exec", "serviceaccounts"} & set(
                rule["resources"]
            )
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_the_table_of_rights_is_what_the_roles_give(everything):
    given = {
        (group, resource, verb)
        for role in charts.kind(everything, "Role")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    text = (charts.ROOT / "docs" / "operator.md").read_text()
    section = text.partition("## What it may do\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    told = [
        ("" if group == "core" else group.strip("`"), resource.strip("` "), verb.strip("` "))
        for group, resources, verbs, _ in rows
        for resource in resources.split(",")
        for verb in verbs.split(",")
    ]
    assert set(told) == given
    assert len(told) == len(set(told)), "a right is explained once"
    assert all(why for *_, why in rows)


def test_the_query_service_has_no_account_and_no_token(default):
    pod = charts.one(default, "Deployment", "k2-query")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod


# --- toggles ------------------------------------------------------------------------------------------------------------
def test_by_default_nothing_needs_what_a_cluster_may_not_have(default):
    assert {manifest["apiVersion"].split("/")[0] for manifest in default} <= {
        "v1",
        "apps",
        "policy",
        "rbac.authorization.k8s.io",
        "apiextensions.k8s.io",
    }


def test_the_definitions_can_be_left_out_and_otherwise_survive_an_uninstall(helm, default):
    definitions = charts.kind(default, "CustomResourceDefinition")
    assert {d["metadata"]["name"] for d in definitions} == {"marketfeeds.k2.dev", "icebergtables.k2.dev"}
    for definition in definitions:
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not charts.kind(charts.render(helm, "k2", "--set", "crds.install=false"), "CustomResourceDefinition")


def test_a_budget_only_where_another_replica_can_take_over(helm, default):
    assert charts.one(default, "PodDisruptionBudget", "k2-query")["spec"]["maxUnavailable"] == 1
    for without in ("query.replicas=1", "query.podDisruptionBudget.enabled=false", "query.enabled=false"):
        assert not charts.kind(charts.render(helm, "k2", "--set", without), "PodDisruptionBudget")
    scaled = charts.render(helm, "k2", "--set", "query.replicas=1,query.autoscaling.enabled=true")
    assert charts.one(scaled, "PodDisruptionBudget", "k2-query")


def test_with_autoscaling_nobody_else_sets_the_replicas(everything):
    assert "replicas" not in charts.one(everything, "Deployment", "k2-query")["spec"]
    assert charts.one(everything, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "k2-query"


def test_metrics_are_not_for_the_world(everything):
    for rule in charts.one(everything, "Ingress")["spec"]["rules"]:
        paths = {path["path"]: path["pathType"] for path in rule["http"]["paths"]}
        # Of all that begins with / metrics would be a part.
        assert paths.pop("/") == "Exact"
        assert "/metrics" not in paths
        assert {"/v1", "/page"} < set(paths)
        assert set(paths.values()) == {"Prefix"}
    matches = charts.one(everything, "HTTPRoute")["spec"]["rules"][0]["matches"]
    routed = {match["path"]["value"]: match["path"]["type"] for match in matches}
    assert routed == {"/": "Exact"} | dict.fromkeys(paths, "PathPrefix")


def test_no_controller_is_preferred(helm):
    found = charts.one(charts.render(helm, "k2", "--set", "ingress.enabled=true"), "Ingress")
    assert "annotations" not in found["metadata"]
    assert "ingressClassName" not in found["spec"]


def test_policies_let_in_the_asked_and_the_scraper_and_nobody_else(everything):
    found = _policies(everything)
    assert set(found) == {"k2-metrics", "k2-query", "k2-egress", "k2-operator"}
    (metrics,) = found["k2-metrics"]["ingress"]
    assert metrics["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    assert metrics["from"] == [_of_namespace("monitoring")]
    peers = [peer for rule in found["k2-query"]["ingress"] for peer in rule["from"]]
    tester = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "k2-test"}}}
    assert peers == [_of_namespace("ingress"), tester, _of_namespace("monitoring")]


def test_policies_let_out_to_names_the_query_service_and_what_the_values_say(everything):
    found = _policies(everything)
    names, query, given = found["k2-egress"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert query["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "k2-query"
    assert given == {"ports": [{"port": 9093, "protocol": "TCP"}]}
    (api_server,) = found["k2-operator"]["egress"]
    assert {port["port"] for port in api_server["ports"]} == {443, 6443}


def test_policies_without_a_choice_keep_nobody_from_asking_and_nothing_from_going_out(helm):
    found = _policies(charts.render(helm, "k2", "--set", "networkPolicy.enabled=true"))
    assert set(found) == {"k2-metrics", "k2-query"}
    assert found["k2-query"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_policies_choose_the_pods_of_the_operators_builders(everything):
    chosen = {name: spec["podSelector"]["matchLabels"] for name, spec in _policies(everything).items()}
    sink = labels.of("sink", "k2-sink-x")
    assert chosen["k2-metrics"].items() <= sink.items()
    assert chosen["k2-egress"].items() <= sink.items()
    assert not chosen["k2-query"].items() <= sink.items()


def test_helm_tests_its_own_service_and_only_when_there_is_one(default, helm):
    pod = charts.one(default, "Pod", "k2-test-query")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    env = {variable["name"]: variable for variable in container["env"]}
    service = charts.one(default, "Service", "k2-query")
    assert env["BASE"]["value"] == f"http://k2-query:{service['spec']['ports'][0]['port']}"
    assert env["API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "k2-api-key", "key": "api-key"}
    assert not charts.kind(charts.render(helm, "k2", "--set", "query.enabled=false"), "Pod")


def test_dashboards_only_when_asked(default, everything):
    boards = [
        [each for each in charts.kind(found, "ConfigMap") if "dashboard" in each["metadata"]["name"]]
        for found in (default, everything)
    ]
    assert [len(each) for each in boards] == [0, 3]


def test_a_route_goes_from_the_gateways_named_to_the_service(everything):
    spec = charts.one(everything, "HTTPRoute")["spec"]
    assert spec["parentRefs"] == [{"name": "gateway", "namespace": "gateways"}]
    assert spec["hostnames"] == ["k2.example.com"]
    service = charts.one(everything, "Service", "k2-query")
    assert spec["rules"][0]["backendRefs"] == [{"name": "k2-query", "port": service["spec"]["ports"][0]["port"]}]


def test_an_ingress_has_its_hosts_and_tls_where_there_is_a_certificate(everything, helm):
    spec = charts.one(everything, "Ingress")["spec"]
    hosts = ["k2.example.com", "k2.example.org"]
    assert [rule["host"] for rule in spec["rules"]] == hosts
    assert spec["tls"] == [{"secretName": "k2-tls", "hosts": hosts}]
    assert spec["ingressClassName"] == "any"
    plain = charts.one(charts.render(helm, "k2", "--set", "ingress.enabled=true"), "Ingress")["spec"]
    assert "tls" not in plain
    backend = plain["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "k2-query", "port": {"name": "http"}}


def test_monitors_find_what_they_are_for(everything):
    for monitor in charts.kind(everything, "ServiceMonitor"):
        service = charts.one(everything, "Service", monitor["metadata"]["name"])
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    pods = charts.one(everything, "PodMonitor")["spec"]
    assert pods["namespaceSelector"] == {"matchNames": ["markets", "desk-a", "desk-b"]}
    assert pods["podMetricsEndpoints"][0]["port"] == "metrics"


def test_another_release_has_other_names(helm):
    names = [
        {(m["kind"], m["metadata"]["name"]) for m in charts.render(helm, "k2", *EVERYTHING, release=release)}
        for release in ("k2", "other")
    ]
    shared = {kind for kind, _ in names[0] & names[1]}
    assert shared == {"CustomResourceDefinition"}


def test_the_notes_can_be_copied(helm):
    template = (charts.CHARTS / "k2" / "templates" / "NOTES.txt").read_text()
    for command in ("kubectl -n {{ $ns }} apply -f manifests/samples/", "X-API-Key: $KEY", "helm -n {{ $ns }} test"):
        assert command in template


def _mounted(workload):
    return {
        volume["secret"]["secretName"]
        for volume in workload["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    }


def _policies(manifests):
    return {policy["metadata"]["name"]: policy["spec"] for policy in charts.kind(manifests, "NetworkPolicy")}


def _of_namespace(name):
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
