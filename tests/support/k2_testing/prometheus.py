"""Prometheus and Alertmanager from Debian as processes: what scrapes, evaluates the chart's rules, and is told of alerts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from k2_local.host.processes import Supervised, wait_ready
from k2_testing import debian
from k2_testing.cluster import until
from k2_testing.controlplane import free_port

_PACKAGES = ("prometheus", "prometheus-alertmanager")
_INSTALLED, _BESIDE = b"/usr/share/prometheus/alertmanager", "alertmanager-data"
"""Where Debian's Alertmanager looks for its templates, and the folder beside which it is run here."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is scraped: a port of loopback, and the labels that a ServiceMonitor or PodMonitor would give it."""

    job: str
    port: int
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


class Monitoring:
    """Both, on ports of their own. Stop them at the end.

    Args:
        folder: where they keep everything.
        targets: what is scraped, every second.
        rules: specs of PrometheusRules by name, evaluated every second.
    """

    def __init__(self, folder: Path, targets: Sequence[Target], rules: Mapping[str, Any]) -> None:
        self._folder = folder
        prometheus, alertmanager = free_port(), free_port()
        self._prometheus = httpx.Client(base_url=f"http://127.0.0.1:{prometheus}", trust_env=False, timeout=60)
        self._alertmanager = httpx.Client(base_url=f"http://127.0.0.1:{alertmanager}", trust_env=False, timeout=60)
        files = []
        for name, spec in rules.items():
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
            files.append(str(folder / f"{name}.yaml"))
        self._write(
            "prometheus",
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": files,
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
                "scrape_configs": [
                    {
                        "job_name": f"target-{number}",
                        "static_configs": [
                            {"targets": [f"127.0.0.1:{each.port}"], "labels": {"job": each.job, **each.labels}}
                        ],
                    }
                    for number, each in enumerate(targets)
                ],
            },
        )
        route = {"receiver": "nobody", "group_wait": "0s", "group_interval": "1s"}
        self._write("alertmanager", {"route": route, "receivers": [{"name": "nobody"}]})
        self._parts = [
            self._run(
                "alertmanager",
                _alertmanager(folder),
                f"--config.file={folder / 'alertmanager.yaml'}",
                f"--storage.path={folder / 'alerts'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ),
            self._run(
                "prometheus",
                _program("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                "--rules.alert.resend-delay=1s",
            ),
        ]
        clients = (self._alertmanager, self._prometheus)
        for part, client in zip(self._parts, clients, strict=True):
            wait_ready(part, lambda client=client: _ready(client), what=part.name, deadline=120)

    def stop(self) -> None:
        """Stop both."""
        for part in reversed(self._parts):
            part.stop(grace=10)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives now: samples with their labels."""
        answer = self._prometheus.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """All rules that were loaded, with their health."""
        groups = self._prometheus.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def down(self) -> list[str]:
        """Errors of the targets that are not up."""
        found = self._prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
        return [f"{each['labels']}: {each['lastError']}" for each in found if each["health"] != "up"]

    def firing(self) -> set[str]:
        """Names of the alerts that Alertmanager holds to be true now."""
        found = self._alertmanager.get("/api/v2/alerts", params={"active": "true"}).json()
        return {each["labels"]["alertname"] for each in found}

    def until_firing(self, alert: str, seconds: float = 240.0) -> None:
        """Wait until Alertmanager was told of it."""
        until(lambda: alert in self.firing(), f"{alert} does not fire", seconds, why=lambda: str(self.firing()))

    def until_over(self, alert: str, seconds: float = 240.0) -> None:
        """Wait until Alertmanager was told that it is over."""
        until(lambda: alert not in self.firing(), f"{alert} goes on firing", seconds)

    def _write(self, name: str, config: Mapping[str, Any]) -> None:
        (self._folder / f"{name}.yaml").write_text(yaml.safe_dump(config))

    def _run(self, name: str, program: Path, *flags: str) -> Supervised:
        return Supervised(
            name,
            [str(program), *flags],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "GOMEMLIMIT": "300MiB"},
            log=self._folder / f"{name}.log",
            run_dir=self._folder / "run",
            cwd=self._folder,
        )


def shortened(rules: Mapping[str, Mapping[str, Any]], window: str = "10s") -> dict[str, dict[str, Any]]:
    """The rules with every window as short as that, and no alert waiting: an outage of seconds is one then."""

    def short(rule: Mapping[str, Any]) -> dict[str, Any]:
        expression = re.sub(r"\[\d+[mhd]\]", f"[{window}]", rule["expr"])
        expression = re.sub(r"offset \d+[mhd]", f"offset {window}", expression)
        return {key: value for key, value in rule.items() if key not in ("for", "keep_firing_for")} | {
            "expr": expression
        }

    return {
        name: {"groups": [{**group, "rules": [short(rule) for rule in group["rules"]]} for group in spec["groups"]]}
        for name, spec in rules.items()
    }


def _program(name: str) -> Path:
    found = shutil.which(name)
    return Path(found) if found else debian.unpacked("prometheus", _PACKAGES) / "usr/bin" / name


def _alertmanager(folder: Path) -> Path:
    """Debian's knows one absolute path, at which nothing is installed: a copy is told a relative one of the same length."""
    program = _program("prometheus-alertmanager")
    data = program.parents[1] / "share/prometheus/alertmanager"
    if data == Path(_INSTALLED.decode()):
        return program
    (folder / _BESIDE).symlink_to(data)
    relative = ("./" + "/" * (len(_INSTALLED) - 2 - len(_BESIDE)) + _BESIDE).encode()
    copy = folder / "alertmanager"
    copy.write_bytes(program.read_bytes().replace(_INSTALLED, relative))
    copy.chmod(0o755)
    return copy


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.HTTPError:
        return False
