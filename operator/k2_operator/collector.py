"""One collector for all feeds: reads ends and group offsets every half a minute, and tells feeds once a minute at most.

All ends come in two requests. A group is asked only where something may have moved: at rest nobody is asked twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from k2.bus.admin import committed_with_metadata, end_offsets_of
from k2.model.errors import K2Error
from k2.model.exchanges import exchange
from k2.model.platform import Platform
from k2.obs.logging import get_logger
from k2_operator import figures, observe
from k2_operator.cache import FEED, Cache
from k2_operator.figures import Progress, Reading
from k2_operator.objects import Ref
from k2_operator.plans import FeedPlan, SinkPlan
from k2_operator.status import Finding
from k2_operator.world import World

INTERVAL_SECONDS = 30.0
PUBLISH_SECONDS = 60.0
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """What a feed's status is to say of its figures."""

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    findings: Mapping[str, Finding] = field(default_factory=dict[str, Finding])


NOTHING = Told()


@dataclass(slots=True)
class Collector:
    """Reads and remembers. `told` has the newest published figures of a feed."""

    cache: Cache
    platform: Platform
    world: World
    wake: Callable[[Ref], None]
    _told: dict[Ref, tuple[float, Told]] = field(default_factory=dict[Ref, tuple[float, Told]])
    _progress: dict[str, Progress] = field(default_factory=dict[str, Progress])

    def told(self, where: Ref) -> Told:
        """What was last published about a feed."""
        return self._told.get(where, (0.0, NOTHING))[1]

    async def run(self) -> None:
        """Collect until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS * random.uniform(0.9, 1.1))
            try:
                await self.collect()
            except K2Error as error:
                # The feeds' own conditions tell that Kafka is away; old figures stay.
                _log.warning("lag could not be measured", error=str(error))

    async def collect(self) -> None:
        """One round over all feeds.

        Raises:
            WorldError: Kafka cannot be reached.
        """
        plans = {where: facts.plan for where, facts in self._feeds() if facts.plan is not None}
        sinks = {sink.config.group_id: sink for plan in plans.values() for sink in plan.sinks}
        await self._read(sinks)
        for where, plan in plans.items():
            self._publish(where, plan)
        self._told = {where: told for where, told in self._told.items() if where in plans}

    def _feeds(self) -> list[tuple[Ref, observe.FeedFacts]]:
        found = ((where, observe.feed(self.cache, self.platform, where)) for where in self.cache.refs(FEED))
        return [(where, facts) for where, facts in found if facts is not None and not facts.deleting]

    async def _read(self, sinks: Mapping[str, SinkPlan]) -> None:
        config = self.world.settings.kafka_config()
        topics = {sink.config.topic for sink in sinks.values()}
        ends = await self.world.in_thread(lambda: end_offsets_of(config, topics))
        for group, sink in sinks.items():
            topic = sink.config.topic
            if topic not in ends:
                continue
            before, now = self._progress.get(group), ends[topic]
            settled = before is not None and before.latest.lag == 0 and before.latest.ends == now
            if before is not None and settled:
                committed = before.latest.committed
            elif not any(now.values()):
                committed = {}
            else:
                committed = await self.world.in_thread(_asking(config, group, topic))
            reading = Reading(time.monotonic(), now, committed)
            self._progress[group] = figures.progress(before, reading)
        self._progress = {group: found for group, found in self._progress.items() if group in sinks}

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
        new = Told(figures.fields(found), figures.findings(plan, market, found, datetime.now(UTC), now))
        at, old = self._told.get(where, (-PUBLISH_SECONDS, NOTHING))
        if new == old or (new.findings == old.findings and now - at < PUBLISH_SECONDS):
            return
        self._told[where] = (now, new)
        self.wake(where)


def _asking(config: Mapping[str, str], group: str, topic: str) -> Callable[[], dict[int, tuple[int, str]]]:
    return lambda: committed_with_metadata(config, group, topic)
