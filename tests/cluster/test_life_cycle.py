"""Suspend, take over, delete, restart: what becomes of a feed over its life, on a real API server with real Kafka."""

import itertools
import time
from datetime import UTC, datetime

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from k2_testing.cluster import Operator, grant, until
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.resources import FINITE, LIVE, events_of, feed, make_ready, names_of, owned, table

from k2.bus.admin import partition_counts
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.lake.catalog import open_named
from k2.model.commit_note import CommitNote
from k2.model.dead_share import DeadShare
from k2.model.topics import DataType

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]
THEN = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


def topic_exists(kafka, name):
    return bool(partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, [name]))


def is_gone(cluster, namespace, name="sim", kind="MarketFeed"):
    return cluster.get(kind, name, namespace) is None


def replicas(cluster, namespace, feed="sim"):
    return {
        name: each["spec"]["replicas"]
        for (kind, name), each in owned(cluster, namespace, feed).items()
        if kind == "Deployment"
    }


def versions(cluster, namespace):
    kinds = ("MarketFeed", "IcebergTable", "Deployment", "ConfigMap", "Job")
    return {
        (kind, each["metadata"]["name"]): each["metadata"]["resourceVersion"]
        for kind in kinds
        for each in cluster.list(kind, namespace)
    }


def test_suspend_stops_what_runs_and_resume_goes_on(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    make_ready(cluster, namespace)
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"suspend": True}})
    cluster.until_condition("MarketFeed", namespace, "sim", "Suspended")
    assert set(replicas(cluster, namespace).values()) == {0}
    until(lambda: not cluster.list("Pod", namespace), "pods still run")
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"suspend": False}})
    until(lambda: set(replicas(cluster, namespace).values()) == {1}, "not resumed")
    make_ready(cluster, namespace)


def test_a_suspended_load_has_a_suspended_job(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=FINITE, suspend=True))
    until(lambda: names_of(cluster, namespace, "Job"), "a Job")
    job = names_of(cluster, namespace, "Job")[0]
    assert cluster.get("Job", job, namespace)["spec"]["suspend"] is True
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"suspend": False}})
    until(lambda: cluster.get("Job", job, namespace)["spec"]["suspend"] is False, "not resumed")


def test_a_later_feed_does_not_get_the_topic_until_the_owner_goes(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, "first"))
    until(lambda: names_of(cluster, namespace, "Deployment", "first"), "a sink")
    time.sleep(1.1)  # age is told in seconds
    cluster.apply(feed(namespace, "second"))
    _, _, message = cluster.until_condition("MarketFeed", namespace, "second", "TopicClaimed")
    assert f"belong to MarketFeed {namespace}/first, which is older" in message
    sink = names_of(cluster, namespace, "Deployment", "first")
    assert owned(cluster, namespace, "second") == {}
    cluster.delete("MarketFeed", namespace, "first")
    until(lambda: is_gone(cluster, namespace, "first"), "the owner stays")
    until(lambda: names_of(cluster, namespace, "Deployment", "second") == sink, "not taken over")
    cluster.until_condition("MarketFeed", namespace, "second", "SinkNotAvailable")


def test_a_feed_without_a_sink_of_its_own_only_produces(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, "first"))
    time.sleep(1.1)
    stream = {"dataType": "trades", "tableRef": {"name": "trades"}, "sink": {"enabled": False}}
    cluster.apply(feed(namespace, "second", [stream], LIVE))
    until(lambda: names_of(cluster, namespace, "Deployment", "second") == ["second-producer"], "a producer")
    cluster.until_condition("MarketFeed", namespace, "second", "NoSink", "SinkAvailable")


def test_a_deleted_feed_takes_what_runs_and_leaves_the_data(cluster, operator, namespace, kafka, platform):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE, assetClass="crypto"))
    cluster.until_condition("MarketFeed", namespace, "sim", "TopicsExist", "TopicsReady")
    until(lambda: cluster.list("Pod", namespace), "pods")
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: is_gone(cluster, namespace), "the feed stays")
    until(lambda: owned(cluster, namespace) == {}, "objects stay")
    assert topic_exists(kafka, "market.crypto.trades.sim")
    assert "Drained" in {reason for reason, _ in events_of(cluster, namespace, "sim")}
    cluster.delete("IcebergTable", namespace, "trades")
    until(lambda: is_gone(cluster, namespace, "trades", "IcebergTable"), "the table stays")
    assert table_exists(platform, namespace)


def table_exists(platform, namespace):
    catalog = open_named("k2", platform["catalog"]["properties"])
    try:
        return catalog.table_exists(f"{namespace.replace('-', '_')}.trades")
    finally:
        catalog.close()


def test_with_the_policy_delete_topics_and_table_go_too(cluster, operator, namespace, kafka, platform):
    cluster.apply(table(namespace, deletionPolicy="Delete"))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, assetClass="fx", topic=topic))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    cluster.delete("IcebergTable", namespace, "trades")
    _, _, message = cluster.until_condition("IcebergTable", namespace, "trades", "InUse")
    assert "MarketFeed sim sends to it" in message
    assert table_exists(platform, namespace)
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: is_gone(cluster, namespace), "the feed stays")
    until(lambda: not topic_exists(kafka, "market.fx.trades.sim"), "the topic stays")
    until(lambda: not topic_exists(kafka, "market.fx.trades.sim.dlq"), "its dead letters' topic stays")
    until(lambda: is_gone(cluster, namespace, "trades", "IcebergTable"), "the table stays")
    assert not table_exists(platform, namespace)


def test_what_was_not_drained_in_time_stays_in_its_topic_whatever_the_policy(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, assetClass="futures", exchange="ASX", topic=topic))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce("market.futures.trades.asx", b"a message that no sink reads: there are no pods")
    assert producer.flush(20) == 0
    cluster.delete("MarketFeed", namespace, "sim")
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "Draining")
    assert message == "1 messages are not in the tables yet."
    cluster.patch("MarketFeed", namespace, "sim", {"spec": {"drainTimeout": "3s"}})  # which is over, or nearly
    until(lambda: is_gone(cluster, namespace), "the feed stays")
    assert topic_exists(kafka, "market.futures.trades.asx")
    assert "DrainTimedOut" in {reason for reason, _ in events_of(cluster, namespace, "sim")}


def test_skip_drain_lets_go_at_once(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="options", exchange="ASX"))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce("market.options.trades.asx", b"unread")
    assert producer.flush(20) == 0
    cluster.delete("MarketFeed", namespace, "sim")
    cluster.until_condition("MarketFeed", namespace, "sim", "Draining")
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
    until(lambda: is_gone(cluster, namespace), "the feed stays", 120)  # undisturbed it would drain for five minutes


def stands_still(cluster, namespace):
    """The versions of all objects, when they are the same two seconds later."""
    before = versions(cluster, namespace)
    time.sleep(2)
    return before if versions(cluster, namespace) == before else None


def writes(operator):
    found = operator.metrics()
    return {
        name: value
        for name, value in found.items()
        if name.startswith("k2_operator_api_requests_total{") and "GET" not in name
    }


def test_a_restart_changes_nothing_that_runs(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    make_ready(cluster, namespace)
    until(lambda: "lag" in cluster.get("MarketFeed", "sim", namespace)["status"], "never measured", 120)
    until(lambda: "rows" in cluster.get("IcebergTable", "trades", namespace)["status"], "never measured", 120)
    before = until(lambda: stands_still(cluster, namespace), "it does not come to rest")
    operator.kill()
    operator.start()
    until(
        lambda: operator.metrics().get('k2_operator_reconciles_total{kind="MarketFeed",outcome="ok"}', 0) >= 1, "idle"
    )
    time.sleep(3)  # nothing may change
    assert versions(cluster, namespace) == before
    assert writes(operator) == {}


def test_an_operator_killed_in_the_middle_goes_on_where_it_was(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=LIVE))
    until(lambda: owned(cluster, namespace), "nothing has begun", pause=0.005)
    operator.kill()
    operator.start()
    until(lambda: len(owned(cluster, namespace)) == 4, "objects")
    make_ready(cluster, namespace)


def test_what_changes_and_goes_while_the_operator_is_down_is_done_when_it_is_back(cluster, operator, namespace):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, "goes"))
    cluster.apply(feed(namespace, "changes", exchange="ASX", source=LIVE))
    cluster.until_condition("MarketFeed", namespace, "goes", "SinkNotAvailable")
    until(lambda: len(owned(cluster, namespace, "changes")) == 4, "objects")
    operator.kill()
    try:
        cluster.delete("MarketFeed", namespace, "goes")
        cluster.patch("MarketFeed", namespace, "changes", {"spec": {"suspend": True}})
        producer = next(name for name in names_of(cluster, namespace, "Deployment", "changes") if "producer" in name)
        cluster.delete("Deployment", namespace, producer)
        assert not is_gone(cluster, namespace, "goes")
    finally:
        operator.start()
    until(lambda: is_gone(cluster, namespace, "goes"), "the deleted feed stays")
    until(
        lambda: producer in (asked := replicas(cluster, namespace, "changes")) and set(asked.values()) == {0},
        "not suspended",
    )


def test_uninstalled_first_the_runbooks_commands_let_all_go_and_leave_the_data(
    cluster, operator, namespace, kafka, platform
):
    """The way out of docs/runbooks/K2OperatorDown.md, for who has uninstalled the operator before its resources."""
    cluster.apply(table(namespace, deletionPolicy="Delete"))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, exchange="NASDAQ", topic=topic, source=LIVE))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    operator.kill()
    try:
        cluster.delete("MarketFeed", namespace, "sim")
        cluster.delete("IcebergTable", namespace, "trades")
        time.sleep(3)  # nobody does anything
        left = [
            cluster.get(kind, name, namespace) for kind, name in (("MarketFeed", "sim"), ("IcebergTable", "trades"))
        ]
        assert all(each["metadata"]["deletionTimestamp"] for each in left)
        for each in left:
            without = {"metadata": {"finalizers": None}}
            cluster.patch(each["kind"], namespace, each["metadata"]["name"], without)
        until(lambda: is_gone(cluster, namespace), "the feed stays")
        until(lambda: is_gone(cluster, namespace, "trades", "IcebergTable"), "the table stays")
        until(lambda: owned(cluster, namespace) == {}, "objects stay")
    finally:
        operator.start()
    assert topic_exists(kafka, "market.equities.trades.nasdaq")
    assert table_exists(platform, namespace)


def test_uninstalled_first_and_installed_again_it_finishes_what_waits(cluster, operator, namespace, kafka, platform):
    cluster.apply(table(namespace, deletionPolicy="Delete"))
    topic = {"partitions": 1, "deletionPolicy": "Delete"}
    cluster.apply(feed(namespace, exchange="NASDAQ", topic=topic, assetClass="fx"))
    cluster.until_condition("MarketFeed", namespace, "sim", "SinkNotAvailable")
    operator.kill()
    try:
        # The table first, which has to wait for its feed all the same.
        cluster.delete("IcebergTable", namespace, "trades")
        cluster.delete("MarketFeed", namespace, "sim")
    finally:
        operator.start()
    until(lambda: is_gone(cluster, namespace), "the feed stays")
    until(lambda: is_gone(cluster, namespace, "trades", "IcebergTable"), "the table stays")
    assert "Drained" in {reason for reason, _ in events_of(cluster, namespace, "sim")}
    until(lambda: not topic_exists(kafka, "market.fx.trades.nasdaq"), "the topic stays")
    assert not table_exists(platform, namespace)


def test_kafka_away_is_a_condition_and_it_goes_on_by_itself(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    kafka.stop()
    try:
        cluster.apply(feed(namespace, assetClass="options", exchange="LSE"))
        status, _, message = cluster.until_condition(
            "MarketFeed", namespace, "sim", "KafkaUnreachable", "TopicsReady", seconds=60
        )
        assert status == "False"
        assert kafka.bootstrap_servers in message
        assert names_of(cluster, namespace, "Deployment")  # workloads wait by themselves
        since = cluster.get("MarketFeed", "sim", namespace)["status"]["conditions"][0]["lastTransitionTime"]
        time.sleep(5)
        now = cluster.get("MarketFeed", "sim", namespace)["status"]["conditions"][0]["lastTransitionTime"]
        assert now == since
    finally:
        kafka.start()
    cluster.until_condition("MarketFeed", namespace, "sim", "TopicsExist", "TopicsReady", seconds=90)


def test_in_one_namespace_a_role_is_enough(cluster, operator, namespace, platform, tmp_path):
    cluster.apply(table(namespace))
    operator.kill()
    try:
        grant(cluster, namespace, ["k2-registry"], watched=[namespace])
        narrow = Operator(cluster, tmp_path, namespace, platform, K2_OPERATOR_NAMESPACES=f'["{namespace}"]')
        narrow.start()
        cluster.apply(feed(namespace, source=LIVE))
        make_ready(cluster, namespace)
        narrow.watches("Deployment")
        name = names_of(cluster, namespace, "Deployment")[0]
        cluster.delete("Deployment", namespace, name)
        until(lambda: name in names_of(cluster, namespace, "Deployment"), "not repaired")
        assert narrow.stop() == 0
        assert "forbidden" not in narrow.log.read_text()
    finally:
        operator.start()


def test_lag_and_age_are_measured_from_kafka_alone(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, assetClass="crypto", exchange="KRAKEN", source=LIVE))
    make_ready(cluster, namespace)
    topic = "market.crypto.trades.kraken"
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for _ in range(7):
        producer.produce(topic, b"seven messages")
    assert producer.flush(20) == 0

    def status():
        return cluster.get("MarketFeed", "sim", namespace)["status"]

    until(lambda: status().get("lag") == 7, "the lag is not seen", 240)
    assert cluster.condition("MarketFeed", namespace, "sim", "Fresh")[1] == "NotMeasured"
    # The sink's part: it commits its group's offsets, and beside them the time of the newest event.
    group = next(each for each in names_of(cluster, namespace, "Deployment") if each.startswith("k2-sink-"))
    commit(kafka, group, topic, 7, CommitNote(11, 1, THEN, THEN, rows=7, gaps=2).to_json())
    until(lambda: status().get("lag") == 0, "the commit is not seen", 240)
    assert status()["lastEventTime"] == "2026-03-02T10:00:00Z"
    assert cluster.condition("MarketFeed", namespace, "sim", "Fresh")[:2] == ("False", "Stale")
    assert cluster.condition("MarketFeed", namespace, "sim", "Degraded")[:2] == ("False", "AsExpected")
    assert status()["gaps"] == 2
    assert status()["sinks"] == [
        {
            "dataType": "trades",
            "topic": topic,
            "table": f"{namespace.replace('-', '_')}.trades",
            "lag": 0,
            "gaps": 2,
            "lastSnapshot": "11",
            "lastCommitTime": "2026-03-02T10:00:00Z",
        }
    ]
    assert cluster.condition("MarketFeed", namespace, "sim")[1] == "AsAsked"


def test_what_is_wrong_with_what_flows_is_said_while_it_lasts(cluster, operator, namespace, kafka):
    cluster.apply(table(namespace))
    document = feed(namespace, assetClass="crypto", exchange="COINBASE", source=LIVE)
    cluster.apply(document)
    make_ready(cluster, namespace)
    topic = "market.crypto.trades.coinbase"
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    group = next(each for each in names_of(cluster, namespace, "Deployment") if each.startswith("k2-sink-"))

    def commit_next(offset, sequence, dead=0, sent=1):
        """Further messages, and the sink's part: one is in a snapshot of that number, which tells of its dead letters."""
        for _ in range(sent):
            producer.produce(topic, b"a message")
        assert producer.flush(20) == 0
        share = DeadShare(dead, 0, "truncated" if dead else "")
        commit(kafka, group, topic, offset, CommitNote(100 + sequence, sequence, THEN, THEN, dead=share).to_json())

    def degraded():
        return cluster.condition("MarketFeed", namespace, "sim", "Degraded")

    def snapshot():
        sinks = cluster.get("MarketFeed", "sim", namespace)["status"].get("sinks") or [{}]
        return sinks[0].get("lastSnapshot")

    commit_next(1, 5)
    until(lambda: snapshot() == "105", "the first commit is not seen", 240)
    assert degraded()[:2] == ("False", "AsExpected")

    def crowded():
        """Another commit, thousands of snapshots later: what is told of lasts for as long as they come so fast."""
        offset = next(offsets)
        commit_next(offset, 5000 * offset)
        return (now := degraded())[0] == "True" and now

    offsets = itertools.count(2)
    found = until(crowded, "not degraded", 240)
    assert found[1] == "CommitContention"
    assert f"The sinks of {namespace.replace('-', '_')}.trades commit more than once a second" in found[2]
    assert cluster.condition("MarketFeed", namespace, "sim")[1] == "AsAsked"  # it is no part of Ready
    until(lambda: degraded()[:2] == ("False", "AsExpected"), "still degraded", 240)

    offset = next(offsets)
    commit_next(offset, 5000 * (offset - 1) + 1, dead=612, sent=3)
    found = until(lambda: (now := degraded())[0] == "True" and now, "not degraded by dead letters", 240)
    assert found[1] == "ManyDeadLetters"
    assert f"6.1 % of the last 10,000 messages of {topic} are dead letters" in found[2]
    assert "for one reason: truncated" in found[2]
    assert ("ManyDeadLetters", found[2]) in events_of(cluster, namespace, "sim")
    assert cluster.condition("MarketFeed", namespace, "sim")[1] == "AsAsked"
    # The same share is more than the feed now allows, and messages wait.
    document["spec"]["deadLetters"] = {"stopAbove": "5%"}
    cluster.apply(document)
    stopped = until(
        lambda: (
            (now := cluster.condition("MarketFeed", namespace, "sim", "SinkAvailable"))[1] == "ManyDeadLetters" and now
        ),
        "the sink is not said to have stopped",
        240,
    )
    assert "more than deadLetters.stopAbove allows (5 %)" in stopped[2]
    assert cluster.condition("MarketFeed", namespace, "sim")[:2] == ("False", "ManyDeadLetters")
    for deployment in names_of(cluster, namespace, "Deployment", "sim"):
        cluster.run_pods(namespace, deployment)
    commit_next(offset + 3, 5000 * (offset - 1) + 2)
    until(lambda: cluster.condition("MarketFeed", namespace, "sim")[1] == "AsAsked", "still not ready", 240)
    assert degraded()[:2] == ("False", "AsExpected")


def test_a_table_says_what_its_newest_snapshot_holds_and_whether_it_is_compacted(
    cluster, operator, namespace, platform
):
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    identifier = f"{namespace.replace('-', '_')}.trades"
    catalog = open_named("k2", platform["catalog"]["properties"])
    try:
        origin = Origin("market.equities.trades.asx", "topic-1", "cluster-1")
        committer = Committer(catalog, identifier, origin, DataType.TRADES)
        for number in range(14):
            # The last is of another day: that many files are too many where no more are to come.
            time_us = START_US + number + (number == 13) * 86_400_000_000
            events = trades([message_id(0, number)], symbols=["BHP"], times=[time_us])
            committer.commit(Batch(with_lineage(events, [0], [number]), {0: (number, number + 1)}, {}))
        snapshot = catalog.load_table(identifier).current_snapshot()
    finally:
        catalog.close()

    def status():
        return cluster.get("IcebergTable", "trades", namespace)["status"]

    # It may have looked before the first row came, and looks again after ten minutes; a new operator looks at once.
    operator.kill()
    operator.start()
    until(lambda: status().get("rows") == 14, "not measured", 240)
    assert status()["files"] == 14
    assert status()["bytes"] > 14 * 1000
    assert status()["lastSnapshot"] == str(snapshot.snapshot_id)
    told, reason, message = cluster.condition("IcebergTable", namespace, "trades", "Compacted")
    assert (told, reason) == ("False", "ManySmallFiles")
    assert "lies in 13 files of 0.0 MiB on average; 1 would do" in message
    assert message.endswith("Schedule spec.upkeep.compaction.")
    row = cluster.table("IcebergTable", namespace)[0]
    assert (row["Ready"], row["Compacted"], row["Rows"], row["Files"]) == ("True", "False", 14, 14)


def commit(kafka, group, topic, offset, text):
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset, text)], asynchronous=False)
    consumer.close()


def test_a_load_that_has_not_ended_gets_another_job_when_its_pod_has_to_change(cluster, operator, namespace):
    """A Job's template cannot be changed: the API server refuses it, so the Job is replaced."""
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, source=FINITE))
    until(lambda: names_of(cluster, namespace, "Job"), "a Job")
    job = names_of(cluster, namespace, "Job")[0]
    uid = cluster.get("Job", job, namespace)["metadata"]["uid"]
    cluster.apply(feed(namespace, source=FINITE, producer={"resources": {"requests": {"cpu": "100m"}}}))

    def is_another():
        found = cluster.get("Job", job, namespace)
        return found and found["metadata"]["uid"] != uid and found

    found = until(is_another, "the Job stays")
    container = found["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "100m"}
