"""What becomes of each row of a batch: it enters the table, tells an event that is there already, or becomes a dead letter.

Within a batch the row with the finest time stays, of equals the one read first; against the table the row that is there
stays. What one row of an event has been found to be, all rows of the batch that tell it are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pyiceberg.table import Table

from k2.lake.appends.batch import Mask, OrderedBatch
from k2.lake.appends.dedup import KnownIds
from k2.lake.appends.same_event import CONTENT, OWN_ID, Repeats, conflict_reason, repeats_within
from k2.model.events import EVENT_TIME
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID
from k2.model.topics import DataType


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A message that was decoded and is a dead letter all the same: its id is another event's, or no file can hold it."""

    partition: int
    offset: int
    reason: str


_CONFLICT = "its id is another event's already"

Bury = Callable[[Sequence[DeadRow]], Mapping[int, int] | None]
"""Puts messages into the dead-letter topic and returns when every one is acknowledged: partition → how many of them a person
had sent again, if any."""


@dataclass(slots=True)
class Verdicts:
    """The verdicts on one batch, across all tries to commit it (masks in file order).

    Args:
        ordered: the batch.
        data_type: what the rows are.
        tolerance_us: how far apart in time one event may be told.
    """

    ordered: OrderedBatch
    data_type: DataType
    tolerance_us: int
    duplicate: Mask = field(init=False)
    conflict: Mask = field(init=False)
    unwritable: dict[int, str] = field(default_factory=dict[int, str])
    _in_table: Mask = field(init=False)
    _others: dict[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])
    _repeats: Repeats | None = None
    _checked: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        rows = len(self.ordered.order)
        self.duplicate, self.conflict, self._in_table = (np.zeros(rows, dtype=bool) for _ in range(3))

    @property
    def kept(self) -> Mask:
        """The rows that enter the table."""
        return ~(self.duplicate | self.dead)

    @property
    def dead(self) -> Mask:
        """The rows that become dead letters: in conflict, or ones that no file can hold."""
        dead = self.conflict.copy()
        dead[list(self.unwritable)] = True
        return dead

    @property
    def reasons(self) -> dict[int, str]:
        """Place among the batch's rows → what its being a dead letter is about, without what it is in conflict with."""
        places = np.flatnonzero(self.dead)
        said = [self.unwritable.get(place, _CONFLICT) for place in places.tolist()]
        return dict(zip(self.ordered.order[places].tolist(), said, strict=True))

    def pass_over(self, paths: Iterable[str]) -> None:
        """Do not compare with these files of the table: they cannot be read, and these rows are theirs."""
        self._checked.update(paths)

    def judge(self, known: KnownIds, table: Table) -> None:
        """Compare with the table's current snapshot, as far as that was not done before."""
        if self._repeats is None:
            self._repeats = repeats_within(self.ordered, self.data_type, self.tolerance_us)
        found = known.in_table(table, self.ordered, ~self._in_table, self._checked)
        self._in_table |= found.same
        self._others |= found.others
        self._decide(self._repeats)

    def letters(self, rows: Mask, topic: str, topics: Mapping[str, str]) -> list[DeadRow]:
        """Those of these rows that become dead letters, with the reason; see `_conflicts` for the arguments."""
        places = [place for place in self.unwritable if rows[place]]
        where = self.ordered.columns_at(np.array(places, dtype=np.int64), [PARTITION, OFFSET]).to_pylist()
        refused = [
            DeadRow(row[PARTITION], row[OFFSET], self.unwritable[place])
            for place, row in zip(places, where, strict=True)
        ]
        return [*self._conflicts(rows, topic, topics), *refused]

    def _conflicts(self, rows: Mask, topic: str, topics: Mapping[str, str]) -> list[DeadRow]:
        """Those of these rows that are in conflict, with the reason.

        Args:
            rows: which are asked for, in file order.
            topic: the batch's.
            topics: topic id → its name, of all that the table has rows of.
        """
        places = np.flatnonzero(self.conflict & rows)
        if not len(places):
            return []
        own = OWN_ID.get(self.data_type, "message_id")
        names = ["symbol", EVENT_TIME[self.data_type], own, *CONTENT[self.data_type], PARTITION, OFFSET]
        against = self._against(places.tolist())
        said = self.ordered.columns_at(places, names).to_pylist()
        of_batch = [other for other in against if isinstance(other, int)]
        others = iter(self.ordered.columns_at(np.array(of_batch, dtype=np.int64), names).to_pylist())
        made: list[DeadRow] = []
        for mine, other in zip(said, against, strict=True):
            if isinstance(other, int):
                row = next(others)
                place = f"{topic}/{row[PARTITION]}/{row[OFFSET]}"
            else:
                row, place = other, _place(other, topics)
            reason = conflict_reason(self.data_type, mine, row, place, self.tolerance_us)
            made.append(DeadRow(mine[PARTITION], mine[OFFSET], reason))
        return made

    def _decide(self, repeats: Repeats) -> None:
        self.duplicate = self._in_table.copy()
        self.conflict = np.zeros(len(self.duplicate), dtype=bool)
        self.conflict[list(self._others)] = True
        if len(repeats.rows):
            told = repeats.rows[repeats.same]
            group = repeats.group[repeats.same]
            stays = repeats.stays[repeats.same]
            there, against = (np.zeros(repeats.group[-1] + 1, dtype=bool) for _ in range(2))
            there[group[self.duplicate[told]]] = True
            against[group[self.conflict[told]]] = True
            self.duplicate[told] = there[group] | ((told != stays) & ~against[group])
            self.conflict[told] = against[group]
            self.conflict[repeats.rows[~repeats.same]] = True
        self.conflict &= ~self.duplicate

    def _against(self, places: list[int]) -> list[int | Mapping[str, Any]]:
        """What each of these rows is in conflict with: a row of the table, or a row (place in file order) of the batch."""
        assert self._repeats is not None
        repeats = self._repeats
        by_row = dict(zip(repeats.rows.tolist(), range(len(repeats.rows)), strict=True)) if len(repeats.rows) else {}
        found: list[int | Mapping[str, Any]] = []
        for place in places:
            at = by_row.get(place)
            if place in self._others:
                found.append(self._others[place])
            elif at is not None and not repeats.same[at]:
                found.append(int(repeats.first[at]))
            else:  # another row of its event met a row of the table
                assert at is not None
                alike = repeats.rows[repeats.same & (repeats.group == repeats.group[at])].tolist()
                found.append(next(self._others[row] for row in alike if row in self._others))
        return found


def _place(row: Mapping[str, Any], topics: Mapping[str, str]) -> str:
    """Where a row was read: topic, partition and offset, or the file of a row that another engine wrote."""
    topic = row.get(TOPIC_ID)
    if topic is None:
        return str(row["file"]).rsplit("/", 1)[-1]
    return f"{topics.get(topic, topic)}/{row[PARTITION]}/{row[OFFSET]}"
