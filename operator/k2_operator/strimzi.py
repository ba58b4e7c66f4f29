"""Topics by Strimzi's KafkaTopic objects, where the platform says so: apply, see whether they are ready, delete.

They are not watched: a topic that is not ready is asked about again with backoff, a ready one at the next resync.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.model.errors import UserError, WorldError
from k2.model.platform import Platform
from k2_operator.build import topic as build_topic
from k2_operator.kube import ApiError, Kube
from k2_operator.objects import Object, condition, covers, ref
from k2_operator.plans import FeedPlan, TopicPlan


async def topics(kube: Kube, feed: FeedPlan, platform: Platform) -> list[str]:
    """Make a feed's KafkaTopics as they should be; returns what was done, one sentence each.

    Raises:
        UserError: more partitions than there are, without `allowReordering`.
        WorldError: Strimzi is not there, or has not made a topic yet, or cannot.
    """
    done: list[str] = []
    waiting: list[str] = []
    for plan in feed.topics:
        for manifest in build_topic.kafka_topics(feed, plan, platform):
            live = await kube.get(ref(manifest))
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
    return [each["spec"]["topicName"] for each in manifests if await kube.delete(ref(each))]


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
