"""Topics that were deleted and made again: Kafka's id of a topic is not the one that its table has recorded offsets of.

Nobody can go on then without a person's decision, and the sinks, if there are any, stand still. The ids of all topics come in one
request; a table is asked only for a topic whose id is new here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from k2.bus.admin import topic_ids
from k2.lake.catalog import load_table, open_named
from k2.lake.offsets import OFFSETS, OffsetMap
from k2.model.errors import K2Error, UserError
from k2.obs.logging import get_logger
from k2_operator.plan.plans import FeedPlan, SinkPlan
from k2_operator.reconcile.backends import Backends
from k2_operator.report.status import Finding, no
from k2_operator.spec.conditions import Reason

_log = get_logger(__name__)

ASKED_AT_ONCE = 20
"""Tables that are loaded for this in one round: after a start all topics are new."""

_Pair = tuple[str, str]
"""A topic and the identifier of its table."""


@dataclass(slots=True)
class TopicIds:
    """What is known of the topics that have sinks."""

    backends: Backends
    _agreed: dict[_Pair, str] = field(default_factory=dict[_Pair, str])
    _replaced: dict[_Pair, tuple[str, str]] = field(default_factory=dict[_Pair, tuple[str, str]])

    async def look(self, sinks: Collection[SinkPlan]) -> set[str]:
        """Compare Kafka's ids with the tables', where one of the two may have changed; returns the topics that somebody has deleted.

        Raises:
            WorldError: Kafka cannot be reached.
        """
        pairs = [(sink.config.topic, sink.config.table) for sink in sinks]
        if not pairs:
            return set()
        config, since = self.backends.settings.kafka_config(), self.backends.clock()
        ids = await self.backends.in_thread(lambda: topic_ids(config, {topic for topic, _ in pairs}))
        missing = self.backends.missing_topics({topic for topic, _ in pairs}, ids, since)
        asked = [pair for pair in pairs if pair[0] in ids and self._agreed.get(pair) != ids[pair[0]]][:ASKED_AT_ONCE]
        try:
            found = await self.backends.in_thread(lambda: self._recorded(asked)) if asked else {}
        except K2Error as error:
            _log.info("topic_ids.not_compared", reason=str(error))  # that the catalog is away others tell
            return missing
        for pair in asked:
            recorded, now = found.get(pair), ids[pair[0]]
            if recorded is None or recorded == now:
                self._replaced.pop(pair, None)
                self._agreed[pair] = now  # what has no offsets yet gets those of this one
            else:
                self._replaced[pair] = (recorded, now)
        self._agreed = {pair: each for pair, each in self._agreed.items() if pair in pairs}
        self._replaced = {pair: each for pair, each in self._replaced.items() if pair in pairs}
        return missing

    def finding(self, plan: FeedPlan) -> Finding | None:
        """What `TopicsReady` has to say of a feed's topics because of this; None: nothing."""
        for sink in plan.sinks:
            topic, table = sink.config.topic, sink.config.table
            if (ids := self._replaced.get((topic, table))) is not None:
                return no(
                    Reason.TOPIC_REPLACED,
                    f"Topic {topic} was deleted and made again: it is {ids[1]}, and {table} holds offsets of {ids[0]}. Its sink does "
                    "not guess what of the new one is there already. To read the new one from its beginning: "
                    f"k2 sink reset {table} --topic {topic} --forget",
                )
        return None

    def _recorded(self, pairs: Collection[_Pair]) -> Mapping[_Pair, str]:
        """The ids of the topics that the tables have offsets of; a table that is not there has none."""
        settings, found = self.backends.settings, dict[_Pair, str]()
        catalog = open_named(settings.catalog_name, settings.catalog_config())
        try:
            for topic, table in pairs:
                try:
                    offsets = OffsetMap.from_json(load_table(catalog, table).properties.get(OFFSETS))
                except UserError:
                    continue  # the IcebergTable and the sink tell of that
                if (held := offsets.topics.get(topic)) is not None:
                    found[topic, table] = held.topic_id
        finally:
            catalog.close()
        return found
