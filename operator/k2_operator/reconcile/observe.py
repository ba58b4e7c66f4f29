"""What a reconcile looks at: the resource, what it refers to, and what is there of it. Read from the cache; Secrets are asked for.

Nothing here decides anything; `plan` and `status` do, from what is found here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from k2.model.platform import Platform
from k2.model.topics import TopicName
from k2_operator.kube.cache import FEED, TABLE, Cache
from k2_operator.kube.client import Kube
from k2_operator.plan import planning
from k2_operator.plan.planning import Key
from k2_operator.plan.plans import FeedPlan, TablePlan
from k2_operator.spec import labels
from k2_operator.spec.objects import Object, Ref, labels_of, owner_uids, ref
from k2_operator.spec.resources import IcebergTable, MarketFeed
from k2_operator.spec.validate import ResourceError

SECRET_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """A feed, its plan or what stands in its way, the objects that are there because of it, and their pods."""

    obj: dict[str, Any]
    plan: FeedPlan | None
    errors: tuple[ResourceError, ...]
    tables: Mapping[str, Object]
    owned: tuple[dict[str, Any], ...]
    pods: tuple[dict[str, Any], ...] = ()

    @property
    def deleting(self) -> bool:
        """Whether somebody has deleted it."""
        return bool(self.obj["metadata"].get("deletionTimestamp"))

    @property
    def completed_source(self) -> str | None:
        """Hash of the finite source that is done."""
        return (self.obj.get("status") or {}).get("completedSource")

    def object(self, kind: str, name: str) -> dict[str, Any] | None:
        """One of the feed's objects."""
        return next((each for each in self.owned if (each["kind"], each["metadata"]["name"]) == (kind, name)), None)

    def pods_of(self, workload: str) -> list[dict[str, Any]]:
        """The pods of a Deployment or Job of the feed, trimmed."""
        return [each for each in self.pods if labels_of(each).get(labels.INSTANCE) == workload]

    @property
    def deletable(self) -> list[dict[str, Any]]:
        """The objects that are this very feed's: a sink that another feed has taken over is not."""
        uid = self.obj["metadata"]["uid"]
        return [each for each in self.owned if uid in owner_uids(each)]


@dataclass(frozen=True, slots=True)
class TableFacts:
    """An IcebergTable, its plan or what stands in its way, and the feeds that refer to it."""

    obj: dict[str, Any]
    plan: TablePlan | None
    errors: tuple[ResourceError, ...]
    feeds: tuple[MarketFeed, ...]
    owned: tuple[dict[str, Any], ...] = ()

    @property
    def deleting(self) -> bool:
        """Whether somebody has deleted it."""
        return bool(self.obj["metadata"].get("deletionTimestamp"))

    @property
    def deletable(self) -> list[dict[str, Any]]:
        """The objects that are this very table's; Jobs belong to their CronJob."""
        uid = self.obj["metadata"]["uid"]
        return [each for each in self.owned if uid in owner_uids(each)]


def feed(cache: Cache, platform: Platform, where: Ref) -> FeedFacts | None:
    """The facts of a feed; None when there is no such feed any more."""
    obj, parsed = cache.get(where), cache.parsed(where)
    if obj is None or parsed is None:
        return None
    owned, pods = tuple(cache.owned(where.namespace, where.name)), tuple(cache.pods_of(where))
    if not isinstance(parsed.resource, MarketFeed):
        return FeedFacts(obj, None, parsed.errors, {}, owned, pods)
    names = {stream.table_ref.name for stream in parsed.resource.spec.streams}
    tables = {name: found for name in names if (found := cache.get(Ref(TABLE, where.namespace, name))) is not None}
    rivals = cache.feeds_of_exchange(parsed.resource.spec.exchange)
    planned, errors = planning.plan_feed(parsed.resource, platform, _table_plans(cache, where.namespace, names), rivals)
    return FeedFacts(obj, planned, tuple(errors), tables, owned, pods)


def again(cache: Cache, platform: Platform, facts: FeedFacts) -> FeedFacts:
    """The facts of a feed a moment later; those that are given where it has gone meanwhile.

    Its plan is not made again as long as its spec and its tables' are those that it was made of. What else a plan depends on, a
    rival for its topics, wakes the feed by itself.
    """
    where = ref(facts.obj)
    obj = cache.get(where)
    if obj is None:
        return facts
    found = {name: cache.get(Ref(TABLE, where.namespace, name)) for name in facts.tables}
    tables = {name: each for name, each in found.items() if each is not None}
    if (
        len(tables) < len(found)
        or _edited(facts.obj, obj)
        or any(_edited(facts.tables[name], tables[name]) for name in tables)
    ):
        return feed(cache, platform, where) or facts
    owned, pods = tuple(cache.owned(where.namespace, where.name)), tuple(cache.pods_of(where))
    return replace(facts, obj=obj, tables=tables, owned=owned, pods=pods)


def _edited(before: Object, now: Object) -> bool:
    """Whether a resource's spec may be another one."""
    return any(before["metadata"].get(name) != now["metadata"].get(name) for name in ("uid", "generation"))


def table(cache: Cache, where: Ref) -> TableFacts | None:
    """The facts of a table; None when there is no such IcebergTable any more."""
    obj, parsed = cache.get(where), cache.parsed(where)
    if obj is None or parsed is None:
        return None
    feeds, owned = tuple(cache.feeds_of_table(where.namespace, where.name)), tuple(cache.owned_by(where))
    if not isinstance(parsed.resource, IcebergTable):
        return TableFacts(obj, None, parsed.errors, feeds, owned)
    planned, errors = planning.plan_table(parsed.resource, cache.tables())
    return TableFacts(obj, planned, tuple(errors), feeds, owned)


def _table_plans(cache: Cache, namespace: str, names: set[str]) -> dict[Key, TablePlan]:
    """Plans of the tables that are usable. One that is being deleted is still there, as long as a feed uses it."""
    found: dict[Key, TablePlan] = {}
    for name in names:
        parsed = cache.parsed(Ref(TABLE, namespace, name))
        if parsed is not None and isinstance(parsed.resource, IcebergTable):
            planned, _ = planning.plan_table(parsed.resource, cache.tables())
            if planned is not None:
                found[namespace, name] = planned
    return found


def rivals(cache: Cache, where: Ref, exchange: str) -> list[Ref]:
    """The other feeds that may want a feed's topics."""
    others = cache.feeds_of_exchange(exchange)
    found = [Ref(FEED, each.metadata.namespace, each.metadata.name) for each in others]
    return [each for each in found if each != where]


def topics_of(cache: Cache, where: Ref) -> list[TopicName]:
    """The topics that a feed names."""
    parsed = cache.parsed(where)
    return planning.topics_of(parsed.resource) if parsed and isinstance(parsed.resource, MarketFeed) else []


@dataclass(slots=True)
class Secrets:
    """Whether the Secrets that the platform names are there. Only their metadata is asked for; found ones for a minute."""

    kube: Kube
    platform: Platform
    clock: Callable[[], float] = time.monotonic
    _found: dict[Ref, float] = field(default_factory=dict[Ref, float])

    async def missing(self, namespace: str) -> list[str]:
        """The names that are missing in a namespace."""
        kafka, registry, catalog = self.platform.kafka, self.platform.registry, self.platform.catalog
        # Those of the workloads; the operator and the query service have theirs beside them.
        roles = (kafka.secret_of("producer"), kafka.secret_of("sink"))
        names = (*roles, kafka.ca_secret_name, registry.secret_name, catalog.secret_name)
        missing: list[str] = []
        for name in dict.fromkeys(name for name in names if name is not None):
            where = Ref("Secret", namespace, name)
            if self._found.get(where, -SECRET_SECONDS) + SECRET_SECONDS > self.clock():
                continue
            if await self.kube.metadata(where) is not None:
                self._found[where] = self.clock()
            else:
                missing.append(name)
        return missing
