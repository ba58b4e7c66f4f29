"""Topics as KafkaTopics. Strimzi's operators are not here: the test says what they would, on a definition of its own."""

import time

import pytest
from k2_testing.cluster import Operator, RefusedError, grant, until
from k2_testing.resources import events_of, feed, names_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]
TOPICS = "/apis/kafka.strimzi.io/v1/namespaces/{}/kafkatopics"


@pytest.fixture(scope="module")
def kafka_topics(cluster):
    """A definition of KafkaTopic; a cluster that has Strimzi's keeps that."""
    name = "kafkatopics.kafka.strimzi.io"
    if cluster.get("CustomResourceDefinition", name) is None:
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}}
        version["schema"] = {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}
        }
        names = {"kind": "KafkaTopic", "plural": "kafkatopics", "singular": "kafkatopic", "listKind": "KafkaTopicList"}
        cluster.apply(
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": name},
                "spec": {"group": "kafka.strimzi.io", "scope": "Namespaced", "names": names, "versions": [version]},
            }
        )

    def served():
        # "Established" comes before the store can be read: 429 "storage is (re)initializing".
        try:
            return cluster.request("GET", TOPICS.format("default"))
        except RefusedError:
            return None

    until(served, "KafkaTopic is not served")


@pytest.fixture
def with_strimzi(cluster, operator, namespace, platform, tmp_path, kafka_topics):
    """An operator of this namespace alone whose platform makes topics by Strimzi."""
    operator.kill()
    grant(cluster, namespace, ["k2-registry"], watched=[namespace], templates=("rules", "topicRules"))
    settings = platform | {"kafka": platform["kafka"] | {"topics": "strimzi", "strimziCluster": "market"}}
    running = Operator(cluster, tmp_path, namespace, settings, K2_OPERATOR_NAMESPACES=f'["{namespace}"]')
    running.start()
    yield running
    assert running.stop() == 0
    operator.start()


def topics(cluster, namespace):
    return {each["metadata"]["name"]: each for each in cluster.request("GET", TOPICS.format(namespace))["items"]}


def say(cluster, namespace, name, status, **more):
    """What Strimzi's topic operator writes."""
    obj = topics(cluster, namespace)[name]
    found = {
        "conditions": [{"type": "Ready", "status": status, **more}],
        "observedGeneration": obj["metadata"]["generation"],
        "topicName": obj["spec"]["topicName"],
    }
    cluster.request(
        "PATCH",
        f"{TOPICS.format(namespace)}/{name}/status",
        json={"status": found},
        headers={"Content-Type": "application/merge-patch+json"},
    )


def test_topics_are_asked_for_waited_for_and_kept(cluster, with_strimzi, namespace):
    cluster.apply(table(namespace, "reference-data", "reference_data"))
    stream = {"dataType": "reference_data", "tableRef": {"name": "reference-data"}}
    cluster.apply(feed(namespace, streams=[stream], topic={"partitions": 1, "retention": "7d"}))
    until(lambda: cluster.condition("MarketFeed", namespace, "sim"), "no status")
    found = until(lambda: len(topics(cluster, namespace)) == 2 and topics(cluster, namespace), "no KafkaTopics")
    first = next(each for each in found.values() if not each["spec"]["topicName"].endswith(".dlq"))
    assert first["spec"]["topicName"] == "market.equities.reference_data.sim"
    assert first["spec"]["config"] == {"retention.ms": 7 * 86_400_000}
    assert first["metadata"]["labels"]["strimzi.io/cluster"] == "market"
    assert "ownerReferences" not in first["metadata"]
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "KafkaUnreachable", "TopicsReady")
    assert "Strimzi has not made market.equities.reference_data.sim yet" in message
    assert names_of(cluster, namespace, "Deployment")
    for name in found:
        say(cluster, namespace, name, "True")
    cluster.until_condition("MarketFeed", namespace, "sim", "TopicsExist", "TopicsReady")
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: cluster.get("MarketFeed", "sim", namespace) is None, "the feed stays")
    assert set(topics(cluster, namespace)) == set(found)


def test_a_kafka_topic_that_others_have_made_is_left_to_them(cluster, with_strimzi, namespace):
    name = "market.futures.trades.sim"
    metadata = {"name": name, "namespace": namespace, "labels": {"strimzi.io/cluster": "market"}}
    spec = {"topicName": name, "partitions": 12, "replicas": 1, "config": {"cleanup.policy": "delete"}}
    theirs = {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic", "metadata": metadata, "spec": spec}
    params = {"fieldManager": "kafka-team"}
    made = cluster.request("POST", TOPICS.format(namespace), params=params, json=theirs)
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="futures", topic={"partitions": 1, "deletionPolicy": "Delete"}))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "NameTaken", "TopicsReady")
    assert f"KafkaTopic {name}: it was made by kafka-team" in message
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: cluster.get("MarketFeed", "sim", namespace) is None, "the feed stays")
    assert topics(cluster, namespace)[name]["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def strimzi_lets_go(cluster, namespace, name):
    """What Strimzi's topic operator writes about a topic that it is not to manage: it names none any more."""
    obj = topics(cluster, namespace)[name]
    assert obj["metadata"]["annotations"]["strimzi.io/managed"] == "false"
    found = {"topicName": None, "observedGeneration": obj["metadata"]["generation"]}
    cluster.request(
        "PATCH",
        f"{TOPICS.format(namespace)}/{name}/status",
        json={"status": found},
        headers={"Content-Type": "application/merge-patch+json"},
    )


def test_topics_are_released_only_after_strimzi_has_let_go(cluster, with_strimzi, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="fx"))
    found = until(lambda: len(topics(cluster, namespace)) == 2 and topics(cluster, namespace), "no KafkaTopics")
    for name in found:
        say(cluster, namespace, name, "True")
    cluster.until_condition("MarketFeed", namespace, "sim", "TopicsExist", "TopicsReady")
    wishes = {"k2.dev/skip-drain": "true", "k2.dev/release-topics": "true"}
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": wishes}})
    cluster.delete("MarketFeed", namespace, "sim")
    cluster.until_condition("MarketFeed", namespace, "sim", "ReleasingTopics")
    # Managed, a KafkaTopic takes its topic along: none may go before Strimzi has seen the annotation.
    time.sleep(3)
    assert set(topics(cluster, namespace)) == set(found)
    first, second = sorted(found)
    strimzi_lets_go(cluster, namespace, first)
    until(lambda: set(topics(cluster, namespace)) == {second}, "a released KafkaTopic stays")
    assert cluster.get("MarketFeed", "sim", namespace) is not None
    strimzi_lets_go(cluster, namespace, second)
    until(lambda: cluster.get("MarketFeed", "sim", namespace) is None, "the feed stays")
    assert topics(cluster, namespace) == {}
    assert "TopicsReleased" in {reason for reason, _ in events_of(cluster, namespace, "sim")}
