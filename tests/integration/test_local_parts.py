"""Kafka and the registry on this machine: they come up, keep their data over restarts, and say what is wrong."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from k2.model.errors import UserError, WorldError
from k2_local.host import ports
from k2_local.host.processes import Record, Supervised, end_recorded, read_records, wait_ready
from k2_local.services import artifacts
from k2_local.services.kafka import LocalKafka
from k2_local.services.registry import LocalRegistry

real = pytest.mark.real


def produce_one(servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})  # named: a client that is collected takes its answers with it
    for future in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(30)
    outcome = []
    producer = Producer({"bootstrap.servers": servers, "acks": "all"})
    producer.produce(topic, b"kept", on_delivery=lambda error, _: outcome.append(error))
    assert producer.flush(30) == 0
    assert outcome == [None]


def read_one(servers: str, topic: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def cluster_id(servers: str) -> str:
    admin = AdminClient({"bootstrap.servers": servers})
    return admin.describe_cluster().result(30).cluster_id


def http(method: str, url: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(
        url,
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@real
@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_record_a_cluster_id_and_a_port_survive_a_restart_of_kafka(tmp_path, ending):
    broker = LocalKafka(tmp_path / "kafka", logs=tmp_path / "logs", run_dir=tmp_path / "run")
    broker.start()
    try:
        servers, known = broker.bootstrap_servers, cluster_id(broker.bootstrap_servers)
        produce_one(servers, "market.equities.trades.asx")
        getattr(broker, ending)()
        broker.start()
        assert broker.bootstrap_servers == servers
        assert cluster_id(servers) == known
        assert read_one(servers, "market.equities.trades.asx") == b"kept"
    finally:
        broker.stop()


@real
def test_kafka_moves_to_another_port_when_the_remembered_ones_are_taken(tmp_path):
    home = tmp_path / "kafka"
    first = LocalKafka(home, logs=tmp_path / "logs", run_dir=tmp_path / "run")
    first.start()
    produce_one(first.bootstrap_servers, "t")
    known = cluster_id(first.bootstrap_servers)
    first.stop()
    instance = json.loads((home / "instance.json").read_text())
    with (
        socket.create_server(("127.0.0.1", instance["port"])),
        socket.create_server(("127.0.0.1", instance["controller_port"])),
    ):
        second = LocalKafka(home, logs=tmp_path / "logs", run_dir=tmp_path / "run")
        second.start()
        try:
            assert second.bootstrap_servers != first.bootstrap_servers
            assert cluster_id(second.bootstrap_servers) == known
            assert read_one(second.bootstrap_servers, "t") == b"kept"
        finally:
            second.stop()


@real
@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_a_schema_its_id_and_its_compatibility_survive_a_restart_of_the_registry(tmp_path, ending):
    service = LocalRegistry(tmp_path / "registry", logs=tmp_path / "logs", run_dir=tmp_path / "run")
    service.start()
    try:
        url = service.url
        assert url.endswith("/apis/ccompat/v7")
        identity = http("POST", f"{url}/subjects/t-value/versions", {"schema": '"string"'})["id"]
        http("PUT", f"{url}/config/t-value", {"compatibility": "BACKWARD"})
        getattr(service, ending)()
        service.start()
        assert service.url == url
        assert http("GET", f"{url}/schemas/ids/{identity}")["schema"] == '"string"'
        assert http("GET", f"{url}/config/t-value")["compatibilityLevel"] == "BACKWARD"
    finally:
        service.stop()


@real
def test_the_parts_listen_on_loopback_only(kafka, registry):
    for part in (kafka, registry):
        listening = [
            c.laddr.ip for c in psutil.Process(part.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN
        ]
        assert listening
        assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("part", "name", "option"),
    [(LocalKafka, "Kafka", "--kafka-port"), (LocalRegistry, "the schema registry", "--registry-port")],
)
def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path, part, name, option):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        me = ports.holder(port)
        assert me.pid == os.getpid()
        with pytest.raises(UserError) as failure:
            part(tmp_path / "home", logs=tmp_path / "logs", run_dir=tmp_path / "run", port=port).start()
    assert str(failure.value) == (
        f"The port for {name} is taken: found {f'127.0.0.1:{port} in use by {me}'!r}, expected a free port. "
        f"End it, or choose another port with {option}."
    )


@pytest.mark.parametrize(("part", "purpose"), [(LocalKafka, "Kafka's data"), (LocalRegistry, "the registry's state")])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, part, purpose):
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(UserError) as failure:
        part(tmp_path / "home", logs=tmp_path / "logs", run_dir=tmp_path / "run").start()
    assert str(failure.value) == (
        f"The folder for {purpose} cannot be written: found '{tmp_path}/home: File exists', expected a folder on a disk with room. "
        "Choose another with K2_DATA_DIR, or mend this one."
    )


def test_a_disk_without_room_is_refused_before_kafka_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("k2_local.services.kafka.MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(
        UserError, match=r"Too little room on the disk for Kafka's data: found '\d+ MiB free at .*K2_DATA_DIR"
    ):
        LocalKafka(tmp_path / "kafka", logs=tmp_path / "logs", run_dir=tmp_path / "run").start()


@real
def test_a_kafka_that_does_not_come_up_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(WorldError) as failure:
        LocalKafka(tmp_path / "kafka", logs=tmp_path / "logs", run_dir=tmp_path / "run", heap="1k").start()
    text = str(failure.value)
    assert "Kafka ended with exit code 1 before it was ready. The end of its log" in text
    assert "Initial heap size set to a larger value than the maximum heap size" in text
    assert not list((tmp_path / "run").glob("*.json"))


def test_software_that_cannot_be_fetched_says_what_to_check(tmp_path, monkeypatch):
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "cache"))

    def unreachable(_target):
        raise ConnectionError("name resolution failed")

    monkeypatch.setattr(artifacts, "_collect_kafka", unreachable)
    with pytest.raises(
        WorldError, match=r"Apache Kafka \(50 MB\) could not be fetched: ConnectionError: name resolution failed.*proxy"
    ):
        artifacts.kafka_jars()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"kafka-{artifacts.KAFKA_VERSION}.lock"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("K2_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(
        UserError, match=r"The cache folder cannot be written: found '.*cache: File exists'.*K2_CACHE_DIR"
    ):
        artifacts.registry_home()


def test_two_processes_that_want_the_same_software_fill_the_cache_once(tmp_path):
    script = (
        "import sys, time, pathlib\n"
        "from k2_local.services import artifacts\n"
        "def fill(target):\n"
        "    time.sleep(0.5); (target / 'a.jar').write_text('x'); print('filled')\n"
        "print(artifacts._cached('thing', 'a thing', fill) / 'a.jar')\n"
    )
    env = os.environ | {"K2_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    outputs = [run.communicate(timeout=60)[0] for run in runs]
    assert sum("filled" in output for output in outputs) == 1
    assert all(str(tmp_path / "thing" / "a.jar") in output for output in outputs)


def child(tmp_path, code: str, name: str = "child") -> Supervised:
    return Supervised(
        name,
        [sys.executable, "-c", code],
        env=dict(os.environ),
        log=tmp_path / f"{name}.log",
        run_dir=tmp_path / "run",
        cwd=tmp_path,
    )


def eventually(condition, within: float = 60.0):
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, "not within the deadline"
        time.sleep(0.02)
    return value


def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    process = child(
        tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    wait_ready(process, lambda: "up" in process.tail(), what="it", deadline=60)
    assert process.stop(grace=0.3) == -9
    assert read_records(tmp_path / "run") == []


def test_a_line_is_found_however_much_was_written_after_it(tmp_path):
    code = (
        "import time; print('x' * 100_000); print('it has started'); print('y' * 300_000, flush=True); time.sleep(60)"
    )
    process = child(tmp_path, code)
    eventually(lambda: process.log.stat().st_size > 400_000)
    assert "it has started" not in process.tail(lines=2000)
    assert not process.said("it has ended")
    process.stop(grace=1)
    slow = child(
        tmp_path, "import time\nfor c in 'it has started': print(c, end='', flush=True); time.sleep(0.01)", "slow"
    )
    eventually(lambda: slow.said("it has started"))
    slow.stop(grace=1)
    again = child(tmp_path, "print('another', flush=True)", "slow")
    eventually(lambda: again.said("another"))
    assert not again.said("it has started"), "an earlier run said it"
    again.stop(grace=1)
    process = child(tmp_path, code, "first")
    eventually(lambda: process.log.stat().st_size > 400_000)
    assert process.said("it has started")
    process.stop(grace=1)


def test_children_end_when_their_supervisor_is_killed(tmp_path):
    code = (
        "import os, sys, time, pathlib\n"
        "from k2_local.host.processes import Supervised\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "Supervised('grandchild', ['sleep', '60'], env=dict(os.environ), log=root / 'g.log', run_dir=root / 'run', cwd=root)\n"
        "time.sleep(60)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    record = eventually(lambda: next(iter(read_records(tmp_path / "run")), None))
    # The leash is tied once the command has taken its place.
    eventually(lambda: (process := record.process()) and process.name() == "sleep")
    supervisor.kill()
    supervisor.wait()
    eventually(lambda: record.process() is None)


def test_only_the_recorded_process_is_ended_not_one_that_got_its_pid(tmp_path):
    process = child(tmp_path, "import time; time.sleep(60)")
    try:
        (record,) = read_records(tmp_path / "run")
        reused = Record(record.name, record.pid, record.started - 3600, record.log)
        assert end_recorded([reused], grace=1) == []
        assert process.poll() is None
        assert end_recorded([record], grace=5) == ["child"]
    finally:
        process.stop(grace=1)


def test_a_free_port_is_never_one_that_was_promised_to_another():
    first = ports.choose(None, None, what="a", option="--a")
    assert ports.choose(None, first, what="b", option="--b") == first
    assert ports.choose(None, first, what="b", option="--b", taken=[first]) != first


def test_a_port_is_told_by_the_platform_that_holds_it_and_may_be_held_by_its_own(tmp_path):
    platform = tmp_path / "platform"
    work = platform / "pods" / "k2-query-0"
    work.mkdir(parents=True)
    (platform / "platform.yaml").touch()
    script = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=work, stdout=subprocess.PIPE, text=True) as other:
        try:
            port = int(other.stdout.readline())
            with pytest.raises(ports.PortTakenError) as failure:
                ports.refuse_taken(port, what="the query service", option="--port")
            assert f"in use by process {other.pid} (" in str(failure.value)
            assert f", of the platform in {platform}" in str(failure.value)
            assert f"End that platform (`K2_DATA_DIR={platform} k2 down`), or choose another" in str(failure.value)
            ports.refuse_taken(port, what="the query service", option="--port", but_by=[other.pid])
        finally:
            other.kill()


def test_a_port_whose_holder_the_machine_does_not_tell_is_refused_with_the_way_to_find_out():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it does not listen: nobody lists it
        port = bound.getsockname()[1]
        with pytest.raises(ports.PortTakenError, match=rf"`ss -ltnp 'sport = :{port}'` names it"):
            ports.refuse_taken(port, what="Kafka", option="--kafka-port")
