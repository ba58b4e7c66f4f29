"""What questions are given of a tail: rows beyond a snapshot as they were at one moment, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

import pyarrow as pa

from k2.lake.offsets import OffsetMap
from k2.lake.reader import ColumnInfo, SnapshotInfo, TableState
from k2.lake.scan import SnapshotFiles
from k2.model.codec.further import field_id
from k2.model.exchanges import known_exchange
from k2.model.topics import DataType
from k2.query.rows.tail_blocks import Reach, TailBlock, Wanted, select
from k2.query.rows.visibility import Sight


@dataclass(frozen=True, slots=True)
class TailView:
    """What a tail held at one moment from some offsets on. Immutable: what is trimmed later stays in it."""

    blocks: tuple[TailBlock, ...]
    reach: Reach

    @property
    def newest_us(self) -> int | None:
        """Time of the newest event; None when there is none."""
        return max((block.newest_us for block in self.blocks), default=None)


def may_hold(topic: str, exchanges: Collection[str]) -> bool:
    """Whether events of one of the exchanges may be in a topic: not when its name ends with another exchange that K2 knows."""
    exchange = topic.rpartition(".")[2].upper()
    return exchange in exchanges or known_exchange(exchange) is None


@dataclass(frozen=True, slots=True)
class TopicTail:
    """What of a topic an answer has beyond its snapshot: partition → [first offset, next offset).

    Attributes:
        behind: offsets of the topic beyond these, as the broker said last; None where it did not say.
        places: partition → its number in the view.
        stale_seconds: seconds since all that the topic held was in it; None: it is not known that it ever was.
        problem: why it is not all that the topic holds; None when it is.
    """

    topic: str
    topic_id: str
    ranges: Mapping[int, tuple[int, int]]
    behind: int | None
    places: Mapping[int, int] = field(default_factory=dict[int, int])
    stale_seconds: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """The rows beyond one snapshot, at one moment, and what is to be said of them.

    Attributes:
        view: the rows.
        topics: of which topics, from and up to which offsets.
        failure: why nothing of any topic is in it; None when something may be.
    """

    view: TailView
    topics: tuple[TopicTail, ...]
    failure: str | None = None

    @property
    def problem(self) -> str | None:
        """Why it is not all that the topics hold; None when it is."""
        return "; ".join(each for each in (self.failure, *(topic.problem for topic in self.topics)) if each) or None

    @property
    def stale_seconds(self) -> float | None:
        """Seconds since all that the topics held was in it; None: it is not known that it ever was."""
        known = [topic.stale_seconds for topic in self.topics if topic.stale_seconds is not None]
        return max(known) if known and len(known) == len(self.topics) else None

    def of(self, exchanges: Collection[str]) -> Tail:
        """The same rows, and what is to be said of the topics that may hold events of these exchanges."""
        return replace(self, topics=tuple(each for each in self.topics if may_hold(each.topic, exchanges)))

    @property
    def newest_us(self) -> int | None:
        """Time of the newest event; None when there is none."""
        return self.view.newest_us

    @property
    def ends(self) -> tuple[tuple[str, int, int], ...]:
        """(topic id, partition, offset) up to which the rows reach."""
        return tuple((each.topic_id, number, to) for each in self.topics for number, (_, to) in each.ranges.items())

    def without(self, partitions: Collection[tuple[str, int]]) -> Tail:
        """The same without what was read of some partitions (topic id, number)."""
        topics: list[TopicTail] = []
        gone: set[int] = set()
        others = {topic_id for topic_id, _ in partitions}
        for each in self.topics:
            kept = {number: held for number, held in each.ranges.items() if (each.topic_id, number) not in partitions}
            gone |= {each.places[number] for number in each.ranges.keys() - kept.keys()}
            if kept or not (each.ranges or each.topic_id in others):
                topics.append(replace(each, ranges=kept))
        reach = self.view.reach
        ends = {place: end for place, end in reach.ends.items() if place not in gone}
        blocks = tuple(block for block in self.view.blocks if not gone.issuperset(block.bounds))
        return replace(self, view=TailView(blocks, replace(reach, ends=ends)), topics=tuple(topics))

    def symbols(self, exchange: str | None, sight: Sight) -> set[str]:
        """The symbols of rows that may be seen, of the exchange (None: of any): without a look at each row where none is asked for."""
        found: set[str] = set()
        for block in self.view.blocks:
            found |= block.symbols(exchange, sight, found)
        return found

    def rows(self, wanted: Wanted, sight: Sight, columns: Sequence[ColumnInfo]) -> pa.Table | None:
        """The rows asked for that may be seen, with these columns (null where the rows have none); None: no row."""
        found = select(self.view.blocks, self.view.reach, wanted)
        if found is None:
            return None
        found = sight.visible(found)
        return _fitted(found, columns) if found.num_rows else None


class TailSource(Protocol):
    """Where tails come from (`k2.query.tail.tails.Tails`)."""

    def held(self, identifier: str) -> AbstractContextManager[None]:
        """Meanwhile choose a snapshot and take the tail after it."""
        ...

    def after(
        self, state: TableState, snapshot: SnapshotInfo | None, files: SnapshotFiles, data_type: DataType
    ) -> Tail:
        """The tail after a snapshot. Never fails: see `Tail.problem`."""
        ...

    def ends(self, recorded: OffsetMap) -> tuple[Mapping[str, Mapping[int, int]], str | None]:
        """Topic → partition → end offset now, of the topics that are still those recorded; and why some are not known."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...

    def wait(self, identifier: str, tail: Tail, timeout: float) -> bool:
        """Wait for rows beyond a tail; False when none came within `timeout` seconds."""
        ...


def _fitted(rows: pa.Table, columns: Sequence[ColumnInfo]) -> pa.Table:
    arrays: list[pa.Array | pa.ChunkedArray] = []
    # By the id where there is one: the table may have renamed a column after these rows were decoded, or before.
    names = {field_id(field) or field.name: field.name for field in rows.schema}
    for column in columns:
        name = names.get(column.field_id, names.get(column.name))
        if name is None:  # the table got it after these rows were decoded
            arrays.append(pa.nulls(rows.num_rows))
            continue
        values = rows.column(name)
        if column.type == "uuid" and pa.types.is_fixed_size_binary(values.type):
            values = pa.ExtensionArray.from_storage(pa.uuid(), values.combine_chunks())
        arrays.append(values)
    return pa.Table.from_arrays(arrays, names=[column.name for column in columns])
