"""What is wrong with pods, in the words of Kubernetes and of their containers. Pure: trimmed pods in, a reason and a sentence out.

What changes with every try (numbers of restarts, seconds of backoff) is left out: a status would be written each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from k2_operator.spec.conditions import Reason
from k2_operator.spec.objects import Object, condition

WORDS = 400
"""Characters of what a container said last."""

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"})
_BACKING_OFF = "CrashLoopBackOff"
_OUT_OF_MEMORY = "OOMKilled"

# What Kubernetes says while it waits, before what it waits for: now it is there, now it is not.
_PULL_AGAIN = re.compile(r'^Back-off pulling image "[^"]*": \w+: ')


@dataclass(frozen=True, slots=True)
class PodTrouble:
    """Why a pod does not come up, and the sentence that says so, without a full stop."""

    reason: Reason
    said: str


REASONS = (
    # What a person can mend first comes first: the others come of it, or may be over by then.
    Reason.IMAGE_PULL_FAILED,
    Reason.CONTAINER_CONFIG_ERROR,
    Reason.OUT_OF_MEMORY,
    Reason.CRASH_LOOPING,
    Reason.PODS_REFUSED,
    Reason.UNSCHEDULABLE,
)


def worst(pods: Iterable[Object], workload: Object | None = None) -> PodTrouble | None:
    """The first trouble to mend of a workload's pods, and of what keeps it from making any; None when there is none."""
    found = [each for pod in pods if (each := trouble(pod)) is not None]
    if workload is not None and (refused := _refused(workload)) is not None:
        found.append(refused)
    return min(found, key=lambda each: (REASONS.index(each.reason), each.said), default=None)


def trouble(pod: Object) -> PodTrouble | None:
    """What keeps one pod from its work. One that is on its way out, or over, has none."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    for container in status.get("containerStatuses") or ():
        if (found := _of_container(container)) is not None:
            return found
    unscheduled = condition(pod, "PodScheduled")
    if status.get("phase") == "Pending" and unscheduled is not None and unscheduled.get("reason") == "Unschedulable":
        return PodTrouble(Reason.UNSCHEDULABLE, f"no node takes the pod: {_stopped(unscheduled.get('message', ''))}")
    return None


def last_failure(pod: Object) -> str:
    """How a pod's container last ended badly, as a sentence without a full stop; empty when it never has."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = _ended(container)
        if ended is not None and ended.get("exitCode"):
            return _how(container, ended)
    return ""


def running_since(pod: Object) -> str | None:
    """Since when a pod's container runs, as Kubernetes writes it; None while it does not."""
    for container in (pod.get("status") or {}).get("containerStatuses") or ():
        running = (container.get("state") or {}).get("running")
        return None if running is None else running.get("startedAt")
    return None


def last_words(message: str) -> str:
    """The sentence that matters of what a container left: a K2 command's `error: …`, the error of a line of its log, or the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("error: "):
            # A message of several lines goes on until the log does.
            rest = [each for each in lines[number + 1 :] if not each.startswith("{")]
            return _short(" ".join([line.removeprefix("error: "), *rest]))
    for line in reversed(lines):
        if said := _logged(line):
            return _short(said)
    return _short(lines[-1]) if lines else ""


def _of_container(container: Object) -> PodTrouble | None:
    waiting: Mapping[str, Any] = (container.get("state") or {}).get("waiting") or {}
    why, name = str(waiting.get("reason", "")), container.get("name")
    message = str(waiting.get("message", ""))
    if why in _IMAGE:
        return PodTrouble(
            Reason.IMAGE_PULL_FAILED, f"the image does not come: {_stopped(_PULL_AGAIN.sub('', message) or why)}"
        )
    if why in _CONFIG:
        return PodTrouble(Reason.CONTAINER_CONFIG_ERROR, f"container {name} cannot be made: {_stopped(message or why)}")
    ended = _ended(container)
    if ended is None or container.get("ready") or not (ended.get("exitCode") or why == _BACKING_OFF):
        return None
    reason = Reason.OUT_OF_MEMORY if ended.get("reason") == _OUT_OF_MEMORY else Reason.CRASH_LOOPING
    return PodTrouble(reason, _how(container, ended))


def _ended(container: Object) -> Mapping[str, Any] | None:
    """How a container has ended, now or before it was started again."""
    for when in ("state", "lastState"):
        found: Mapping[str, Any] | None = (container.get(when) or {}).get("terminated")
        if found is not None:
            return found
    return None


def _how(container: Object, ended: Mapping[str, Any]) -> str:
    name, words = container.get("name"), last_words(str(ended.get("message", "")))
    if ended.get("reason") == _OUT_OF_MEMORY:
        return f"container {name} was killed because it needs more memory than its limit; give it more in `resources`"
    said = f"container {name} ended with exit code {ended.get('exitCode', 0)}"
    return f"{said}: {_stopped(words)}" if words else said


def _refused(workload: Object) -> PodTrouble | None:
    """Why a Deployment may make no pods: a quota, a limit, a policy."""
    found = condition(workload, "ReplicaFailure")
    if found is None or found.get("status") != "True":
        return None
    return PodTrouble(Reason.PODS_REFUSED, f"its pods are refused: {_stopped(found.get('message', ''))}")


def _logged(line: str) -> str:
    """The error that a line of a workload's log tells of; empty for any other line."""
    if not line.startswith("{"):
        return ""
    try:
        found: Any = json.loads(line)
    except ValueError:
        return ""  # cut off at its beginning or its end
    if not isinstance(found, dict) or found.get("level") not in ("error", "critical"):  # pyright: ignore[reportUnknownMemberType]
        return ""
    told: Any = found.get("error") or found.get("exception") or found.get("event") or ""  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    lines = str(told).strip().splitlines()
    return lines[-1] if lines else ""


def _short(text: str) -> str:
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"


def _stopped(text: str) -> str:
    return text.strip().rstrip(".")
