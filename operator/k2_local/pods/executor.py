"""Runs built objects (ConfigMap, Deployment, Job, CronJob) on this machine: the other executor beside a cluster.

One thread, one loop: whoever owns it calls `step` again and again. Processes are tied to the thread that starts them, so
that must be one which lives as long as the platform.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from k2_local.pods import subset
from k2_local.pods.cron import Cron
from k2_local.pods.pod import Machine, Phase, Pod, from_manifest

THIS_K2 = (sys.executable, "-m", "k2")
STOP_ORDER = (("producer", "load", "upkeep"), ("sink", "query"))
"""Who stops first: nobody sends any more, then what was sent is committed."""


@dataclass(frozen=True, slots=True)
class PodStatus:
    """What is known of a pod, for a person and for `k2 status`: why it is not ready, and what is wrong although it is."""

    name: str
    component: str
    phase: str
    ready: bool
    restarts: int
    pid: int | None
    ports: Mapping[str, int]
    log: str
    message: str = ""
    warning: str = ""


@dataclass(slots=True)
class Executor:
    """Pods of this machine.

    Args:
        data_dir: where volumes, logs and records are kept.
        published: ports that the user chose, by (workload, port name).
        program: what runs for the image's entry point `k2`: this installation's, whatever PATH says.
        today: the time by the calendar, for CronJobs.
    """

    data_dir: Path
    published: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    program: tuple[str, ...] = THIS_K2
    today: Callable[[], datetime] = lambda: datetime.now(UTC)
    pods: list[Pod] = field(default_factory=list[Pod])
    crons: list[Cron] = field(default_factory=list[Cron])
    finished: list[str] = field(default_factory=list[str])

    def apply(self, manifests: Sequence[Mapping[str, Any]]) -> None:
        """Take over a set of manifests. Nothing is started before `step`.

        Raises:
            UnsupportedError: a manifest asks for something outside the subset; nothing of the set is run then.
        """
        for manifest in manifests:
            subset.check(manifest)
        config_maps = {
            (each["metadata"]["namespace"], each["metadata"]["name"]): each["data"]
            for each in manifests
            if each["kind"] == "ConfigMap"
        }
        machine = Machine(self.data_dir, config_maps, self.published, set(self.published.values()), self.program)
        for manifest in manifests:
            if manifest["kind"] == "Job" and self._is_done(manifest["metadata"]["name"]):
                self.finished.append(manifest["metadata"]["name"])
            elif manifest["kind"] == "CronJob":
                self.crons.append(Cron(manifest, machine))
            elif manifest["kind"] in ("Deployment", "Job"):
                self.pods += from_manifest(manifest, machine)

    def step(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Move every pod on by one step; takes as long as the probes that are due, or until it is `enough`."""
        for pod in self.pods:
            if enough():
                return
            before = pod.phase
            pod.step(time.monotonic())
            if pod.phase is Phase.COMPLETED and before is not Phase.COMPLETED:
                self._record_done(pod)
        for cron in self.crons:
            cron.step(self.today(), time.monotonic())

    @property
    def settled(self) -> bool:
        """Whether every pod that should serve is ready (Jobs: have started)."""
        return all(pod.ready or pod.phase is Phase.COMPLETED for pod in self.pods)

    def statuses(self) -> list[PodStatus]:
        """The state of every pod; of a CronJob that of its last run, or when the first one is due."""
        runs = [cron.pod for cron in self.crons if cron.pod is not None]
        due = [
            PodStatus(cron.name, "upkeep", "Scheduled", True, 0, None, {}, "", cron.told)
            for cron in self.crons
            if cron.pod is None
        ]
        return due + [
            PodStatus(
                name=pod.name,
                component=pod.component,
                phase=pod.phase.value,
                ready=pod.ready,
                restarts=pod.restarts,
                pid=pod.process.pid if pod.process else None,
                ports=dict(pod.ports) if pod.process else {},
                log=str(pod.log),
                message=pod.message,
                warning=pod.warning,
            )
            for pod in (*self.pods, *runs)
        ]

    def stop(self) -> None:
        """End all pods, senders before sinks, each group at once and within the longest grace in it."""
        pods = self.pods + [cron.pod for cron in self.crons if cron.pod is not None]
        for components in STOP_ORDER:
            group = [pod for pod in pods if pod.component in components]
            for pod in group:
                pod.terminate()
            started = time.monotonic()
            for pod in group:
                pod.stop(max(0.1, pod.grace - (time.monotonic() - started)))
        for pod in pods:
            pod.stop()

    def _done_file(self, job: str) -> Path:
        return self.data_dir / "jobs" / f"{job}.json"

    def _is_done(self, job: str) -> bool:
        return self._done_file(job).exists()

    def _record_done(self, pod: Pod) -> None:
        """Remember for ever that a Job is done; in a cluster `status.completedSource` does the same."""
        path = self._done_file(pod.workload)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"completedAt": datetime.now(UTC).isoformat(), "restarts": pod.restarts}))
        draft.replace(path)
