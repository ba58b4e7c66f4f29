"""Real sinks as processes: started as a pod starts them, killed, stopped and let go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog

from k2.bus.admin import TopicSpec, committed_with_metadata, end_offsets, ensure_topics
from k2.bus.producer import EventProducer
from k2.bus.registry import ensure_subjects
from k2.lake.offsets import recorded_offsets
from k2.lake.proof.audit import Audit, audit_table
from k2.model.events import Decimals
from k2.model.topics import DataType, TopicName, sink_group_id
from k2_operator.report.figures import Reading
from k2_testing.events import START_US, message_id, trades
from k2_testing.lake import TRADES, catalog_properties, make_lake

SYMBOLS = ("BHP", "CBA", "CSL", "WOW", "TLS", "ANZ", "NAB", "RIO")


def eventually(check: Callable[[], bool], what: str | Callable[[], str], seconds: float = 240.0) -> None:
    """Poll until it holds, or fail saying what did not come; a callable says what it sees at the end."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.05)


def asked(port: int, path: str) -> tuple[int | None, str]:
    """Status and text of what a sink answers; None while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None, ""


def readiness(port: int) -> dict[str, Any]:
    """What a sink's /ready says, with its status."""
    status, text = asked(port, "ready")
    return {"status": status} | (json.loads(text) if text else {})


class Pipeline:
    """A topic with events, a table of its own, and sinks between them."""

    def __init__(
        self,
        folder: Path,
        kafka,
        registry,
        topic: str,
        partitions: int = 3,
        decimals: Decimals = Decimals.STANDARD,
    ) -> None:
        self.folder, self.topic, self.table = folder, topic, TRADES
        self.kafka = {"bootstrap.servers": kafka.bootstrap_servers}
        self.registry = {"url": registry.url}
        ensure_topics(
            self.kafka,
            [TopicSpec(topic, partitions=partitions), TopicSpec(TopicName.parse(topic).dead_letters, partitions=1)],
        )
        ids = ensure_subjects(self.registry, {topic: DataType.TRADES}, {topic: decimals})
        self.schema_id = next(iter(ids.values()))
        self.catalog: Catalog = make_lake(folder, decimals=decimals)
        self.sinks: list[subprocess.Popen[bytes]] = []

    def produce(self, start: int, stop: int, per_batch: int = 5_000) -> None:
        """Send events [start, stop): each number is one event, the same each time."""
        producer = EventProducer(self.kafka, topic=self.topic, data_type=DataType.TRADES, schema_id=self.schema_id)
        for low in range(start, stop, per_batch):
            numbers = range(low, min(stop, low + per_batch))
            producer.send(
                trades(
                    [message_id(number) for number in numbers],
                    symbols=[SYMBOLS[number % len(SYMBOLS)] for number in numbers],
                    times=[START_US + number * 1000 for number in numbers],
                    sequence=list(numbers),
                )
            )
        producer.flush(60)
        producer.close()

    def send(self, *payloads: bytes, key: bytes = b"BHP") -> None:
        """Send messages as they are."""
        producer = EventProducer(self.kafka, topic=self.topic, data_type=DataType.TRADES, schema_id=self.schema_id)
        for payload in payloads:
            producer.produce(payload, key)
        producer.flush(60)
        producer.close()

    def environment(self) -> dict[str, str]:
        """What a sink's pod would get."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("K2_")},
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.kafka["bootstrap.servers"],
            "K2_REGISTRY_URL": self.registry["url"],
            "K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(self.folder)),
            "K2_LOG_FORMAT": "json",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),  # the code that is tested
        }

    def sink(
        self, *options: str, interval: float = 0.3, kill: str = "", port: int = 0, env: dict | None = None, **config
    ) -> subprocess.Popen[bytes]:
        """Start a sink, `env` over the environment that its pod would get. `kill` is `before:2`, `during:2`, `after:2`: where in which commit it kills itself with SIGKILL."""
        settings = {
            "topic": self.topic,
            "table": self.table,
            "data_type": "trades",
            "group_id": sink_group_id(self.topic, self.table),
            "commit_interval_seconds": interval,
            **config,
        }
        number = len(self.sinks)
        path = self.folder / f"sink-{number}.json"
        path.write_text(json.dumps(settings))
        module = ["-m", "k2_testing.killed_sink", kill] if kill else ["-m", "k2"]
        log = (self.folder / f"sink-{number}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, *module, "run", "sink", *options],
            env={**self.environment(), "K2_CONFIG_FILE": str(path), "K2_METRICS_PORT": str(port), **(env or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        log.close()
        self.sinks.append(process)
        return process

    def log(self, number: int = -1) -> str:
        """What a sink wrote."""
        return (self.folder / f"sink-{range(len(self.sinks))[number]}.log").read_text()

    def recorded(self) -> dict[int, int]:
        """Partition → next offset that the table records."""
        return recorded_offsets(self.catalog.load_table(self.table)).next_of(self.topic)

    def told(self) -> Reading:
        """What the operator reads of the sinks: the topic's ends, the group's offsets, and what stands beside these."""
        group = sink_group_id(self.topic, self.table)
        ends = end_offsets(self.kafka, self.topic)
        return Reading(time.monotonic(), ends, committed_with_metadata(self.kafka, group, self.topic))

    def ends(self) -> dict[int, int]:
        """Partition → end of the topic, for partitions that hold anything."""
        return {p: end for p, end in end_offsets(self.kafka, self.topic).items() if end}

    def snapshots(self) -> int:
        """How many commits there were."""
        return len(self.catalog.load_table(self.table).metadata.snapshots)

    def finish(self) -> None:
        """Let a healthy sink read to the end."""
        process = self.sink("--until-end")
        try:
            process.wait(180)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the sink did not reach the end:\n{self.log()[-3000:]}") from None
        assert process.returncode == 0, self.log()[-3000:]

    def audit(self) -> Audit:
        """The audit, against the topic's ends."""
        ends = {self.topic: end_offsets(self.kafka, self.topic)}
        return audit_table(self.catalog.load_table(self.table), ends)

    def close(self) -> None:
        """End what still runs."""
        for process in self.sinks:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def gave_up(log: str) -> bool:
    """Whether a sink had to give up partitions; one that the group had given up hope of calls them lost."""
    return '"event": "sink.revoked"' in log or '"event": "sink.lost"' in log


def ready(port: int) -> bool:
    """Whether a workload on that metrics port says it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def reason(port: int) -> str:
    """Why a workload on that metrics port is ready or not; empty where nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return json.load(answer)["reason"]
    except urllib.error.HTTPError as error:
        return json.load(error)["reason"]
    except OSError:
        return ""
