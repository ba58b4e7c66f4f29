"""Observe → plan → build → apply → status: one function for every cause, for a feed and for a table.

It asks what should be and makes it so, whatever has happened; nothing is done only because an event said so. A mistake of the
user's ends as a condition. The world's ends as a condition and as an error, which the queue answers with backoff; where a part of the
world is known to be away, it ends as a condition alone, and the part's return is the cause to come again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from k2.model.errors import StoreError, UserError, WorldError
from k2_operator.build import cronjob, names
from k2_operator.build import feed as build_feed
from k2_operator.kube.cache import FEED
from k2_operator.plan.plans import FeedPlan, TopicPlan, UpkeepPlan
from k2_operator.reconcile import apply, deletion, metrics, observe, rollout, strimzi, workloads
from k2_operator.reconcile.context import WAITING, Context
from k2_operator.reconcile.world import AwayError, WorldPart
from k2_operator.report import figures, status, table_figures
from k2_operator.report.status import Finding, no, yes
from k2_operator.report.upkeep import CONDITIONS, intact_finding, on_time_finding, run_ended, upkeep_finding
from k2_operator.spec.conditions import UNREACHABLE, ConditionType, EventReason, Reason
from k2_operator.spec.objects import Object, Ref, condition, generation_of, ref
from k2_operator.spec.schedules import next_run
from k2_operator.spec.validate import ResourceError

WELL = {
    Reason.TOPICS_EXIST: "Topics and dead-letter topics are there.",
    Reason.SUBJECTS_REGISTERED: "The registry has the schemas.",
    Reason.TABLE_EXISTS: "The table is as described here.",
}


QUIET_SECONDS = 10.0
"""A feed without its tables is no reason for a warning for so long after it was made."""
TAKEN_SECONDS = 30.0
"""No watch tells when a name becomes free that somebody else's object had."""

AWAY_SECONDS = 300.0
"""The return of what is away wakes who needs it; this is for who has not heard of it."""


class NotYetError(WorldError):
    """Something outside is not as it has to be; the condition says what. Come again."""


@dataclass(frozen=True, slots=True)
class _Applied:
    """What became of a resource's objects.

    `refused`: the API server took some of it not. `taken`: others have those names. `waits`: its pods wait for their turn to be
    replaced.
    """

    refused: WorldError | None = None
    taken: Sequence[str] = ()
    waits: bool = False

    @property
    def finding(self) -> Finding | None:
        """What is to be said of it where nothing else stands in the way; None when all is well."""
        if self.taken:
            return no(Reason.NAME_TAKEN, apply.taken(self.taken))
        return no(Reason.APPLY_FAILED, str(self.refused)) if self.refused is not None else None


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Brings one resource at a time to what it should be."""

    context: Context

    async def reconcile(self, where: Ref) -> float | None:
        """Make one resource so. Returns the seconds after which to come again, None when an event will tell.

        Raises:
            WorldError: come again with backoff.
        """
        started, outcome = time.monotonic(), "error"
        try:
            again = await (self._feed(where) if where.kind == FEED else self._table(where))
            outcome = "ok" if again is None else "waiting"
            return again
        finally:
            metrics.RECONCILES.labels(where.kind, outcome).inc()
            metrics.RECONCILE_DURATION.labels(where.kind).observe(time.monotonic() - started)

    async def _feed(self, where: Ref) -> float | None:
        facts = observe.feed(self.context.cache, self.context.platform, where)
        if facts is None:
            return None
        if facts.deleting:
            return await deletion.feed(self.context, facts)
        if facts.plan is None:
            left = _still_awaited(facts)
            findings = _awaiting(facts.errors) if left else _refused(facts.errors)
            await self.context.write(facts.obj, findings, _feed_fields(facts, self.context.told(where).fields))
            return left
        if missing := await self.context.secrets.missing(where.namespace):
            finding = no(
                Reason.SECRET_NOT_FOUND,
                f"Secret {', '.join(missing)} is not in namespace {where.namespace}; create it there. K2 copies no Secrets.",
            )
            await self.context.write(
                facts.obj, {ConditionType.READY: finding}, _feed_fields(facts, self.context.told(where).fields)
            )
            raise NotYetError(finding.message)
        is_new = not (facts.obj.get("status") or {}).get("conditions")
        await asyncio.gather(
            deletion.mark(self.context, facts.obj, wanted=True),
            *([self.context.write(facts.obj, {ConditionType.READY: WAITING}, {})] if is_new else []),
        )
        failures: list[WorldError] = []
        applied, topics, schemas = await asyncio.gather(
            self._objects(facts, facts.plan),
            self._step(
                self._topics(facts.plan),
                (Reason.TOPICS_EXIST, Reason.TOPIC_REFUSED, Reason.KAFKA_UNREACHABLE),
                facts,
                failures,
            ),
            self._step(
                self.context.backends.subjects(_subjects(facts, facts.plan)),
                (Reason.SUBJECTS_REGISTERED, Reason.SCHEMA_REFUSED, Reason.REGISTRY_UNREACHABLE),
                facts,
                failures,
            ),
        )
        seen = generation_of(facts.obj)
        # What was applied is in the cache now, and so is what it has become meanwhile.
        facts = observe.again(self.context.cache, self.context.platform, facts)
        if facts.plan is None or facts.deleting:
            return 0.0
        measured = dict(self.context.told(where).findings or figures.carried(facts.obj))
        held_up = measured.pop(ConditionType.SINK_AVAILABLE, None)
        replaced = measured.pop(ConditionType.TOPICS_READY, None)
        if topics.good and replaced is not None:
            topics = replaced
        kept = self.context.applier.kept(ref(each) for each in facts.owned)
        found = workloads.running(facts, facts.plan, held_up, self.context.now())
        if (degraded := status.degraded(measured.get(ConditionType.DEGRADED), kept, found.stuck)) is not None:
            measured[ConditionType.DEGRADED] = degraded
        findings = {
            ConditionType.TOPICS_READY: topics,
            ConditionType.SCHEMAS_READY: schemas,
            ConditionType.TABLES_READY: _tables_ready(facts),
            **found.findings,
        }
        if applied.waits:
            findings[ConditionType.UP_TO_DATE] = rollout.waiting(self.context.turns.limit)
        overall = status.ready(findings)
        if applied.finding and all(each.good for each in (topics, schemas, findings[ConditionType.TABLES_READY])):
            overall = applied.finding
        await self.context.write(
            facts.obj,
            {ConditionType.READY: overall, **findings, **measured},
            _feed_fields(facts, self.context.told(where).fields),
            seen,
        )
        for error in (*failures, applied.refused):
            if error is not None:
                raise error
        return _again(applied, findings)

    async def _objects(self, facts: observe.FeedFacts, plan: FeedPlan) -> _Applied:
        """Bring what runs to its plan."""
        finished = plan.producer is not None and plan.producer.source_hash == workloads.completed(facts, plan)
        load = names.load(plan.name, plan.producer.source_hash) if plan.producer and plan.producer.finite else ""
        built = [
            each for each in build_feed.objects(plan, self.context.platform) if not (finished and _is_of(each, load))
        ]
        wanted = [apply.owned(each, facts.obj) for each in built]
        # A finished Job stays for its logs until somebody deletes it.
        keep = {load, names.config(load)} if load else set[str]()
        waits = not self.context.turns.mine(facts.obj, wanted)
        if waits:
            held = self.context.turns.held(wanted)
            keep |= {each.name for each in held}
            wanted = [each for each in wanted if ref(each) not in held]
        try:
            return await self._apply(facts, wanted, keep, waits=waits)
        finally:
            self.context.turns.done(ref(facts.obj))

    async def _apply(
        self,
        facts: observe.FeedFacts | observe.TableFacts,
        wanted: Sequence[Object],
        keep: Collection[str] = (),
        *,
        waits: bool = False,
    ) -> _Applied:
        """Apply a resource's objects, and tell in Events what was done."""
        try:
            changes = await self.context.applier.apply(wanted, facts.deletable, keep)
        except WorldError as error:
            return _Applied(error, waits=waits)
        for reason, message in changes.sentences():
            await self.context.events.post(facts.obj, reason, message)
        for each in changes.added_again:
            await self.context.events.post(facts.obj, Reason.FIELDS_ADDED, status.added([each]), "Warning")
        return _Applied(taken=changes.taken, waits=waits)

    async def _topics(self, plan: FeedPlan) -> list[str]:
        if self.context.platform.kafka.topics == "strimzi":
            # What Strimzi has said of a topic holds while there is a Kafka.
            self.context.backends.world.require(WorldPart.KAFKA)
            return await strimzi.topics(self.context.kube, plan, self.context.platform)
        return await self.context.backends.topics(plan.topics)

    async def _step(
        self,
        doing: Awaitable[list[str]],
        reasons: tuple[Reason, Reason, Reason],
        facts: observe.FeedFacts | observe.TableFacts,
        failures: list[WorldError],
    ) -> Finding:
        """One step outside of Kubernetes as a finding; `reasons` are for well, the user's error and the world's."""
        well, refused, unreachable = reasons
        try:
            for sentence in await doing:
                await self.context.events.post(facts.obj, EventReason.CHANGED, sentence)
        except strimzi.NameTakenError as error:
            return no(Reason.NAME_TAKEN, str(error))
        except UserError as error:
            return no(refused, str(error))
        except AwayError as error:
            return no(Reason.STORE_UNREACHABLE if error.part is WorldPart.STORE else unreachable, str(error))
        except WorldError as error:
            failures.append(error)
            return no(Reason.STORE_UNREACHABLE if isinstance(error, StoreError) else unreachable, str(error))
        return yes(well, WELL[well])

    async def _table(self, where: Ref) -> float | None:
        facts = observe.table(self.context.cache, where)
        if facts is None:
            return None
        if facts.deleting:
            return await deletion.table(self.context, facts)
        if facts.plan is None:
            await self.context.write(
                facts.obj, _refused(facts.errors), _table_fields(facts, self.context.told(where).fields)
            )
            self._wake_feeds(facts)
            return None
        await deletion.mark(self.context, facts.obj, wanted=facts.plan.delete_with_resource)
        upkeep = [apply.owned(each, facts.obj) for each in cronjob.upkeep(facts.plan, self.context.platform)]
        applied = await self._apply(facts, upkeep)
        failures: list[WorldError] = []
        reasons = (Reason.TABLE_EXISTS, Reason.TABLE_REFUSED, Reason.CATALOG_UNREACHABLE)
        finding = await self._step(self.context.backends.table(facts.plan), reasons, facts, failures)
        before, seen = condition(facts.obj, ConditionType.READY), generation_of(facts.obj)
        facts = observe.table(self.context.cache, where) or facts
        if finding.good and applied.finding is not None:
            finding = applied.finding
        told = self.context.told(where)
        table_fields = _table_fields(facts, told.fields)
        findings = {ConditionType.READY: finding, **_table_findings(facts, told.findings, table_fields)}
        await self.context.write(facts.obj, findings, table_fields, seen)
        known = None if before is None else (before["status"], before["reason"], before.get("observedGeneration"))
        if known != (finding.status, finding.reason, seen):
            self._wake_feeds(facts)  # with new columns there are new fields to tell the registry of
        for error in (*failures, applied.refused):
            if error is not None:
                raise error
        if applied.taken:
            return TAKEN_SECONDS
        return AWAY_SECONDS if finding.reason in UNREACHABLE else None

    def _wake_feeds(self, facts: observe.TableFacts) -> None:
        for each in facts.feeds:
            self.context.wake(Ref(FEED, each.metadata.namespace, each.metadata.name))


def _refused(errors: Sequence[ResourceError]) -> dict[ConditionType, Finding]:
    """`Ready` for a resource without a plan: the first error's reason, every error's text."""
    findings = {ConditionType.READY: no(errors[0].reason, "; ".join(error.text for error in errors))}
    about_tables = [error for error in errors if error.reason in (Reason.TABLE_NOT_FOUND, Reason.SCHEMA_MISMATCH)]
    if about_tables:
        findings[ConditionType.TABLES_READY] = no(
            about_tables[0].reason, "; ".join(error.text for error in about_tables)
        )
    return findings


def _again(applied: _Applied, findings: Mapping[ConditionType, Finding]) -> float | None:
    """After how many seconds to look at a feed again; None where an event will tell."""
    if applied.waits:
        return rollout.COME_AGAIN_SECONDS
    if applied.taken or findings[ConditionType.TOPICS_READY].reason is Reason.NAME_TAKEN:
        return TAKEN_SECONDS
    # No event tells that a load has run for long enough.
    if findings[ConditionType.PRODUCER_AVAILABLE].reason is Reason.LOAD_FAILING:
        return status.CALM_SECONDS
    return AWAY_SECONDS if any(each.reason in UNREACHABLE for each in findings.values()) else None


def _is_of(manifest: Object, workload: str) -> bool:
    return manifest["metadata"]["name"] in (workload, names.config(workload))


def _still_awaited(facts: observe.FeedFacts) -> float | None:
    """Seconds for which a feed waits quietly for its tables: who applies a folder applies one after the other. None: no more."""
    created = facts.obj["metadata"].get("creationTimestamp")
    if created is None or any(error.reason is not Reason.TABLE_NOT_FOUND for error in facts.errors):
        return None
    left = QUIET_SECONDS - (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    return min(left, QUIET_SECONDS) if left > 0 else None


def _awaiting(errors: Sequence[ResourceError]) -> dict[ConditionType, Finding]:
    """What a feed says that was applied a moment before its tables."""
    finding = no(Reason.RECONCILING, f"Waits for its tables. {'; '.join(error.text for error in errors)}")
    return {ConditionType.READY: finding, ConditionType.TABLES_READY: finding}


def _feed_fields(facts: observe.FeedFacts, measured: Mapping[str, Any]) -> dict[str, Any]:
    before, plan = facts.obj.get("status") or {}, facts.plan
    # What was measured before a restart holds until it is measured again.
    kept = {name: before.get(name) for name in figures.FIELDS}
    if plan is None:
        kept |= {name: before.get(name) for name in ("streams", "topics", "completedSource", "sinkReplicas")}
    else:
        streams = facts.obj["spec"]["streams"]
        sinks = [facts.object("Deployment", names.sink(each.config.topic, each.config.table)) for each in plan.sinks]
        pods = [int((each.get("status") or {}).get("replicas") or 0) for each in sinks if each is not None]
        kept |= {
            "streams": ",".join(each["dataType"] for each in streams),
            "topics": [str(each.name) for each in plan.topics] or None,
            "completedSource": workloads.completed(facts, plan),
            "sinkReplicas": max(pods, default=0),
        }
    return {**kept, **measured}


def _table_fields(facts: observe.TableFacts, measured: Mapping[str, Any]) -> dict[str, Any]:
    before = facts.obj.get("status") or {}
    return {name: before.get(name) for name in table_figures.FIELDS} | dict(measured)


def _subjects(facts: observe.FeedFacts, plan: FeedPlan) -> tuple[TopicPlan, ...]:
    """The topics whose schemas are to be registered: with the columns of a table only once the table has them."""
    found = [condition(obj, ConditionType.READY) for obj in facts.tables.values()]
    generations = [int(obj["metadata"].get("generation", 0)) for obj in facts.tables.values()]
    are_there = all(
        each is not None and each["status"] == "True" and each.get("observedGeneration") == generation
        for each, generation in zip(found, generations, strict=True)
    )
    return plan.topics if are_there else tuple(replace(topic, further=()) for topic in plan.topics)


def _tables_ready(facts: observe.FeedFacts) -> Finding:
    for name, obj in sorted(facts.tables.items()):
        found = condition(obj, ConditionType.READY)
        if found is None:
            return no(Reason.RECONCILING, f"IcebergTable {name} has not been looked at yet.")
        if found["status"] != "True" and found["reason"] in UNREACHABLE:
            return no(Reason(found["reason"]), f"IcebergTable {name}: {found['message']}")
        if found["status"] != "True":
            return no(Reason.TABLE_NOT_READY, f"IcebergTable {name}: {found['reason']}: {found['message']}")
    return yes(Reason.TABLES_EXIST, "The tables of all streams are there.")


def _upkeep_findings(facts: observe.TableFacts, runs: Mapping[str, Object]) -> dict[ConditionType, Finding]:
    """What CronJobs and the table say of upkeep. `runs`: what the table keeps of each task's last run."""
    if facts.plan is None:
        return {}
    table = facts.plan.name
    jobs = {each["metadata"]["name"]: each for each in facts.owned if each["kind"] == "CronJob"}
    found = {
        CONDITIONS[each.task]: upkeep_finding(each, jobs.get(names.upkeep(table, each.task)))
        for each in facts.plan.upkeep
    }
    scrub = jobs.get(names.upkeep(table, "scrub"))
    intact = intact_finding(runs.get("scrub"), found.get(ConditionType.FILES_INTACT), scrub)
    if intact is not None:
        found[ConditionType.FILES_INTACT] = intact
    scheduled = [each for each in facts.plan.upkeep if not each.suspended]
    if scheduled:
        now = datetime.now(UTC)
        late = [
            each.task
            for each in scheduled
            if (job := jobs.get(names.upkeep(table, each.task))) is not None and _is_late(each, job, runs, now)
        ]
        found[ConditionType.UPKEEP_ON_TIME] = on_time_finding(late, len(scheduled))
    return found


def _is_late(plan: UpkeepPlan, job: Object, runs: Mapping[str, Object], now: datetime) -> bool:
    """Whether a task has missed two periods since it last ended well, or since its CronJob is there."""
    since = run_ended(runs.get(plan.task), job)
    created = job["metadata"].get("creationTimestamp")
    if created is not None:
        # Of a schedule that was put in later than the last run by hand, or into a table of before.
        since = max(filter(None, (since, datetime.fromisoformat(created))))
    if since is None:
        return False
    second = next_run(plan.schedule, plan.time_zone, next_run(plan.schedule, plan.time_zone, since))
    return now >= second + timedelta(seconds=plan.deadline_seconds)


def _table_findings(
    facts: observe.TableFacts, measured: Mapping[ConditionType, Finding], table_fields: Mapping[str, Any]
) -> dict[ConditionType, Finding]:
    """What upkeep says of itself, and what the files say of it."""
    runs = _upkeep_findings(facts, {each["task"]: each for each in table_fields.get("upkeep") or ()})
    known: dict[ConditionType, Finding] = {
        **dict.fromkeys(table_figures.MEASURED, table_figures.NOT_MEASURED),
        **(measured or status.carried(facts.obj, table_figures.MEASURED)),
    }
    compacted = table_figures.whole(known[ConditionType.COMPACTED], runs.get(ConditionType.COMPACTED))
    return runs | known | {ConditionType.COMPACTED: compacted}
