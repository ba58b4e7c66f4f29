"""What the watches have seen: trimmed objects by reference, and the resources among them parsed once.

Answers of our own writes are put in at once, so that the next reconcile never decides on what it has just changed; a watch
event that is older than what is here changes nothing. What a watch has seen go stays gone for all that is older than its end: the
answer of the write that made it may come later than that. What is newer is no ghost: a watch by label says of an object that has lost
its label, too, that it was deleted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from k2_operator.spec import labels, objects, ownership, pods
from k2_operator.spec.objects import Object, Ref
from k2_operator.spec.pods import POD
from k2_operator.spec.resources import KINDS, IcebergTable, MarketFeed
from k2_operator.spec.validate import ResourceError, parse

FEED, TABLE = "MarketFeed", "IcebergTable"

# Of so many objects we remember that they are gone: far more than there are writes under way.
_GONE = 4096


class Change(Enum):
    """What an event changed: nothing that is new here, the status alone, or what somebody asks for."""

    NONE = 0
    STATUS = 1
    SPEC = 2


@dataclass(frozen=True, slots=True)
class ParsedResource:
    """A resource of ours as it was read: parsed, or what is wrong with its fields."""

    resource: MarketFeed | IcebergTable | None
    errors: tuple[ResourceError, ...]


@dataclass(slots=True)
class Cache:
    """Objects by reference, with an index of what belongs to a feed or a table."""

    _objects: dict[Ref, dict[str, Any]] = field(default_factory=dict[Ref, dict[str, Any]])
    _parsed: dict[Ref, ParsedResource] = field(default_factory=dict[Ref, ParsedResource])
    _owned: dict[Ref, set[Ref]] = field(default_factory=dict[Ref, set[Ref]])
    _exchanges: dict[str, set[Ref]] = field(default_factory=dict[str, set[Ref]])
    _gone: dict[str, int] = field(default_factory=dict[str, int])

    def put(self, obj: Object) -> Change:
        """Take in an object as the API server has shown it."""
        where = objects.ref(obj)
        new = pods.trimmed(obj) if where.kind == POD else objects.trimmed(obj)
        if objects.version(new) <= self._gone.get(str(new["metadata"].get("uid")), -2):
            return Change.NONE
        if where.kind not in (*KINDS, POD) and (found := ownership.others(obj)):
            # Of all that `managedFields` say, what tells additions from what was asked for: hardly ever anything.
            new["metadata"]["managedFields"] = found
        old = self._objects.get(where)
        if old is not None:
            same = old["metadata"].get("uid") == new["metadata"].get("uid")
            if same and objects.version(new) <= objects.version(old):
                return Change.NONE
        self._unindex(where)
        self._objects[where] = new
        self._index(where, new)
        if where.kind == POD and old is not None and pods.same(old, new):
            return Change.NONE  # of a pod most news is of what is not kept
        if old is None or objects.digest(old) != objects.digest(new):
            return Change.SPEC
        return Change.STATUS

    def remove(self, where: Ref, uid: str | None = None, version: int = -1) -> bool:
        """Forget an object; False when another one of the same name is here.

        Args:
            where: the object.
            uid: that of the one that has gone. What is known of it is forgotten for good then, as far as it is older than its end.
            version: the resource version of its end; where there is none (-1), all that is known is older.
        """
        old = self._objects.get(where)
        if uid is not None:
            self._gone[uid] = version if version >= 0 else sys.maxsize
            if len(self._gone) > _GONE:
                del self._gone[next(iter(self._gone))]
            if old is not None and old["metadata"].get("uid") != uid:
                return False
        if old is not None:
            self._unindex(where)
            del self._objects[where]
        return True

    def get(self, where: Ref) -> dict[str, Any] | None:
        """The object, or None."""
        return self._objects.get(where)

    def refs(self, kind: str) -> list[Ref]:
        """References of all objects of a kind."""
        return [where for where in self._objects if where.kind == kind]

    def owned(self, namespace: str, feed: str) -> list[dict[str, Any]]:
        """What carries a feed's label."""
        return self.owned_by(Ref(FEED, namespace, feed))

    def owned_by(self, resource: Ref) -> list[dict[str, Any]]:
        """What carries the label of a feed or a table, pods aside: those Kubernetes makes."""
        return self._of(resource, are_pods=False)

    def pods_of(self, resource: Ref) -> list[dict[str, Any]]:
        """The pods of a feed, trimmed."""
        return self._of(resource, are_pods=True)

    def _of(self, resource: Ref, *, are_pods: bool) -> list[dict[str, Any]]:
        found = sorted(self._owned.get(resource, ()))
        return [self._objects[where] for where in found if (where.kind == POD) is are_pods]

    def parsed(self, where: Ref) -> ParsedResource | None:
        """A resource of ours, parsed."""
        return self._parsed.get(where)

    def feeds(self) -> Iterator[MarketFeed]:
        """All feeds whose fields are right."""
        return self._feeds(where for where in self._parsed if where.kind == FEED)

    def feeds_of_exchange(self, exchange: str) -> list[MarketFeed]:
        """Feeds of an exchange: only those can want the same topic."""
        return list(self._feeds(self._exchanges.get(exchange.lower(), ())))

    def feeds_of_table(self, namespace: str, table: str) -> list[MarketFeed]:
        """Feeds with a stream that goes to an IcebergTable."""
        return [
            feed
            for feed in self.feeds()
            if feed.metadata.namespace == namespace
            and any(stream.table_ref.name == table for stream in feed.spec.streams)
        ]

    def tables(self) -> list[IcebergTable]:
        """All tables whose fields are right."""
        found = (each.resource for where, each in self._parsed.items() if where.kind == TABLE)
        return [each for each in found if isinstance(each, IcebergTable)]

    def _feeds(self, refs: Iterable[Ref]) -> Iterator[MarketFeed]:
        for where in refs:
            found = self._parsed[where].resource
            if isinstance(found, MarketFeed):
                yield found

    def _index(self, where: Ref, obj: Mapping[str, Any]) -> None:
        if where.kind in KINDS:
            resource, errors = parse(obj)
            self._parsed[where] = ParsedResource(resource, tuple(errors))
            if isinstance(resource, MarketFeed):
                self._exchanges.setdefault(resource.spec.exchange.lower(), set()).add(where)
        elif owner := owner_of(obj):
            self._owned.setdefault(owner, set()).add(where)

    def _unindex(self, where: Ref) -> None:
        old = self._objects.get(where)
        if old is None:
            return
        parsed = self._parsed.pop(where, None)
        if parsed is not None and isinstance(parsed.resource, MarketFeed):
            self._exchanges.get(parsed.resource.spec.exchange.lower(), set()).discard(where)
        if owner := owner_of(old):
            self._owned.get(owner, set()).discard(where)


def owner_of(obj: Object) -> Ref | None:
    """The feed or table whose label an object carries."""
    marks, namespace = objects.labels_of(obj), obj["metadata"].get("namespace", "")
    if feed := marks.get(labels.FEED):
        return Ref(FEED, namespace, feed)
    if table := marks.get(labels.TABLE):
        return Ref(TABLE, namespace, table)
    return None
