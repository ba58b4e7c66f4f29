"""Which offsets of which topics a data file held, by what its manifest says of it: also where nobody can read the file any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2.lake.offsets import OffsetMap
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID


@dataclass(frozen=True, slots=True)
class HeldRange:
    """Offsets [start, stop) of a partition among which are those that a file held; others may be among them."""

    topic: str
    topic_id: str
    partition: int
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition} {self.start}-{self.stop - 1}"


def held_ranges(table: Table, offsets: OffsetMap, file: DataFile) -> tuple[HeldRange, ...]:
    """The ranges that a file's rows came from: its bounds, as far as the table has read.

    Args:
        table: whose file it is.
        offsets: what the table records.
        file: as its manifest has it. Without bounds of its own it may have held anything.
    """
    first_topic, last_topic = _bounds(table, file, TOPIC_ID)
    first_partition, last_partition = _bounds(table, file, PARTITION)
    first, last = _bounds(table, file, OFFSET)
    found: list[HeldRange] = []
    for topic, held in sorted(offsets.topics.items()):
        # A bound may be cut at 16 characters; the upper one is then above all that begin with it.
        if (first_topic is not None and held.topic_id < first_topic) or (
            last_topic is not None and held.topic_id > last_topic
        ):
            continue
        for number, part in sorted(held.partitions.items()):
            if (first_partition is not None and number < first_partition) or (
                last_partition is not None and number > last_partition
            ):
                continue
            start = part.first if first is None else max(part.first, first)
            stop = part.next if last is None else min(part.next, last + 1)
            if start < stop:
                found.append(HeldRange(topic, held.topic_id, number, start, stop))
    return tuple(found)


def joined_ranges(ranges: Iterable[HeldRange]) -> tuple[HeldRange, ...]:
    """The ranges without overlaps, by topic, partition and offset."""
    found: list[HeldRange] = []
    for each in sorted(ranges, key=lambda one: (one.topic, one.topic_id, one.partition, one.start)):
        last = found[-1] if found else None
        same = last is not None and (last.topic_id, last.partition) == (each.topic_id, each.partition)
        if last is not None and same and each.start <= last.stop:
            found[-1] = HeldRange(last.topic, last.topic_id, last.partition, last.start, max(last.stop, each.stop))
        else:
            found.append(each)
    return tuple(found)


def _bounds(table: Table, file: DataFile, column: str) -> tuple[Any, Any]:
    schema = table.schema()
    if column not in schema.column_names:
        return None, None
    wanted = schema.find_field(column)

    def of(bounds: Mapping[int, bytes] | None) -> Any:
        value = (bounds or {}).get(wanted.field_id)
        return None if value is None else from_bytes(wanted.field_type, value)  # pyright: ignore[reportArgumentType]

    return of(file.lower_bounds), of(file.upper_bounds)
