"""Kafka, the registry and the catalog, asked in threads: every call of `k2.bus` and `k2.lake` blocks.

What was found well is not asked again until it is due, so that a Deployment's thousand events cost Kafka nothing, and what is known
to be away is not asked at all. What comes out is K2's two families of error and nothing else: the user's is a condition, the
world's is retried, and so are credentials of the platform's that are not taken.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from k2.bus.admin import delete_topics, end_offsets, ensure_topics
from k2.lake.appends.unwritable import refuse_unwritable
from k2.lake.catalog import load_table, open_named
from k2.lake.layout import Layout, LookFor, layouts
from k2.lake.offsets import recorded_offsets
from k2.lake.tables import drop_table, ensure_table
from k2.model.errors import K2Error, WorldError
from k2.model.settings import Settings
from k2.model.topics import subject_of
from k2_operator.plan.plans import SinkPlan, TablePlan, TopicPlan
from k2_operator.reconcile.topics import ensure_planned_subjects, topic_specs
from k2_operator.reconcile.world import World, WorldPart, of_the_world

THREADS = 8
REMEMBERED = 5000

_LAKE = (WorldPart.CATALOG, WorldPart.STORE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Well:
    """What was found well: from when until when it is not asked for again, of which parts of the world; its subjects or topics, if any."""

    since: float
    until: float
    parts: tuple[WorldPart, ...]
    subjects: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()


@dataclass(slots=True)
class Backends:
    """The services outside of Kubernetes, with what is known to be well: it is asked for again after `check_seconds`.

    `world` knows what is away. Each of the calls here raises an `AwayError` when what it needs is.
    """

    settings: Settings
    check_seconds: float = 540.0
    clock: Callable[[], float] = time.monotonic
    world: World = field(default_factory=World)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(THREADS, "k2-backends"))
    _well: dict[str, _Well] = field(default_factory=dict[str, _Well])
    _lost: set[str] = field(default_factory=set[str])
    _again: set[str] = field(default_factory=set[str])

    async def topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Topics and dead-letter topics; returns what was done.

        Raises:
            UserError, WorldError: see `ensure_topics`.
        """
        specs = [spec for plan in plans for spec in topic_specs(plan)]
        config = self.settings.kafka_config
        return await self._unless_well(
            f"topics {specs}",
            (WorldPart.KAFKA,),
            lambda: ensure_topics(config(), specs) if specs else [],
            topics=frozenset(spec.name for spec in specs),
        )

    async def subjects(self, plans: Sequence[TopicPlan]) -> list[str]:
        """The subjects of the topics' values, with the further columns that the plans have; returns those that had been lost.

        Raises:
            UserError, WorldError: see `ensure_subjects`.
        """

        def register() -> list[str]:
            if plans:
                ensure_planned_subjects(self.settings.registry_config(), plans)
            return []

        wanted = {str(plan.name): (str(plan.decimals), plan.further) for plan in plans}
        subjects = frozenset(subject_of(name) for name in wanted)
        await self._unless_well(f"subjects {wanted}", (WorldPart.REGISTRY,), register, subjects)
        again = sorted(subjects & self._again)
        self._again -= subjects
        return [f"registered {name} again, which the registry had no more" for name in again]

    async def table(self, plan: TablePlan) -> list[str]:
        """The table of an IcebergTable; returns what was done.

        Raises:
            UserError, WorldError: see `ensure_table`; a `UserError` too where not even a plain row could be written to it.
        """

        def ensure() -> list[str]:
            catalog = open_named(self.settings.catalog_name, self.settings.catalog_config())
            try:
                done = ensure_table(catalog, plan.table)
                if plan.table.data_type is not None:
                    refuse_unwritable(catalog, plan.table.identifier, plan.table.data_type)
                return done
            finally:
                catalog.close()

        return await self._unless_well(f"table {plan}", _LAKE, ensure)

    async def layouts(self, wanted: Mapping[str, LookFor]) -> dict[str, Layout | WorldError]:
        """How tables lie in their files, by identifier, or why that cannot be told; see `k2.lake.layout.layouts`.

        Raises:
            WorldError: the catalog cannot be reached.
        """

        def look() -> dict[str, Layout | Exception]:
            catalog = open_named(self.settings.catalog_name, self.settings.catalog_config())
            try:
                return layouts(catalog, wanted)
            finally:
                catalog.close()

        self.world.require(*_LAKE)
        found = await self._in_thread(look)
        return {name: of_the_world(each) if isinstance(each, Exception) else each for name, each in found.items()}

    async def undrained(self, sinks: Sequence[SinkPlan]) -> int:
        """Messages in the sinks' topics that their tables have not recorded."""
        self.world.require(WorldPart.KAFKA)
        return await self._in_thread(lambda: sum(self._left(sink) for sink in sinks))

    async def delete_topics(self, plans: Sequence[TopicPlan]) -> list[str]:
        """Delete topics and dead-letter topics with all that is in them; returns those that existed."""
        names = [spec.name for plan in plans for spec in topic_specs(plan)]
        self.world.require(WorldPart.KAFKA)
        self._well.clear()
        return await self._in_thread(lambda: delete_topics(self.settings.kafka_config(), names))

    async def drop_table(self, identifier: str) -> bool:
        """Drop a table with its rows; False when there is none."""
        self.world.require(*_LAKE)
        self._well.clear()

        def drop() -> bool:
            catalog = open_named(self.settings.catalog_name, self.settings.catalog_config())
            try:
                return drop_table(catalog, identifier)
            finally:
                catalog.close()

        return await self._in_thread(drop)

    async def in_thread(self, call: Callable[[], T]) -> T:
        """Another blocking call, with its errors made K2's."""
        return await self._in_thread(call)

    def doubt(self, part: WorldPart) -> None:
        """Ask again for what was found well of a part: what was true before an outage need not be after it."""
        self._well = {key: well for key, well in self._well.items() if part not in well.parts}

    def missing(self, listed: frozenset[str], since: float) -> set[str]:
        """The subjects that were found well and are in the registry's list no more; they are asked for again.

        Each is told once until it is listed again: a registry may show us less than it has.

        Args:
            listed: the registry's subjects.
            since: when it was asked for them, on this clock. What was registered after that may not be among them.
        """
        known = [well.subjects for well in self._well.values() if well.since < since]
        missing = set[str]().union(*known) - listed - self._lost
        self._lost = (self._lost - listed) | missing
        self._again |= missing
        self._well = {key: well for key, well in self._well.items() if not well.subjects & missing}
        return missing

    def missing_topics(self, asked: Collection[str], listed: Collection[str], since: float) -> set[str]:
        """The topics that were found well and are in Kafka no more; they are asked for again.

        Args:
            asked: topics that Kafka was asked about.
            listed: those of them that it has.
            since: when it was asked, on this clock. What was made after that may not be among them.
        """
        gone = set(asked) - set(listed)
        missing = {topic for well in self._well.values() if well.since < since for topic in well.topics & gone}
        self._well = {key: well for key, well in self._well.items() if not well.topics & missing}
        return missing

    def close(self) -> None:
        """Take no more calls. Those under way end by their own time limits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _left(self, sink: SinkPlan) -> int:
        topic = sink.config.topic
        ends = end_offsets(self.settings.kafka_config(), topic)
        if not any(ends.values()):
            return 0
        self.world.require(*_LAKE)
        catalog = open_named(self.settings.catalog_name, self.settings.catalog_config())
        try:
            held = recorded_offsets(load_table(catalog, sink.config.table)).next_of(topic)
        finally:
            catalog.close()
        return sum(max(0, end - held.get(number, 0)) for number, end in ends.items())

    async def _unless_well(
        self,
        key: str,
        parts: tuple[WorldPart, ...],
        call: Callable[[], list[str]],
        subjects: frozenset[str] = frozenset(),
        topics: frozenset[str] = frozenset(),
    ) -> list[str]:
        self.world.require(*parts)
        known = self._well.get(key)
        if known is not None and known.until > self.clock():
            return []
        done = await self._in_thread(call)
        if len(self._well) > REMEMBERED:
            self._well = {known: well for known, well in self._well.items() if well.until > self.clock()}
        now = self.clock()
        self._well[key] = _Well(now, now + self.check_seconds * random.uniform(0.8, 1.0), parts, subjects, topics)
        return done

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except K2Error:
            raise
        except Exception as error:
            raise of_the_world(error) from error
