"""`state.json` of the data directory: what `k2 up` runs, for `k2 status` and `k2 down`. Written whole at each change."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from k2.model.errors import UserError
from k2_local.host.processes import Record, private_dir
from k2_local.pods.executor import PodStatus
from k2_local.services.parts import PartStatus

FILE = "state.json"
LOCK = "up.lock"


@dataclass(frozen=True, slots=True)
class State:
    """One running platform. `ready`: every part answers and every workload is ready."""

    supervisor: Record
    started_at: str
    ready: bool
    api_url: str
    parts: tuple[PartStatus, ...]
    pods: tuple[PodStatus, ...]

    @property
    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs."""
        return self.supervisor.process() is not None

    @property
    def serving_at(self) -> str:
        """The query service's address; empty while it does not serve, for then another platform may answer there."""
        return self.api_url if any(pod.component == "query" and pod.ready for pod in self.pods) else ""

    def write(self, data_dir: Path) -> None:
        """Replace the file: a reader sees the old or the new one."""
        draft = data_dir / f".{FILE}"
        draft.write_text(json.dumps(asdict(self), indent=1))
        draft.replace(data_dir / FILE)


def read(data_dir: Path) -> State | None:
    """The state of a data directory; None when nothing was ever started there or it ended in order."""
    try:
        raw: dict[str, Any] = json.loads((data_dir / FILE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{data_dir / FILE} cannot be read", found=str(error), expected="what `k2 up` wrote") from error
    return State(
        supervisor=Record(**raw["supervisor"]),
        started_at=raw["started_at"],
        ready=raw["ready"],
        api_url=raw["api_url"],
        parts=tuple(PartStatus(**each) for each in raw["parts"]),
        pods=tuple(PodStatus(**each) for each in raw["pods"]),
    )


@contextmanager
def lock(data_dir: Path) -> Generator[None, None, None]:
    """Own a data directory: two platforms on one would destroy each other's data.

    Raises:
        UserError: another `k2 up` owns it, or it cannot be written.
    """
    private_dir(data_dir, "K2's data")
    with (data_dir / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _runs_already(data_dir, read(data_dir)) from None
        yield


def refuse_running(data_dir: Path) -> None:
    """Raise the error of `lock` where a platform is known to run, before anything is done for another one."""
    found = read(data_dir)
    if found is not None and found.alive:
        raise _runs_already(data_dir, found)


def _runs_already(data_dir: Path, found: State | None) -> UserError:
    return UserError(
        "A platform already runs in this data directory",
        found=f"{data_dir}, process {found.supervisor.pid}" if found else str(data_dir),
        remedy="`k2 status` shows it and `k2 down` ends it; for a second one set K2_DATA_DIR and --port",
    )
