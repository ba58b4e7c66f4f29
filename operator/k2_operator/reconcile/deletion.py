"""How a deleted resource ends: a feed is drained as well as it can be, a table that is to go waits for its feeds.

The finalizer is ours and the only one. Draining is best effort: with Retain, rows stay in the topic and go on from the table's
offsets later; a topic that was not drained is never deleted.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from k2.model.errors import K2Error
from k2_operator.build import feed as build_feed
from k2_operator.build import names
from k2_operator.kube.cache import FEED, TABLE
from k2_operator.kube.client import ApiError
from k2_operator.plan.plans import FeedPlan, SinkPlan, TopicPlan
from k2_operator.reconcile import apply, observe, strimzi
from k2_operator.reconcile.context import Context
from k2_operator.report.status import no
from k2_operator.spec.conditions import EventReason, Reason
from k2_operator.spec.objects import Object, Ref, generation_of, ref

FINALIZER = "k2.dev/drain"
SKIP_DRAIN = "k2.dev/skip-drain"
RELEASE_TOPICS = "k2.dev/release-topics"
RELEASE_SECONDS = 60.0
"""Strimzi's time to let go of topics, after that to drain them."""
POLL_SECONDS = 2.0


async def mark(context: Context, obj: Object, *, wanted: bool) -> None:
    """Put our finalizer on a resource, or take it off; nothing is asked when it is right already."""
    metadata = obj["metadata"]
    if (FINALIZER in metadata.get("finalizers", ())) == wanted:
        return
    manifest = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        # The uid keeps this from making a resource that somebody has just deleted.
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "finalizers": [FINALIZER] if wanted else [],
        },
    }
    try:
        answer = await context.kube.apply(manifest)
    except ApiError as error:
        if wanted or error.status not in (404, 409, 422):
            raise
        return  # it is gone
    if wanted:
        context.cache.put(answer)
        if generation_of(answer) != generation_of(obj):
            context.edited(answer)


async def feed(context: Context, facts: observe.FeedFacts) -> float | None:
    """Drain a deleted feed and let it go. Returns when to look again."""
    metadata = facts.obj["metadata"]
    if FINALIZER not in metadata.get("finalizers", ()) or metadata["uid"] in context.let_go:
        return None
    plan, reason = facts.plan, _why_not(facts)
    if plan is None or reason:
        await context.events.post(facts.obj, EventReason.DRAIN_SKIPPED, f"Not drained: {reason}", "Warning")
        return await _release(context, facts)
    if not await _producer_stopped(context, facts, plan):
        await context.say(facts.obj, no(Reason.DRAINING, "The producer is being stopped."))
        return _left_of(facts.obj, plan.drain_seconds, POLL_SECONDS)
    try:
        left = await context.backends.undrained(plan.sinks)
    except K2Error as error:
        await context.events.post(facts.obj, EventReason.DRAIN_SKIPPED, f"Not drained: {error}", "Warning")
        return await _release(context, facts)
    if left and not any(_runs(facts, sink) for sink in plan.sinks):
        # As in a namespace that is being deleted: Kubernetes ends them first, and lets nobody make others there.
        message = (
            f"Not drained: its sinks are gone already, and {left:,} messages are in no table; they stay in the topics."
        )
        await context.events.post(facts.obj, EventReason.DRAIN_SKIPPED, message, "Warning")
        return await _release(context, facts)
    if left and (again := _left_of(facts.obj, plan.drain_seconds, POLL_SECONDS)):
        await context.say(facts.obj, no(Reason.DRAINING, f"{left:,} messages are not in the tables yet."))
        return again
    if left:
        message = f"After {plan.drain_seconds:.0f} s {left:,} messages are not in the tables; they stay in the topics."
        await context.events.post(facts.obj, EventReason.DRAIN_TIMED_OUT, message, "Warning")
    else:
        await context.events.post(facts.obj, EventReason.DRAINED, "Everything that was sent is in the tables.")
        await _delete_topics(context, facts, plan)
    return await _release(context, facts)


async def table(context: Context, facts: observe.TableFacts) -> float | None:
    """End a deleted IcebergTable; with `deletionPolicy: Delete` when no feed refers to it any more."""
    if FINALIZER not in facts.obj["metadata"].get("finalizers", ()):
        return None
    if facts.plan is not None and facts.plan.delete_with_resource:
        if facts.feeds:
            users = ", ".join(sorted(each.metadata.name for each in facts.feeds))
            message = f"MarketFeed {users} sends to it; delete that first, or set deletionPolicy: Retain to let go."
            await context.say(facts.obj, no(Reason.IN_USE, message))
            return None
        identifier = facts.plan.table.identifier
        if await context.backends.drop_table(identifier):
            await context.events.post(facts.obj, EventReason.TABLE_DROPPED, f"Dropped {identifier} with its rows.")
    await mark(context, facts.obj, wanted=False)
    return None


def _why_not(facts: observe.FeedFacts) -> str:
    """Why a feed cannot or shall not be drained; empty when it can."""
    if SKIP_DRAIN in (facts.obj["metadata"].get("annotations") or {}):
        return f"annotation {SKIP_DRAIN}"
    if facts.plan is None:
        return "its spec was not usable: " + "; ".join(error.text for error in facts.errors)
    if facts.plan.suspended:
        return "it is suspended, so its sinks do not run"
    return ""


def _runs(facts: observe.FeedFacts, sink: SinkPlan) -> bool:
    """Whether a sink has a Deployment that stays."""
    found = facts.object("Deployment", names.sink(sink.config.topic, sink.config.table))
    return found is not None and not found["metadata"].get("deletionTimestamp")


def _left_of(obj: Object, allowed: float, poll: float) -> float | None:
    """When to look again: `poll` seconds while the time that a deleted feed is allowed (in seconds) lasts, then None."""
    deleted = datetime.fromisoformat(obj["metadata"]["deletionTimestamp"])
    left = allowed - (datetime.now(UTC) - deleted).total_seconds()
    return min(poll, left) if left > 0 else None


async def _producer_stopped(context: Context, facts: observe.FeedFacts, plan: FeedPlan) -> bool:
    """Scale the producer to nothing; whether nothing is left of it, or the time for that is over."""
    producer = plan.producer
    if producer is None:
        return True
    kind, name = "Deployment", names.producer(plan.name)
    if producer.finite:
        kind, name = "Job", names.load(plan.name, producer.source_hash)
    running = facts.object(kind, name)
    if running is None:
        return True
    stopped = [
        apply.owned(each, facts.obj)
        for each in build_feed.objects(replace(plan, suspended=True, sinks=()), context.platform)
        if each["kind"] == kind
    ]
    await context.applier.apply(stopped, (), ())
    now = context.cache.get(Ref(kind, facts.obj["metadata"]["namespace"], name)) or running
    found = now.get("status") or {}
    pods = int(found.get("active" if kind == "Job" else "replicas") or 0)
    seen = kind == "Job" or int(found.get("observedGeneration") or 0) >= int(now["metadata"].get("generation") or 0)
    return (pods == 0 and seen) or _left_of(facts.obj, plan.drain_seconds, POLL_SECONDS) is None


async def _delete_topics(context: Context, facts: observe.FeedFacts, plan: FeedPlan) -> None:
    if not plan.delete_topics:
        return
    free = _free_topics(context, facts, plan)
    if context.platform.kafka.topics == "strimzi":
        deleted = await strimzi.delete(context.kube, plan, free, context.platform)
    else:
        deleted = await context.backends.delete_topics(free)
    if deleted:
        await context.events.post(facts.obj, EventReason.TOPICS_DELETED, f"Deleted {', '.join(deleted)}")


def _free_topics(context: Context, facts: observe.FeedFacts, plan: FeedPlan) -> list[TopicPlan]:
    """The feed's topics that no other feed names."""
    metadata = facts.obj["metadata"]
    where = Ref(FEED, metadata["namespace"], metadata["name"])
    taken = {
        topic
        for other in observe.rivals(context.cache, where, plan.exchange)
        for topic in observe.topics_of(context.cache, other)
    }
    return [each for each in plan.topics if each.name not in taken]


async def _release_topics(context: Context, facts: observe.FeedFacts) -> float | None:
    """Where that is asked for, give topics that stay back into the hands of who made the cluster. Returns when to look again."""
    plan, platform = facts.plan, context.platform
    asked = RELEASE_TOPICS in (facts.obj["metadata"].get("annotations") or {})
    if not asked or plan is None or plan.delete_topics or platform.kafka.topics != "strimzi":
        return None
    free = _free_topics(context, facts, plan)
    held = await strimzi.release(context.kube, plan, free, platform)
    if held and (again := _left_of(facts.obj, plan.drain_seconds + RELEASE_SECONDS, POLL_SECONDS)):
        await context.say(facts.obj, no(Reason.RELEASING_TOPICS, "Strimzi is being asked to let go of the topics."))
        return again
    if held:
        message = f"Strimzi has not let go of {', '.join(held)}; their KafkaTopics stay."
        await context.events.post(facts.obj, EventReason.TOPICS_NOT_RELEASED, message, "Warning")
    elif free:
        names_of = ", ".join(str(each.name) for each in free)
        await context.events.post(
            facts.obj, EventReason.TOPICS_RELEASED, f"{names_of} stay in Kafka without a KafkaTopic."
        )
    return None


async def _release(context: Context, facts: observe.FeedFacts) -> float | None:
    """Take the finalizer off. The garbage collector ends what runs, unless another feed has taken it over."""
    if again := await _release_topics(context, facts):
        return again
    await mark(context, facts.obj, wanted=False)
    # No watch has told of its end yet, and whatever wakes it until then must not end it a second time.
    context.let_go.add(facts.obj["metadata"]["uid"])
    context.applier.forget(ref(each) for each in facts.deletable)
    for name in facts.tables:
        context.wake(Ref(TABLE, facts.obj["metadata"]["namespace"], name))
    return None
