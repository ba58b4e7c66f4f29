"""Findings → `status`: conditions by type, whose times move only when their status does. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from k2_operator.report.pods import REASONS, PodTrouble, last_failure, running_since, worst
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object, condition, generation_of

Truth = Literal["True", "False", "Unknown"]
MESSAGE_LIMIT = 1024
CALM_SECONDS = 60.0
"""A load that runs for so long after it has failed is no longer said to fail."""

GATES = tuple(each for each in ConditionType if each.gate)
"""What `Ready` of a feed needs, in the order in which a person should mend it."""

_REASONS = frozenset(each.value for each in Reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said about one condition. The message is for a person."""

    status: Truth
    reason: Reason
    message: str

    @property
    def good(self) -> bool:
        """Whether it is so."""
        return self.status == "True"


def yes(reason: Reason, message: str = "") -> Finding:
    """It is so."""
    return Finding("True", reason, message)


def no(reason: Reason, message: str) -> Finding:
    """It is not so."""
    return Finding("False", reason, message)


def unknown(reason: Reason, message: str) -> Finding:
    """Nobody knows."""
    return Finding("Unknown", reason, message)


def conditions(
    previous: Sequence[Object], findings: Mapping[ConditionType, Finding], generation: int, now: str
) -> list[dict[str, Any]]:
    """Conditions in the order of the findings; a time is kept for as long as the status is the same."""
    before = {each["type"]: each for each in previous}
    built: list[dict[str, Any]] = []
    for kind, finding in findings.items():
        old = before.get(kind)
        since = old["lastTransitionTime"] if old is not None and old["status"] == finding.status else now
        built.append(
            {
                "type": kind.value,
                "status": finding.status,
                "reason": finding.reason.value,
                "message": _shortened(finding.message),
                "observedGeneration": generation,
                "lastTransitionTime": since,
            }
        )
    return built


def status(
    obj: Object,
    findings: Mapping[ConditionType, Finding],
    now: str,
    fields: Mapping[str, Any] | None = None,
    generation: int | None = None,
) -> dict[str, Any]:
    """The whole status of a resource. `fields` go beside the conditions; a None among them is left out.

    `generation` is of the spec that was looked at; None: that of `obj`.
    """
    generation = generation_of(obj) if generation is None else generation
    previous = (obj.get("status") or {}).get("conditions") or ()
    return {
        "observedGeneration": generation,
        "conditions": conditions(previous, findings, generation, now),
        **{name: value for name, value in (fields or {}).items() if value is not None},
    }


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses tell a person the same.

    The order of conditions is the API server's, which keeps the one in which they came, and so is an empty list where we say nothing.
    """
    return _told(one) == _told(other)


def _told(found: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in found.items() if value != []}
    return said | {"conditions": {each["type"]: each for each in found.get("conditions") or ()}}


def carried(obj: Object, kinds: Sequence[ConditionType]) -> dict[ConditionType, Finding]:
    """Findings of those types as they stand in the status already. One for another version's reason waits to be found anew."""
    found = {kind: condition(obj, kind) for kind in kinds}
    return {
        kind: Finding(each["status"], Reason(each["reason"]), each["message"])
        for kind, each in found.items()
        if each is not None and each["reason"] in _REASONS
    }


def ready(findings: Mapping[ConditionType, Finding]) -> Finding:
    """`Ready` of a feed: everything that it needs, or the first thing that is missing."""
    for gate in GATES:
        finding = findings[gate]
        if not finding.good:
            return no(finding.reason, finding.message)
    return yes(Reason.AS_ASKED, "Topics, schemas, tables, sinks and producer are there.")


def added(kept: Sequence[str]) -> str:
    """The message of `FieldsAdded`: what others add to objects of ours, in words, an object each."""
    return (
        f"Fields were added again that K2 had taken off, and it leaves them: {'; '.join(kept)}. "
        "Have whoever adds them stop, and remove them."
    )


_NOT_MEASURED = frozenset({Reason.FIELDS_ADDED, *REASONS})


def degraded(measured: Finding | None, kept: Sequence[str], stuck: Finding | None = None) -> Finding | None:
    """`Degraded` with pods that do not come up and what others add, unless something else is wrong; None where nothing is known yet.

    Args:
        measured: what the figures say.
        kept: what others add to objects of ours, in words.
        stuck: which pods do not come up although there are enough without them.
    """
    # What stands in a status since before a restart is not measured.
    other = None if measured is None or measured.reason in _NOT_MEASURED else measured
    if stuck is not None and (other is None or not other.good):
        return yes(stuck.reason, stuck.message)
    if kept and (other is None or not other.good):
        return yes(Reason.FIELDS_ADDED, added(kept))
    return no(Reason.AS_EXPECTED, "Nothing is known to be wrong.") if measured is not None and other is None else other


def sinks(
    deployments: Sequence[tuple[Object | None, int]],
    *,
    suspended: bool,
    held_up: Finding | None = None,
    troubles: Mapping[str, PodTrouble] | None = None,
) -> Finding:
    """`SinkAvailable`: every sink has the pods that it should have, and commits what there is.

    Args:
        deployments: of each sink, None where there is none yet, with the pods that it should have at least.
        suspended: whether the feed is.
        held_up: what the offsets say of a sink that commits nothing, or reads no more; None: nothing of the kind.
        troubles: why pods do not come up, by the Deployment's name.
    """
    if suspended:
        return no(Reason.SUSPENDED, "spec.suspend is true; set it to false to go on.")
    if not deployments:
        return yes(Reason.NO_SINK, "No stream of this feed has a sink of its own.")
    if all(wanted == 0 for _, wanted in deployments):
        return no(Reason.SCALED_TO_ZERO, "spec.sink.replicas is 0; events stay in the topics.")
    if (found := _troubled(deployments, troubles or {})) is not None:
        return found  # before what comes of it
    if held_up is not None:
        return held_up
    if lacking := [reason for each, wanted in deployments if (reason := _lack(each, wanted))]:
        more = "`kubectl get pods -l app.kubernetes.io/component=sink` tells more."
        return no(Reason.SINK_NOT_AVAILABLE, f"{'; '.join(lacking)}. {more}")
    return yes(Reason.SINK_AVAILABLE, f"{len(deployments)} of {len(deployments)} sinks run.")


def live_producer(
    deployment: Object | None, *, suspended: bool, troubles: Mapping[str, PodTrouble] | None = None
) -> Finding:
    """`ProducerAvailable` of a source without an end."""
    if suspended:
        return no(Reason.SUSPENDED, "spec.suspend is true; set it to false to go on.")
    if (found := _troubled([(deployment, 1)], troubles or {})) is not None:
        return found
    reason = _lack(deployment, 1)
    return (
        no(Reason.PRODUCER_NOT_AVAILABLE, f"{reason}.")
        if reason
        else yes(Reason.PRODUCER_AVAILABLE, "The producer runs.")
    )


def load(
    job: Object | None,
    *,
    completed: bool,
    suspended: bool,
    pods: Sequence[Object] = (),
    before: Object | None = None,
    now: str = "",
) -> Finding:
    """`ProducerAvailable` of a source with an end: True while its Job runs and for ever after.

    Args:
        job: None where there is none yet.
        completed: whether the source was read to its end, be the Job there or not.
        suspended: whether the feed is.
        pods: the Job's, trimmed.
        before: the condition as it stands. When a Job gives up, Kubernetes deletes its pod, and with it what that said.
        now: the time as Kubernetes writes it.
    """
    if completed:
        return yes(Reason.LOAD_COMPLETED, "The source was read to its end.")
    if suspended:
        return no(Reason.SUSPENDED, "spec.suspend is true; set it to false to go on.")
    if job is None:
        return no(Reason.LOAD_STARTING, "The load's Job is not there yet.")
    name = job["metadata"]["name"]
    said = next((f"{words[0].upper()}{words[1:]}." for each in pods if (words := last_failure(each))), "")
    if not pods:
        said = _said_before(before, name)
    failed = condition(job, "Failed")
    if failed is not None and failed["status"] == "True":
        told = f"{said} Job {name} has failed ({failed.get('message', '')}). Mend the cause, then delete the Job: it is started again."
        return no(Reason.LOAD_FAILED, told.lstrip())
    if said and not any(_runs_well(each, now) for each in pods):
        return no(
            Reason.LOAD_FAILING,
            f"{said} Job {name} is tried again, with pauses that grow, {job['spec'].get('backoffLimit', 6)} times in all; "
            f"`kubectl logs job/{name}` tells more.",
        )
    if (found := worst(pods)) is not None:
        return no(found.reason, f"Job {name}: {found.said}.")
    if (job.get("status") or {}).get("ready"):
        return yes(Reason.LOAD_RUNNING, "The source is being read.")
    return no(Reason.LOAD_STARTING, f"Job {name} has no running pod yet.")


def _runs_well(pod: Object, now: str) -> bool:
    """Whether a pod's container runs for so long that its failures of before are over."""
    since = running_since(pod)
    return since is not None and seconds_between(since, now) >= CALM_SECONDS


def _said_before(before: Object | None, job: str) -> str:
    """What the condition has told of the last run of a Job that failed."""
    if before is None or before["reason"] not in (Reason.LOAD_FAILING, Reason.LOAD_FAILED):
        return ""
    said, found, _ = before["message"].partition(f" Job {job} ")
    return said if found else ""


def is_complete(job: Object | None) -> bool:
    """Whether a Job has ended well."""
    found = condition(job, "Complete") if job is not None else None
    return found is not None and found["status"] == "True"


def _troubled(deployments: Sequence[tuple[Object | None, int]], troubles: Mapping[str, PodTrouble]) -> Finding | None:
    """Of Deployments that lack pods, the first whose pods tell why; None when none of them does."""
    for each, wanted in deployments:
        found = None if each is None else troubles.get(str(each["metadata"]["name"]))
        if found is not None and (lacking := _lack(each, wanted)):
            return no(found.reason, f"{lacking}: {found.said}.")
    return None


def _lack(deployment: Object | None, wanted: int) -> str:
    """What a Deployment lacks; empty when it lacks nothing."""
    if deployment is None:
        return "a Deployment is not there yet"
    # Of a new generation, too, whatever is seen of it yet: pods of before are available as long as they are there.
    available, name = (
        int((deployment.get("status") or {}).get("availableReplicas") or 0),
        deployment["metadata"]["name"],
    )
    return "" if available >= wanted else f"Deployment {name} has {available} of {wanted} pods available"


def seconds_between(earlier: str, later: str) -> float:
    """Seconds between two times as Kubernetes writes them."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _shortened(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
