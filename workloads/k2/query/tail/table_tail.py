"""What a table's topics hold beyond its snapshots, kept in memory while somebody asks for it.

Followers (`follower.py`) put in what they read; questions take views. A row stays until a snapshot that every question
under way may use has it: a question first holds, then chooses its snapshot, then takes its view, so nothing between the
two is trimmed. Duplicates are decided when rows come in, as the sink does: by ids, against the files of a snapshot and
everything that was read after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from k2.lake.appends.batch import Ints, Mask, OrderedBatch
from k2.lake.appends.recent import Found, RecentIds
from k2.lake.appends.same_event import repeats_within
from k2.lake.scan import SnapshotFiles
from k2.model.feed_rules import FeedRules
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID
from k2.model.topics import DataType
from k2.query.rows.tail_blocks import Offsets, Places, Reach, TailBlock, due_for_merging, merged, of_ordered
from k2.query.rows.tail_view import TailView

REMEMBERED_IDS = 1_000_000
"""Ids that are remembered at least after their rows went into files: newer files then need not be read to find twins."""

InFiles = Callable[[SnapshotFiles, OrderedBatch, Mask, int], Mask]
"""Which of the candidate rows (a mask, in file order) the files hold, within a tolerance (`k2.lake.appends.dedup.KnownIds.in_files`)."""

_USUAL = FeedRules()


class Budget:
    """Bytes that all tails of a process may hold together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes held now."""
        return self._used

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is to be read for now."""
        return self._used >= self.limit

    def change(self, by: int) -> None:
        """Note that so many bytes more (or less) are held."""
        with self._lock:
            self._used += by


@dataclass(frozen=True, slots=True)
class Known:
    """A snapshot as a tail knows it: what it has of each place, and its files."""

    offsets: Offsets
    files: SnapshotFiles


@dataclass(frozen=True, slots=True)
class _Twins:
    """A row that is held and a later one that was dropped for it, read from two places: the sink may keep either."""

    held: tuple[int, int]
    dropped: tuple[int, int]


class TableTail:
    """The tail of one table. Followers and questions share it.

    Args:
        data_type: what the rows are.
        budget: shared by all tails.
        in_files: see `InFiles`.
        known: the snapshot that it begins after; places that are not named there are given with `begin`.
    """

    def __init__(self, data_type: DataType, budget: Budget, in_files: InFiles, known: Known) -> None:
        self.data_type = data_type
        self._budget = budget
        self._in_files = in_files
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._inserting = threading.Lock()
        self._blocks: tuple[TailBlock, ...] = ()
        self._next: dict[int, int] = {}
        self._floor: dict[int, int] = {}
        self._newest = known
        self._holds: dict[object, Known] = {}
        self._twins: list[_Twins] = []
        self._keeping: set[int] = set()
        self._base = self._candidate = known
        self._recent = RecentIds()
        self._recent_at_candidate = 0
        self._closed = False

    # --- followers ---------------------------------------------------------------------------------------------------

    def begin(self, place: int, offset: int) -> int:
        """A place is going to be read; gives the offset to begin with, which is a later one when more is held already."""
        with self._lock:
            self._floor.setdefault(place, offset)
            return self._next.setdefault(place, offset)

    def insert(self, rows: pa.Table, places: Places, next_offsets: Offsets, rules: FeedRules = _USUAL) -> None:
        """Take decoded rows, with their columns of lineage, and what the next offset of each place is after them.

        `rules` say which of them tell one event: those by which their sink commits.

        Raises:
            OSError: a file that may hold the same events could not be read. Nothing was taken.
        """
        block = None
        with self._inserting:
            rows, places = self._unknown(rows, places)
            if rows.num_rows:
                block = self._without_duplicates(rows, places, rules)
        with self._news:
            if self._closed:  # its follower has not noticed yet
                return
            if block is not None:
                self._blocks = (*self._blocks, block)
                self._budget.change(block.bytes)
            for place, offset in next_offsets.items():
                self._next[place] = max(offset, self._next.get(place, offset))
            self._news.notify_all()
        self._merge()

    def next_of(self, place: int) -> int:
        """The next offset to read of a place."""
        with self._lock:
            return self._next[place]

    def floor_of(self, place: int) -> int | None:
        """The first offset that is held of a place; None: it is not being read."""
        with self._lock:
            return self._floor.get(place)

    @property
    def is_full(self) -> bool:
        """Whether reading must wait until a snapshot has what is held."""
        return self._budget.is_spent

    # --- questions ---------------------------------------------------------------------------------------------------

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """Meanwhile nothing is trimmed that a snapshot chosen from now on does not have."""
        token = object()
        with self._lock:
            self._holds[token] = self._newest
        try:
            yield
        finally:
            with self._lock:
                del self._holds[token]

    def note(self, known: Known) -> None:
        """There is a newer snapshot (or the same one): what it has is trimmed as soon as nobody needs it."""
        with self._lock:
            self._newest = known
            allowed = next(iter(self._holds.values()), known)  # the oldest hold's: snapshots only grow
            floor = {place: allowed.offsets.get(place, start) for place, start in self._floor.items()}
            self._floor = {place: max(start, floor[place]) for place, start in self._floor.items()}
            skipped = any(self._floor[place] > self._next[place] for place in self._floor)
            for place, start in self._floor.items():
                self._next[place] = max(self._next[place], start)
            gone = [block for block in self._blocks if block.lies_before(self._floor)]
            if gone:
                self._blocks = tuple(block for block in self._blocks if not block.lies_before(self._floor))
                self._budget.change(-sum(block.bytes for block in gone))
            self._twins = [twins for twins in self._twins if self._floor.get(twins.held[0], 0) <= twins.held[1]]
        self._forget(allowed, skipped=skipped)

    def view(self, starts: Offsets) -> TailView | None:
        """What is held from these offsets on; None when some of it is not held any more, as after `close`."""
        with self._lock:
            return self._view(starts)

    def wait(self, ends: Offsets, timeout: float) -> bool:
        """Wait until something beyond these ends is held; False when nothing came within `timeout` seconds."""
        with self._news:
            return self._news.wait_for(
                lambda: any(offset > ends.get(place, 0) for place, offset in self._next.items()), timeout
            )

    def close(self) -> None:
        """Give the memory back. Views stay as they are."""
        with self._news:
            self._closed = True
            self._budget.change(-sum(block.bytes for block in self._blocks))
            self._blocks = ()
            self._news.notify_all()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _view(self, starts: Offsets) -> TailView | None:
        places = {place: start for place, start in starts.items() if place in self._next}
        if self._closed or any(start < self._floor[place] for place, start in places.items()):
            return None
        ends = {place: max(start, self._next[place]) for place, start in places.items()}
        without = {
            twins.held for twins in self._twins if twins.dropped[1] < starts.get(twins.dropped[0], 0)
        }  # the snapshot has the other one
        blocks = tuple(block for block in self._blocks if not block.lies_before(places))
        return TailView(blocks, Reach(places, ends, frozenset(without)))

    def _unknown(self, rows: pa.Table, places: Places) -> tuple[pa.Table, Places]:
        """The rows that are neither held nor in the snapshot that the tail went on to meanwhile."""
        offsets: Ints = rows.column(OFFSET).to_numpy()
        known = np.zeros(len(places), dtype=bool)
        for place in np.unique(places).tolist():
            known |= (places == place) & (offsets < self.next_of(place))
        return (rows.filter(pa.array(~known)), places[~known]) if known.any() else (rows, places)

    def _without_duplicates(self, rows: pa.Table, places: Places, rules: FeedRules) -> TailBlock | None:
        ordered = OrderedBatch(rows, self.data_type)
        offsets: Ints = rows.column(OFFSET).to_numpy()
        ids = ordered.ids(0, rows.num_rows)
        there, at = places[ordered.order], offsets[ordered.order]
        duplicate = np.zeros(rows.num_rows, dtype=bool)
        if rules.keeps_duplicates:
            self._keeping.update(np.unique(places).tolist())
        else:
            duplicate[repeats_within(ordered, self.data_type, rules.tolerance_us).left_out] = True
            recent = self._recent.find(ids)
            duplicate |= recent.known
            duplicate |= self._in_files(self._base.files, ordered, ~duplicate, rules.tolerance_us)
            self._note_twins(recent, there, at)
        kept = ~duplicate
        self._recent.add(ids[kept], there[kept], at[kept])
        return of_ordered(ordered, places, offsets, kept) if kept.any() else None

    def _note_twins(self, recent: Found, there: Places, at: Ints) -> None:
        """Remember which rows were dropped for one of another place. What is kept in any case is nobody's twin."""
        elsewhere = np.flatnonzero(recent.known & (recent.place != there) & ~np.isin(recent.place, [*self._keeping]))
        twins = [
            _Twins((int(recent.place[row]), int(recent.offset[row])), (int(there[row]), int(at[row])))
            for row in elsewhere.tolist()
        ]
        with self._lock:
            self._twins += twins

    def _merge(self) -> None:
        while count := due_for_merging(self._blocks):
            some = self._blocks[-count:]
            one = merged(some, self.data_type)
            with self._lock:
                # Another follower may have put blocks behind these, a note may have taken some away.
                held = list(self._blocks)
                if not all(block in held for block in some):
                    return
                where = held.index(some[0])
                self._blocks = (*held[:where], one, *(block for block in held[where:] if block not in some))
                self._budget.change(one.bytes - sum(block.bytes for block in some))

    def _forget(self, known: Known, *, skipped: bool) -> None:
        """Move on to a newer snapshot's files, and forget the ids that they have."""
        if not skipped and len(self._recent) - self._recent_at_candidate < REMEMBERED_IDS:
            return
        with self._inserting:
            if skipped:  # what lies between was never read here: only the files know it
                self._base = self._candidate = known
            else:
                self._base, self._candidate = self._candidate, known
                self._recent.forget_before(self._base.offsets)
            self._recent_at_candidate = len(self._recent)


def with_lineage(events: pa.RecordBatch, topic_id: str, partitions: Places, offsets: Ints) -> pa.Table:
    """Decoded rows with the columns that say where they were read."""
    count = len(partitions)
    topic = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([topic_id]))
    rows = pa.Table.from_batches([events]).append_column(TOPIC_ID, topic)
    return rows.append_column(PARTITION, pa.array(partitions)).append_column(OFFSET, pa.array(offsets))
