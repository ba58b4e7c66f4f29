"""When two rows tell one event: one id of one symbol, times within a tolerance, and nothing else that contradicts.

Two ways from one venue tell a time differently finely (microseconds in a stream, milliseconds over REST). The same id with
another price, quantity or side, or further away in time, is another event, and never silently left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.lake.appends.batch import Ints, Mask, OrderedBatch, Words
from k2.model.amounts import plain
from k2.model.compute import pc
from k2.model.events import EVENT_TIME, SIDES
from k2.model.feed_rules import TOLERANCE_US
from k2.model.topics import DataType

CONTENT: dict[DataType, tuple[str, ...]] = {
    DataType.TRADES: ("price", "quantity", "side"),
    DataType.QUOTES: ("bid_price", "bid_quantity", "ask_price", "ask_quantity"),
    DataType.REFERENCE_DATA: ("net_amount", "gross_amount", "ratio"),
    DataType.GAPS: ("kind", "first_sequence", "last_sequence"),
}
"""What must be equal in two rows that tell one event."""

UNKNOWN_SIDE = SIDES[-1]
OWN_ID: dict[DataType, str] = {DataType.TRADES: "trade_id", DataType.QUOTES: "quote_id"}


@dataclass(frozen=True, slots=True)
class Repeats:
    """The rows of a batch whose id another row of it carries, by id and then as they were read.

    Attributes:
        rows: their places in file order.
        group: the number of each one's id, from 0.
        first: for each, the row with its id that was read first.
        same: whether it tells the event of that first row; else it is in conflict with it.
        stays: for each, the row of that event that stays: the one with the finest time, of equals the one read first.
    """

    rows: Ints
    group: Ints
    first: Ints
    same: Mask
    stays: Ints

    @property
    def left_out(self) -> Ints:
        """All but the rows that stay: repeats, and those in conflict."""
        return self.rows[self.rows != self.stays]


def repeats_within(batch: OrderedBatch, data_type: DataType, tolerance_us: int = TOLERANCE_US) -> Repeats:
    """The rows of a batch that carry an id more than once."""
    nothing = np.empty(0, dtype=np.int64)
    rows = batch.sharing_ids()
    if not len(rows):
        return Repeats(nothing, nothing, nothing, np.empty(0, dtype=bool), nothing)
    ids = batch.ids_at(rows)
    rows = rows[np.lexsort((batch.order[rows], ids[:, 1], ids[:, 0]))]
    ids = batch.ids_at(rows)
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    group = np.cumsum(begins) - 1
    first = rows[begins][group]
    same = within(batch.time[rows], batch.time[first], tolerance_us) & (batch.codes[rows] == batch.codes[first])
    content = CONTENT[data_type]
    same &= alike(batch.columns_at(rows, content), batch.columns_at(first, content))
    told = np.flatnonzero(same)
    # A stable sort: among equally fine times the one read first stays in front.
    finest = told[np.lexsort((coarseness(batch.time[rows[told]]), group[told]))]
    leads = np.ones(len(finest), dtype=bool)
    leads[1:] = group[finest][1:] != group[finest][:-1]
    return Repeats(rows, group, first, same, rows[finest[leads]][group])


def within(left: Ints, right: Ints, tolerance_us: int) -> Mask:
    """Which pairs of times are no further apart than the tolerance."""
    return np.abs(left - right) <= tolerance_us


def coarseness(times: Ints) -> Ints:
    """How many decimal zeros end each time's microseconds: 6 for whole seconds, 3 or more for milliseconds."""
    zeros = np.zeros(len(times), dtype=np.int64)
    for digits in range(1, 7):
        zeros += times % 10**digits == 0
    return zeros


def alike(left: pa.Table, right: pa.Table) -> Mask:
    """Which rows of two tables of the same columns contradict each other in nothing. A side that is unknown contradicts none."""
    same = np.ones(len(left), dtype=bool)
    for name in left.column_names:
        mine, theirs = left.column(name), right.column(name)
        equal = pc.fill_null(pc.equal(mine, theirs), False)
        equal = pc.or_(equal, pc.and_(pc.is_null(mine), pc.is_null(theirs)))
        if name == "side":
            unknown = pc.or_(pc.equal(mine, UNKNOWN_SIDE), pc.equal(theirs, UNKNOWN_SIDE))
            equal = pc.or_(equal, pc.fill_null(unknown, True))
        same &= equal.to_numpy()
    return same


@dataclass(frozen=True, slots=True)
class SortedIds:
    """Ids to look for others among, in the order of their first halves.

    Attributes:
        words: the ids, of shape (n, 2).
        order: the place of each in what they were made of.
    """

    words: Words
    order: npt.NDArray[np.int32]

    @classmethod
    def of(cls, ids: Words) -> Self:
        """These ids, sorted."""
        order = np.argsort(ids[:, 0]).astype(np.int32)
        return cls(ids[order], order)

    def pairs(self, ids: Words) -> tuple[Ints, Ints]:
        """All (row of `ids`, row of what this was made of) that carry one id, by the first.

        Compared in full: the first halves only find candidates.
        """
        halves = self.words[:, 0]
        if not len(halves) or not len(ids):
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        # Sorted they are found four times as fast, which pays for the sorting (measured): ids are random, memory is not.
        by_half = np.argsort(ids[:, 0])
        low = np.empty(len(ids), dtype=np.int64)
        low[by_half] = np.searchsorted(halves, ids[by_half, 0])
        low[low == len(halves)] = 0
        mine = np.flatnonzero(halves[low] == ids[:, 0])
        theirs = low[mine]
        if (halves[1:] == halves[:-1]).any():  # hardly ever: the search found only the first of those alike
            count = np.searchsorted(halves, ids[mine, 0], side="right") - theirs
            mine = np.repeat(mine, count)
            theirs = np.repeat(theirs, count) + np.arange(len(mine)) - np.repeat(np.cumsum(count) - count, count)
        equal = ids[mine, 1] == self.words[theirs, 1]
        return mine[equal], self.order[theirs[equal]].astype(np.int64)


def contained(ids: Words, have: Words) -> Mask:
    """Which of `ids` are among `have`; both of shape (n, 2)."""
    found = np.zeros(len(ids), dtype=bool)
    found[SortedIds.of(have).pairs(ids)[0]] = True
    return found


def conflict_reason(
    data_type: DataType, mine: Mapping[str, Any], other: Mapping[str, Any], place: str, tolerance_us: int
) -> str:
    """Why a row is not taken, in words: what it says, and what the row says that has its id already.

    Args:
        data_type: what they are.
        mine: the row by column.
        other: the row that has the id already.
        place: where the other was read.
        tolerance_us: how far apart their times may be.
    """
    own = OWN_ID.get(data_type)
    what = f"{own.removesuffix('_id')} id {mine[own]}" if own else f"id {mine['message_id']}"
    time = EVENT_TIME[data_type]
    differ = [name for name in ("symbol", *CONTENT[data_type]) if name in other and _contradict(name, mine, other)]
    if abs((mine[time] - other[time]).total_seconds()) * 1e6 > tolerance_us:
        differ.append(time)
    here, there = (", ".join(f"{name} {_text(row[name])}" for name in differ) for row in (mine, other))
    return f"{what} of {mine['symbol']} is another event's already: {here} here, {there} at {place}"


def _contradict(name: str, mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if name == "side" and UNKNOWN_SIDE in {mine[name], other[name]}:
        return False
    return mine[name] != other[name]


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return "none" if value is None else str(value)
