"""The schema registry on this machine: Apicurio, spoken to by Confluent's API, its state in an H2 file that survives a restart.

The file rather than Apicurio's storage in Kafka: the registry then needs no Kafka (`k2 up --kafka …` may point anywhere)
and starts in two seconds. `WRITE_DELAY=0` is what makes it durable: with H2's default a schema that was registered less
than half a second before a kill -9 is lost, and its id is given to another schema later (tried).
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from k2_operator.local import artifacts, ports
from k2_operator.local.processes import Supervised, private_dir, wait_ready

READY_WITHIN = 90.0
STOP_GRACE = 15.0
API = "/apis/ccompat/v7"


class LocalRegistry:
    """A schema registry as a child process.

    Args:
        home: folder for its state.
        logs: folder for its log.
        run_dir: folder for the process's record.
        port: the port; None takes that of the last run or a free one.
        heap: the JVM's limit, as Java writes it.
    """

    def __init__(self, home: Path, *, logs: Path, run_dir: Path, port: int | None = None, heap: str = "256m") -> None:
        self._home = home
        self._run_dir = run_dir
        self._asked_port = port
        self._heap = heap
        self._process: Supervised | None = None
        self._port = 0
        self.log = logs / "registry.log"

    @property
    def port(self) -> int:
        """The port; 0 before the first start."""
        return self._port

    @property
    def url(self) -> str:
        """The base address of Confluent's API."""
        return f"http://{ports.LOOPBACK}:{self._port}{API}"

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it is started."""
        return self._process.pid if self._process else None

    def poll(self) -> int | None:
        """The exit code when it has ended by itself, else None."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start and return when it answers: `launch` and `wait`.

        Raises:
            UserError: port taken, folder not writable.
            WorldError: it did not come up; the message ends with its log.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the process and return at once. Does nothing when it is started."""
        if self._process is not None:
            return
        java, software = artifacts.java(), artifacts.registry_home()
        private_dir(self._home, "the registry's state")
        self._choose_port()
        options = [f"-Xmx{self._heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        command = [str(java), *options, "-jar", str(software / "quarkus-run.jar")]
        self._process = Supervised(
            "registry", command, env=self._environment(), log=self.log, run_dir=self._run_dir, cwd=self._home
        )

    def wait(self) -> None:
        """Return when it answers; it is stopped when it does not come up."""
        if self._process is None:
            return
        try:
            wait_ready(self._process, self._is_ready, what="The schema registry", deadline=READY_WITHIN)
        except BaseException:
            self.stop()
            raise

    def stop(self, grace: float = STOP_GRACE) -> None:
        """Stop it in order; after `grace` seconds, by force. Does nothing when it is not started."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(grace)

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _choose_port(self) -> None:
        path = self._home / "instance.json"
        remembered = json.loads(path.read_text()).get("port") if path.exists() else None
        self._port = ports.choose(self._asked_port, remembered, what="the schema registry", option="--registry-port")
        path.write_text(json.dumps({"port": self._port}))

    def _environment(self) -> dict[str, str]:
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR", "TZ") if key in os.environ}
        return inherited | {
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
