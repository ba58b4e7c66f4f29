"""Builders: the same plan gives the same bytes, and those bytes are looked at (`pytest --update-golden` writes them anew)."""

from pathlib import Path

import pytest
import yaml

from k2.model.platform import ApiPlatform, CatalogPlatform, ImagesPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig
from k2_operator.build import deployment, feed, labels, names
from k2_operator.local import subset
from k2_operator.plan import plan
from k2_operator.plans import QueryPlan
from k2_operator.resources import Resources

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
TABLES = [
    {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": name, "namespace": "markets"},
        "spec": {"identifier": f"market_data.{name}", "schema": name},
    }
    for name in ("trades", "quotes")
]


def feed_of(name, exchange, source, streams=("trades",), **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": "markets"},
        "spec": {
            "source": source,
            "exchange": exchange,
            "streams": [{"dataType": each, "tableRef": {"name": each}} for each in streams],
            **spec,
        },
    }


FINITE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 2}}
LIVE = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 0, "eventsPerSecond": 100}}
FILES = {"csv": {"format": "asx", "uris": ["file:7078.csv"], "symbol": "BHP", "volume": {"claimName": "ticks"}}}
LIMITS = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}

CASES = {
    "feed-finite": (PLAIN, feed_of("sim", "SIM", FINITE, ("trades", "quotes"))),
    "feed-live": (PLAIN, feed_of("sim-live", "SIM", LIVE, sink={"commitInterval": "1s"})),
    "feed-files": (PLAIN, feed_of("asx-files", "ASX", FILES)),
    "feed-secured": (SECURED, feed_of("asx", "ASX", {"external": {}}, sink={"replicas": 3, "resources": LIMITS})),
    "feed-suspended": (PLAIN, feed_of("sim", "SIM", FINITE, suspend=True)),
}
QUERY = QueryPlan("markets", "k2-query", QueryConfig(host="0.0.0.0"), 2, "k2-api-keys", Resources())


def planned(platform, document):
    result = plan([*TABLES, document], platform)
    assert result.problems == ()
    return result.feeds[0]


def built(case):
    if case == "query":
        return deployment.query(QUERY, SECURED)
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


@pytest.mark.parametrize("case", [*CASES, "query"])
def test_manifests_are_as_they_were_looked_at(case, update_golden):
    golden = GOLDEN / f"{case}.yaml"
    if update_golden:
        golden.write_text(rendered(case))
    assert rendered(case) == golden.read_text()


@pytest.mark.parametrize("case", [*CASES, "query"])
def test_the_same_plan_gives_the_same_bytes(case):
    assert rendered(case) == rendered(case)


@pytest.mark.parametrize("case", [*CASES, "query"])
def test_everything_that_is_built_can_be_run_by_the_local_executor(case):
    for manifest in built(case):
        subset.check(manifest)


@pytest.mark.parametrize("case", [*CASES, "query"])
def test_pods_can_run_under_the_restricted_policy_and_own_only_their_folders(case):
    for manifest in built(case):
        if manifest["kind"] == "ConfigMap":
            continue
        pod = manifest["spec"]["template"]["spec"]
        container = pod["containers"][0]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("case", [*CASES, "query"])
def test_names_fit_kubernetes_and_selectors_never_change_with_the_feed(case):
    for manifest in built(case):
        assert len(manifest["metadata"]["name"]) <= 63
        for value in manifest["metadata"]["labels"].values():
            assert len(value) <= 63
        if manifest["kind"] == "Deployment":
            assert labels.FEED not in manifest["spec"]["selector"]["matchLabels"]


def test_a_workload_can_read_the_configuration_that_is_built_for_it():
    models = {"sink": SinkConfig, "load": ProducerConfig, "producer": ProducerConfig, "query": QueryConfig}
    for case in [*CASES, "query"]:
        for manifest in built(case):
            if manifest["kind"] == "ConfigMap":
                model = models[manifest["metadata"]["labels"][labels.COMPONENT]]
                model.model_validate_json(manifest["data"]["config.json"])


def test_a_secret_goes_by_name_only():
    text = rendered("feed-secured")
    assert "secretKeyRef" in text
    assert "secretName: k2-catalog" in text


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


def test_the_longest_names_still_fit():
    assert len(names.sink("market.equities.reference_data." + "x" * 32, "market_data.reference_data")) <= 58
    assert len(names.config(names.load("f" * 40, "0123456789"))) <= 63
