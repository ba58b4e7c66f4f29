"""Messages that a sink has read already, read and decoded again as it did: for rows whose file is gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from k2.bus.admin import beginning_offsets, end_offsets, topic_ids
from k2.bus.ranges import read_range
from k2.bus.registry import Schemas
from k2.lake.catalog import TableSource, load_table
from k2.lake.kept_schemas import TopicSchemas, kept_schemas
from k2.lake.payloads import PayloadDecoder, compact
from k2.lake.schema_ids import SchemaIds
from k2.lake.upkeep.held import HeldRange
from k2.model.feed_rules import FeedRules
from k2.model.tables import OFFSET, PARTITION
from k2.model.topics import TopicName
from k2.obs.renewed import ClientSettings, as_now


@dataclass(slots=True)
class TopicsAgain:
    """Topics whose messages a table holds. For one thread; `close` it.

    Args:
        kafka: connection settings of librdkafka.
        schemas: the registry.
        catalog: where the table is loaded from.
        table: its identifier.
    """

    kafka: ClientSettings
    schemas: Schemas
    catalog: TableSource
    table: str
    _decoders: dict[str, PayloadDecoder] = field(default_factory=dict[str, PayloadDecoder], init=False)

    def there(self, topic: str, topic_id: str) -> Mapping[int, tuple[int, int]]:
        """Partition → the offsets [first, next) that the topic has; empty where it is gone, or is another one of that name.

        Raises:
            WorldError: Kafka does not answer.
        """
        config = as_now(self.kafka)
        if topic_ids(config, [topic]).get(topic) != topic_id:
            return {}
        ends = end_offsets(config, topic)
        return {number: (first, ends[number]) for number, first in beginning_offsets(config, topic).items()}

    def rows(self, wanted: HeldRange, rules: FeedRules) -> Iterator[pa.Table]:
        """Good rows of a range in the order of offsets, with their partition and offset. What is no event is left out.

        Raises:
            PausedError: the registry does not know a schema that they were written by.
            WorldError: Kafka does not answer.
        """
        decode = self._decoder(wanted, rules)
        for polled in read_range(as_now(self.kafka), wanted.topic, wanted.partition, wanted.start, wanted.stop):
            decoded = decode(polled.payloads)
            if len(decoded.rows):
                rows = compact(decoded.events)
                rows = rows.append_column(PARTITION, pa.array(polled.partitions[decoded.rows], pa.int32()))
                yield pa.Table.from_batches(
                    [rows.append_column(OFFSET, pa.array(polled.offsets[decoded.rows], pa.int64()))]
                )

    def _decoder(self, wanted: HeldRange, rules: FeedRules) -> PayloadDecoder:
        if wanted.topic not in self._decoders:

            def kept() -> TopicSchemas:
                return kept_schemas(load_table(self.catalog, self.table).metadata).of(wanted.topic_id)

            self._decoders[wanted.topic] = PayloadDecoder(
                wanted.topic,
                self.table,
                TopicName.parse(wanted.topic).data_type,
                SchemaIds(wanted.topic, self.table, self.schemas, kept),
                lambda: load_table(self.catalog, self.table),
                rules.prices,
            )
        return self._decoders[wanted.topic]
