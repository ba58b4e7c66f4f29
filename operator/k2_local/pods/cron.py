"""A CronJob on this machine: a pod at its times, never two at once, for no longer than it may take."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from k2_local.pods.pod import Machine, Phase, Pod, from_manifest
from k2_operator.spec.schedules import next_run

_OVER = (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED)


@dataclass(slots=True)
class Cron:
    """One CronJob. `step` begins a run when its time has come and moves it on; nothing here blocks."""

    manifest: Mapping[str, Any]
    machine: Machine
    due: datetime | None = None
    pod: Pod | None = None
    skipped: int = 0
    _began: float = field(default=0.0)

    @property
    def name(self) -> str:
        """The CronJob's name."""
        return str(self.manifest["metadata"]["name"])

    @property
    def told(self) -> str:
        """When it runs, for a person."""
        if self.manifest["spec"].get("suspend"):
            return "suspended"
        return f"next at {self.due:%Y-%m-%d %H:%M} UTC" if self.due else ""

    def step(self, today: datetime, now: float) -> None:
        """Go on.

        Args:
            today: the time by the calendar, in UTC.
            now: the executor's steady clock, in seconds.
        """
        spec = self.manifest["spec"]
        if self.due is None:
            self.due = self._next(today)
        elif today >= self.due:
            late = today - self.due
            self.due = self._next(today)
            if self._runs:
                self.skipped += 1  # concurrencyPolicy: Forbid
            elif not spec.get("suspend") and late <= timedelta(seconds=spec.get("startingDeadlineSeconds", 100)):
                self._begin(now)
        if self.pod is not None and self._runs:
            over = now - self._began - spec["jobTemplate"]["spec"]["activeDeadlineSeconds"]
            if over <= 0:
                self.pod.step(now)
            else:
                self._end(self.pod, over)

    @property
    def _runs(self) -> bool:
        return self.pod is not None and self.pod.phase not in _OVER

    def _next(self, today: datetime) -> datetime:
        spec = self.manifest["spec"]
        return next_run(spec["schedule"], spec["timeZone"], today)

    def _end(self, pod: Pod, over: float) -> None:
        """Have a run end that is over its deadline by so many seconds: asked first, by force after its grace. Not waited for."""
        pod.terminate()
        if not pod.running or over > pod.grace:
            pod.stop(grace=0)
            pod.phase, pod.message = Phase.FAILED, "it took longer than its deadline"

    def _begin(self, now: float) -> None:
        job = {
            "kind": "Job",
            "metadata": self.manifest["metadata"],
            "spec": self.manifest["spec"]["jobTemplate"]["spec"],
        }
        (self.pod,) = from_manifest(job, self.machine)
        # Every run is a pod of its own: what the last one left in its folders is not there.
        shutil.rmtree(self.machine.data_dir / "pods" / self.pod.name, ignore_errors=True)
        self._began = now
