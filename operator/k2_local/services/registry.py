"""The schema registry on this machine: Apicurio, spoken to by Confluent's API, its state in an H2 file that survives a restart.

The file rather than Apicurio's storage in Kafka: the registry then needs no Kafka (`k2 up --kafka …` may point anywhere)
and starts in two seconds. `WRITE_DELAY=0` is what makes it durable: with H2's default a schema that was registered less
than half a second before a kill -9 is lost, and its id is given to another schema later (tried).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from k2_local.host import ports
from k2_local.host.processes import private_dir
from k2_local.services import artifacts
from k2_local.services.jvm import JvmPart, jvm_environment

API = "/apis/ccompat/v7"


class LocalRegistry(JvmPart):
    """A schema registry as a child process; `url` is what clients are given. See `JvmPart`."""

    name = "registry"
    title = "The schema registry"
    stop_grace = 15.0

    def __init__(self, home: Path, *, logs: Path, run_dir: Path, port: int | None = None, heap: str = "256m") -> None:
        super().__init__(home, logs=logs, run_dir=run_dir, port=port, heap=heap)

    @property
    def url(self) -> str:
        """The base address of Confluent's API."""
        return f"http://{ports.LOOPBACK}:{self._port}{API}"

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        java, software = artifacts.java(), artifacts.registry_home()
        private_dir(self._home, "the registry's state")
        self._choose_port()
        # Without -Xms a JVM begins with the whole of what it may have, and what it has touched once stays with it.
        options = [f"-Xmx{self._heap}", "-Xms32m", "-XX:+UseSerialGC"]
        options += ["-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        return [str(java), *options, "-jar", str(software / "quarkus-run.jar")], self._environment()

    def _choose_port(self) -> None:
        path = self._home / "instance.json"
        remembered = json.loads(path.read_text()).get("port") if path.exists() else None
        self._port = ports.choose(self._asked_port, remembered, what="the schema registry", option="--registry-port")
        path.write_text(json.dumps({"port": self._port}))

    def _environment(self) -> dict[str, str]:
        return jvm_environment() | {
            "QUARKUS_HTTP_HOST": ports.LOOPBACK,
            "QUARKUS_HTTP_PORT": str(self._port),
            # The management interface cannot be turned off in this build: any free port, and not 9000 on all addresses.
            "QUARKUS_MANAGEMENT_HOST": ports.LOOPBACK,
            "QUARKUS_MANAGEMENT_PORT": "0",
            "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "h2",
            "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{self._home / 'registry'};WRITE_DELAY=0",
            # 20 to 100 connections by default, each with its cache.
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "2",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
        }

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as answer:  # noqa: S310 - our own http address
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
