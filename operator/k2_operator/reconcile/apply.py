"""What is wanted against what is there: server-side apply of what differs, deletion of what nothing asks for any more.

An object is left alone when it is as it was after our last apply; after a restart, when everything we want stands in it and nothing
that others have added. A name that somebody else's object has is left to it, and so is what would run with that object.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from k2_operator.kube.cache import Cache
from k2_operator.kube.client import ApiError, Kube
from k2_operator.kube.kinds import KEDA
from k2_operator.reconcile import metrics
from k2_operator.spec import labels, objects, ownership
from k2_operator.spec.conditions import EventReason
from k2_operator.spec.objects import Object, Ref
from k2_operator.spec.ownership import FIELD_MANAGER, REPLICAS_MANAGER, Addition


@dataclass(slots=True)
class Changes:
    """What an apply has done, for an Event, and what it has left to others."""

    created: list[Ref] = field(default_factory=list[Ref])
    updated: list[Ref] = field(default_factory=list[Ref])
    repaired: list[Ref] = field(default_factory=list[Ref])
    deleted: list[Ref] = field(default_factory=list[Ref])
    removed: list[str] = field(default_factory=list[str])
    """What others had added and is taken off, in words, an object each."""
    added_again: list[str] = field(default_factory=list[str])
    """What others have added since, after it was taken off, in words, an object each."""
    taken: list[str] = field(default_factory=list[str])
    """Names that objects of others have, in words."""

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
        ] + [(EventReason.REMOVED, f"Removed what was added to {each}") for each in self.removed]


@dataclass(slots=True)
class Applier:
    """Applies objects through one client, and remembers how each was left."""

    kube: Kube
    cache: Cache
    _left: dict[Ref, tuple[str, str]] = field(default_factory=dict[Ref, tuple[str, str]])
    _kept: dict[Ref, str] = field(default_factory=dict[Ref, str])

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
        unseen = await self._unseen(names)
        taken = {where: found for where, found in unseen.items() if not ownership.is_ours(found)}
        changes.taken += [f"{where.kind} {where.name}: {ownership.holder(found)}" for where, found in taken.items()]
        # A pod of ours with somebody else's ConfigMap would be worse than none: of such a workload nothing is touched.
        spoilt = {_workload(each) for each in wanted if objects.ref(each) in taken}
        steps = [
            self._apply(each, changes, unseen.get(objects.ref(each)))
            for each in wanted
            if _workload(each) not in spoilt
        ]
        steps += [self._delete(each, changes) for each in gone]
        for result in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return changes

    async def _unseen(self, wheres: Iterable[Ref]) -> dict[Ref, dict[str, Any]]:
        """The metadata of what is there although no watch has shown it: they show what has K2's label, and nothing else."""
        asked = [where for where in wheres if self.cache.get(where) is None]
        found = await asyncio.gather(*(self.kube.metadata(where) for where in asked))
        return {
            where: {**each, "kind": where.kind} for where, each in zip(asked, found, strict=True) if each is not None
        }

    def kept(self, wheres: Iterable[Ref]) -> list[str]:
        """What others have added again to objects of ours and is left there, in words, an object each."""
        return [self._kept[where] for where in sorted(wheres) if where in self._kept]

    def forget(self, wheres: Iterable[Ref]) -> None:
        """Forget objects whose owner goes: made again, they are new."""
        for where in wheres:
            self._left.pop(where, None)
            self._kept.pop(where, None)

    async def _apply(self, manifest: Object, changes: Changes, unseen: Object | None) -> None:
        where, asked = objects.ref(manifest), _hash(manifest)
        live, left = self.cache.get(where), self._left.get(where)
        if live is not None and live["metadata"].get("deletionTimestamp"):
            return  # its end is an event, which brings us here again
        if unseen is not None and unseen["metadata"].get("deletionTimestamp"):
            raise ApiError(409, "Terminating", f"{where.kind} {where.name} is on its way out")  # no event will tell
        if live is not None and self._as_left(live, manifest, asked, left):
            return
        is_there = live is not None or unseen is not None
        try:
            if is_there and where.kind == "Deployment" and "replicas" not in manifest["spec"]:
                await self._hand_over_replicas(where)
            # Where there was nothing nobody can contradict: who does has been quicker, and is to be looked at first.
            answer = await self.kube.apply(manifest, force=is_there)
        except ApiError as error:
            if where.kind in KEDA and error.status == 404:
                remedy = (
                    "The cluster has no keda.sh/v1alpha1: install KEDA, or set autoscaling.kind: hpa in platform.yaml"
                )
                raise ApiError(404, "NotServed", remedy) from error
            if where.kind != "Job" or error.status != 422:
                raise
            # A Job's template cannot change: another one takes its place. What it sends again is dropped as duplicates.
            await self.kube.delete(where, ((live or unseen or {}).get("metadata") or {}).get("uid"))
            raise ApiError(error.status, "Replaced", f"{where.kind} {where.name} is being replaced") from error
        metrics.APPLIED.labels(where.kind).inc()
        same_version = live is not None and objects.version(live) == objects.version(answer)
        answer = await self._cleared(manifest, answer, changes)
        self.cache.put(answer)
        self._left[where] = (asked, objects.digest(objects.trimmed(answer)))
        if same_version:
            return
        if unseen is not None or (left is not None and left[0] == asked):
            changes.repaired.append(where)
        elif live is None:
            changes.created.append(where)
        else:
            changes.updated.append(where)

    async def _cleared(self, manifest: Object, answer: dict[str, Any], changes: Changes) -> dict[str, Any]:
        """Take off what others have added, once; what is there again after that is theirs, and told. Returns what is there then."""
        where, found = objects.ref(manifest), ownership.additions(answer, manifest)
        before = ownership.removed_before(answer)
        again = [each for each in found if each.mark in before]
        fresh = [each for each in found if each.mark not in before]
        if fresh:
            try:
                fresh = await self._removable(manifest, answer, fresh)
                if fresh:
                    answer = await self.kube.patch(where, ownership.removal(answer, fresh))
                    changes.removed.append(f"{where.kind} {where.name}: {ownership.told(fresh)}")
            except ApiError as error:
                if error.status != 422:
                    raise
                again += fresh  # what can be added and not be taken off, as `immutable` of a ConfigMap
        self._keep(where, again, changes)
        return answer

    async def _removable(self, manifest: Object, answer: Object, found: Sequence[Addition]) -> list[Addition]:
        """Those that would go: the server puts a default back in the same request, whoever has set it, as a restore has."""
        try:
            would_be = await self.kube.patch(objects.ref(manifest), ownership.removal(answer, found), dry_run=True)
        except ApiError as error:
            if error.status != 400:
                raise
            return list(found)  # a webhook of the cluster's has effects, so that nothing can be tried first
        stays = {each.mark for each in ownership.additions(would_be, manifest)}
        return [each for each in found if each.mark not in stays]

    def _keep(self, where: Ref, found: Sequence[Addition], changes: Changes) -> None:
        before = self._kept.pop(where, None)
        if found:
            self._kept[where] = f"{where.kind} {where.name}: {ownership.told(found)}"
            changes.added_again += [self._kept[where]] if self._kept[where] != before else []

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
        if not objects.covers(live, manifest) or ownership.additions(live, manifest):
            return False
        self._left[objects.ref(manifest)] = (asked, now)
        return True

    async def _delete(self, obj: Object, changes: Changes) -> None:
        where = objects.ref(obj)
        self.forget([where])
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


def taken(names: Sequence[str]) -> str:
    """The message of `NameTaken`."""
    mark = f"{labels.MANAGED_BY}={labels.OPERATOR}"
    return (
        f"Somebody else's objects have names that are needed: {'; '.join(names)}. K2 changes nothing of them. Rename or remove them, "
        f"or label them {mark} to hand them over."
    )


def _workload(manifest: Object) -> tuple[str | None, str | None]:
    """What an object belongs to: the Deployment, Job or CronJob that its labels name."""
    found = objects.labels_of(manifest)
    return found.get(labels.COMPONENT), found.get(labels.INSTANCE)


def _hash(manifest: Object) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
