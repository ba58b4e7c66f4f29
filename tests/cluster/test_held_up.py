"""What holds a sink up, told by a real sink's process and seen in its feed's status; pods are played, and so are the probes."""

import json
import os
import subprocess
import sys
import time

import pytest
from confluent_kafka import Producer
from k2_testing.cluster import until
from k2_testing.resources import feed, make_ready, names_of, table

from k2.lake.catalog import open_named
from k2.lake.offsets import OFFSETS
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import reset_to_snapshot
from k2_operator.build import configmap, names

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

TOPIC = "market.crypto.trades.kraken"


@pytest.fixture
def sink(cluster, namespace, platform, kafka, registry, tmp_path):
    """Starts the sink of a namespace's feed as its pod would; ended with the test."""
    started = []

    def start():
        workload = next(each for each in names_of(cluster, namespace, "Deployment") if each.startswith("k2-sink-"))
        config = cluster.get("ConfigMap", names.config(workload), namespace)["data"][configmap.FILE]
        (tmp_path / configmap.FILE).write_text(config)
        with (tmp_path / "sink.log").open("wb") as log:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("K2_")},
                "K2_CONFIG_FILE": str(tmp_path / configmap.FILE),
                "K2_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
                "K2_REGISTRY_URL": registry.url,
                "K2_CATALOG_PROPERTIES": json.dumps(platform["catalog"]["properties"]),
                "K2_LOG_FORMAT": "json",
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            program = [sys.executable, "-m", "k2", "run", "sink"]
            started.append(subprocess.Popen(program, env=environment, cwd=tmp_path, stdout=log, stderr=log))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait(60)


def send(kafka, *messages):
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    for each in messages:
        producer.produce(TOPIC, each)
    assert producer.flush(60) == 0


def wide(cluster, namespace):
    """The feed's line of `kubectl get mf -o wide`."""
    (row,) = cluster.table("MarketFeed", namespace)
    return row


def test_a_real_sinks_dead_letters_and_what_it_waits_for_stand_in_the_status_of_its_feed(
    cluster, operator, namespace, kafka, platform, sink, measured
):
    cluster.apply(table(namespace))
    cluster.until_condition("IcebergTable", namespace, "trades", "TableExists")
    quick = {"commitInterval": "1s"}
    cluster.apply(feed(namespace, assetClass="crypto", exchange="KRAKEN", sink=quick))
    make_ready(cluster, namespace)
    process = sink()
    send(kafka, *[b"no event"] * 12)
    _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "ManyDeadLetters", "Degraded")
    assert f"The last messages of {TOPIC}, more than 10, are dead letters without exception" in message
    assert "not Confluent framing" in message
    status = cluster.get("MarketFeed", "sim", namespace)["status"]
    assert status["deadLetters"] == wide(cluster, namespace)["DeadLetters"] == 12
    (of_sink,) = status["sinks"]
    assert (of_sink["deadLetters"], of_sink["recentDeadLetters"]) == (12, 12)
    assert of_sink["deadLetterReason"] == "not Confluent framing"
    assert cluster.condition("MarketFeed", namespace, "sim")[:2] == ("True", "AsAsked")

    # As somebody who writes into the table by hand would have it: the sink refuses to go on, and holds nothing meanwhile.
    identifier = f"{namespace.replace('-', '_')}.trades"
    loaded = open_named("k2", platform["catalog"]["properties"]).load_table(identifier)
    with loaded.transaction() as transaction:
        transaction.set_properties({OFFSETS: "{}"})
    snapshot = loaded.current_snapshot().snapshot_id
    began = time.monotonic()
    send(kafka, b"another one")
    status, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "DecisionNeeded", "SinkAvailable")
    measured("seconds until the status says what a sink refuses", f"{time.monotonic() - began:.0f}")
    assert status == "False"
    assert message.startswith(f"{TOPIC} (")
    assert f"Table {identifier} was rolled back, or its property {OFFSETS} was written by hand" in message
    assert f"k2 sink reset {identifier} --to-snapshot {snapshot}" in message
    cluster.until_condition("MarketFeed", namespace, "sim", "DecisionNeeded")
    assert wide(cluster, namespace)["Reason"] == "DecisionNeeded"
    assert process.poll() is None, "it waits"

    reset_to_snapshot(loaded.refresh(), snapshot, sign("tried"))
    cluster.until_condition("MarketFeed", namespace, "sim", "AsAsked")
    until(lambda: cluster.get("MarketFeed", "sim", namespace)["status"].get("deadLetters") == 13, "the next one is in")
    assert cluster.condition("MarketFeed", namespace, "sim", "SinkAvailable")[:2] == ("True", "SinkAvailable")
