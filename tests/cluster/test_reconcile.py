"""The operator on a real API server, with real Kafka, registry and catalog. There are no nodes: the tests say when pods run."""

import json
import statistics
import sys
import time

import pytest
from k2_testing.cluster import until
from k2_testing.extent import sized
from k2_testing.resources import FINITE, LIVE, events_of, feed, make_ready, names_of, owned, table

from k2.bus.admin import partition_counts
from k2.bus.registry import Schemas
from k2.lake.catalog import load_table, open_named

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]


def topics_of(kafka, *names):
    return partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, names)


def test_a_feed_gets_all_its_objects_and_its_conditions_tell_the_truth(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    until(lambda: len(owned(cluster, namespace)) == 4, "objects")
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    assert status == "False"
    assert "has 0 of 1 pods available" in message
    for which, good in (
        ("TopicsReady", "TopicsExist"),
        ("SchemasReady", "SubjectsRegistered"),
        ("TablesReady", "TablesExist"),
    ):
        assert cluster.until_condition("MarketFeed", namespace, "sim", good, which)[0] == "True"
    assert cluster.condition("IcebergTable", namespace, "trades")[:2] == ("True", "TableExists")
    assert topics_of(kafka, "market.equities.trades.sim", "market.equities.trades.sim.dlq") == {
        "market.equities.trades.sim": 1,
        "market.equities.trades.sim.dlq": 1,
    }
    make_ready(cluster, namespace)
    found = cluster.get("MarketFeed", "sim", namespace)
    assert {each["observedGeneration"] for each in found["status"]["conditions"]} == {1}
    until(lambda: {"Created", "AsAsked"} <= {reason for reason, _ in events_of(cluster, namespace, "sim")}, "no Events")


def test_a_table_of_feeds_answers_whether_they_are_well(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    make_ready(cluster, namespace)
    row = cluster.table("MarketFeed", namespace)[0]
    assert (row["Exchange"], row["Streams"], row["Ready"], row["Reason"]) == ("SIM", "trades", "True", "AsAsked")
    scale = cluster.request("GET", cluster.path("MarketFeed", namespace, "sim", "scale"))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)


def test_a_feed_waits_for_its_table_and_goes_on_when_it_comes(cluster, operator, namespace):
    cluster.apply(feed(namespace))
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "TableNotFound")
    assert status == "False"
    assert "no usable IcebergTable of that name" in message
    assert cluster.condition("MarketFeed", namespace, "sim", "TablesReady")[:2] == ("False", "TableNotFound")
    assert owned(cluster, namespace) == {}
    cluster.apply(table(namespace))
    make_ready(cluster, namespace)


def test_a_feed_waits_for_a_secret_names_it_and_goes_on_when_it_comes(cluster, operator, namespace):
    cluster.delete("Secret", namespace, "k2-registry")
    # Whether it is there is remembered for a minute at most, by namespace; this namespace is new.
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "SecretNotFound")
    assert f"Secret k2-registry is not in namespace {namespace}" in message
    metadata = {"name": "k2-registry", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable", seconds=60)


@pytest.mark.parametrize(
    ("change", "reason", "text"),
    [
        (
            {"exchange": "NOWHERE"},
            "InvalidSpec",
            "spec.exchange: unknown exchange: found 'NOWHERE', expected ",
        ),
        ({"sink": {"commitInterval": "2d"}}, "InvalidSpec", "spec.sink.commitInterval: out of range: found '2d'"),
        (
            {"streams": [{"dataType": "quotes", "tableRef": {"name": "trades"}}]},
            "SchemaMismatch",
            "IcebergTable trades holds trades, the stream holds quotes",
        ),
    ],
    ids=["exchange", "interval", "type"],
)
def test_a_mistake_is_a_condition_with_its_remedy_and_no_loop(cluster, operator, namespace, change, reason, text):
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")  # which would wake the feed
    wrong = feed(namespace)
    wrong["spec"] |= change
    cluster.apply(wrong)
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", reason)
    assert status == "False"
    assert text in message
    before, said = comes_again(operator), operator.log.stat().st_size
    time.sleep(3)  # nothing may happen: there is no event to wait for
    assert comes_again(operator) == before
    assert f"MarketFeed {namespace}/sim" not in operator.said_since(said)  # every retry is a line that names it


def comes_again(operator):
    """Reconciles that will be repeated by themselves."""
    return {
        name: value
        for name, value in operator.metrics().items()
        if name.startswith("k2_operator_reconciles_total") and 'outcome="ok"' not in name
    }


def test_a_schema_that_the_registry_refuses_is_a_condition(cluster, operator, namespace, registry):
    from k2.bus.registry import Schemas

    schemas = Schemas({"url": registry.url})
    old = '{"type": "record", "name": "Trade", "fields": [{"name": "price", "type": "string"}]}'
    schemas.register("market.options.trades.sim-value", old)
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="options"))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "SchemaRefused", "SchemasReady")
    assert "not backward compatible" in message
    cluster.until_condition("MarketFeed", namespace, "sim", "SchemaRefused")


def test_what_the_api_server_refuses_is_a_condition_and_goes_on_when_it_does_not(cluster, operator, namespace):
    quota = {"hard": {"count/deployments.apps": "0"}}
    metadata = {"name": "none", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": quota})
    until(lambda: "hard" in cluster.get("ResourceQuota", "none", namespace).get("status", {}), "no quota")
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "ApplyFailed")
    assert "exceeded quota" in message
    cluster.delete("ResourceQuota", namespace, "none")
    make_ready(cluster, namespace)


def test_what_somebody_deletes_or_edits_is_back_in_seconds(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    make_ready(cluster, namespace)
    operator.watches("Deployment", "ConfigMap")
    took = []
    for name in 2 * names_of(cluster, namespace, "Deployment"):
        uid = cluster.get("Deployment", name, namespace)["metadata"]["uid"]
        started = time.monotonic()
        cluster.delete("Deployment", namespace, name)

        def is_back(name=name, uid=uid):
            found = cluster.get("Deployment", name, namespace)
            return found is not None and found["metadata"]["uid"] != uid

        until(is_back, f"{name} is not back")
        took.append(time.monotonic() - started)
    assert sorted(took)[-2] < 3, took  # the machine may stand still once
    sink = next(name for name in names_of(cluster, namespace, "Deployment") if name.startswith("k2-sink"))
    cluster.patch("Deployment", namespace, sink, {"spec": {"replicas": 5}})
    until(lambda: cluster.get("Deployment", sink, namespace)["spec"]["replicas"] == 1, "replicas stay")
    config = next(name for name in names_of(cluster, namespace, "ConfigMap") if name.startswith("k2-sink"))
    cluster.patch("ConfigMap", namespace, config, {"data": {"config.json": "{}"}})
    until(lambda: cluster.get("ConfigMap", config, namespace)["data"]["config.json"] != "{}", "the edit stays")
    until(lambda: "Repaired" in {reason for reason, _ in events_of(cluster, namespace, "sim")}, "no Event")


def test_what_the_spec_no_longer_wants_is_removed(cluster, operator, namespace):
    for name in ("trades", "quotes"):
        cluster.apply(table(namespace, name))
    cluster.apply(feed(namespace, streams=("trades", "quotes")))
    until(lambda: len(names_of(cluster, namespace, "Deployment")) == 2, "two sinks")
    cluster.apply(feed(namespace, streams=("quotes",)))
    until(lambda: len(names_of(cluster, namespace, "Deployment")) == 1, "one sink")
    until(lambda: len(names_of(cluster, namespace, "ConfigMap")) == 1, "one ConfigMap")
    assert "quotes" in names_of(cluster, namespace, "Deployment")[0]


def test_scaling_reaches_the_sinks(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="futures", topic={"partitions": 3}))
    until(lambda: names_of(cluster, namespace, "Deployment"), "a sink")
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"replicas": 3}}, sub="scale")
    name = names_of(cluster, namespace, "Deployment")[0]
    until(lambda: cluster.get("Deployment", name, namespace)["spec"]["replicas"] == 3, "not scaled")


def test_a_table_is_made_and_evolved(cluster, operator, namespace, platform):
    def properties():
        catalog = open_named("k2", platform["catalog"]["properties"])
        try:
            return dict(load_table(catalog, f"{namespace.replace('-', '_')}.trades").properties)
        finally:
            catalog.close()

    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    assert properties()["write.parquet.row-group-limit"] == "32768"
    cluster.apply(table(namespace, properties={"write.parquet.row-group-limit": "65536"}))
    until(lambda: properties()["write.parquet.row-group-limit"] == "65536", "not evolved")
    until(lambda: "Changed" in {reason for reason, _ in events_of(cluster, namespace, "trades")}, "no Event")


def test_new_columns_reach_the_table_and_then_the_subject_while_the_feed_stays_as_it_is(
    cluster, operator, namespace, platform, registry
):
    def fields():
        found = Schemas({"url": registry.url}).latest("market.fx.trades.sim-value")
        return [] if found is None else [each["name"] for each in json.loads(found[1])["fields"]]

    def columns():
        catalog = open_named("k2", platform["catalog"]["properties"])
        try:
            return [each.name for each in load_table(catalog, f"{namespace.replace('-', '_')}.trades").schema().fields]
        finally:
            catalog.close()

    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="fx"))
    make_ready(cluster, namespace)
    made = {key: each["metadata"]["resourceVersion"] for key, each in owned(cluster, namespace).items()}
    cluster.apply(table(namespace, columns=[{"name": "venue_flag", "type": "string"}]))
    until(lambda: "venue_flag" in fields(), lambda: f"not registered: {fields()}")
    assert "venue_flag" in columns()
    cluster.apply(table(namespace, columns=[{"name": "flag", "type": "string", "was": "venue_flag"}]))
    until(lambda: "flag" in fields(), lambda: f"not registered: {fields()}")
    assert "venue_flag" not in columns()
    assert {key: each["metadata"]["resourceVersion"] for key, each in owned(cluster, namespace).items()} == made


def test_edits_that_come_while_a_status_is_written_are_all_taken(cluster, operator, namespace, platform):
    """An edit can reach the operator with the answer to its own write, and then its event brings nothing new."""
    identifier = f"{namespace.replace('-', '_')}.trades"
    cluster.apply(table(namespace))
    names = [f"further_{number}" for number in range(12)]

    def taken():
        obj = cluster.get("IcebergTable", "trades", namespace)
        ready = next(iter(obj.get("status", {}).get("conditions", ())), {})
        observed = obj["metadata"]["generation"] == obj.get("status", {}).get("observedGeneration")
        return observed and ready.get("status") == "True"

    for last in range(len(names)):
        # From the middle of a reconcile of the edit before to well after it.
        time.sleep(0.03 * last)
        cluster.apply(table(namespace, columns=[{"name": name, "type": "string"} for name in names[: last + 1]]))
    until(taken, "the last edit is not taken", 120)
    catalog = open_named("k2", platform["catalog"]["properties"])
    try:
        assert {each.name for each in load_table(catalog, identifier).schema().fields} >= set(names)
    finally:
        catalog.close()


def test_a_column_that_only_the_table_knows_of_is_not_lost_by_a_list_without_it(cluster, operator, namespace):
    cluster.apply(table(namespace, columns=[{"name": "desk", "type": "string"}]))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    cluster.delete("IcebergTable", namespace, "trades")  # the table itself stays
    until(lambda: cluster.get("IcebergTable", "trades", namespace) is None, "not deleted")
    cluster.apply(table(namespace))
    status, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "TableRefused")
    assert status == "False"
    assert "cannot go by leaving it out: what its rows hold there would be lost" in message
    cluster.apply(table(namespace, columns=[{"name": "desk", "type": "string"}]))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")


def test_two_tables_of_one_identifier_have_one_owner_until_it_goes(cluster, operator, namespace):
    identifier = f"{namespace.replace('-', '_')}.trades"
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    time.sleep(1.1)  # age is told in seconds
    cluster.apply(table(namespace, "again", "trades", identifier))
    _, _, message = cluster.until_condition("IcebergTable", namespace, "again", "DuplicateIdentifier")
    assert f"belongs to IcebergTable {namespace}/trades" in message
    cluster.delete("IcebergTable", namespace, "trades")
    cluster.until_condition("IcebergTable", namespace, "again", "TableExists")


def test_a_finite_source_is_read_once_and_never_again(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=FINITE))
    until(lambda: names_of(cluster, namespace, "Job"), "a Job")
    job = names_of(cluster, namespace, "Job")[0]
    cluster.run_pods(namespace, job, "Succeeded")
    cluster.until_condition("MarketFeed", namespace, "sim", "LoadCompleted", "ProducerAvailable")
    assert cluster.get("MarketFeed", "sim", namespace)["status"]["completedSource"] == job.rpartition("-")[2]
    make_ready(cluster, namespace)
    cluster.delete("Job", namespace, job)
    until(lambda: not names_of(cluster, namespace, "Job"), "the Job is there")
    operator.kill()
    operator.start()
    until(lambda: operator.metrics().get('k2_operator_reconciles_total{kind="MarketFeed",outcome="ok"}'), "it is idle")
    time.sleep(2)  # nothing may come
    assert names_of(cluster, namespace, "Job") == []
    another = {"synthetic": FINITE["synthetic"] | {"seed": 2}}
    cluster.apply(feed(namespace, source=another))
    until(lambda: names_of(cluster, namespace, "Job"), "no other Job")
    assert names_of(cluster, namespace, "Job") != [job]


def test_all_objects_are_there_within_a_second(cluster, operator, namespace, capsys):
    def are_there(name):
        services = cluster.list("Service", namespace, f"k2.dev/feed={name}")
        return len(owned(cluster, namespace, name)) == 6 and len(services) == 3

    for name in ("trades", "quotes"):
        cluster.apply(table(namespace, name))
        cluster.until_condition("IcebergTable", namespace, name, "TableExists")
    took = []
    for number, exchange in enumerate(
        ("ASX", "NYSE", "NASDAQ", "LSE", "TSE", "CME", "BINANCE", "COINBASE", "KRAKEN", "SIM")
    ):
        name = f"feed-{number}"
        manifest = feed(namespace, name, ("trades", "quotes"), LIVE, exchange, assetClass="fx")
        started = time.monotonic()
        cluster.apply(manifest)
        until(lambda name=name: are_there(name), "objects", pause=0.02)
        took.append(time.monotonic() - started)
    p95 = statistics.quantiles(took, n=20, method="inclusive")[-1]
    with capsys.disabled():
        sys.stdout.write(f"\nseconds from apply to nine objects: median {statistics.median(took):.2f}, p95 {p95:.2f}\n")
    # The target is one second; the machine may stand still once, and beside other tests it holds no stopwatch.
    assert sorted(took)[-2] < sized(20.0, 2.0), took
