"""Whose turn it is when images or the platform's settings change: at most so many feeds have their pods replaced at once.

Decided from the Deployments and Jobs as they are, so that a restart of the operator forgets nothing that matters. A feed whose own
spec has changed does not wait: its author asked for that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from k2_operator.kube.cache import Cache, owner_of
from k2_operator.report.status import Finding, no
from k2_operator.spec import labels, objects
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Object, Ref, condition

COME_AGAIN_SECONDS = 5.0
FORGET_SECONDS = 60.0
"""A feed that has not asked for so long does not want a turn any more: it is gone, or its spec has a mistake in it."""
_WORKLOADS = ("Deployment", "Job")


def waiting(limit: int) -> Finding:
    """`UpToDate` of a feed that waits. Without names: those change with every feed that is done."""
    return no(
        Reason.ROLLOUT_WAITING,
        f"Images or the platform's settings have changed; at most {limit} feeds are rolled at once "
        "(maxConcurrentRollouts), and others are before this one. It goes on by itself.",
    )


def is_rolling(obj: Object, platform_hash: str) -> bool:
    """Whether a workload was built from these settings and its pods are not all there yet.

    A pod that fails later does not count: the rollout is over then.
    """
    found = obj.get("status") or {}
    if _annotation(obj, labels.PLATFORM_HASH) != platform_hash:
        return False
    if obj["kind"] == "Job":
        ended = any((condition(obj, kind) or {}).get("status") == "True" for kind in ("Complete", "Failed"))
        return not ended and not obj["spec"].get("suspend") and not found.get("ready")
    if obj["spec"].get("replicas", 1) == 0:
        return False
    current = int(found.get("observedGeneration") or 0) >= int(obj["metadata"].get("generation") or 0)
    progress = condition(obj, "Progressing")
    return not current or progress is None or progress.get("reason") != "NewReplicaSetAvailable"


def replaces_pods(live: Object | None, wanted: Object) -> bool:
    """Whether applying a workload would replace pods for the platform's sake alone."""
    if live is None or wanted["kind"] not in _WORKLOADS or _asleep(live) or _asleep(wanted):
        return False
    if _annotation(live, labels.PLATFORM_HASH) == _annotation(wanted, labels.PLATFORM_HASH):
        return False
    generation = _annotation(live, labels.GENERATION)
    if generation is not None and generation != _annotation(wanted, labels.GENERATION):
        return False
    return not objects.covers(live["spec"]["template"], wanted["spec"]["template"])


def turns(asking: Mapping[Ref, bool], rolling: Collection[Ref], limit: int) -> frozenset[Ref]:
    """Which of the feeds that ask may go: as many as there is room beside those that roll already.

    Args:
        asking: feeds, each with whether it is well. The well ones go first: a feed that will not come up keeps its place among
            those that roll, and should not take it before it has to.
        rolling: feeds whose pods are being replaced.
        limit: how many may roll at once.
    """
    room = max(0, limit - len(rolling))
    order = sorted((where for where in asking if where not in rolling), key=lambda where: (not asking[where], where))
    return frozenset(order[:room]) | (frozenset(asking) & frozenset(rolling))


@dataclass(slots=True)
class Turns:
    """Gives the turns of one operator."""

    cache: Cache
    platform_hash: str
    limit: int
    clock: Callable[[], float] = time.monotonic
    _asked: dict[Ref, tuple[float, bool]] = field(default_factory=dict[Ref, tuple[float, bool]])
    _given: set[Ref] = field(default_factory=set[Ref])

    def mine(self, feed: Object, wanted: Sequence[Object]) -> bool:
        """Whether a feed may apply what it wants. One that may has to say `done` when that is applied."""
        where = objects.ref(feed)
        if not any(replaces_pods(self.cache.get(objects.ref(each)), each) for each in wanted):
            self._asked.pop(where, None)
            return True
        now = self.clock()
        self._asked = {each: known for each, known in self._asked.items() if known[0] + FORGET_SECONDS > now}
        self._asked[where] = (now, (condition(feed, ConditionType.READY) or {}).get("status") == "True")
        asking = {each: well for each, (_, well) in self._asked.items()}
        if where not in turns(asking, self._rolling() | self._given, self.limit):
            return False
        self._asked.pop(where)
        self._given.add(where)
        return True

    def held(self, wanted: Iterable[Object]) -> set[Ref]:
        """What stays as it is while a feed waits: its workloads and their configuration, as far as they are there."""
        found = {objects.ref(each) for each in wanted if each["kind"] in (*_WORKLOADS, "ConfigMap")}
        return {where for where in found if self.cache.get(where) is not None}

    def done(self, where: Ref) -> None:
        """What was given is applied: from now on the objects tell whether the feed is rolling."""
        self._given.discard(where)

    def _rolling(self) -> set[Ref]:
        workloads = (self.cache.get(where) for kind in _WORKLOADS for where in self.cache.refs(kind))
        found = (owner_of(each) for each in workloads if each is not None and is_rolling(each, self.platform_hash))
        return {where for where in found if where is not None}


def _annotation(obj: Object, name: str) -> str | None:
    return (obj["metadata"].get("annotations") or {}).get(name)


def _asleep(obj: Object) -> bool:
    return bool(obj["spec"].get("suspend")) or obj["spec"].get("replicas", 1) == 0
