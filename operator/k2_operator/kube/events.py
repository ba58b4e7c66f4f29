"""Kubernetes Events of our own: one for what changed, none for what only went on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from k2.obs.logging import get_logger
from k2_operator.kube.client import ApiError, Kube
from k2_operator.spec.conditions import EventReason, Reason
from k2_operator.spec.objects import Object

REPEAT_SECONDS = 600.0
_log = get_logger(__name__)


@dataclass(slots=True)
class EventWriter:
    """Posts Events; the same words about the same object are posted once in ten minutes."""

    kube: Kube
    clock: Callable[[], float] = time.monotonic
    _posted: dict[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])

    async def post(
        self, about: Object, reason: Reason | EventReason, message: str, kind: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Post an Event about an object. One that cannot be posted is logged: nobody's feed waits for it."""
        metadata = about["metadata"]
        key = (str(metadata.get("uid", "")), reason, message)
        now = self.clock()
        if self._posted.get(key, -REPEAT_SECONDS) + REPEAT_SECONDS > now:
            return
        self._posted = {known: at for known, at in self._posted.items() if at + REPEAT_SECONDS > now}
        self._posted[key] = now
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "reason": reason.value,
            "message": message[:1000],
            "type": kind,
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": "k2-operator"},
            "reportingComponent": "k2.dev/operator",
        }
        try:
            await self.kube.create(event)
        except ApiError as error:
            _log.warning("event.dropped", reason=reason.value, about=metadata["name"], error=str(error))
