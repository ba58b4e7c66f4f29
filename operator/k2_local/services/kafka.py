"""Apache Kafka on this machine: one KRaft node with both roles, on 127.0.0.1, whose data survives a restart.

Cluster id and ports are kept in `<home>/instance.json`; the ports of the last run are taken again when they are free.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k2.model.errors import UserError, WorldError
from k2_local.host import ports
from k2_local.host.processes import private_dir
from k2_local.services import artifacts
from k2_local.services.jvm import JvmPart, jvm_environment

MIN_FREE_BYTES = 512 * 1024 * 1024
STARTED_LINE = "Kafka Server started"

_LOGGING = """\
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=INFO
rootLogger.appenderRef.console.ref=console
# Prints two thousand lines of configuration at every start.
logger.config.name=org.apache.kafka.common.config
logger.config.level=WARN
logger.server_config.name=kafka.server.KafkaConfig
logger.server_config.level=WARN
"""


class LocalKafka(JvmPart):
    """A Kafka broker as a child process; `bootstrap_servers` is what clients are given. See `JvmPart`."""

    name = "kafka"
    title = "Kafka"
    stop_grace = 30.0

    def __init__(
        self,
        home: Path,
        *,
        logs: Path,
        run_dir: Path,
        port: int | None = None,
        heap: str = "512m",
        jvm_options: Sequence[str] = (),
    ) -> None:
        super().__init__(home, logs=logs, run_dir=run_dir, port=port, heap=heap)
        self._jvm_options = jvm_options

    @property
    def bootstrap_servers(self) -> str:
        """What a client is given."""
        return f"{ports.LOOPBACK}:{self._port}"

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        java, jars = artifacts.java(), artifacts.kafka_jars()
        private_dir(self._home, "Kafka's data")
        _check_room(self._home)
        instance = self._instance()
        config = self._configure(instance)
        class_path = f"{jars}/*"
        env = jvm_environment()
        if not (self._home / "data" / "meta.properties").exists():
            self._format(java, class_path, config, instance["cluster_id"], env)
        options = [
            f"-Xmx{self._heap}",
            # It begins small, and what a load made of it is given back within a minute of quiet.
            "-Xms64m",
            "-XX:+UseG1GC",
            "-XX:G1PeriodicGCInterval=30000",
            "-XX:MinHeapFreeRatio=20",
            "-XX:MaxHeapFreeRatio=40",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            *self._jvm_options,
        ]
        logging = f"-Dlog4j2.configurationFile={self._home / 'log4j2.properties'}"
        return [str(java), *options, logging, "-cp", class_path, "kafka.Kafka", str(config)], env

    def _instance(self) -> dict[str, Any]:
        """Cluster id and ports of this run, remembered for the next."""
        path = self._home / "instance.json"
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cluster_id": _new_cluster_id()}
        port = ports.choose(self._asked_port, known.get("port"), what="Kafka", option="--kafka-port")
        # Static voters: the controller's address is read from the configuration, not from the log, so that it may change.
        controller = ports.choose(
            None, known.get("controller_port"), what="Kafka's controller", option="--kafka-port", taken=[port]
        )
        known |= {"port": port, "controller_port": controller}
        path.write_text(json.dumps(known))
        self._port = port
        return known

    def _configure(self, instance: dict[str, Any]) -> Path:
        broker, controller = (f"{ports.LOOPBACK}:{instance[key]}" for key in ("port", "controller_port"))
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"BROKER://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"BROKER://{broker}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "BROKER",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._home / "data"),
            # One node: everything that Kafka keeps three times by default is kept once.
            "default.replication.factor": "1",
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            # 50 partitions each by default: only files and start-up time on one node.
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.num.partitions": "4",
            # 128 MB of heap by default, for compacted topics; here those are Kafka's own, with a few thousand keys.
            "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
            "group.initial.rebalance.delay.ms": "0",
            # A sink that was killed frees its partitions after six seconds, not 45: here it is restarted at once.
            "group.consumer.min.session.timeout.ms": "6000",
            "group.consumer.session.timeout.ms": "6000",
            "group.consumer.min.heartbeat.interval.ms": "1000",
            "group.consumer.heartbeat.interval.ms": "1000",
            # A topic that nobody declared is a mistake in a name, not a wish.
            "auto.create.topics.enable": "false",
            # Nothing is thrown away on a developer's machine: a sink that was off for a month still finds its rows.
            "log.retention.ms": "-1",
        }
        (self._home / "log4j2.properties").write_text(_LOGGING)
        path = self._home / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _format(self, java: Path, class_path: str, config: Path, cluster_id: str, env: dict[str, str]) -> None:
        quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]  # it is over before better code would pay
        command = [str(java), "-Xmx128m", *quick, "-cp", class_path, "kafka.tools.StorageTool", "format"]
        command += ["-t", cluster_id, "-c", str(config), "--ignore-formatted"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise WorldError(f"Kafka's storage in {self._home} could not be prepared:\n{done.stdout}{done.stderr}")

    def _is_ready(self) -> bool:
        process = self._process
        if process is None or not process.said(STARTED_LINE):
            return False
        try:
            socket.create_connection((ports.LOOPBACK, self._port), timeout=1).close()
        except OSError:
            return False
        return True


def _check_room(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < MIN_FREE_BYTES:
        raise UserError(
            "Too little room on the disk for Kafka's data",
            found=f"{free // 2**20} MiB free at {home}",
            expected=f"at least {MIN_FREE_BYTES // 2**20} MiB",
            remedy="Make room, or choose another disk with K2_DATA_DIR",
        )


def _new_cluster_id() -> str:
    """A Kafka cluster id: 16 random bytes in URL-safe base64. One that starts with '-' would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text
