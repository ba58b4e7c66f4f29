"""What is wanted against what is there: server-side apply of what differs, deletion of what nothing asks for any more.

An object is left alone when it is as it was after our last apply; after a restart, when everything we want stands in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2_operator.kube.cache import Cache
from k2_operator.kube.client import FIELD_MANAGER, REPLICAS_MANAGER, ApiError, Kube
from k2_operator.kube.kinds import KEDA
from k2_operator.reconcile import metrics
from k2_operator.spec import objects
from k2_operator.spec.conditions import EventReason
from k2_operator.spec.objects import Object, Ref


@dataclass(slots=True)
class Changes:
    """What an apply has done, for an Event."""

    created: list[Ref] = field(default_factory=list[Ref])
    updated: list[Ref] = field(default_factory=list[Ref])
    repaired: list[Ref] = field(default_factory=list[Ref])
    deleted: list[Ref] = field(default_factory=list[Ref])

    def sentences(self) -> list[tuple[EventReason, str]]:
        """(reason, message) for each kind of change that there was."""
        return [
            (reason, f"{reason} {', '.join(f'{each.kind} {each.name}' for each in refs)}")
            for reason, refs in (
                (EventReason.CREATED, self.created),
                (EventReason.UPDATED, self.updated),
                (EventReason.REPAIRED, self.repaired),
                (EventReason.DELETED, self.deleted),
            )
            if refs
        ]


@dataclass(slots=True)
class Applier:
    """Applies objects through one client, and remembers how each was left."""

    kube: Kube
    cache: Cache
    _left: dict[Ref, tuple[str, str]] = field(default_factory=dict[Ref, tuple[str, str]])

    async def apply(self, wanted: Sequence[Object], existing: Sequence[Object], keep: Collection[str]) -> Changes:
        """Make the wanted objects so, all at once, and delete the existing ones that are not among them.

        Args:
            wanted: manifests with their owner references.
            existing: what is there and ours to delete.
            keep: names that are not deleted although nothing asks for them.

        Raises:
            ApiError: something was refused; the rest was done all the same.
        """
        changes = Changes()
        names = {objects.ref(each) for each in wanted}
        gone = [each for each in existing if objects.ref(each) not in names and each["metadata"]["name"] not in keep]
        steps = [self._apply(each, changes) for each in wanted] + [self._delete(each, changes) for each in gone]
        for result in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return changes

    def forget(self, wheres: Iterable[Ref]) -> None:
        """Forget objects whose owner goes: made again, they are new."""
        for where in wheres:
            self._left.pop(where, None)

    async def _apply(self, manifest: Object, changes: Changes) -> None:
        where, asked = objects.ref(manifest), _hash(manifest)
        live, left = self.cache.get(where), self._left.get(where)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return  # its end is an event, which brings us here again
        if live is not None and self._as_left(live, manifest, asked, left):
            return
        try:
            if live is not None and where.kind == "Deployment" and "replicas" not in manifest["spec"]:
                await self._hand_over_replicas(where)
            answer = await self.kube.apply(manifest)
        except ApiError as error:
            if where.kind in KEDA and error.status == 404:
                remedy = (
                    "The cluster has no keda.sh/v1alpha1: install KEDA, or set autoscaling.kind: hpa in platform.yaml"
                )
                raise ApiError(404, "NotServed", remedy) from error
            if where.kind != "Job" or error.status != 422:
                raise
            # A Job's template cannot change: another one takes its place. What it sends again is dropped as duplicates.
            await self.kube.delete(where)
            raise ApiError(error.status, "Replaced", f"{where.kind} {where.name} is being replaced") from error
        metrics.APPLIED.labels(where.kind).inc()
        same_version = live is not None and objects.version(live) == objects.version(answer)
        self.cache.put(answer)
        self._left[where] = (asked, objects.digest(objects.trimmed(answer)))
        if same_version:
            return
        if left is not None and left[0] == asked:
            changes.repaired.append(where)
        elif live is None:
            changes.created.append(where)
        else:
            changes.updated.append(where)

    async def _hand_over_replicas(self, where: Ref) -> None:
        """Let the number of pods stand when we stop asking for one: a field that its only owner drops falls back to 1.

        From nothing an autoscaler never starts, so a Deployment that was suspended gets its first pod here.
        """
        found = await self.kube.get(where)
        if found is None:
            return
        replicas = int(found["spec"].get("replicas", 1))
        if replicas and not objects.owns(found, FIELD_MANAGER, "spec", "replicas"):
            return
        metadata = {name: found["metadata"][name] for name in ("name", "namespace", "resourceVersion")}
        manifest = {
            "apiVersion": found["apiVersion"],
            "kind": found["kind"],
            "metadata": metadata,
            "spec": {"replicas": max(1, replicas)},
        }
        await self.kube.apply(manifest, manager=REPLICAS_MANAGER)

    def _as_left(self, live: Object, manifest: Object, asked: str, left: tuple[str, str] | None) -> bool:
        now = objects.digest(live)
        if left is not None:
            return left == (asked, now)
        if not objects.covers(live, manifest):
            return False
        self._left[objects.ref(manifest)] = (asked, now)
        return True

    async def _delete(self, obj: Object, changes: Changes) -> None:
        where = objects.ref(obj)
        self._left.pop(where, None)
        if obj["metadata"].get("deletionTimestamp"):
            return
        if await self.kube.delete(where, obj["metadata"].get("uid")):
            metrics.DELETED.labels(where.kind).inc()
            changes.deleted.append(where)


def owned(manifest: Object, owner: Object) -> dict[str, Any]:
    """A manifest with its owner's reference: the garbage collector ends it after its owner."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [reference]}}


def _hash(manifest: Object) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
