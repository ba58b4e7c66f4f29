"""One collector for all feeds and tables: reads offsets every half a minute, and tells a resource every other time at most.

All ends come in two requests. A group is asked only where something may have moved, and a table is looked at when its sinks have
told of a newer snapshot, or after ten minutes: at rest hardly anybody is asked twice. Of what is away nothing is told that was
measured before it went.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from k2.bus.admin import committed_with_metadata, end_offsets_of
from k2.bus.groups import known_groups
from k2.lake.burden import NEWEST
from k2.lake.layout import Layout, LookFor
from k2.lake.upkeep_runs import TaskRun
from k2.model.errors import K2Error, UserError, WorldError
from k2.model.exchanges import exchange
from k2.model.gap_note import GapNote
from k2.model.platform import Platform
from k2.model.topics import account_group_id
from k2.obs.logging import get_logger
from k2_operator.build import names
from k2_operator.kube.cache import FEED, TABLE, Cache
from k2_operator.plan.plans import FeedPlan, SinkPlan, TablePlan
from k2_operator.reconcile import metrics, observe
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.topic_ids import TopicIds
from k2_operator.reconcile.world import AwayError, WorldPart
from k2_operator.report import completeness, figures, table_figures
from k2_operator.report.figures import Commits, Reading, SinkProgress
from k2_operator.report.status import Finding, unknown
from k2_operator.spec.conditions import ConditionType, Reason
from k2_operator.spec.objects import Ref, condition

LAYOUT_SECONDS = 600.0
"""A table's files are looked at this often at most; what others than K2's sinks do to it is seen then, too."""

FILES_SECONDS = 3600.0
"""A table's files are listed this often at most, when they are looked at: a request to the store for a thousand of them."""

PATIENCE = 2
"""Rounds in a row in which Kafka was not heard to the end, after which what the last one told is not known any more."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What a resource's status is to say of its figures."""

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    findings: Mapping[ConditionType, Finding] = field(default_factory=dict[ConditionType, Finding])


NOTHING = Told()


@dataclass(frozen=True, slots=True)
class _Look:
    """What was last seen of a table: `at` its totals were read, `deep_at` its manifests, `files_at` its files were listed.

    In seconds of a steady clock. `broken` are the files that were not as they should be, `missing` the rows that are not there.
    """

    sequence: int
    at: float
    deep_at: float
    files_at: float
    compacted: Finding
    present: Finding
    broken: int = 0
    missing: int = 0
    runs: Mapping[str, TaskRun] = field(default_factory=dict[str, TaskRun])

    @property
    def findings(self) -> dict[ConditionType, Finding]:
        return {ConditionType.COMPACTED: self.compacted, ConditionType.FILES_PRESENT: self.present}


@dataclass(slots=True)
class Collector:
    """Reads every `interval` seconds, and remembers. `told` has the newest published figures of a feed or a table."""

    cache: Cache
    platform: Platform
    backends: Backends
    wake: Callable[[Ref], None]
    interval: float = 30.0
    _told: dict[Ref, tuple[float, Told]] = field(default_factory=dict[Ref, tuple[float, Told]])
    _progress: dict[str, SinkProgress] = field(default_factory=dict[str, SinkProgress])
    _commits: dict[str, Commits] = field(default_factory=dict[str, Commits])
    _looks: dict[Ref, _Look] = field(default_factory=dict[Ref, _Look])
    _failures: int = 0
    _accounts: dict[str, GapNote] = field(default_factory=dict[str, GapNote])
    _topic_ids: TopicIds = field(init=False)

    def __post_init__(self) -> None:
        self._topic_ids = TopicIds(self.backends)

    def told(self, where: Ref) -> Told:
        """What was last published about a feed or a table."""
        return self._told.get(where, (0.0, NOTHING))[1]

    @property
    def _publish_seconds(self) -> float:
        """Figures alone, under the same conditions, are told this often at most."""
        return 2 * self.interval

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            await asyncio.sleep(self.interval * random.uniform(0.9, 1.1))
            try:
                await self.collect()
                metrics.COLLECTIONS.labels("ok").inc()
            except K2Error as error:
                metrics.COLLECTIONS.labels("error").inc()
                _log.warning("collection.failed", error=str(error))

    async def collect(self) -> None:
        """One round over all feeds and tables.

        Raises:
            WorldError: Kafka cannot be reached; the tables have been looked at all the same.
        """
        tables = self._tables()
        try:
            await self._measure()
            self._failures = 0
        except WorldError as error:
            self._failures += 1
            if isinstance(error, AwayError) or self._failures >= PATIENCE:
                self._lose_feeds(str(error))
            raise
        finally:
            await self._look(tables)
            kept = {*self._feeds(), *tables}
            self._told = {where: told for where, told in self._told.items() if where in kept}
            self._looks = {where: look for where, look in self._looks.items() if where in kept}

    async def _measure(self) -> None:
        """Lag, rate, freshness and commits of all feeds that can be planned."""
        self.backends.world.require(WorldPart.KAFKA)
        found = ((where, observe.feed(self.cache, self.platform, where)) for where in self._feeds())
        feeds = [(where, facts, facts.plan) for where, facts in found if facts is not None and facts.plan is not None]
        plans = {where: plan for where, _, plan in feeds}
        lacking = {group for _, facts, plan in feeds for group in lacking_pods(facts, plan)}
        sinks = {sink.config.group_id: sink for plan in plans.values() for sink in plan.sinks}
        await self._read(sinks, lacking)
        await self._read_accounts(plans.values())
        self._count_commits(sinks)
        missing = await self._topic_ids.look(sinks.values())
        for where, plan in plans.items():
            self._publish(where, plan)
            if gone := sorted(missing.intersection(str(topic.name) for topic in plan.topics)):
                _log.warning("topics.deleted", feed=str(where), topics=gone, remedy="they are made again, empty")
                self.wake(where)

    def lose(self, away: AwayError) -> None:
        """Tell that nothing is known any more of what a part of the world would tell."""
        if away.part is WorldPart.KAFKA:
            self._lose_feeds(str(away))
        elif away.part is not WorldPart.REGISTRY:
            reason = Reason.STORE_UNREACHABLE if away.part is WorldPart.STORE else Reason.CATALOG_UNREACHABLE
            told = Told(dict.fromkeys(table_figures.FIELDS), table_figures.not_known(reason, str(away)))
            self._looks.clear()  # what is there again is looked at in full
            for where in self._tables():
                self._tell(where, told, time.monotonic())

    def _lose_feeds(self, error: str) -> None:
        # A sink has its two commit intervals from when Kafka is back: it could not commit before.
        self._progress.clear()
        told = Told(dict.fromkeys(figures.FIELDS), figures.not_known(error))
        for where in self._feeds():
            # What was told of an outage stays while it lasts.
            fresh = self.told(where).findings.get(ConditionType.FRESH)
            if fresh is None or fresh.reason is not Reason.KAFKA_UNREACHABLE:
                self._tell(where, told, time.monotonic())

    def _feeds(self) -> list[Ref]:
        """The feeds that nobody has deleted."""
        found = ((where, self.cache.get(where)) for where in self.cache.refs(FEED))
        return [where for where, obj in found if obj is not None and not obj["metadata"].get("deletionTimestamp")]

    async def _read(self, sinks: Mapping[str, SinkPlan], lacking: set[str]) -> None:
        config = self.backends.settings.kafka_config()
        topics = {sink.config.topic for sink in sinks.values()}
        ends = await self.backends.in_thread(lambda: end_offsets_of(config, topics))
        if lacking:  # most of them have not begun yet, and one request says so
            lacking = lacking & await self.backends.in_thread(lambda: known_groups(config))
        for group, sink in sinks.items():
            topic = sink.config.topic
            if topic not in ends:
                continue
            before, now = self._progress.get(group), ends[topic]
            if figures.is_asked(before, now, lacks_pods=group in lacking):
                committed = await self.backends.in_thread(_asking(config, group, topic))
            else:
                committed = before.latest.committed if before is not None and any(now.values()) else {}
            reading = Reading(time.monotonic(), now, committed)
            self._progress[group] = figures.progress(before, reading)
        self._progress = {group: found for group, found in self._progress.items() if group in sinks}

    async def _read_accounts(self, plans: Iterable[FeedPlan]) -> None:
        """What live feeds have left about their accounts of gaps."""
        config = self.backends.settings.kafka_config()
        topics = sorted({topic for plan in plans if (topic := completeness.account_topic(plan)) is not None})
        found: dict[str, GapNote] = {}
        for topic in topics:
            try:
                told = await self.backends.in_thread(_asking(config, account_group_id(topic), topic))
            except UserError:  # the topic is not there yet
                continue
            notes = [note for _, text in told.values() if (note := GapNote.from_json(text)) is not None]
            if notes:
                found[topic] = notes[0]
        self._accounts = found

    def _count_commits(self, sinks: Mapping[str, SinkPlan]) -> None:
        readings: dict[str, list[Reading]] = {}
        for group, sink in sinks.items():
            if group in self._progress:
                readings.setdefault(sink.config.table, []).append(self._progress[group].latest)
        found = {table: figures.commits(self._commits.get(table), each) for table, each in readings.items()}
        self._commits = {table: each for table, each in found.items() if each is not None}

    def _tables(self) -> dict[Ref, TablePlan]:
        """The tables that are there."""
        found: dict[Ref, TablePlan] = {}
        for where in self.cache.refs(TABLE):
            facts = observe.table(self.cache, where)
            if facts is None or facts.plan is None or facts.deleting:
                continue
            ready = condition(facts.obj, ConditionType.READY)
            if ready is not None and ready["status"] == "True":
                found[where] = facts.plan
        return found

    async def _look(self, tables: Mapping[Ref, TablePlan]) -> None:
        """Look at the tables for which it is time."""
        now = time.monotonic()
        due = {where: deep for where, plan in tables.items() if (deep := self._due(where, plan, now)) is not None}
        if not due:
            return
        found = await self.backends.layouts({tables[where].table.identifier: asked for where, asked in due.items()})
        for where, asked in due.items():
            self._take(where, tables[where], found[tables[where].table.identifier], now, asked)
        metrics.BROKEN_FILES.set(sum(look.broken for look in self._looks.values()))
        metrics.MISSING_ROWS.set(sum(look.missing for look in self._looks.values()))
        metrics.show_runs([run for look in self._looks.values() for run in look.runs.values()])

    def _due(self, where: Ref, plan: TablePlan, now: float) -> LookFor | None:
        """What is to be looked at; None when nothing is."""
        before = self._looks.get(where)
        if before is None:
            return LookFor(NEWEST, files=True)
        if now - before.deep_at >= LAYOUT_SECONDS:
            return LookFor(NEWEST, files=now - before.files_at >= FILES_SECONDS)
        told = self._commits.get(plan.table.identifier)
        moved = told is not None and told.sequence > before.sequence
        return LookFor() if moved and now - before.at >= self._publish_seconds else None

    def _take(self, where: Ref, plan: TablePlan, found: Layout | WorldError, now: float, asked: LookFor) -> None:
        before = self._looks.get(where)
        if isinstance(found, WorldError):
            finding = unknown(Reason.NOT_MEASURED, f"The table could not be looked at: {found}")
            # The files are listed as soon as the table can be looked at.
            look = _Look(before.sequence if before else 0, now, now, now - FILES_SECONDS, finding, finding)
            self._looks[where] = look
            self._tell(where, Told(self.told(where).fields, look.findings), now)
            return
        look = before or _Look(0, now, now, now, table_figures.NOT_MEASURED, table_figures.NOT_MEASURED)
        look = replace(look, sequence=found.totals.sequence, at=now, missing=found.totals.missing, runs=found.runs)
        if asked.newest:
            look = replace(look, deep_at=now, compacted=table_figures.compacted(plan, found.newest))
        if found.files is not None:
            broken = 0 if isinstance(found.files, Exception) else len(found.files.findings)
            look = replace(look, files_at=now, present=table_figures.present(found.files), broken=broken)
        self._looks[where] = look
        self._tell(where, Told(table_figures.fields(found), look.findings), now)

    def _publish(self, where: Ref, plan: FeedPlan) -> None:
        found = {
            sink.config.topic: self._progress[sink.config.group_id]
            for sink in plan.sinks
            if sink.config.group_id in self._progress
        }
        if not found:
            return
        now = time.monotonic()
        market = exchange(plan.exchange)
        clock = datetime.now(UTC)
        account = self._accounts.get(completeness.account_topic(plan) or "")
        found_now = {
            **figures.findings(plan, market, found, self._commits, clock, now),
            ConditionType.COMPLETE: completeness.complete(plan, account, clock),
        }
        if (replaced := self._topic_ids.finding(plan)) is not None:
            found_now = {**found_now, ConditionType.TOPICS_READY: replaced}
        told = figures.fields(plan, found) | completeness.completeness_fields(account)
        self._tell(where, Told(told, found_now), now)

    def _tell(self, where: Ref, new: Told, now: float) -> None:
        at, old = self._told.get(where, (-self._publish_seconds, NOTHING))
        if new == old or (new.findings == old.findings and now - at < self._publish_seconds):
            return
        self._told[where] = (now, new)
        self.wake(where)


def lacking_pods(facts: observe.FeedFacts, plan: FeedPlan) -> list[str]:
    """The groups of a feed's sinks that have fewer pods at work than they should: none is ready that something holds up."""
    found: list[str] = []
    for sink in plan.sinks:
        deployment = facts.object("Deployment", names.sink(sink.config.topic, sink.config.table))
        available = 0 if deployment is None else int((deployment.get("status") or {}).get("availableReplicas") or 0)
        if available < sink.least:
            found.append(sink.config.group_id)
    return found


def _asking(config: Mapping[str, str], group: str, topic: str) -> Callable[[], dict[int, tuple[int, str]]]:
    return lambda: committed_with_metadata(config, group, topic)
