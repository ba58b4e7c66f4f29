"""The charts of what K2 needs around it: who may do what in Kafka, where the registry keeps its state, and that passwords are Secrets."""

import pytest
import yaml
from k2_testing import charts


@pytest.fixture(scope="module")
def kafka(helm):
    return charts.render(helm, "kafka")


# --- Kafka by Strimzi -----------------------------------------------------------------------------------------------------
def test_the_only_listener_asks_for_tls_and_a_password(kafka):
    spec = charts.one(kafka, "Kafka")["spec"]["kafka"]
    (listener,) = spec["listeners"]
    assert listener["tls"] is True
    assert listener["authentication"] == {"type": "scram-sha-512"}
    assert spec["authorization"] == {"type": "simple"}
    assert spec["config"]["auto.create.topics.enable"] is False


def test_controllers_and_brokers_are_apart_and_their_disks_outlive_them(kafka):
    pools = charts.kind(kafka, "KafkaNodePool")
    assert sorted(pool["spec"]["roles"] for pool in pools) == [["broker"], ["controller"]]
    for pool in pools:
        assert pool["metadata"]["labels"]["strimzi.io/cluster"] == "k2"
        assert all(volume["deleteClaim"] is False for volume in pool["spec"]["storage"]["volumes"])


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, 1), (3, 3, 2), (6, 3, 2)])
def test_copies_are_as_many_as_the_brokers_allow(helm, brokers, copies, in_sync):
    found = charts.render(helm, "kafka", "--set", f"strimzi.brokers.replicas={brokers}")
    config = charts.one(found, "Kafka")["spec"]["kafka"]["config"]
    assert (config["default.replication.factor"], config["min.insync.replicas"]) == (copies, in_sync)


def test_a_users_password_is_in_the_secret_that_platform_yaml_names(kafka):
    users = {user["metadata"]["name"]: user["spec"] for user in charts.kind(kafka, "KafkaUser")}
    assert set(users) == {f"k2-kafka-{role}-user" for role in ("operator", "producer", "sink", "query", "registry")}
    for name, spec in users.items():
        reference = spec["authentication"]["password"]["valueFrom"]["secretKeyRef"]
        secret = charts.one(kafka, "Secret", reference["name"])
        assert charts.decoded(secret)["username"] == name
        assert len(charts.decoded(secret)[reference["key"]]) == 32


def test_each_role_may_do_what_it_does_and_no_more(helm):
    roles = ("operator", "producer", "sink", "query", "registry")
    each = ",".join(f"users[{n}].name={role},users[{n}].roles={{{role}}}" for n, role in enumerate(roles))
    users = {
        user["metadata"]["name"].removesuffix("-user"): {
            (acl["resource"]["type"], acl["resource"].get("name")): set(acl["operations"])
            for acl in user["spec"]["authorization"]["acls"]
        }
        for user in charts.kind(charts.render(helm, "kafka", "--set", each), "KafkaUser")
    }
    market, sinks, cluster = ("topic", "market."), ("group", "k2-sink-"), ("cluster", None)
    assert users["query"] == {market: {"Describe", "Read"}}
    assert users["producer"] == {market: {"Describe", "DescribeConfigs", "Write"}, cluster: {"Describe"}}
    assert users["sink"][market] == {"Describe", "DescribeConfigs", "Read", "Write"}
    assert users["sink"][sinks] == {"Describe", "Read"}
    assert {"Create", "Alter", "Delete"} <= users["operator"][market]
    assert not {"Read", "Write"} & users["operator"][market], "it never looks at an event"
    assert not {market, sinks, cluster} & set(users["registry"])


def test_no_right_is_for_all_topics(kafka):
    for user in charts.kind(kafka, "KafkaUser"):
        for acl in user["spec"]["authorization"]["acls"]:
            assert "All" not in acl["operations"]
            assert acl["resource"].get("name") != "*"
            assert acl["resource"]["type"] == "cluster" or acl["resource"]["patternType"] == "prefix"


def test_a_monitor_reads_what_strimzis_reporter_shows(helm, kafka):
    assert charts.kind(kafka, "PodMonitor") == []
    found = charts.one(charts.render(helm, "kafka", "--set", "strimzi.monitor.enabled=true"), "PodMonitor")["spec"]
    assert found["selector"]["matchLabels"] == {"strimzi.io/cluster": "k2", "strimzi.io/kind": "Kafka"}
    assert [each["port"] for each in found["podMetricsEndpoints"]] == ["tcp-prometheus"]
    assert charts.one(kafka, "Kafka")["spec"]["kafka"]["metricsConfig"]["type"] == "strimziMetricsReporter"


# --- the registry -----------------------------------------------------------------------------------------------------------
def test_a_monitor_reads_the_registrys_management_port(helm):
    assert charts.kind(charts.render(helm, "registry"), "PodMonitor") == []
    found = charts.render(helm, "registry", "--set", "monitor.enabled=true")
    pod = charts.one(found, "Deployment")["spec"]["template"]
    monitor = charts.one(found, "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    ports = {each["name"] for each in pod["spec"]["containers"][0]["ports"]}
    assert {each["port"] for each in monitor["podMetricsEndpoints"]} <= ports


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_with_its_state_in_its_pod_there_is_one_registry_and_never_two(helm, storage):
    found = charts.render(helm, "registry", "--set", f"storage={storage},replicas=3")
    spec = charts.one(found, "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_dev_loops_registry_keeps_its_schemas_when_its_pod_or_its_release_goes(helm):
    found = charts.render(helm, "dev")
    pod = charts.one(found, "Deployment", "registry")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ((volume, claim),) = [
        (each["name"], each["persistentVolumeClaim"]["claimName"])
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    ]
    (folder,) = [each["mountPath"] for each in container["volumeMounts"] if each["name"] == volume]
    (url,) = [each["value"] for each in container["env"] if each["name"] == "APICURIO_DATASOURCE_URL"]
    assert url.startswith(f"jdbc:h2:file:{folder}/")
    assert url.endswith(";WRITE_DELAY=0"), "killed at once it would give an id twice"
    claimed = charts.one(found, "PersistentVolumeClaim", claim)
    assert claimed["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep", "tilt.dev/down-policy": "keep"}
    assert claimed["spec"]["resources"]["requests"] == {"storage": "1Gi"}
    assert not charts.kind(charts.render(helm, "registry", "--set", "storage=memory"), "PersistentVolumeClaim")


@pytest.mark.parametrize(
    ("storage", "kind"),
    [("storage=kafka", "kafkasql"), ("storage=sql,sql.url=jdbc:postgresql://db/r,sql.secretName=db", "sql")],
    ids=["kafka", "sql"],
)
def test_with_its_state_outside_there_are_two_and_one_stays(helm, storage, kind):
    found = charts.render(helm, "registry", "--set", storage)
    deployment = charts.one(found, "Deployment")
    assert deployment["spec"]["replicas"] == 2
    env = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["APICURIO_STORAGE_KIND"]["value"] == kind
    assert charts.one(found, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    if kind == "sql":
        assert env["APICURIO_DATASOURCE_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "db", "key": "password"}


@pytest.mark.parametrize("missing", ["storage=sql", "storage=sql,sql.url=jdbc:postgresql://db/r"])
def test_a_database_without_its_address_or_password_is_refused(helm, missing):
    done = charts.run_template(helm, "registry", "--set", missing)
    assert "is needed with storage: sql" in done.stderr


# --- S3 and the catalog's database -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("chart", "key"), [("minio", "root-password"), ("postgresql", "password")])
def test_a_password_is_made_or_comes_from_ones_own_secret(helm, chart, key):
    made = charts.render(helm, chart)
    assert len(charts.decoded(charts.one(made, "Secret"))[key]) == 32
    given = charts.render(helm, chart, "--set", "existingSecret=mine")
    assert not charts.kind(given, "Secret")
    (container,) = charts.one(given, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    named = {each["valueFrom"]["secretKeyRef"]["name"] for each in container["env"] if "valueFrom" in each}
    assert named == {"mine"}


def test_the_bucket_is_the_one_that_the_catalog_writes_to(helm):
    minio = charts.one(charts.render(helm, "dev"), "StatefulSet", "minio")
    (container,) = minio["spec"]["template"]["spec"]["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    values = yaml.safe_load((charts.CHARTS / "k2" / "values-dev.yaml").read_text())
    assert values["platform"]["catalog"]["properties"]["warehouse"].startswith(f"s3://{env['BUCKET']}/")


def test_the_catalogs_secret_opens_both(helm):
    found = charts.render(helm, "dev")
    catalog = charts.decoded(charts.one(found, "Secret", "k2-catalog"))
    database = charts.decoded(charts.one(found, "Secret", "postgresql"))
    store = charts.decoded(charts.one(found, "Secret", "minio"))
    assert catalog["uri"] == f"postgresql+psycopg2://k2:{database['password']}@postgresql:5432/k2"
    assert catalog["s3.access-key-id"] == store["root-user"]
    assert catalog["s3.secret-access-key"] == store["root-password"]


@pytest.mark.parametrize("part", ["kafka", "registry", "minio", "postgresql"])
def test_each_part_can_be_ones_own(helm, part):
    found = charts.render(helm, "dev", "--set", f"{part}.enabled=false")
    workloads = {each["metadata"]["name"] for each in found if each["kind"] in ("Deployment", "StatefulSet", "Service")}
    assert workloads == {"kafka", "registry", "minio", "postgresql"} - {part}


def test_a_part_whose_first_image_was_wrong_is_replaced_by_the_right_one(helm):
    """With the default a StatefulSet waits for the pod that cannot come up; tests/cluster/test_failing_pods.py has both."""
    found = charts.kind(charts.render(helm, "dev"), "StatefulSet")
    assert {each["metadata"]["name"] for each in found} == {"kafka", "minio", "postgresql"}
    assert {each["spec"]["podManagementPolicy"] for each in found} == {"Parallel"}
