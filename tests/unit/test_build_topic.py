"""KafkaTopics: named as Kubernetes allows, with the topic's true name inside, and owned by nobody."""

import pytest

from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2_operator.build import topic as build_topic
from k2_operator.plan.planning import plan

STRIMZI = Platform(
    kafka=KafkaPlatform(
        bootstrap_servers="k:9092",
        replication_factor=3,
        topics="strimzi",
        strimzi_cluster="market",
        strimzi_namespace="kafka",
    ),
    registry=RegistryPlatform(url="http://r"),
    catalog=CatalogPlatform(properties={}),
)


def built(data_type="trades", **topic):
    api = "k2.dev/v1alpha1"
    table = {"identifier": f"market_data.{data_type}", "schema": data_type}
    spec = {
        "source": {"external": {}},
        "exchange": "SIM",
        "streams": [{"dataType": data_type, "tableRef": {"name": "table"}}],
        "topic": topic,
        "deadLetters": {"retention": "1d"},
    }
    documents = [
        {"apiVersion": api, "kind": "IcebergTable", "metadata": {"name": "table"}, "spec": table},
        {"apiVersion": api, "kind": "MarketFeed", "metadata": {"name": "sim"}, "spec": spec},
    ]
    planned = plan(documents, STRIMZI)
    assert planned.problems == ()
    return build_topic.kafka_topics(planned.feeds[0], planned.feeds[0].topics[0], STRIMZI)


def test_a_topic_and_its_dead_letters():
    events, dead_letters = built(partitions=12, retention="7d")
    assert events["metadata"] == {
        "name": "market.equities.trades.sim",
        "namespace": "kafka",
        "labels": {
            "strimzi.io/cluster": "market",
            "app.kubernetes.io/part-of": "k2",
            "app.kubernetes.io/managed-by": "k2-operator",
        },
    }
    assert events["spec"] == {
        "topicName": "market.equities.trades.sim",
        "partitions": 12,
        "replicas": 3,
        "config": {"retention.ms": 604_800_000},
    }
    assert dead_letters["spec"] == {
        "topicName": "market.equities.trades.sim.dlq",
        "partitions": 1,
        "replicas": 3,
        "config": {"retention.ms": 86_400_000},
    }


def test_a_name_that_kubernetes_does_not_take_is_changed_and_stays_one_of_its_own():
    events, _ = built("reference_data")
    assert events["spec"]["topicName"] == "market.equities.reference_data.sim"
    assert events["metadata"]["name"].startswith("market.equities.reference-data.sim-")


@pytest.mark.parametrize("pair", [("a_b", "a-b"), ("a_b-c", "a-b_c")])
def test_two_topics_never_meet_in_one_object(pair):
    one, two = (build_topic.resource_name(each) for each in pair)
    assert one != two
