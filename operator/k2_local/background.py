"""`k2 up --detach` and `k2 down`: the supervisor as a process of its own, found again by the state that it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from k2.model.errors import WorldError
from k2_local import state
from k2_local.host import processes
from k2_local.pods.executor import PodStatus
from k2_local.pods.pod import Phase

READY_WITHIN = 240.0
TELL_SECONDS = 5.0
HOPELESS_RESTARTS = 5
STOPPED_WITHIN = 180.0


def start(data_dir: Path, arguments: Sequence[str], tell: Callable[[str], None]) -> state.State:
    """Run `k2` with these arguments (an `up` without --detach) in the background; return when all is ready.

    Raises:
        WorldError: it ended, or was not ready in time (it then goes on running); with the end of its log.
    """
    log = processes.private_dir(data_dir / "logs", "K2's logs") / "up.log"
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "k2", *arguments],
            stdin=subprocess.DEVNULL,
            # Progress and errors go to the log; the table of what is ready is shown by us, and holds the API key.
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"K2_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"},
        )
    now = time.monotonic()
    end, tell_at, shown = now + READY_WITHIN, now + TELL_SECONDS, begin
    while (now := time.monotonic()) < end:
        shown = _relay(log, shown, tell)
        if child.poll() is not None:
            raise WorldError(f"The platform ended with exit code {child.returncode}; its log is {log}")
        found = state.read(data_dir)
        if found is not None and found.supervisor.pid == child.pid and found.ready:
            child.returncode = 0  # it outlives us: no warning about a child that was not waited for
            return found
        if found is not None and any(pod.restarts >= HOPELESS_RESTARTS and not pod.ready for pod in found.pods):
            break  # a person should hear of it now, not in four minutes
        if now >= tell_at:
            tell_at = now + TELL_SECONDS
            _tell_of_waiting(found if found is not None and found.supervisor.pid == child.pid else None, tell)
        time.sleep(0.2)
    child.returncode = 0
    waiting = state.read(data_dir)
    names = "\n".join(f"{pod.name}: {pod.message or pod.phase}" for pod in _unready(waiting))
    raise WorldError(f"Not all is ready; it goes on trying (`k2 status`, `k2 down`, the log {log}):\n{names}")


def stop(data_dir: Path, tell: Callable[[str], None]) -> bool:
    """End the supervisor of a data directory, which ends the rest in order, and then whatever is left of it.

    Returns:
        Whether anything ran.
    """
    found = state.read(data_dir)
    records = processes.read_records(data_dir / "run")
    running = found.supervisor.process() if found is not None else None
    if found is not None and running is not None:
        tell(f"Stopping process {found.supervisor.pid} and what it runs")
        processes.end_recorded([found.supervisor], grace=STOPPED_WITHIN)
    # Only after a supervisor was killed: elsewhere than on Linux its children live on.
    left = processes.end_recorded(records, grace=30)
    if left and running is None:
        tell(f"Ended what was left of an earlier run: {', '.join(left)}")
    for path in (data_dir / "run").glob("*.json"):
        path.unlink(missing_ok=True)
    (data_dir / state.FILE).unlink(missing_ok=True)
    return running is not None or bool(left)


def _unready(found: state.State | None) -> list[PodStatus]:
    return [pod for pod in found.pods if not pod.ready and pod.phase != Phase.COMPLETED] if found else []


def _tell_of_waiting(found: state.State | None, tell: Callable[[str], None]) -> None:
    """What a person waits for just now; before the workloads are started the supervisor's own words say it."""
    if found is not None and (unready := _unready(found)):
        tell(f"  {len(found.pods) - len(unready)} of {len(found.pods)} workloads are ready")


def _relay(log: Path, start_at: int, tell: Callable[[str], None]) -> int:
    """Show the whole lines that were added to a log; returns how far it was read."""
    with log.open("rb") as handle:
        handle.seek(start_at)
        added = handle.read()
    whole = added[: added.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        tell(line)
    return start_at + len(whole)
