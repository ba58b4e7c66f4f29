"""One pod of a Deployment or Job as a process: its folders, its environment, its probes, its restarts.

A pod here is a Python process with the environment that its container would get; paths and ports in `K2_*` variables are
replaced by those of this machine, nothing else is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from k2.model.errors import UserError
from k2_local.host import ports
from k2_local.host.processes import Supervised
from k2_local.pods.probe import Probe
from k2_operator.spec import labels

BACKOFF_FIRST, BACKOFF_MOST = 1.0, 60.0
RETRY_START = 5.0
CALM_AFTER = 120.0
"""Seconds of running after which earlier crashes are forgotten."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "SSL_CERT_FILE", "PYTHONPATH")


class Phase(StrEnum):
    """Where a pod is in its life, in Kubernetes' words."""

    PENDING = "Pending"
    RUNNING = "Running"
    CRASH_LOOP = "CrashLoopBackOff"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the executor gives every pod of this machine.

    `published` holds ports that a user chose, by (workload, port name); `taken` collects all that are promised; `program`
    is what the image's entry point `k2` is here.
    """

    data_dir: Path
    config_maps: Mapping[tuple[str, str], Mapping[str, str]]
    published: Mapping[tuple[str, str], int]
    taken: set[int]
    program: tuple[str, ...]

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.data_dir / "logs"

    @property
    def run_dir(self) -> Path:
        """Folder of the processes' records."""
        return self.data_dir / "run"

    def secret(self, name: str) -> Path:
        """A Secret is a folder on this machine, a file for each key."""
        folder = self.data_dir / "secrets" / name
        if not folder.is_dir():
            raise UserError(
                f"There is no Secret {name}",
                found=f"no folder {folder}",
                expected="a folder with a file for each key",
                remedy="Make it, readable by you alone",
            )
        return folder


@dataclass(slots=True)
class Pod:
    """One instance of a workload. `step` moves it on; nothing here blocks longer than a probe's timeout."""

    name: str
    workload: str
    namespace: str
    component: str
    spec: Mapping[str, Any]
    machine: Machine
    once: bool
    backoff_limit: int = 0
    phase: Phase = Phase.PENDING
    ready: bool = False
    restarts: int = 0
    message: str = ""
    warning: str = ""
    ports: dict[str, int] = field(default_factory=dict[str, int])
    process: Supervised | None = None
    _started_at: float = 0.0
    _start_due: float = 0.0
    _kill_due: float | None = None
    _backoff: float = BACKOFF_FIRST
    _readiness: Probe | None = None
    _liveness: Probe | None = None
    _startup: Probe | None = None
    """Asked until it has succeeded once, and before that no other is."""

    @property
    def log(self) -> Path:
        """The pod's log: all its runs, one after the other."""
        return self.machine.logs / f"{self.name}.log"

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return float(self.spec.get("terminationGracePeriodSeconds", 30))

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def step(self, now: float) -> None:
        """Start it when it is due, notice its end, ask its probes."""
        if self.phase in (Phase.COMPLETED, Phase.FAILED, Phase.STOPPED):
            return
        if self.process is None:
            if now >= self._start_due:
                self._try_to_start(now)
            return
        if self._kill_due is not None and now >= self._kill_due:
            self.process.kill()
        code = self.process.poll()
        if code is not None:
            self._ended(code, now)
        elif self._kill_due is None:
            self._probe(now)

    def terminate(self) -> None:
        """Ask for an orderly end, without waiting."""
        if self.process is not None:
            self.process.terminate()

    def stop(self, grace: float | None = None) -> None:
        """End it for good."""
        if self.process is not None:
            self.process.stop(self.grace if grace is None else grace)
            self.process = None
        self._release_ports()
        self.ready = False
        if self.phase not in (Phase.COMPLETED, Phase.FAILED):
            self.phase = Phase.STOPPED

    def _try_to_start(self, now: float) -> None:
        try:
            self._start(now)
        except UserError as error:
            self._release_ports()
            if isinstance(error, ports.PortTakenError) and not self._started_at:
                raise  # somebody was quicker; whoever asked for the port is there to choose another
            # A Secret or a volume that is not there yet: say so and look again, as a cluster does.
            self.message, self._start_due = str(error), now + RETRY_START

    def _start(self, now: float) -> None:
        container = self.spec["containers"][0]
        self._choose_ports(container)
        mounts = self._materialise(container)
        self._readiness = Probe.of(container.get("readinessProbe"))
        self._liveness = Probe.of(container.get("livenessProbe"))
        self._startup = Probe.of(container.get("startupProbe"))
        for probe in (self._readiness, self._liveness, self._startup):
            if probe is not None:
                probe.due = now + probe.delay
        command = [*self.machine.program, *container.get("args", [])]
        self.process = Supervised(
            self.name,
            command,
            env=self._environment(container, mounts),
            log=self.log,
            run_dir=self.machine.run_dir,
            cwd=self._folder(),
        )
        self.phase, self.message, self._started_at = Phase.RUNNING, "", now
        # A Job's pod has no readiness to wait for.
        self.ready = self._readiness is None

    def _ended(self, code: int, now: float) -> None:
        assert self.process is not None
        last_line = next((line for line in reversed(self.process.tail(20).splitlines()) if line.strip(" \t─╯╰│")), "")
        self.process.stop(grace=0)
        self.process, self.ready, self.warning, self._kill_due = None, False, "", None
        self._release_ports()
        if self.once and code == 0:
            self.phase, self.message = Phase.COMPLETED, ""
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.message = f"{how}; {last_line.strip()}"[:500]
        if self.once and self.restarts >= self.backoff_limit:
            self.phase = Phase.FAILED
            return
        if now - self._started_at > CALM_AFTER:
            self._backoff = BACKOFF_FIRST
        self.restarts += 1
        self._start_due = now + self._backoff
        self.phase = Phase.CRASH_LOOP if self._backoff > BACKOFF_FIRST else Phase.PENDING
        self._backoff = min(self._backoff * 2, BACKOFF_MOST)

    def _probe(self, now: float) -> None:
        if self._startup is not None and not self._has_begun(self._startup, now):
            return
        readiness, liveness = self._readiness, self._liveness
        if readiness is not None and now >= readiness.due:
            told = readiness.ask(self.ports)
            readiness.failures = readiness.failures + 1 if told.problem else 0
            if not told.problem:
                self.ready, self.message, self.warning = True, "", told.warning
            elif readiness.failures >= readiness.threshold or not self.ready:
                self.ready, self.message, self.warning = False, told.problem, told.warning
            # Quicker than in a cluster while it comes up: a person is waiting.
            readiness.due = now + (readiness.period if self.ready else min(readiness.period, 0.5))
        if liveness is not None and now >= liveness.due:
            liveness.failures = liveness.failures + 1 if liveness.ask(self.ports).problem else 0
            liveness.due = now + liveness.period
            if liveness.failures >= liveness.threshold:
                self._give_up(now, "its health has failed")

    def _has_begun(self, startup: Probe, now: float) -> bool:
        if now < startup.due:
            return False
        told = startup.ask(self.ports)
        if not told.problem:
            self._startup = None
            return True
        startup.failures += 1
        startup.due, self.message = now + min(startup.period, 0.5), told.problem
        if startup.failures * min(startup.period, 0.5) >= startup.threshold * startup.period:
            self._give_up(now, f"it has not begun to answer: {told.problem}")
        return False

    def _give_up(self, now: float, why: str) -> None:
        # Not waited for: the other pods have probes too, and a signal may end all of it.
        self.terminate()
        self._kill_due, self.ready, self.message = now + self.grace, False, why

    def _choose_ports(self, container: Mapping[str, Any]) -> None:
        for port in container.get("ports", []):
            name = port["name"]
            asked = self.machine.published.get((self.workload, name)) if self.name.endswith("-0") else None
            chosen = ports.choose(
                asked,
                None,
                what=f"{self.workload} ({name})",
                option="--port",
                taken=[] if asked else sorted(self.machine.taken),
            )
            self.ports[name] = chosen
            self.machine.taken.add(chosen)

    def _release_ports(self) -> None:
        self.machine.taken.difference_update(set(self.ports.values()) - set(self.machine.published.values()))

    def _folder(self) -> Path:
        folder = self.machine.data_dir / "pods" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _materialise(self, container: Mapping[str, Any]) -> dict[str, Path]:
        """Make the volumes; returns the folder of this machine for each mount path."""
        folders = {volume["name"]: self._volume(volume) for volume in self.spec.get("volumes", [])}
        return {mount["mountPath"]: folders[mount["name"]] for mount in container.get("volumeMounts", [])}

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        if "secret" in volume:
            return self.machine.secret(volume["secret"]["secretName"])
        if "persistentVolumeClaim" in volume:
            return self._claim(volume["persistentVolumeClaim"]["claimName"])
        folder = self._folder() / volume["name"]
        if "configMap" in volume:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for key, text in self._config_map(volume["configMap"]["name"]).items():
                (folder / key).write_text(text)
        else:  # emptyDir: as old as the pod, older than any one run of its process
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _claim(self, name: str) -> Path:
        folder = self.machine.data_dir / "volumes" / name
        if not folder.is_dir():
            raise UserError(
                f"There is no volume {name}",
                found=f"no folder {folder}",
                expected="a folder (or a link to one) with the files",
                remedy="Make it, and start again",
            )
        return folder

    def _config_map(self, name: str) -> Mapping[str, str]:
        try:
            return self.machine.config_maps[self.namespace, name]
        except KeyError:
            raise UserError(f"There is no ConfigMap {name} in namespace {self.namespace}") from None

    def _environment(self, container: Mapping[str, Any], mounts: Mapping[str, Path]) -> dict[str, str]:
        env = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        env["PYTHONUNBUFFERED"] = "1"
        numbers = {str(port["containerPort"]): self.ports[port["name"]] for port in container.get("ports", [])}
        for variable in container.get("env", []):
            name = variable["name"]
            value = variable["value"] if "value" in variable else self._resolve(variable["valueFrom"])
            env[name] = _remap(name, value, mounts, numbers)
        return env

    def _resolve(self, source: Mapping[str, Any]) -> str:
        if "fieldRef" in source:
            fields: dict[str, str] = {"metadata.name": self.name, "metadata.namespace": self.namespace}
            return fields[source["fieldRef"]["fieldPath"]]
        if "configMapKeyRef" in source:
            reference = source["configMapKeyRef"]
            return self._config_map(reference["name"])[reference["key"]]
        reference = source["secretKeyRef"]
        return (self.machine.secret(reference["name"]) / reference["key"]).read_text().strip()


def _remap(name: str, value: str, mounts: Mapping[str, Path], numbers: Mapping[str, int]) -> str:
    """Replace what only holds inside a pod: mount paths, container ports, the address to listen on."""
    if not name.startswith("K2_"):
        return value
    if name == "K2_HTTP_HOST":
        return ports.LOOPBACK
    if name.endswith("_PORT"):
        return str(numbers.get(value, value))
    for path, folder in mounts.items():
        if value == path or value.startswith(path + "/"):
            return str(folder) + value.removeprefix(path)
    return value


def from_manifest(manifest: Mapping[str, Any], machine: Machine) -> list[Pod]:
    """The pods that a Deployment or a Job asks for; none for one that is scaled to zero or suspended."""
    spec, metadata = manifest["spec"], manifest["metadata"]
    once = manifest["kind"] == "Job"
    count = (0 if spec.get("suspend") else 1) if once else int(spec.get("replicas", 1))
    component = spec["template"]["metadata"]["labels"].get(labels.COMPONENT, "")
    return [
        Pod(
            name=f"{metadata['name']}-{index}",
            workload=metadata["name"],
            namespace=metadata["namespace"],
            component=component,
            spec=spec["template"]["spec"],
            machine=machine,
            once=once,
            backoff_limit=int(spec.get("backoffLimit", 6)),
        )
        for index in range(count)
    ]
