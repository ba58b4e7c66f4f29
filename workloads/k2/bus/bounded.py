"""What a topic holds between two offsets, as events: read once and to the end that was there when it began."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pyarrow as pa

from k2.bus.admin import beginning_offsets, end_offsets
from k2.bus.partitions import PartitionsReader
from k2.bus.registry import Schemas
from k2.model.codec.decode import decode
from k2.model.errors import WorldError
from k2.model.events import Decimals
from k2.model.topics import DataType

_AT_ONCE = 8_192
_SILENT_SECONDS = 60.0


def read_to_end(
    kafka_config: Mapping[str, str],
    registry_config: Mapping[str, str],
    topic: str,
    data_type: DataType,
    starts: Mapping[int, int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Events of a topic, each partition's in its order; messages that are none are passed over.

    Args:
        kafka_config: connection settings of librdkafka.
        registry_config: see `Schemas`.
        topic: what is read.
        data_type: the events that are expected; their amounts come as wide decimals, which hold them all.
        starts: partition → offset to begin with; None: the earliest there is. What retention has taken is passed over.

    Raises:
        UserError: there is no such topic.
        WorldError: Kafka or the registry cannot be reached, or gave nothing for a minute.
    """
    earliest, ends = beginning_offsets(kafka_config, topic), end_offsets(kafka_config, topic)
    begin = {number: max(first, (starts or {}).get(number, first)) for number, first in earliest.items()}
    left = {number: offset for number, offset in begin.items() if offset < ends.get(number, 0)}
    if not left:
        return
    schemas = Schemas(registry_config)
    reader = PartitionsReader(kafka_config, topic, left)
    heard = time.monotonic()
    try:
        while any(offset < ends[number] for number, offset in reader.positions().items()):
            polled = reader.poll_block(_AT_ONCE, 0.2)
            if polled is not None:
                heard = time.monotonic()
                decoded = decode(polled.payloads, data_type, schemas.schema, decimals=Decimals.WIDE)
                if len(decoded.events):
                    yield decoded.events
            elif time.monotonic() - heard > _SILENT_SECONDS:
                raise WorldError(f"Kafka gave none of {topic} for {_SILENT_SECONDS:.0f} s")
    finally:
        reader.close()
