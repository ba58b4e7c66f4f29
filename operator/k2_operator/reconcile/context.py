"""What a reconcile and the end of a resource work with, and how either writes a status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from k2.model.platform import Platform
from k2_operator.kube.cache import Cache, Change
from k2_operator.kube.client import Kube
from k2_operator.kube.events import EventWriter
from k2_operator.reconcile.apply import Applier
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.collector import Told
from k2_operator.reconcile.observe import Secrets
from k2_operator.reconcile.rollout import Turns
from k2_operator.report import status
from k2_operator.report.status import Finding, no
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object, Ref, condition, generation_of

WAITING = no(Reason.RECONCILING, "The operator has just begun with this resource.")
_ASKED_FOR = (Reason.SUSPENDED, Reason.SCALED_TO_ZERO, Reason.LOAD_STARTING)
"""Not ready, and nothing to warn of."""


def utc_now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Context:
    """One operator's way to everything outside; the same for all of its resources.

    Attributes:
        edited: is told of a resource whose spec the cache has by another way than a watch.
        let_go: the uids of feeds that have ended.
    """

    kube: Kube
    cache: Cache
    platform: Platform
    backends: Backends
    applier: Applier
    secrets: Secrets
    events: EventWriter
    wake: Callable[[Ref], None]
    edited: Callable[[Object], None]
    told: Callable[[Ref], Told]
    turns: Turns
    let_go: set[str] = field(default_factory=set[str])
    now: Callable[[], str] = utc_now

    async def write(
        self,
        obj: Object,
        findings: Mapping[ConditionType, Finding],
        fields: Mapping[str, Any],
        generation: int | None = None,
    ) -> None:
        """Write the status, if it says anything else than before.

        Args:
            obj: the resource.
            findings: its conditions.
            fields: what stands beside them.
            generation: of the spec that all of this is of; None: that of `obj`. The resource may have been edited meanwhile.
        """
        observed = generation_of(obj) if generation is None else generation
        before = self.cache.get(Ref(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"])) or obj
        new = status.status(before, findings, self.now(), fields, observed)
        if status.says_the_same(new, before.get("status") or {}):
            return
        # Before the status: who has seen that finds the Event, also where this write's answer is lost.
        await self._tell_of_ready(before, findings[ConditionType.READY])
        if (degraded := findings.get(ConditionType.DEGRADED)) is not None:
            await self._tell_of_degraded(before, degraded)
        manifest = {
            "apiVersion": obj["apiVersion"],
            "kind": obj["kind"],
            "metadata": {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]},
            "status": new,
        }
        answer = await self.kube.apply(manifest, "status")
        if self.cache.put(answer) is Change.SPEC:
            self.edited(answer)  # the edit's own event comes later, and brings nothing new

    async def _tell_of_ready(self, obj: Object, ready: Finding) -> None:
        before = condition(obj, ConditionType.READY)
        if ready.reason is Reason.RECONCILING or (before is not None and before["reason"] == ready.reason):
            return
        kind = "Normal" if ready.good or ready.reason in _ASKED_FOR else "Warning"
        await self.events.post(obj, ready.reason, ready.message, kind)

    async def _tell_of_degraded(self, obj: Object, degraded: Finding) -> None:
        """Once when something begins to be wrong, and once when nothing is any more."""
        before = condition(obj, ConditionType.DEGRADED)
        known = "" if before is None or before["status"] != "True" else before["reason"]
        now = degraded.reason if degraded.good else ""
        if now != known:
            await self.events.post(obj, degraded.reason, degraded.message, "Warning" if now else "Normal")

    async def say(self, obj: Object, finding: Finding) -> None:
        """Write `Ready` alone, for a resource on its way out."""
        await self.write(obj, {ConditionType.READY: finding}, {})
