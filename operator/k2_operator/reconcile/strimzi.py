"""Topics by Strimzi's KafkaTopic objects, where the platform says so: apply, see whether they are ready, delete.

To release a topic is to have Strimzi let go of it first: a KafkaTopic that is managed takes its topic with it.

They are not watched: a topic that is not ready is asked about again with backoff, a ready one at the next resync.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.model.errors import UserError, WorldError
from k2.model.platform import Platform
from k2_operator.build import topic as build_topic
from k2_operator.kube.client import ApiError, Kube
from k2_operator.plan.plans import FeedPlan, TopicPlan
from k2_operator.reconcile import apply
from k2_operator.spec import ownership
from k2_operator.spec.objects import Object, condition, covers, ref

MANAGED = "strimzi.io/managed"


class NameTakenError(UserError):
    """A KafkaTopic of that name is somebody else's."""


async def topics(kube: Kube, feed: FeedPlan, platform: Platform) -> list[str]:
    """Make a feed's KafkaTopics as they should be; returns what was done, one sentence each.

    Raises:
        NameTakenError: a KafkaTopic is there that K2 has not made.
        UserError: more partitions than there are, without `allowReordering`.
        WorldError: Strimzi is not there, or has not made a topic yet, or cannot.
    """
    done: list[str] = []
    waiting: list[str] = []
    for plan in feed.topics:
        for manifest in build_topic.kafka_topics(feed, plan, platform):
            live = await kube.get(ref(manifest))
            if live is not None and not ownership.is_ours(live):
                raise NameTakenError(apply.taken([f"KafkaTopic {live['metadata']['name']}: {ownership.holder(live)}"]))
            _refuse_reordering(plan, manifest, live)
            if live is None or not covers(live, manifest):
                live = await _apply(kube, manifest)
                done.append(f"applied KafkaTopic {manifest['metadata']['name']}")
            if problem := _problem(live):
                waiting.append(problem)
    if waiting:
        raise WorldError("; ".join(waiting))
    return done


async def delete(kube: Kube, feed: FeedPlan, plans: Sequence[TopicPlan], platform: Platform) -> list[str]:
    """Delete KafkaTopics, and so the topics with all that is in them; returns the names of those that existed."""
    manifests = [each for plan in plans for each in build_topic.kafka_topics(feed, plan, platform)]
    deleted: list[str] = []
    for manifest in manifests:
        live = await kube.get(ref(manifest))
        if live is not None and ownership.is_ours(live) and await kube.delete(ref(manifest), live["metadata"]["uid"]):
            deleted.append(manifest["spec"]["topicName"])
    return deleted


async def release(kube: Kube, feed: FeedPlan, plans: Sequence[TopicPlan], platform: Platform) -> list[str]:
    """Take KafkaTopics away and leave the topics with all that is in them; returns those that Strimzi still holds.

    To be called again until nothing is returned.
    """
    held: list[str] = []
    for manifest in [each for plan in plans for each in build_topic.kafka_topics(feed, plan, platform)]:
        live = await kube.get(ref(manifest))
        if live is None or live["metadata"].get("deletionTimestamp") or not ownership.is_ours(live):
            continue
        if (live["metadata"].get("annotations") or {}).get(MANAGED) != "false":
            live = await _apply(
                kube, {**manifest, "metadata": {**manifest["metadata"], "annotations": {MANAGED: "false"}}}
            )
        if _let_go(live):
            await kube.delete(ref(manifest), live["metadata"].get("uid"))
        else:
            held.append(manifest["spec"]["topicName"])
    return held


def _let_go(live: Object) -> bool:
    """Whether Strimzi has seen that it does not manage a topic any more: it names a topic in the status while it does.

    Its observedGeneration alone would not tell: an annotation does not count up the generation.
    """
    found = live.get("status") or {}
    current = int(found.get("observedGeneration") or 0) >= int(live["metadata"].get("generation") or 0)
    return current and not found.get("topicName")


async def _apply(kube: Kube, manifest: Object) -> dict[str, Any]:
    try:
        return await kube.apply(manifest)
    except ApiError as error:
        if error.status == 404:
            raise WorldError(
                "The cluster has no kafka.strimzi.io/v1: install Strimzi, or set kafka.topics: admin"
            ) from error
        raise


def _refuse_reordering(plan: TopicPlan, manifest: Object, live: Object | None) -> None:
    if live is None or plan.allow_reordering:
        return
    have, want = int(live["spec"].get("partitions") or 1), int(manifest["spec"]["partitions"])
    if want > have:
        raise UserError(
            f"{manifest['spec']['topicName']} has {have} partitions, and more would move symbols to other partitions",
            found=want,
            expected=str(have),
            remedy="Set allowReordering: true when the order of a symbol's events across that moment may be lost",
        )


def _problem(live: Object) -> str:
    """Why a KafkaTopic is not ready; empty when it is."""
    name = live["spec"].get("topicName") or live["metadata"]["name"]
    ready = condition(live, "Ready")
    current = (live.get("status") or {}).get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    if ready is None or not current:
        return f"Strimzi has not made {name} yet"
    if ready["status"] != "True":
        return f"Strimzi cannot make {name}: {ready.get('reason', '')} {ready.get('message', '')}".rstrip()
    return ""
