"""A supervised process: its own process group, a log file, a record on disk that says what was started.

The record (`<run_dir>/<name>.json`) holds the PID and the start time, since PIDs are used again: `k2 down` ends only what
`k2 up` started. Start processes from a thread that lives as long as the supervisor: Linux ties them to that thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from k2.model.errors import UserError, WorldError

LEASH = Path(__file__).with_name("leash.py")
START_TIME_TOLERANCE = 2.0
"""Seconds by which a process's start time may seem to move when the clock is set."""

KILLED_WITHIN = 10.0
"""Seconds for the kernel to end a process that was killed: one that hangs in a broken disk must not hang whoever waits."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the disk remembers of a started process; `started` is in seconds since the epoch."""

    name: str
    pid: int
    started: float
    log: str

    def process(self) -> psutil.Process | None:
        """The process when it still runs, None when it is gone or its PID now belongs to another."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < START_TIME_TOLERANCE
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def read_records(run_dir: Path) -> list[Record]:
    """Every record below `run_dir`, by name; one that cannot be read is left out."""
    records: list[Record] = []
    for path in sorted(run_dir.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            records.append(Record(**json.loads(path.read_text())))
    return records


def write_record(run_dir: Path, record: Record) -> None:
    """Write a record so that a reader sees the old one or the new one, never half of it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    draft = run_dir / f".{record.name}.draft"
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(run_dir / f"{record.name}.json")


def own_record(name: str, log: Path) -> Record:
    """The record of this very process."""
    return Record(name, os.getpid(), psutil.Process().create_time(), str(log))


class Supervised:
    """A child process with its log and record.

    Args:
        name: unique in `run_dir`; part of file names.
        command: program and arguments.
        env: the whole environment of the process.
        log: file that standard output and error are appended to.
        run_dir: folder for the record.
        cwd: working directory; it must exist.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, run_dir: Path, cwd: Path
    ) -> None:
        self.name = name
        self.log = log
        self._run_dir = run_dir
        self._asked = False
        self._log_start = log.stat().st_size if log.exists() else 0
        self._looked_at = self._log_start
        leashed = [sys.executable, "-IS", str(LEASH), str(os.getpid()), *command]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            # A session of its own: a Ctrl-C in the terminal reaches only the supervisor, which stops the parts in order.
            self._process = subprocess.Popen(
                leashed,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                start_new_session=True,
            )
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            started = time.time()
        write_record(run_dir, Record(name, self.pid, started, str(log)))

    @property
    def pid(self) -> int:
        """The process's id, which is also its process group's."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs; negative for a signal."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask for an orderly end (SIGTERM to the process alone: it ends its own children). Does not wait.

        Asks once: to many programs a second SIGTERM means at once, without what an orderly end would have saved.
        """
        if not self._asked and self.poll() is None:
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def stop(self, grace: float) -> int:
        """SIGTERM, wait up to `grace` seconds, then SIGKILL to the whole group. Returns the exit code."""
        self.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()
        self._kill_group()  # what the process itself left behind
        self._forget()
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode

    def kill(self) -> None:
        """SIGKILL to the whole group, and wait for the end of it."""
        self._kill_group()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_WITHIN)
        self._forget()

    def tail(self, lines: int = 20) -> str:
        """The last lines that this run wrote to its log."""
        return tail(self.log, lines, self._log_start)

    def said(self, text: str) -> bool:
        """Whether the log holds the text in what was written since the last look that found nothing.

        Not only its end is looked at: with hundreds of topics a broker writes more in a moment than a tail holds.
        """
        try:
            with self.log.open("rb") as handle:
                handle.seek(self._looked_at)
                written = handle.read()
        except OSError:
            return False
        if text.encode() in written:
            return True
        # The text may be cut by the end of what is there now.
        self._looked_at += max(0, len(written) - len(text))
        return False

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _forget(self) -> None:
        (self._run_dir / f"{self.name}.json").unlink(missing_ok=True)


def wait_ready(process: Supervised, probe: Callable[[], bool], *, what: str, deadline: float) -> None:
    """Wait until `probe()` is true, at most `deadline` seconds.

    Raises:
        WorldError: when the process ends or the time is over, with the end of its log. The process is then stopped.
    """
    end = time.monotonic() + deadline
    while not probe():
        if (code := process.poll()) is not None:
            problem = f"{what} ended with exit code {code} before it was ready"
        elif time.monotonic() > end:
            problem = f"{what} was not ready within {deadline:.0f} s"
        else:
            time.sleep(0.1)
            continue
        log = process.tail()
        process.stop(grace=5)
        raise WorldError(f"{problem}. The end of its log ({process.log}):\n{log}")


def tail(log: Path, lines: int = 20, start: int = 0) -> str:
    """The last `lines` lines of a log, not reading before the byte `start` nor more than 64 KiB."""
    try:
        with log.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(start, size - 65_536))
            text = handle.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def end_recorded(records: Sequence[Record], grace: float) -> list[str]:
    """End the recorded processes that still run, and return their names: SIGTERM, `grace` seconds, SIGKILL."""
    running = [(record, process) for record in records if (process := record.process())]
    for _, process in running:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs([process for _, process in running], timeout=grace)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return [record.name for record, _ in running]


def private_dir(path: Path, purpose: str) -> Path:
    """Create a folder when it is not there, and check that it can be written.

    Raises:
        UserError: when it is a file, may not be written, or the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".k2-write-probe"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"The folder for {purpose} cannot be written",
            found=f"{path}: {error.strerror}",
            expected="a folder on a disk with room",
            remedy="Choose another with K2_DATA_DIR, or mend this one",
        ) from error
    return path
