"""An httpGet probe of a pod: when it is due, and what the workload answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from k2_local.host import ports

_MOST_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What a probe heard.

    Args:
        problem: why the probe fails; empty when it succeeds.
        warning: what is wrong although it succeeds, or what only people can mend, in a workload's own words.
    """

    problem: str = ""
    warning: str = ""


@dataclass(slots=True)
class Probe:
    """State of one httpGet probe; times are of the executor's clock, in seconds."""

    path: str
    port: str
    period: float
    timeout: float
    threshold: int
    delay: float
    due: float = 0.0
    failures: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, Any] | None) -> Probe | None:
        """Read a manifest's probe, with Kubernetes' defaults."""
        if spec is None:
            return None
        return cls(
            path=spec["httpGet"]["path"],
            port=str(spec["httpGet"]["port"]),
            period=float(spec.get("periodSeconds", 10)),
            timeout=float(spec.get("timeoutSeconds", 1)),
            threshold=int(spec.get("failureThreshold", 3)),
            delay=float(spec.get("initialDelaySeconds", 0)),
        )

    def ask(self, numbers: Mapping[str, int]) -> ProbeAnswer:
        """Ask the workload, whose ports by name are given."""
        url = f"http://{ports.LOOPBACK}:{numbers[self.port]}{self.path}"
        try:
            with urllib.request.urlopen(url, timeout=self.timeout) as answer:
                return ProbeAnswer(warning=_told(answer.read(_MOST_BYTES)).get("warning", ""))
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(_MOST_BYTES)
            told, text = _told(body), body.decode(errors="replace").strip()
            return ProbeAnswer(told.get("reason") or text or f"HTTP {error.code}", told.get("warning", ""))
        except OSError as error:
            return ProbeAnswer(f"no answer yet ({getattr(error, 'reason', error)})")


def _told(body: bytes) -> dict[str, str]:
    """The texts of a workload's answer; none when it is no JSON object, or a cut one."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    return {key: value for key, value in cast("dict[str, Any]", told).items() if isinstance(value, str)}
