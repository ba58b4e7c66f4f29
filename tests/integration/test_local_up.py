"""`k2 up` as a process of its own: real Kafka and registry, tiny workloads in place of the real ones."""

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from k2_testing.cluster import until

from k2.bus.admin import partition_counts
from k2.lake.catalog import load_table, open_named
from k2.model.platform import Platform
from k2.model.settings import Settings
from k2_local import state
from k2_local.background import stop
from k2_local.host import ports, processes

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny_workload.py")
SCRIPT = """
import faulthandler, json, signal, sys
faulthandler.register(signal.SIGUSR1)
from pathlib import Path
from k2.model.errors import K2Error
from k2_local import manifests
from k2_local.services.parts import Wishes
from k2_local.up import Up
told = json.loads(sys.argv[1])
try:
    Up(
        data_dir=Path(told["data_dir"]),
        documents=manifests.read([Path(told["samples"])]),
        wishes=Wishes(**told["wishes"]),
        api_port=told["port"],
        tell=lambda text: print(text, flush=True),
        on_ready=lambda state: print("READY", flush=True),
        program=(sys.executable, told["tiny"]),
    ).run()
except K2Error as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Run:
    """One `k2 up` in a process."""

    def __init__(self, data_dir, port, **wishes):
        told = {
            "data_dir": str(data_dir),
            "samples": str(ROOT / "manifests" / "samples"),
            "wishes": wishes,
            "port": port,
            "tiny": str(TINY),
        }
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}-{time.monotonic_ns()}.log")
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, json.dumps(told)], stdout=output, stderr=output, start_new_session=True
            )

    def text(self) -> str:
        return self.log.read_text()

    def until_ready(self):
        end = time.monotonic() + 90
        while True:
            found = state.read(self.data_dir) if self.data_dir.is_dir() else None
            if found is not None and found.ready and found.supervisor.pid == self.process.pid:
                return found
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < end, self.text()
            time.sleep(0.1)

    def ended(self, within=60) -> int:
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            os.kill(self.process.pid, signal.SIGUSR1)  # its stack goes to its log
            time.sleep(1)
            raise AssertionError(f"it does not end; {self.children()}; {self.text()}") from None

    def children(self) -> list[str]:
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [f"{each.pid} {each.status()} {each.cmdline()[-3:]}" for each in found]


@pytest.fixture
def up(tmp_path, kafka, registry):
    """Starts `k2 up` against the session's Kafka and registry, on a free port, and ends what is left of it."""
    runs = []

    def start(data_dir=tmp_path / "data", port=None, **wishes) -> Run:
        chosen = port or ports.choose(None, None, what="", option="")
        wishes = wishes or {"kafka": kafka.bootstrap_servers, "registry": registry.url}
        runs.append(Run(data_dir, chosen, **wishes))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.ended()


pytestmark = pytest.mark.real


def test_up_makes_topics_tables_key_and_workloads_and_a_signal_ends_all_of_it_in_order(tmp_path, up, kafka):
    run = up()
    found = run.until_ready()
    data_dir = tmp_path / "data"
    platform = Platform.read(data_dir / "platform.yaml")
    assert platform.kafka.bootstrap_servers == kafka.bootstrap_servers
    assert platform.api is not None
    assert platform.api.url == found.api_url
    rules = json.loads((data_dir / "feeds.json").read_text())
    assert rules["market.equities.trades.asx"] == {}  # the usual ones
    topics = ["market.equities.trades.asx", "market.equities.trades.asx.dlq", "market.equities.reference_data.asx"]
    counts = partition_counts({"bootstrap.servers": kafka.bootstrap_servers}, topics)
    assert list(counts.values()) == [6, 1, 1]
    catalog = open_named("k2", platform.catalog.properties)
    try:
        assert load_table(catalog, "market_data.trades").schema().find_field("kafka_offset")
    finally:
        catalog.close()
    key = (data_dir / "api-key").read_text().strip()
    assert stat.S_IMODE((data_dir / "api-key").stat().st_mode) == 0o600
    (kept,) = json.loads((data_dir / "secrets" / "k2-api-keys" / "keys.json").read_text())
    assert kept["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    assert {pod.component for pod in found.pods} == {"sink", "load", "query", "upkeep"}
    pids = [pod.pid for pod in found.pods if pod.pid]
    run.process.send_signal(signal.SIGINT)
    assert run.ended() == 0
    assert "READY" in run.text()
    assert state.read(data_dir) is None
    assert processes.read_records(data_dir / "run") == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_commands_find_the_running_platform_by_its_data_directory(tmp_path, up, monkeypatch, kafka, registry):
    found = up().until_ready()
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    settings = Settings(data_dir=tmp_path / "data").resolved()
    assert settings.kafka_config()["bootstrap.servers"] == kafka.bootstrap_servers
    assert settings.registry_config() == {"url": registry.url}
    assert settings.catalog_config()["uri"].endswith("data/catalog.db")
    assert settings.api_url == found.api_url
    assert settings.api_key is not None


def test_status_and_doctor_tell_what_runs_and_whether_it_is_well(tmp_path, up):
    def k2(*arguments):
        env = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
        env["K2_DATA_DIR"] = str(tmp_path / "data")
        command = [sys.executable, "-m", "k2", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    before = k2("status")
    assert (before.returncode, before.stderr) == (1, f"Nothing runs in {tmp_path}/data. Start it with `k2 up`.\n")
    assert k2("down").stderr == f"Nothing runs in {tmp_path}/data.\n"
    run = up()
    found = run.until_ready()
    shown = k2("status")
    assert shown.returncode == 0
    assert "warning" not in shown.stdout
    for expected in ("k2-query-0", "ready", found.api_url, "memory:", "disk:", "logs:"):
        assert expected in shown.stdout
    told = json.loads(k2("status", "--output", "json").stdout)
    assert told["ready"]
    assert told["usage"]["memory_bytes"]["k2-query-0"] > 0
    assert told["usage"]["disk_total_bytes"] > 0
    well = k2("doctor")
    assert well.returncode == 0, well.stdout
    assert "✓ kafka-cluster" in well.stdout
    assert "namespaces: market_data" in well.stdout
    sink = next(pod.name for pod in found.pods if pod.component == "sink")
    (folder,) = (path.parent for path in (tmp_path / "data" / "pods" / sink).rglob("env.json"))
    (folder / "warned").touch()
    until(lambda: f"{sink}: warning: many dead letters" in run.text(), "`k2 up` tells of it", 60)
    warned = k2("status")
    assert warned.returncode == 0
    assert f"{sink}: warning: many dead letters" in warned.stdout
    (folder / "warned").unlink()
    until(lambda: f"{sink}: nothing to warn of any more" in run.text(), "`k2 up` tells that it is over", 60)


@pytest.fixture
def hangup_ends():
    """`nohup pytest` ignores SIGHUP, and so would all that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_moment_of_the_start_ends_all_of_it_soon(tmp_path, hangup_ends, up, number):
    chance = random.Random(int(number))
    for _ in range(4):
        run = up(data_dir=tmp_path / "data")
        time.sleep(chance.uniform(0.05, 4.0))  # from the first import to the first probes
        children = psutil.Process(run.process.pid).children(recursive=True)
        run.process.send_signal(number)
        code = run.ended(30)
        # Before it takes signals: that one. While it starts: as after a Ctrl-C. Afterwards: a stop that was asked for.
        assert code in (-number, -signal.SIGINT, 0), run.text()
        assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        assert processes.read_records(tmp_path / "data" / "run") == []
        assert not (tmp_path / "data" / state.FILE).exists()


def test_a_second_sigterm_while_it_stops_changes_nothing(tmp_path, up):
    run = up()
    found = run.until_ready()
    held = next(pod.pid for pod in found.pods if pod.component == "sink")
    os.kill(held, signal.SIGSTOP)  # it has not stopped before all signals have come
    try:
        run.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 60
        while "Stopping" not in run.text():
            assert time.monotonic() < end, run.text()
            time.sleep(0.05)
        for _ in range(2):
            run.process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(held, signal.SIGCONT)
    assert run.ended(90) == 0
    assert processes.read_records(tmp_path / "data" / "run") == []
    assert not any(Path(f"/proc/{pod.pid}").exists() for pod in found.pods if pod.pid)


def test_a_second_platform_in_the_same_data_directory_is_refused(tmp_path, up):
    first = up()
    first.until_ready()
    second = up()
    assert second.ended() == 1
    assert (
        f"A platform already runs in this data directory: found '{tmp_path}/data, process {first.process.pid}'"
        in second.text()
    )
    assert "K2_DATA_DIR and --port" in second.text()
    assert first.process.poll() is None


def test_a_taken_port_of_the_query_service_is_named_before_anything_starts(tmp_path, up):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for detach in ([], ["--detach"]):
            command = [sys.executable, "-m", "k2", "up", "--port", str(port), *detach]
            env = os.environ | {"K2_DATA_DIR": str(tmp_path / "data")}
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 2
            assert "error: The port for the query service is taken: found " in done.stderr
            assert f"127.0.0.1:{port} in use by process" in done.stderr
            assert str(os.getpid()) in done.stderr
            assert "with --port" in done.stderr
            assert "Traceback" not in done.stderr
            assert done.stderr.count("error:") == 1
        run = up(port=port)
        assert run.ended() == 1
    assert "PortTakenError: The port for the query service is taken" in run.text()
    assert not (tmp_path / "data" / "logs").exists()


def test_an_existing_kafka_that_is_not_there_is_named_and_nothing_stays_behind(tmp_path, up, registry):
    run = up(kafka="127.0.0.1:9", registry=registry.url)
    assert run.ended(90) == 1
    assert "WorldError: Kafka at 127.0.0.1:9 cannot be reached" in run.text()
    assert state.read(tmp_path / "data") is None


def test_when_the_supervisor_is_killed_its_workloads_end_and_the_next_one_starts_cleanly(tmp_path, up):
    run = up()
    run.until_ready()
    end = time.monotonic() + 60
    while loads(now := state.read(run.data_dir)) != {"Completed"}:
        assert time.monotonic() < end, run.text()
        time.sleep(0.1)
    pids = [pod.pid for pod in now.pods if pod.pid]
    run.process.kill()
    run.process.wait()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.1)
    found = state.read(tmp_path / "data")
    assert found is not None
    assert not found.alive
    again = up()
    later = again.until_ready()
    assert {pod.component for pod in later.pods} == {
        "sink",
        "query",
        "upkeep",
    }  # the load was done and is not run again


def loads(found):
    """Phases of the loads' pods."""
    return {pod.phase for pod in found.pods if pod.component == "load"}


def test_down_ends_the_supervisor_and_all_it_runs(tmp_path, up):
    run = up()
    run.until_ready()
    told = []
    assert stop(tmp_path / "data", told.append)
    assert run.ended() == 0
    assert told == [f"Stopping process {run.process.pid} and what it runs"]
    assert not stop(tmp_path / "data", told.append)


def test_own_services_are_started_kept_alive_and_stopped(tmp_path, up):
    run = up(kafka_heap="384m")
    found = run.until_ready()
    broker = next(part for part in found.parts if part.name == "kafka")
    os.kill(broker.pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while True:
        now = state.read(tmp_path / "data")
        revived = next(part for part in now.parts if part.name == "kafka")
        if revived.pid not in {None, broker.pid}:
            break
        assert time.monotonic() < end, run.text()
        time.sleep(0.2)
    assert revived.address == broker.address
    assert "Kafka ended with exit code -9, starting it again (1)" in run.text()
    run.process.send_signal(signal.SIGTERM)
    assert run.ended() == 0
    assert not Path(f"/proc/{revived.pid}").exists()
