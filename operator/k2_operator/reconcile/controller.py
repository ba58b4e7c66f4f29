"""The operator's own machinery: cache and queue between the watches and `reconcile`, and a resync that misses nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import stamina

from k2.model.errors import WorldError
from k2.model.platform import Platform
from k2.model.topics import subject_of
from k2.obs.logging import get_logger
from k2_operator.build import stamp
from k2_operator.kube import metrics as kube_metrics
from k2_operator.kube.cache import FEED, TABLE, Cache, Change, owner_of
from k2_operator.kube.client import ApiError, Kube
from k2_operator.kube.events import EventWriter
from k2_operator.kube.kinds import KEDA, owned_kinds, selector, watched_kinds
from k2_operator.reconcile import metrics, observe
from k2_operator.reconcile.apply import Applier
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.collector import Collector
from k2_operator.reconcile.context import Context
from k2_operator.reconcile.reconciler import NotYetError, Reconciler
from k2_operator.reconcile.rollout import Turns
from k2_operator.reconcile.workqueue import WorkQueue
from k2_operator.reconcile.world import Lookout, WorldPart
from k2_operator.spec import objects
from k2_operator.spec.conditions import UNREACHABLE, ConditionType
from k2_operator.spec.objects import Ref
from k2_operator.spec.resources import KINDS, MarketFeed

SPREAD_SECONDS = 30.0
"""Over so long those are spread who ask the world about everything, so that it is not asked at one moment."""

FEW = 20
"""So many may ask at once."""

FIRST_RESYNC_SECONDS = 15.0
"""Soon after the start, what ended between our list and the watches' is pruned."""
CLOSED_SECONDS = 60.0
"""How soon it is seen that a namespace may be read again."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between two looks at everything (`resync`), rounds of measuring (`collect`), questions to a part of the world (`look`)."""

    resync: float = 600.0
    collect: float = 30.0
    look: float = 15.0


class NamespaceReturnedError(Exception):
    """A namespace that could not be read can be read again."""


@dataclass(slots=True)
class Controller:
    """One operator at work. `namespaces` are those that it watches; None means all.

    Enter it as a context of `start` and `stop`; between the two `seen` takes events.
    """

    kube: Kube
    platform: Platform
    backends: Backends
    namespaces: Sequence[str] | None
    intervals: Intervals = field(default_factory=Intervals)
    cache: Cache = field(default_factory=Cache)
    _collector: Collector = field(init=False)
    _lookout: Lookout = field(init=False)
    _queue: WorkQueue[Ref] = field(init=False)
    _reconciler: Reconciler = field(init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])
    _synced: bool = False
    _closed: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._collector = Collector(self.cache, self.platform, self.backends, self.wake, self.intervals.collect)
        self._lookout = Lookout(
            world=self.backends.world,
            settings=self.backends.settings,
            turned=self._turned,
            listed=self._listed,
            a_table=self._a_table,
            interval=self.intervals.look,
        )
        context = Context(
            kube=self.kube,
            cache=self.cache,
            platform=self.platform,
            backends=self.backends,
            applier=Applier(self.kube, self.cache),
            secrets=observe.Secrets(self.kube, self.platform),
            events=EventWriter(self.kube),
            wake=self.wake,
            edited=self._edited,
            told=self._collector.told,
            turns=Turns(self.cache, stamp.platform_hash(self.platform), self.platform.operator.max_concurrent_rollouts),
        )
        self._reconciler = Reconciler(context)
        self._queue = WorkQueue(self._reconciler.reconcile, self._failed)
        metrics.QUEUE.set_function(self._queue.__len__)
        for kind in owned_kinds(self.platform):
            for counter in (metrics.APPLIED, metrics.DELETED):
                counter.labels(kind)  # at zero, as all of them are

    async def start(self) -> None:
        """List everything, then begin to work: who owns a topic can only be told by who knows all feeds."""
        # As long as it takes: without the list there is nothing to do.
        patiently = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_initial=1.0, wait_max=5.0)
        await patiently(ApiError, self._list_all)
        self._synced = True
        self._wake_all()
        self._tasks = [
            asyncio.create_task(self._queue.run(), name="k2-queue"),
            asyncio.create_task(self._resync(), name="k2-resync"),
            asyncio.create_task(self._collector.run(), name="k2-collector"),
            asyncio.create_task(self._lookout.run(), name="k2-lookout"),
        ]
        for task in self._tasks:
            task.add_done_callback(_end_with)
        _log.info("operator.started", namespaces=list(self.namespaces or ["*"]), resources=len(self._our_refs()))

    async def stop(self) -> None:
        """Stop working. What was begun is found half done by the next start, which goes on from there."""
        for task in self._tasks:
            task.remove_done_callback(_end_with)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.backends.close()

    @property
    def ready(self) -> bool:
        """Whether the first list has been read and the work goes on."""
        return self._synced and self.alive

    @property
    def alive(self) -> bool:
        """Whether no part of it has ended by itself."""
        return not any(task.done() for task in self._tasks)

    @property
    def idle(self) -> bool:
        """Whether nothing is being worked on."""
        return self._queue.idle

    def seen(self, obj: dict[str, Any], gone: bool) -> None:
        """Take in what a watch has brought."""
        where = objects.ref(obj)
        kube_metrics.EVENTS.labels(where.kind).inc()
        if gone:
            before = self.cache.parsed(where)
            if self.cache.remove(where, obj["metadata"].get("uid"), objects.version(obj)):
                self._after(where, obj, before.resource if before else None)
            return
        former = self.cache.get(where)
        change = self.cache.put(obj)
        if former is not None and where.kind in KINDS:
            if change is Change.STATUS and former.get("status") != obj.get("status"):
                self.wake(where)  # somebody has written it by hand: what we write is here before its event
        elif former is not None and (owner := owner_of(former)) and owner != owner_of(obj):
            self.wake(owner)  # its label was taken off, or changed: who has made it has to know
        if change is Change.SPEC or (change is Change.STATUS and where.kind not in KINDS):
            self._edited(obj)

    def wake(self, where: Ref) -> None:
        """Have a resource looked at."""
        if self._synced:
            self._queue.add(where)

    def _edited(self, obj: Mapping[str, Any]) -> None:
        where = objects.ref(obj)
        parsed = self.cache.parsed(where)
        self._after(where, obj, parsed.resource if parsed else None)

    def _after(self, where: Ref, obj: Mapping[str, Any], resource: Any) -> None:
        """Wake whoever an event may concern."""
        if where.kind == FEED:
            self.wake(where)
            if isinstance(resource, MarketFeed):
                for rival in observe.rivals(self.cache, where, resource.spec.exchange):
                    self.wake(rival)
                for stream in resource.spec.streams:
                    self._wake_if_leaving(Ref(TABLE, where.namespace, stream.table_ref.name))
        elif where.kind == TABLE:
            self.wake(where)
            for table in self.cache.refs(TABLE):
                if self._same_identifier(table, obj):
                    self.wake(table)
            for feed in self.cache.feeds_of_table(where.namespace, where.name):
                self.wake(Ref(FEED, feed.metadata.namespace, feed.metadata.name))
        elif owner := owner_of(obj):
            self.wake(owner)

    def _wake_if_leaving(self, table: Ref) -> None:
        found = self.cache.get(table)
        if found is not None and found["metadata"].get("deletionTimestamp"):
            self.wake(table)

    def _same_identifier(self, table: Ref, obj: Mapping[str, Any]) -> bool:
        found = self.cache.get(table)
        return found is not None and found["spec"].get("identifier") == obj["spec"].get("identifier")

    def _failed(self, where: Ref, error: Exception) -> None:
        if isinstance(error, NotYetError):
            _log.info("reconcile.deferred", resource=str(where), reason=str(error))
        elif isinstance(error, WorldError):
            _log.warning(
                "reconcile.failed", resource=str(where), failures=self._queue.failures(where), error=str(error)
            )
        else:
            _log.error("reconcile.crashed", resource=str(where), exc_info=error)

    def _our_refs(self) -> list[Ref]:
        return self.cache.refs(FEED) + self.cache.refs(TABLE)

    def _wake_all(self) -> None:
        for where in self._our_refs():
            self._queue.add(where)

    def _wake_spread(self, wanted: Sequence[Ref]) -> None:
        for where in wanted:
            self._queue.add(where, random.uniform(0.0, SPREAD_SECONDS) if len(wanted) > FEW else 0.0)

    def _turned(self, part: WorldPart) -> None:
        """A part of the world has gone or come back: have whoever needs it say so. Feeds hear of the lake from their tables."""
        concerned = self.cache.refs(FEED if part in (WorldPart.KAFKA, WorldPart.REGISTRY) else TABLE)
        if (away := self.backends.world.away(part)) is None:
            self.backends.doubt(part)
            self._wake_spread(concerned)
            return
        self._collector.lose(away)
        for where in concerned:
            self.wake(where)  # at once, for nobody asks

    def _listed(self, subjects: frozenset[str], since: float) -> None:
        """Have the subjects registered again that the registry has no more."""
        missing = self.backends.missing(subjects, since)
        if not missing:
            return
        _log.warning("registry.subjects_missed", count=len(missing), first=min(missing))
        for where in self.cache.refs(FEED):
            if not missing.isdisjoint(subject_of(str(topic)) for topic in observe.topics_of(self.cache, where)):
                self.wake(where)

    def _a_table(self) -> str | None:
        """A table that is there, or was when its catalog could be asked last."""
        for where in self.cache.refs(TABLE):
            found = self.cache.get(where) or {}
            ready = objects.condition(found, ConditionType.READY)
            if ready is not None and (ready["status"] == "True" or ready["reason"] in UNREACHABLE):
                return str(found["spec"]["identifier"])
        return None

    async def _resync(self) -> None:
        """Look at everything again, now and then: watches lose what ends while they are being connected anew."""
        delay = min(FIRST_RESYNC_SECONDS, self.intervals.resync)
        while True:
            await asyncio.sleep(delay)
            delay = self.intervals.resync * random.uniform(0.9, 1.1)
            if self._closed:
                delay = min(delay, CLOSED_SECONDS)
            try:
                for where, obj, resource in await self._list_all():
                    self._after(where, obj, resource)
            except ApiError as error:
                _log.warning("resync.postponed", error=str(error))
                delay = 30.0
                continue
            metrics.LAST_RESYNC.set(time.time())
            self._wake_spread(self._our_refs())

    async def _list_all(self) -> list[tuple[Ref, Mapping[str, Any], Any]]:
        """Read all kinds into the cache; returns what was in there and is no more."""
        gone: list[tuple[Ref, Mapping[str, Any], Any]] = []
        closed: set[str] = set()
        for kind in (*KINDS, *watched_kinds(self.platform)):
            before = {where: self.cache.get(where) for where in self.cache.refs(kind)}
            chosen = "" if kind in KINDS else selector(kind)
            found: set[Ref] = set()
            for namespace in self.namespaces or (None,):
                async for obj in self._list(kind, namespace, chosen, closed):
                    found.add(objects.ref(obj))
                    self.cache.put(obj)
            for where, old in before.items():
                # Only if it is still what it was before the list was asked for.
                if where.namespace in closed:
                    continue
                if where not in found and old is not None and self.cache.get(where) is old:
                    parsed = self.cache.parsed(where)
                    self.cache.remove(where)
                    gone.append((where, old, parsed.resource if parsed else None))
        self._take_closed(closed)
        return gone

    def _take_closed(self, closed: set[str]) -> None:
        """Take in which namespaces may not be read: they were deleted, and our Role with them. The others go on.

        Raises:
            NamespaceReturnedError: one may be read again, and only a new process watches it.
        """
        if new := closed - self._closed:
            remedy = "make the namespace and install the chart again, or take it out of watchNamespaces"
            _log.warning("namespace.closed", namespaces=sorted(new), remedy=remedy)
        back, self._closed = self._closed - closed, closed
        if back:
            raise NamespaceReturnedError(
                f"May be read again, and is watched by a new process alone: {', '.join(sorted(back))}"
            )

    async def _list(
        self, kind: str, namespace: str | None, chosen: str, closed: set[str]
    ) -> AsyncGenerator[dict[str, Any]]:
        try:
            async for obj in self.kube.list(kind, namespace, chosen):
                yield obj
        except ApiError as error:
            if kind in KEDA and error.status == 404:
                return  # not installed: the feeds that ask for it say so
            if error.status == 403 and namespace is not None and len(closed | {namespace}) < len(self.namespaces or ()):
                closed.add(namespace)
                return
            raise


def _end_with(task: asyncio.Task[None]) -> None:
    """A part of the machinery that has ended takes the process with it: Kubernetes starts it again."""
    if not task.cancelled():
        _log.error("task.ended", task=task.get_name(), exc_info=task.exception())
