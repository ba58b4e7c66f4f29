"""Which rows of a table another one has too: of a topic that two tables record each offset counts once.

A feed that is moved to another table has its sink read again what the topic keeps. Both tables record how far they read, so
what both have is told without a read. The rows of the table with the wider decimals count, for it holds what a standard one
put aside; of equally wide ones those of the table that began first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from k2.lake.offsets import OffsetMap, PartitionOffsets
from k2.model.further import decimal_digits
from k2.query.plan.pinned import TableAt
from k2.query.rows.relation import OffsetRange

_Place = tuple[str, int]


def left_out(tables: Sequence[TableAt]) -> tuple[tuple[OffsetRange, ...], ...]:
    """For each of the tables the offsets whose rows are another one's."""
    held = [_held(each.state.recorded(each.snapshot)) for each in tables]
    places = [place for one in held for place in one]
    if len(places) == len(set(places)):
        return tuple(() for _ in tables)
    widths = [_digits(each) for each in tables]

    def rank(number: int, place: _Place) -> tuple[int, int, int]:
        return widths[number], -held[number][place].first, -number

    return tuple(
        tuple(
            (*place, held[other][place].first, held[other][place].next)
            for place in held[number]
            for other in range(len(tables))
            # What a person gave up as lost lies among a table's offsets, and its rows may be in the other one.
            if other != number
            and place in held[other]
            and not held[other][place].lost
            and rank(other, place) > rank(number, place)
        )
        for number in range(len(tables))
    )


@lru_cache(256)
def _held(text: str | None) -> dict[_Place, PartitionOffsets]:
    topics = OffsetMap.from_json(text).topics.values()
    return {(topic.topic_id, number): part for topic in topics for number, part in topic.partitions.items()}


def _digits(table: TableAt) -> int:
    """Of its widest decimal."""
    return max((digits[0] for c in table.columns if (digits := decimal_digits(c.type))), default=0)
