"""Files read in a process of their own, at a rate: a damaged file may end the process that decodes it, and then ends only that one."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Self

from pyiceberg.io import load_file_io

from k2.lake.proof.deep import DeepFinding, Proof, WantedFile, verified
from k2.model.errors import StoreError, WorldError

_ANSWER_SECONDS = 0.2
"""How often it is looked whether to stop while a file is read."""


@dataclass(slots=True)
class Throttle:
    """Waits so that no more than `rate` bytes a second are read on average; 0: as many as there are.

    Args:
        rate: bytes a second.
        clock: seconds of a steady clock.
        wait: waits so many seconds.
    """

    rate: float
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    _free_at: float = field(default=0.0, init=False)

    def __call__(self, read: int) -> None:
        """So many bytes were read."""
        if not self.rate:
            return
        now = self.clock()
        # What was not read while nobody asked is not made up for.
        self._free_at = max(self._free_at, now) + read / self.rate
        if self._free_at > now:
            self.wait(self._free_at - now)


@dataclass(slots=True)
class ReadApart:
    """Verifies files of a table in a child process, and begins another one when that is ended by what it reads.

    Args:
        properties: of the table's store.
        location: of the table.
        rate: bytes a second; 0: as many as there are.
        stop: when set, waiting for an answer ends with a `WorldError`.
    """

    properties: Mapping[str, str]
    location: str
    rate: float
    stop: threading.Event
    _process: SpawnProcess | None = field(default=None, init=False)
    _connection: Connection | None = field(default=None, init=False)

    def verify(self, file: WantedFile) -> DeepFinding:
        """Read a file.

        Raises:
            StoreError: the store did not give it.
            WorldError: `stop` was set.
        """
        ended = ""
        # Twice: memory that was short, or a hand that ended it, says nothing of the file.
        for _ in range(2):
            try:
                return self._asked(file)
            except (EOFError, OSError):
                ended = self._ended()
        return DeepFinding(file.name, Proof.DAMAGED, f"reading it ends the process that does ({ended})")

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.terminate()
            self._process.join()
        self._process = self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(self, file: WantedFile) -> DeepFinding:
        connection = self._open()
        connection.send(file)
        while not connection.poll(_ANSWER_SECONDS):
            if self.stop.is_set():
                self.close()
                raise WorldError("Stopped: what was read so far is kept")
        found = connection.recv()
        if isinstance(found, DeepFinding):
            return found
        raise StoreError(str(found))

    def _open(self) -> Connection:
        if self._connection is None:
            context = multiprocessing.get_context("spawn")  # a fork would copy locks of other threads
            self._connection, theirs = context.Pipe()
            given = (theirs, dict(self.properties), self.location, self.rate)
            self._process = context.Process(target=_serve, args=given, name="k2-scrub", daemon=True)
            self._process.start()
            theirs.close()  # so that its end is seen here
        return self._connection

    def _ended(self) -> str:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        self.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(connection: Connection, properties: dict[str, str], location: str, rate: float) -> None:
    """The child: files in, findings out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    io, throttle = load_file_io(properties, location), Throttle(rate)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            file = connection.recv()
            try:
                found: DeepFinding | str = verified(io, file, throttle)
            except StoreError as error:
                found = str(error)
            connection.send(found)
