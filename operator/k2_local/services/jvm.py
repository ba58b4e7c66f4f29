"""What Kafka and the registry have in common as children of `k2 up`: a JVM that is started, waited for, stopped or killed."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from k2.model.errors import WorldError
from k2_local.host.processes import Supervised, wait_ready
from k2_local.host.signals import held

READY_WITHIN = 90.0


class JvmPart(ABC):
    """A JVM as a child process. Starting what runs, and stopping what does not, do nothing.

    Args:
        home: folder for its data and configuration.
        logs: folder for its log.
        run_dir: folder for the process's record.
        port: its port; None takes that of the last run or a free one.
        heap: the JVM's limit, as Java writes it (`512m`, `1g`).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    stop_grace: ClassVar[float]

    def __init__(self, home: Path, *, logs: Path, run_dir: Path, port: int | None, heap: str) -> None:
        self._home = home
        self._run_dir = run_dir
        self._asked_port = port
        self._heap = heap
        self._process: Supervised | None = None
        self._serves = False
        self._launched = 0.0
        self._port = 0
        self.log = logs / f"{self.name}.log"

    @property
    def port(self) -> int:
        """Its port; 0 before the first start."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it is started."""
        return self._process.pid if self._process else None

    @property
    def serves(self) -> bool:
        """Whether it has come up since its last start, as far as `wait` or `look` have seen."""
        return self._serves

    def poll(self) -> int | None:
        """The exit code when it has ended by itself, else None."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start and return when it serves: `launch` and `wait`.

        Raises:
            UserError: port taken, folder not writable, disk full.
            WorldError: it did not come up; the message ends with its log.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start the process and return at once."""
        if self._process is None:
            command, env = self._prepare()
            with held():  # or a signal between its start and the assignment would leave it to nobody
                self._process = Supervised(
                    self.name, command, env=env, log=self.log, run_dir=self._run_dir, cwd=self._home
                )
            self._serves, self._launched = False, time.monotonic()

    def wait(self) -> None:
        """Return when it serves; it is stopped when it does not come up."""
        if self._process is None:
            return
        try:
            wait_ready(self._process, self._is_ready, what=self.title, deadline=READY_WITHIN)
        except BaseException:
            self.stop()
            raise
        self._serves = True

    def look(self) -> None:
        """See whether it has come up, without waiting: for who has other things to do meanwhile.

        Raises:
            WorldError: it has not come up in time; the message ends with its log.
        """
        if self._process is None or self._serves:
            return
        self._serves = self._is_ready()
        if not self._serves and time.monotonic() - self._launched > READY_WITHIN:
            raise WorldError(
                f"{self.title} was not ready within {READY_WITHIN:.0f} s. The end of its log ({self.log}):\n"
                f"{self._process.tail()}"
            )

    def stop(self, grace: float | None = None) -> None:
        """Stop it in order; after `grace` seconds (default: what it may take), by force."""
        process, self._process, self._serves = self._process, None, False
        if process is not None:
            process.stop(self.stop_grace if grace is None else grace)

    def kill(self) -> None:
        """End it as a power cut would."""
        process, self._process, self._serves = self._process, None, False
        if process is not None:
            process.kill()

    @abstractmethod
    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        """Folder, port and configuration; the command and its environment."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it serves clients now."""


def jvm_environment() -> dict[str, str]:
    """What a JVM needs of our environment; nothing else, so that a stray KAFKA_* or JAVA_* changes nothing."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR", "TZ") if key in os.environ}
