"""What runs of a feed, by its Deployments, its Job and their pods: the gates of sinks and producer, and whether all of it is up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from k2_operator.build import names
from k2_operator.plan.plans import FeedPlan
from k2_operator.reconcile.observe import FeedFacts
from k2_operator.report import rollouts, status
from k2_operator.report.pods import PodTrouble, worst
from k2_operator.report.status import Finding, yes
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import condition, owner_uids


@dataclass(frozen=True, slots=True)
class Running:
    """What is to be said of what runs: findings by type, and which pods do not come up although it goes on without them."""

    findings: Mapping[ConditionType, Finding]
    stuck: Finding | None


def running(facts: FeedFacts, plan: FeedPlan, held_up: Finding | None, now: str) -> Running:
    """Look at all of it.

    Args:
        facts: of the feed.
        plan: what should run.
        held_up: what the offsets say of a sink that does not go on.
        now: the time as Kubernetes writes it.
    """
    deployments = [each for each in facts.owned if each["kind"] == "Deployment"]
    found = {each["metadata"]["name"]: worst(facts.pods_of(each["metadata"]["name"]), each) for each in deployments}
    troubles = {name: each for name, each in found.items() if each is not None}
    sinks = [
        (facts.object("Deployment", names.sink(each.config.topic, each.config.table)), each.least)
        for each in plan.sinks
    ]
    gates = {
        ConditionType.SINK_AVAILABLE: status.sinks(sinks, suspended=plan.suspended, held_up=held_up, troubles=troubles),
        ConditionType.PRODUCER_AVAILABLE: _producer(facts, plan, troubles, now),
    }
    up_to_date = rollouts.up_to_date(deployments, troubles)
    stuck = rollouts.stuck(troubles) if all(each.good for each in gates.values()) else None
    return Running({**gates, ConditionType.UP_TO_DATE: up_to_date}, stuck)


def completed(facts: FeedFacts, plan: FeedPlan) -> str | None:
    """The source that is done: as recorded, or as its Job says just now."""
    producer = plan.producer
    if producer is not None and producer.finite:
        job = facts.object("Job", names.load(plan.name, producer.source_hash))
        if status.is_complete(job):
            return producer.source_hash
    return facts.completed_source


def _producer(facts: FeedFacts, plan: FeedPlan, troubles: Mapping[str, PodTrouble], now: str) -> Finding:
    producer = plan.producer
    if producer is None:
        return yes(Reason.EXTERNAL_SOURCE, "Somebody else sends.")
    if not producer.finite:
        deployment = facts.object("Deployment", names.producer(plan.name))
        return status.live_producer(deployment, suspended=plan.suspended, troubles=troubles)
    name = names.load(plan.name, producer.source_hash)
    job = facts.object("Job", name)
    # A Job that was replaced may have left one of the same labels, on its way out.
    pods = [each for each in facts.pods_of(name) if job is not None and job["metadata"]["uid"] in owner_uids(each)]
    return status.load(
        job,
        completed=completed(facts, plan) == producer.source_hash,
        suspended=plan.suspended,
        pods=pods,
        before=condition(facts.obj, ConditionType.PRODUCER_AVAILABLE),
        now=now,
    )
