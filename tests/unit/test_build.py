"""Builders: the same plan gives the same bytes, and those bytes are looked at (`pytest --update-golden` writes them anew)."""

from pathlib import Path

import pytest
import yaml

from k2.model.errors import UserError
from k2.model.exchange_entries import ExchangeEntry
from k2.model.platform import (
    ApiPlatform,
    AutoscalingPlatform,
    CatalogPlatform,
    ImagesPlatform,
    KafkaPlatform,
    KafkaSecrets,
    Platform,
    PrometheusPlatform,
    RegistryPlatform,
    TracesPlatform,
)
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig
from k2_local.pods import subset
from k2_operator.build import autoscaling, cronjob, deployment, feed, names, stamp, types
from k2_operator.plan.planning import plan
from k2_operator.plan.plans import QueryPlan
from k2_operator.spec import labels
from k2_operator.spec.resources import Resources

GOLDEN = Path(__file__).parents[1] / "golden"

PLAIN = Platform(
    kafka=KafkaPlatform(bootstrap_servers="127.0.0.1:9092"),
    registry=RegistryPlatform(url="http://127.0.0.1:8081/apis/ccompat/v7"),
    catalog=CatalogPlatform(
        properties={"type": "sql", "uri": "sqlite:////data/catalog.db", "warehouse": "file:///data/w"}
    ),
)
SECURED = Platform(
    kafka=KafkaPlatform(
        bootstrap_servers="kafka-bootstrap.kafka:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        secret_name="k2-kafka",
        ca_secret_name="kafka-cluster-ca",
        replication_factor=3,
    ),
    registry=RegistryPlatform(url="https://registry.k2/apis/ccompat/v7", secret_name="k2-registry"),
    catalog=CatalogPlatform(properties={"type": "rest", "uri": "https://catalog.k2"}, secret_name="k2-catalog"),
    images=ImagesPlatform(workload="registry.example/k2-workloads:0.1.0"),
    api=ApiPlatform(url="https://k2.example"),
)
BY_ROLE = SECURED.model_copy(
    update={
        "kafka": SECURED.kafka.model_copy(
            update={"secret_names": KafkaSecrets(producer="k2-kafka-producer", sink="k2-kafka-sink")}
        ),
        "autoscaling": AutoscalingPlatform(
            kind="keda",
            prometheus=PrometheusPlatform(url="http://prometheus.monitoring:9090", authentication="prometheus"),
        ),
        "exchanges": {"ASX": ExchangeEntry(currency="USD")},
        "traces": TracesPlatform(endpoint="http://collector:4318", ratio=0.1),
    }
)
TABLES = [
    {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": name, "namespace": "markets"},
        "spec": {"identifier": f"market_data.{name}", "schema": name},
    }
    for name in ("trades", "quotes")
]
TABLES.append(
    {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": "trades-wide", "namespace": "markets"},
        "spec": {"identifier": "market_data.trades_wide", "schema": "trades", "decimals": "wide"},
    }
)


def feed_of(name, exchange, source, streams=("trades",), **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": "markets"},
        "spec": {
            "source": source,
            "exchange": exchange,
            "streams": [
                each if isinstance(each, dict) else {"dataType": each, "tableRef": {"name": each}} for each in streams
            ],
            **spec,
        },
    }


FINITE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 2}}
LIVE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 0, "eventsPerSecond": 100}}
MARKET = {
    "live": {
        "venue": "binance",
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "urls": {"stream": "wss://exchange.example", "rest": "https://exchange.example"},
        "caFile": "ca.pem",
        "volume": {"configMapName": "authorities"},
    }
}
FILES = {"csv": {"format": "asx", "uris": ["file:7078.csv"], "symbol": "BHP", "volume": {"claimName": "ticks"}}}
WIDE_STREAM = {"dataType": "trades", "tableRef": {"name": "trades-wide"}}
LIMITS = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}

CASES = {
    "feed-finite": (PLAIN, feed_of("sim", "SIM", FINITE, ("trades", "quotes"))),
    "feed-live": (
        PLAIN,
        feed_of(
            "sim-live",
            "SIM",
            LIVE,
            sink={"commitInterval": "1s"},
            duplicateTolerance="250ms",
            deadLetters={"stopAbove": "5%"},
        ),
    ),
    "feed-market": (
        PLAIN,
        feed_of("binance", "BINANCE", MARKET, ("trades", "quotes"), producer={"replicas": 2}),
    ),
    "feed-files": (PLAIN, feed_of("asx-files", "ASX", FILES)),
    "feed-wide": (PLAIN, feed_of("shib", "SIM", LIVE, [WIDE_STREAM])),
    "feed-secured": (SECURED, feed_of("asx", "ASX", {"external": {}}, sink={"replicas": 3, "resources": LIMITS})),
    "feed-suspended": (PLAIN, feed_of("sim", "SIM", FINITE, suspend=True)),
    "feed-autoscaled": (PLAIN, feed_of("asx", "ASX", {"external": {}}, sink={"autoscaling": {"maxReplicas": 4}})),
    "feed-autoscaled-keda": (BY_ROLE, feed_of("sim-live", "SIM", LIVE, sink={"autoscaling": {"maxReplicas": 4}})),
}
UPKEEP = {
    "compaction": {"schedule": "15 3 * * *", "targetFileSize": "256Mi"},
    "snapshotExpiry": {"schedule": "45 */6 * * *"},
    "orphanRemoval": {"schedule": "30 4 * * sun", "olderThan": "7d"},
    "metadata": {"schedule": "0 5 * * *"},
    "scrub": {"schedule": "0 6 * * *", "rate": "20Mi", "olderThan": "30d"},
    "timeZone": "Australia/Sydney",
}
OTHERS = ["query", "table-upkeep"]
QUERY = QueryPlan("markets", "k2-query", QueryConfig(host="0.0.0.0"), 2, "k2-api-keys", Resources())


def table_with(upkeep, name="trades"):
    document = TABLES[0] | {"metadata": TABLES[0]["metadata"] | {"name": name}}
    result = plan([document | {"spec": document["spec"] | {"upkeep": upkeep}}], PLAIN)
    assert result.problems == ()
    return result.tables[0]


def kinds(manifests):
    return [each["kind"] for each in manifests]


def templates(manifests):
    """The pod templates among manifests."""
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield spec["template"]


def planned(platform, document):
    result = plan([*TABLES, document], platform)
    assert result.problems == ()
    return result.feeds[0]


def built(case):
    if case == "query":
        return deployment.query(QUERY, SECURED)
    if case == "table-upkeep":
        return cronjob.upkeep(table_with(UPKEEP), SECURED)
    platform, document = CASES[case]
    return feed.objects(planned(platform, document), platform)


class Readable(yaml.SafeDumper):
    """Texts of several lines as blocks, so that a difference in a configuration is one line of the golden file."""


Readable.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def rendered(case) -> str:
    return yaml.dump_all(built(case), Dumper=Readable, sort_keys=False, width=120)


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_manifests_are_as_they_were_looked_at(case, update_golden):
    golden = GOLDEN / f"{case}.yaml"
    if update_golden:
        golden.write_text(rendered(case))
    assert rendered(case) == golden.read_text()


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_the_same_plan_gives_the_same_bytes(case):
    assert rendered(case) == rendered(case)


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_everything_that_is_built_can_be_run_by_the_local_executor(case):
    for manifest in built(case):
        subset.check(manifest)


@pytest.mark.parametrize(
    ("built", "understood"),
    [
        (types.PodSpec, "pod"),
        (types.Container, "container"),
        (types.ContainerPort, "port"),
        (types.VolumeMount, "mount"),
        (types.EnvVar, "env"),
        (types.EnvVarSource, "valueFrom"),
        (types.PodVolume, "volume"),
        (types.HttpProbe, "probe"),
        (types.HttpGet, "httpGet"),
        (types.PodTemplate, "template"),
        (types.DeploymentSpec, "Deployment.spec"),
        (types.JobSpec, "Job.spec"),
        (types.CronJobSpec, "CronJob.spec"),
        (types.ScheduledJobSpec, "jobTemplate.spec"),
    ],
)
def test_what_builders_may_build_is_what_one_machine_understands(built, understood):
    assert built.__required_keys__ | built.__optional_keys__ <= subset._FIELDS[understood]


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_pods_can_run_under_the_restricted_policy_and_own_only_their_folders(case):
    found = list(templates(built(case)))
    assert found
    for template in found:
        pod = template["spec"]
        container = pod["containers"][0]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("case", [*CASES, *OTHERS])
def test_names_fit_kubernetes_and_selectors_never_change_with_the_feed(case):
    for manifest in built(case):
        assert len(manifest["metadata"]["name"]) <= 63
        for value in manifest["metadata"]["labels"].values():
            assert len(value) <= 63
        if manifest["kind"] == "Deployment":
            assert labels.FEED not in manifest["spec"]["selector"]["matchLabels"]


def test_a_workload_can_read_the_configuration_that_is_built_for_it():
    models = {"sink": SinkConfig, "load": ProducerConfig, "producer": ProducerConfig, "query": QueryConfig}
    for case in [*CASES, *OTHERS]:
        for manifest in built(case):
            if manifest["kind"] == "ConfigMap":
                model = models[manifest["metadata"]["labels"][labels.COMPONENT]]
                model.model_validate_json(manifest["data"]["config.json"])


def test_a_secret_goes_by_name_only():
    text = rendered("feed-secured")
    assert "secretKeyRef" not in text, "a variable keeps what the Secret said when the pod began"
    for name in ("k2-kafka", "kafka-cluster-ca", "k2-registry", "k2-catalog"):
        assert f"secretName: {name}\n" in text


def test_a_changed_configuration_rolls_the_workload_and_an_unchanged_one_does_not():
    def hash_of(**spec):
        document = feed_of("asx", "ASX", {"external": {}}, **spec)
        made = feed.objects(planned(PLAIN, document), PLAIN)[1]
        return made["spec"]["template"]["metadata"]["annotations"][labels.CONFIG_HASH]

    assert hash_of() == hash_of(sink={"replicas": 2})
    assert hash_of() != hash_of(sink={"commitInterval": "5s"})


def test_a_sink_is_named_after_its_pair_whichever_feed_owns_it():
    one = feed.objects(planned(PLAIN, feed_of("one", "ASX", {"external": {}})), PLAIN)
    two = feed.objects(planned(PLAIN, feed_of("two", "ASX", {"external": {}})), PLAIN)
    assert [each["metadata"]["name"] for each in one] == [each["metadata"]["name"] for each in two]
    assert one[1]["spec"]["selector"] == two[1]["spec"]["selector"]


def test_a_workload_is_scraped_by_a_service_over_its_pods_ready_or_not():
    for manifest in built("feed-live"):
        if manifest["kind"] != "Service":
            continue
        (workload,) = [
            each
            for each in built("feed-live")
            if (each["kind"], each["metadata"]["name"]) == ("Deployment", manifest["metadata"]["name"])
        ]
        spec = manifest["spec"]
        assert spec["selector"] == workload["spec"]["selector"]["matchLabels"]
        assert spec["publishNotReadyAddresses"] is True
        (port,) = spec["ports"]
        names_of_ports = {each["name"] for each in workload["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert port["name"] == "metrics"
        assert port["targetPort"] in names_of_ports
    assert kinds(built("feed-live")).count("Service") == 2
    # A load is over before anybody finds its Service.
    assert kinds(built("feed-finite")).count("Service") == 2


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"sink": {"replicas": 1}}, False),
        ({"sink": {"replicas": 2}}, True),
        ({"sink": {"replicas": 2}, "suspend": True}, False),
        ({"sink": {"autoscaling": {"maxReplicas": 1}}}, False),
        ({"sink": {"autoscaling": {"maxReplicas": 2}}}, True),
    ],
)
def test_a_budget_only_where_another_pod_can_take_over(spec, expected):
    made = feed.objects(planned(PLAIN, feed_of("asx", "ASX", {"external": {}}, **spec)), PLAIN)
    assert ("PodDisruptionBudget" in kinds(made)) is expected


def test_who_is_scaled_by_lag_is_not_told_a_number_unless_it_shall_sleep():
    def sink(**spec):
        made = feed.objects(planned(PLAIN, feed_of("asx", "ASX", {"external": {}}, **spec)), PLAIN)
        return made[1]["spec"].get("replicas"), "HorizontalPodAutoscaler" in kinds(made)

    scaled = {"sink": {"autoscaling": {"minReplicas": 2, "maxReplicas": 4}, "replicas": 3}}
    assert sink(**scaled) == (None, True)
    assert sink(**scaled, suspend=True) == (0, False)
    assert sink(sink={"replicas": 3}) == (3, False)


def test_reference_data_is_one_partition_and_not_scaled():
    tables = [
        {
            **TABLES[0],
            "metadata": {"name": "r", "namespace": "markets"},
            "spec": {"identifier": "a.r", "schema": "reference_data"},
        }
    ]
    document = feed_of("asx", "ASX", {"external": {}}, sink={"autoscaling": {"maxReplicas": 4}})
    document["spec"]["streams"] = [{"dataType": "reference_data", "tableRef": {"name": "r"}}]
    made = feed.objects(plan([*tables, document], PLAIN).feeds[0], PLAIN)
    assert made[1]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler" not in kinds(made)


def test_keda_asks_prometheus_for_the_lag_of_the_sinks_own_pods():
    made = {each["kind"]: each for each in built("feed-autoscaled-keda")}
    (trigger,) = made["ScaledObject"]["spec"]["triggers"]
    asked, name = trigger["metadata"], made["ScaledObject"]["metadata"]["name"]
    assert trigger["type"] == "prometheus"
    assert asked["serverAddress"] == "http://prometheus.monitoring:9090"
    assert f'k2_sink_lag_messages{{namespace="markets",pod=~"{name}-.+"}}' in asked["query"]
    assert asked["ignoreNullValues"] == "false", "a lag that nobody knows would be none"
    assert trigger["authenticationRef"] == {"kind": "ClusterTriggerAuthentication", "name": "prometheus"}


def test_keda_needs_the_address_of_prometheus():
    scaled = {"kind": "keda"}
    with pytest.raises(UserError) as failure:
        Platform.checked(PLAIN.model_dump(by_alias=True) | {"autoscaling": scaled}, "platform.yaml is wrong at")
    assert str(failure.value) == (
        "platform.yaml is wrong at autoscaling.prometheus, expected the address of Prometheus (url), which KEDA asks for the lag (kind: keda)."
    )
    with pytest.raises(UserError, match=r"autoscaling\.prometheus\.url"):
        Platform.checked(
            PLAIN.model_dump(by_alias=True) | {"autoscaling": scaled | {"prometheus": {"url": "prometheus:9090"}}},
            "It is wrong at",
        )


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (1500, "1500"), (100_000, "100k"), (2_000_000, "2M")])
def test_a_quantity_is_written_as_the_api_server_writes_it_back(number, text):
    assert autoscaling.quantity(number) == text


def test_every_role_has_its_own_secret_or_the_common_one():
    def user(manifests, component):
        (found,) = [
            each["spec"]["template"]["spec"]
            for each in manifests
            if each["kind"] in ("Deployment", "Job") and each["metadata"]["labels"][labels.COMPONENT] == component
        ]
        (name,) = [each["secret"]["secretName"] for each in found["volumes"] if each["name"] == "kafka"]
        return name

    live = built("feed-autoscaled-keda")
    assert (user(live, "sink"), user(live, "producer")) == ("k2-kafka-sink", "k2-kafka-producer")
    finite = feed.objects(planned(BY_ROLE, feed_of("sim", "SIM", FINITE)), BY_ROLE)
    assert user(finite, "load") == "k2-kafka-producer"
    assert user(deployment.query(QUERY, BY_ROLE), "query") == "k2-kafka"


def test_what_answers_and_what_commits_is_told_where_traces_go():
    def told(manifests):
        return {
            each["metadata"]["labels"][labels.COMPONENT]: [
                (variable["name"], variable["value"])
                for variable in each["spec"]["template"]["spec"]["containers"][0]["env"]
                if variable["name"].startswith("K2_TRACES")
            ]
            for each in manifests
            if each["kind"] == "Deployment"
        }

    where = [("K2_TRACES_ENDPOINT", "http://collector:4318"), ("K2_TRACES_RATIO", "0.1")]
    document = feed_of("sim", "SIM", {"synthetic": {"start": "2026-03-02", "days": 0}})
    live = feed.objects(planned(BY_ROLE, document), BY_ROLE)
    assert told(live) == {"producer": [], "sink": where}
    assert told(deployment.query(QUERY, BY_ROLE)) == {"query": where}
    assert told(deployment.query(QUERY, SECURED)) == {"query": []}


def test_upkeep_runs_only_what_has_a_schedule_on_the_table_alone():
    (made,) = cronjob.upkeep(table_with({"orphanRemoval": {"schedule": "0 4 * * *"}}), SECURED)
    (template,) = templates([made])
    container = template["spec"]["containers"][0]
    assert container["args"] == [
        *("upkeep", "orphans", "--table", "market_data.trades", "--older-than-seconds", "259200"),
    ]
    assert not [each["name"] for each in container["env"] if "KAFKA" in each["name"] or "REGISTRY" in each["name"]]
    assert container["resources"] == {"requests": {"cpu": "100m", "memory": "256Mi"}}
    assert made["spec"]["timeZone"] == "Etc/UTC"
    assert cronjob.upkeep(table_with({}), SECURED) == []


def test_a_stamp_tells_a_change_of_the_platform_from_one_of_the_feed():
    def stamps(platform, generation=1):
        return stamp.marks_of(generation, platform)

    other = PLAIN.model_copy(update={"images": ImagesPlatform(workload="k2-workloads:2")})
    assert stamps(PLAIN) == stamps(PLAIN)
    assert stamps(PLAIN)[labels.PLATFORM_HASH] != stamps(other)[labels.PLATFORM_HASH]
    assert stamps(PLAIN)[labels.PLATFORM_HASH] == stamps(PLAIN, 2)[labels.PLATFORM_HASH]
    # What no pod is told rolls no pod.
    unseen = PLAIN.model_copy(update={"api": ApiPlatform(url="https://k2.example")})
    assert stamps(PLAIN) == stamps(unseen)


def test_the_longest_names_still_fit():
    for task in ("compact", "expire", "orphans", "metadata", "scrub"):
        longest, other = names.upkeep("t" * 63, task), names.upkeep("t" * 62 + "u", task)
        assert len(longest) <= names.MAX_CRON_JOB
        assert longest != other
    assert len(names.sink("market.equities.reference_data." + "x" * 32, "market_data.reference_data")) <= 58
    assert len(names.config(names.load("f" * 40, "0123456789"))) <= 63
