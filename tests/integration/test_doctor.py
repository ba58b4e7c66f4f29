"""`k2 doctor` names what is broken by its code, one for each broken thing, within seconds."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ResourceType,
)
from k2_testing.events import START_US, message_id, trades, with_lineage
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.sinks import eventually
from pydantic import SecretStr

from k2.bus.admin import TopicSpec, delete_before, delete_topics, ensure_topics, topic_ids
from k2.bus.clocks import broker_clock, http_clock
from k2.bus.look import ClusterLook
from k2.doctor.bus import ClusterChecks
from k2.doctor.bus import kafka as kafka_group
from k2.doctor.bus import registry as registry_group
from k2.doctor.checks import LIMIT_SECONDS, Check, Group, Standing, examined
from k2.doctor.clocks import clocks as clocks_group
from k2.doctor.lake import catalog as catalog_group
from k2.doctor.lake import store as store_group
from k2.doctor.lake import tables as tables_group
from k2.doctor.pipelines import pipelines as pipelines_group
from k2.lake.appends.batch import Batch
from k2.lake.appends.commit import Committer, Origin
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2_local.before_install import Values
from k2_local.before_install import cluster as cluster_group
from k2_local.doctor import machine

ROOT = Path(__file__).parents[2]
BROKEN = (Standing.WRONG, Standing.DOUBTFUL)
ALL = (kafka_group, registry_group, catalog_group, store_group, tables_group, pipelines_group, clocks_group)


def codes(*groups):
    """Codes of what is wrong or doubtful, in order."""
    return [each.code for each in examined(groups) if each.standing in BROKEN]


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def silent_port():
    """Accepts connections, as a listener's backlog does, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def guarded_port():
    """A server that lets nobody in."""

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Guard)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def well(kafka, registry, tmp_path):
    """Settings of a platform that has all it needs."""
    make_lake(tmp_path).close()
    return Settings(
        data_dir=tmp_path,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        registry_url=registry.url,
        catalog_properties=catalog_properties(tmp_path),
    )


def but(settings, **changed):
    return settings.model_copy(update=changed)


def test_a_platform_that_is_well_has_no_findings_and_nothing_is_left_of_the_trial(well, tmp_path):
    found = list(examined([group(well) for group in ALL]))
    assert [each for each in found if each.standing in BROKEN] == []
    told = {each.code: each.standing for each in found}
    assert told["catalog-commit"] == told["store-delete"] == told["kafka-cluster"] == Standing.WELL
    assert told["topics-are-those-read"] == told["kafka-tls-trusted"] == Standing.SKIPPED
    assert not [path for path in tmp_path.rglob("*") if "scratch" in str(path) and path.is_file()]


def test_an_address_that_leads_nowhere(well, silent_port):
    began = time.monotonic()
    assert codes(kafka_group(but(well, kafka_bootstrap_servers=None))) == ["kafka-address"]
    assert codes(kafka_group(but(well, kafka_bootstrap_servers="broker.invalid:9092"))) == ["kafka-address"]
    assert codes(kafka_group(but(well, kafka_bootstrap_servers=f"127.0.0.1:{closed_port()}"))) == ["kafka-reachable"]
    assert codes(kafka_group(but(well, kafka_bootstrap_servers=f"127.0.0.1:{silent_port}"))) == ["kafka-reachable"]
    assert codes(registry_group(but(well, registry_url=None))) == ["registry-address"]
    assert codes(registry_group(but(well, registry_url="http://registry.invalid"))) == ["registry-address"]
    assert codes(registry_group(but(well, registry_url=f"http://127.0.0.1:{closed_port()}"))) == ["registry-reachable"]
    assert codes(registry_group(but(well, registry_url=f"http://127.0.0.1:{silent_port}"))) == ["registry-reachable"]
    # Eight looks, of which those that meet silence wait longest; on a machine at work with other things.
    assert time.monotonic() - began < 8 * 3 * LIMIT_SECONDS


def test_a_protocol_or_a_user_that_the_other_side_does_not_speak(well, registry, guarded_port):
    ssl = but(well, kafka_security_protocol="SSL")
    assert codes(kafka_group(ssl)) == ["kafka-tls-trusted"]
    sasl = but(
        well,
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_username="a",
        kafka_password=SecretStr("b"),
    )
    assert codes(kafka_group(sasl)) == ["kafka-credentials"]
    https = but(well, registry_url=registry.url.replace("http://", "https://"))
    assert codes(registry_group(https)) == ["registry-tls-trusted"]
    assert codes(registry_group(but(well, registry_url=f"http://127.0.0.1:{guarded_port}"))) == ["registry-credentials"]
    elsewhere = registry.url.removesuffix("/apis/ccompat/v7")
    assert codes(registry_group(but(well, registry_url=elsewhere))) == ["registry-api"]
    rest = {"type": "rest", "uri": f"http://127.0.0.1:{guarded_port}"}
    assert codes(catalog_group(but(well, catalog_properties=rest))) == ["catalog-credentials"]


@pytest.mark.parametrize(
    ("setting", "value", "code", "standing"),
    [
        ("message.max.bytes", "900000", "kafka-message-size", Standing.WRONG),
        ("log.cleanup.policy", "compact", "kafka-cleanup-policy", Standing.WRONG),
        ("log.retention.ms", "3600000", "kafka-retention", Standing.DOUBTFUL),
    ],
)
def test_a_setting_of_the_brokers_that_loses_ticks(well, setting, value, code, standing):
    admin = AdminClient({"bootstrap.servers": well.kafka_bootstrap_servers})
    (broker,) = map(str, admin.list_topics(timeout=60).brokers)

    def alter(change, to=None):
        entry = ConfigEntry(setting, to, source=ConfigSource.DYNAMIC_BROKER_CONFIG, incremental_operation=change)
        resource = ConfigResource(ResourceType.BROKER, broker, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(30)

    alter(AlterConfigOpType.SET, value)
    try:
        deadline = time.monotonic() + 30
        while not (found := [each for each in examined([kafka_group(well)]) if each.standing in BROKEN]):
            assert time.monotonic() < deadline, "the broker does not take its setting"
        assert [(each.code, each.standing) for each in found] == [(code, standing)]
        assert found[0].remedy
    finally:
        alter(AlterConfigOpType.DELETE)
    deadline = time.monotonic() + 30
    while codes(kafka_group(well)):
        assert time.monotonic() < deadline, "the broker does not give its setting up"


def test_a_cluster_with_fewer_brokers_than_its_settings_ask_for():
    settings = {"min.insync.replicas": "2", "offsets.topic.replication.factor": "3"}
    few = ClusterLook("a-cluster", 1, settings)
    group = Group("Kafka", [each for each in ClusterChecks(lambda: few).checks() if "brokers" in each.code])
    (found,) = [each for each in examined([group]) if each.standing in BROKEN]
    assert found.code == "kafka-enough-brokers"
    assert found.text == (
        "min.insync.replicas is 2 and offsets.topic.replication.factor is 3, and the cluster has 1 brokers"
    )


def test_a_catalog_or_a_store_that_cannot_be_used(well, silent_port, tmp_path):
    def of(**properties):
        return but(well, catalog_properties=properties)

    groups = (catalog_group, store_group, tables_group)
    sqlite = catalog_properties(tmp_path)
    (tmp_path / "a file").write_text("")
    broken = {
        "nothing said": ({}, "catalog-configured"),
        "no kind": ({"warehouse": "file:///tmp"}, "catalog-configured"),
        "no folder": (sqlite | {"uri": f"sqlite:///{tmp_path}/nowhere/catalog.db"}, "catalog-reachable"),
        "no database": (
            sqlite | {"uri": f"postgresql+psycopg2://u:p@127.0.0.1:{closed_port()}/k2"},
            "catalog-reachable",
        ),
        "no server": ({"type": "rest", "uri": f"http://127.0.0.1:{closed_port()}"}, "catalog-reachable"),
        "silence": ({"type": "rest", "uri": f"http://127.0.0.1:{silent_port}"}, "catalog-reachable"),
        "read only": (
            sqlite | {"uri": f"sqlite:///file:{tmp_path}/catalog.db?mode=ro&uri=true"},
            "catalog-commit",
        ),
        "no warehouse": (sqlite | {"warehouse": f"file://{tmp_path}/a file/warehouse"}, "catalog-commit"),
    }
    found = {what: codes(*(group(of(**properties)) for group in groups)) for what, (properties, _) in broken.items()}
    assert found == {what: [code] for what, (_, code) in broken.items()}


def test_a_table_whose_metadata_is_gone(well, tmp_path):
    for path in (tmp_path / "warehouse").rglob("*.metadata.json"):
        path.unlink()
    assert codes(catalog_group(well), tables_group(well)) == ["tables-readable"]


def test_a_table_of_many_small_files_and_of_many_snapshots(well, tmp_path, monkeypatch):
    with make_lake(tmp_path) as catalog:
        origin = Origin("market.equities.trades.asx", "topic-1", "cluster-1")
        committer = Committer(catalog, TRADES, origin, DataType.TRADES)

        def append(number, day):
            times = [START_US + day * 86_400 * 1_000_000 + number]
            rows = with_lineage(trades([message_id(0, number)], symbols=["BHP"], times=times), [0], [number])
            committer.commit(Batch(rows, {0: (number, number + 1)}, {}))

        for number in range(12):
            append(number, 0)
        append(12, 1)  # what lies there was the newest partition until now: of that an hour's commits are expected
        groups = (catalog_group(well), tables_group(well))
        (found,) = [each for each in examined(groups) if each.standing in BROKEN]
        assert (found.code, found.standing) == ("tables-compacted", Standing.DOUBTFUL)
        assert f"{TRADES}: partition 2014-03-09 lies in 12 files of 0.0 MiB on average; 1 would do" in found.text
        assert "k2 upkeep compact --table" in found.remedy
        monkeypatch.setattr("k2.doctor.lake.MOST_SNAPSHOTS", 12)
        monkeypatch.setattr("k2.doctor.lake.MOST_METADATA_BYTES", 10_000)
        every = ["tables-compacted", "tables-snapshots", "tables-metadata-size"]
        assert codes(catalog_group(well), tables_group(well)) == every
        monkeypatch.undo()
        table = catalog.load_table(TRADES)
        table.overwrite(table.scan().to_arrow())
    assert codes(catalog_group(well), tables_group(well)) == []


def test_a_clock_that_differs(well, guarded_port):
    kafka, url = well.kafka_config(), f"http://127.0.0.1:{guarded_port}"
    for found in (broker_clock(kafka, 60), http_clock(url, 60)):
        assert found.beyond_doubt == 0
    behind = broker_clock(kafka, 60, clock=lambda: time.time() - 3600)
    assert 3600 - behind.within <= behind.seconds <= 3600 + behind.within
    served = catalog_properties(Path("/nowhere")) | {"s3.endpoint": url}
    groups = [kafka_group(well), registry_group(well), clocks_group(but(well, catalog_properties=served), write=False)]
    assert codes(*groups) == []

    def told(offset):
        every = clocks_group(
            but(well, catalog_properties=served | {"uri": url}), write=False, clock=lambda: time.time() + offset
        )
        return {each.code: each for each in examined([every])}

    assert {each.standing for each in told(-3600).values()} == {Standing.SKIPPED, Standing.WRONG}
    hour = told(3600)
    assert {code for code, each in hour.items() if each.standing is Standing.WRONG} == {
        "clock-registry",
        "clock-catalog",
        "clock-store",
    }
    assert re.match(r"3[56]\d\d\.\d s behind this machine's, within \d", hour["clock-store"].text)
    assert "time servers" in hour["clock-store"].remedy
    assert told(15)["clock-store"].standing is Standing.DOUBTFUL
    (skipped,) = (each for each in hour.values() if each.standing is Standing.SKIPPED)
    assert (skipped.code, "--write" in skipped.text) == ("clock-kafka", True)
    assert not [topic for topic in AdminClient(kafka).list_topics(timeout=60).topics if "k2-doctor" in topic]


def test_what_flows_no_more(well, pipeline):
    groups = [group(well) for group in (kafka_group, catalog_group, tables_group, pipelines_group)]
    topic, config = pipeline.topic, pipeline.kafka
    pipeline.produce(0, 100)
    assert pipeline.sink("--until-end").wait(240) == 0, pipeline.log()
    assert codes(*groups) == []
    pipeline.produce(100, 200)
    assert codes(*groups) == ["sinks-at-work"]
    entry = ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET)
    asked = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(config)
    for future in admin.incremental_alter_configs([asked]).values():
        future.result(30)

    def loss():
        return {each.code: each for each in examined(groups)}["time-to-loss"]

    eventually(lambda: loss().standing is Standing.DOUBTFUL, lambda: f"{loss()}", 60)
    assert 30 <= int(re.search(r"goes in (\d+) minutes", loss().text)[1]) <= 60
    delete_before(config, topic, pipeline.ends())
    assert (loss().standing, "messages went unread" in loss().text) == (Standing.WRONG, True)
    delete_topics(config, [topic])
    eventually(lambda: not topic_ids(config, [topic]), "the topic is still there", 60)
    ensure_topics(config, [TopicSpec(topic, partitions=1)])
    assert codes(*groups)[0] == "topics-are-those-read"


def test_a_disk_that_is_nearly_full(well, monkeypatch):
    monkeypatch.setattr("k2_local.doctor.LOW_DISK_BYTES", 10**18)
    assert codes(machine(well)) == ["disk-space"]


def test_a_check_that_hangs_is_named_and_the_others_go_on():
    forever = threading.Event()
    group = Group(
        "Part",
        [
            Check("hangs", lambda: str(forever.wait(60)), seconds=0.2),
            Check("raises", lambda: str(1 // 0)),
            Check("needs-it", lambda: "never", ["hangs"]),
            Check("well", lambda: "yes"),
        ],
    )
    found = {each.code: (each.standing, each.text) for each in examined([group])}
    assert found["hangs"] == (Standing.WRONG, "no answer within 0.2 s")
    assert found["raises"][0] is Standing.WRONG
    assert found["needs-it"] == (Standing.SKIPPED, "not looked at: hangs comes first")
    assert found["well"] == (Standing.WELL, "yes")
    forever.set()


def test_the_command_tells_scripts_and_people(well, tmp_path):
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),  # the code that is tested
        "K2_DATA_DIR": str(tmp_path),
        "K2_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{closed_port()}",
        "K2_REGISTRY_URL": well.registry_url,
        "K2_CATALOG_PROPERTIES": json.dumps(well.catalog_properties),
    }

    def doctor(*words):
        command = [sys.executable, "-m", "k2", "doctor", *words]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    told = doctor("-o", "json")
    assert told.returncode == 1, told.stderr
    wrong = [each for each in json.loads(told.stdout) if each["standing"] == "error"]
    assert [each["code"] for each in wrong] == ["kafka-reachable"]
    shown = doctor()
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "✗ kafka-reachable" in shown.stdout
    assert "docs/doctor.md#kafka-reachable" in shown.stdout
    assert "1 error" in shown.stdout


def test_every_code_has_a_section_and_every_section_a_code(well):
    cluster = [check.code for check in cluster_group("k2", Values({})).checks]
    known = [*cluster, "data-from-a-pod", *(check.code for group in (machine, *ALL) for check in group(well).checks)]
    assert len(known) == len(set(known))
    assert re.findall(r"^### (\S+)$", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE) == known
