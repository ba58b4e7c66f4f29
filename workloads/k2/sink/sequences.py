"""Gaps, restarts and late numbers in the sequence that a source numbers each symbol's events by. Pure; columns, not rows.

The rules, for the events of one symbol of an exchange in the order in which they were read:

- the first number known is taken as it is: what came before it nobody here can say;
- a number more than one above the highest opens a gap: the numbers between are missing;
- a number at or below the highest is late (out of order, or sent again); it closes no gap that was told already;
- with the first event of a new trading day, or where 0 or 1 follows far larger numbers, a lower number is a new beginning;
- an event of a former trading day is late whatever its number: yesterday's numbers say nothing of today's;
- an event without a number is not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.lake.proof.runs import Ints, Places, running_max, shifted, starts_of
from k2.model.exchanges import Exchange
from k2.model.tables import PARTITION
from k2.model.times import MINUTE_US
from k2.model.trading_days import day_starts

Mask = npt.NDArray[np.bool_]

MOST_NAMED = 5
"""Gaps of a batch that are named; the rest are counted."""

MOST_SYMBOLS = 1_000_000
"""Symbols whose numbers are remembered, 45 bytes each beside the name; beyond it those that were silent longest go."""

FAR = 100
"""A 0 or 1 that is more than this below the number before it is a beginning; nearer, it is only late."""

SLACK_US = MINUTE_US
"""An event this little before the newest day still counts for it: numbers and clocks of a venue differ around midnight."""


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """Numbers that a symbol's events skipped: those between `after` and `before`, neither of them included."""

    exchange: str
    symbol: str
    after: int
    before: int

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return self.before - self.after - 1


@dataclass(frozen=True, slots=True)
class Sequences:
    """What the numbers of one batch showed.

    Attributes:
        gaps: partition → times that a symbol's numbers jumped ahead; partitions without a jump are left out.
        missing: numbers that were skipped, of all gaps together.
        resets: times that a symbol's numbering began anew.
        late: events whose number was not above all before it.
        named: some of the gaps, `MOST_NAMED` at most.
    """

    gaps: Mapping[int, int] = field(default_factory=dict[int, int])
    missing: int = 0
    resets: int = 0
    late: int = 0
    named: tuple[SequenceGap, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Events of a batch ordered by symbol, those of one as they were read.

    Attributes:
        codes: symbol (and exchange) of each, as `_Names` has them.
        numbers: the source's.
        at: which row of the batch each is.
        firsts: positions of each symbol's first.
    """

    codes: Ints
    numbers: Ints
    at: Places
    firsts: Places

    def only(self, kept: Mask) -> _Rows:
        codes = self.codes[kept]
        return _Rows(codes, self.numbers[kept], self.at[kept], starts_of(codes))


class SequenceTracker:
    """The last numbers of each symbol, from batch to batch. Not to be shared between threads.

    Args:
        exchange: whose calendar has the trading days (None: UTC's).
        time: the column of the events' times.
        most_symbols: see `MOST_SYMBOLS`.
    """

    def __init__(self, exchange: Exchange | None, time: str = "timestamp", most_symbols: int = MOST_SYMBOLS) -> None:
        self._exchange, self._time, self._most = exchange, time, most_symbols
        self._next: dict[int, int] = {}
        self._batches = 0
        self._slots: dict[tuple[str, str], int] = {}
        self._known = np.zeros(0, dtype=bool)
        self._partition = np.zeros(0, dtype=np.int32)
        # By slot: highest number, number of the last event, start of its newest trading day, batch it was last seen in.
        self._high, self._last, self._day, self._seen = (np.zeros(0, dtype=np.int64) for _ in range(4))

    def __len__(self) -> int:
        """Symbols that are remembered."""
        return len(self._slots)

    def see(self, rows: pa.Table, ranges: Mapping[int, tuple[int, int]]) -> Sequences:
        """Take in a batch that is in the table.

        Args:
            rows: with symbol, exchange, source_sequence, the time and `kafka_partition`, in the order they were read.
            ranges: partition → (start, next), as of `k2.lake.appends.batch.Batch`. Of a partition that does not begin where it
                ended the last time, somebody else has read a part: its symbols' numbers are forgotten first.
        """
        self._batches += 1
        self._go_on(ranges)
        for name in ("source_sequence", "symbol"):
            if rows.column(name).null_count:
                rows = rows.filter(rows.column(name).is_valid())
        if not len(rows):
            return Sequences()
        names = _Names(rows)
        order = names.order()
        codes = names.codes[order]
        times = rows.column(self._time).cast(pa.int64()).to_numpy()[order]
        found = _Rows(codes, rows.column("source_sequence").to_numpy()[order], order, starts_of(codes))
        slots = self._slots_of(names, found)
        begun, newest = self._days(times, found, slots)
        stale = times < newest - SLACK_US
        former = int(np.count_nonzero(stale))
        if former:
            found, begun, newest = found.only(~stale), begun[~stale], newest[~stale]
            slots = self._slots_of(names, found)
            if not len(slots):
                return Sequences(late=former)
        judged = self._judge(found, slots, begun, newest, names, rows.column(PARTITION).to_numpy())
        self._forget_silent()
        return replace(judged, late=judged.late + former)

    def _days(self, times: Ints, found: _Rows, slots: Ints) -> tuple[Mask, Ints]:
        """Which events are the first of a new trading day of their symbol, and the newest day there was by then."""
        known, before = self._known[slots], self._day[slots]
        begun = np.zeros(len(times), dtype=bool)
        low, high = day_starts(np.array([times.min(), times.max()]), self._exchange).tolist()
        if low == high and not (known & (before > low)).any():
            begun[found.firsts] = known & (before < low)
            return begun, np.broadcast_to(np.int64(low), times.shape)
        days = day_starts(times, self._exchange)
        reached = days.copy()
        reached[found.firsts] = np.where(known, np.maximum(before, days[found.firsts]), days[found.firsts])
        newest = running_max(reached, found.firsts)
        begun[1:] = days[1:] > newest[:-1]
        begun[found.firsts] = known & (days[found.firsts] > before)
        return begun, newest

    def _judge(
        self, found: _Rows, slots: Ints, begun: Mask, newest: Ints, names: _Names, partitions: Ints
    ) -> Sequences:
        """Compare each number with the highest before it, and remember where each symbol ended."""
        numbers, firsts, known = found.numbers, found.firsts, self._known[slots]
        high = self._high[slots]
        if numbers.min() <= 1:
            former_number = shifted(numbers)
            former_number[firsts] = np.where(known, self._last[slots], numbers[firsts])
            begun |= (numbers <= 1) & (former_number > np.minimum(numbers, 1) + FAR)
        # A numbering goes on from what is known of it, unless it begins anew with this very event.
        levels = numbers
        behind = known & ~begun[firsts] & (numbers[firsts] < high)
        if behind.any():
            levels = numbers.copy()
            levels[firsts[behind]] = high[behind]
        top = running_max(levels, np.union1d(firsts, np.flatnonzero(begun)))
        before = shifted(top)
        before[firsts] = np.where(known, high, numbers[firsts])
        jumps = np.flatnonzero((numbers > before) & (numbers - 1 != before))
        low = numbers <= before
        low[firsts[~known]] = False
        resets = int(np.count_nonzero(low & begun))
        lasts = np.append(firsts[1:], len(numbers)) - 1
        self._high[slots], self._last[slots], self._day[slots] = top[lasts], numbers[lasts], newest[lasts]
        self._partition[slots], self._seen[slots], self._known[slots] = partitions[found.at[lasts]], self._batches, True
        skipped = numbers[jumps].astype(np.uint64) - before[jumps].astype(np.uint64) - np.uint64(1)
        of_partition, counts = np.unique(partitions[found.at[jumps]], return_counts=True)
        return Sequences(
            gaps=dict(zip(of_partition.tolist(), counts.tolist(), strict=True)),
            missing=sum(skipped.tolist()),
            resets=resets,
            late=int(np.count_nonzero(low)) - resets,
            named=tuple(
                SequenceGap(*names.of(int(found.codes[jump])), int(before[jump]), int(numbers[jump]))
                for jump in jumps[:MOST_NAMED]
            ),
        )

    # --- what is remembered -------------------------------------------------------------------------------------------

    def _slots_of(self, names: _Names, found: _Rows) -> Ints:
        """Where the numbers of each symbol stand; new ones get a place. A loop over distinct symbols, not over events."""
        keys = [names.of(code) for code in found.codes[found.firsts].tolist()]
        slots = np.array([self._slots.setdefault(key, len(self._slots)) for key in keys], dtype=np.int64)
        if len(self._slots) > len(self._known):
            more = max(len(self._slots), 2 * len(self._known)) - len(self._known)
            self._known = np.append(self._known, np.zeros(more, dtype=bool))
            self._partition = np.append(self._partition, np.zeros(more, dtype=np.int32))
            self._high, self._last, self._day, self._seen = (
                np.append(each, np.zeros(more, dtype=np.int64))
                for each in (self._high, self._last, self._day, self._seen)
            )
        return slots

    def _go_on(self, ranges: Mapping[int, tuple[int, int]]) -> None:
        broken = [number for number, (start, _) in ranges.items() if self._next.get(number, start) != start]
        self._next.update({number: end for number, (_, end) in ranges.items()})
        if broken:
            held = len(self._slots)
            self._keep(~np.isin(self._partition[:held], broken))

    def _forget_silent(self) -> None:
        held = len(self._slots)
        if held > self._most:
            newest = np.argsort(self._seen[:held], kind="stable")[held - max(1, self._most // 2) :]
            keep = np.zeros(held, dtype=bool)
            keep[newest] = True
            self._keep(keep)

    def _keep(self, keep: Mask) -> None:
        """Keep those slots alone, in their order."""
        at = np.flatnonzero(keep)
        kept = keep.tolist()
        names = [name for name, slot in self._slots.items() if kept[slot]]  # a dict keeps the order of its slots
        self._slots = {name: slot for slot, name in enumerate(names)}
        self._known, self._partition = self._known[at], self._partition[at]
        self._high, self._last, self._day, self._seen = (
            each[at] for each in (self._high, self._last, self._day, self._seen)
        )


class _Names:
    """Which symbol of which exchange each row is about, as one small number."""

    def __init__(self, rows: pa.Table) -> None:
        symbols, exchanges = _encoded(rows.column("symbol")), _encoded(rows.column("exchange"))
        self._symbols, self._exchanges = symbols.dictionary.to_pylist(), exchanges.dictionary.to_pylist()
        self.codes: Ints = symbols.indices.to_numpy().astype(np.int64, copy=False)
        if len(self._exchanges) > 1:
            self.codes = exchanges.indices.to_numpy().astype(np.int64) * len(self._symbols) + self.codes

    def of(self, code: int) -> tuple[str, str]:
        """(exchange, symbol) of a code."""
        exchange, symbol = divmod(code, len(self._symbols))
        return self._exchanges[exchange], self._symbols[symbol]

    def order(self) -> Places:
        """Rows by code, those of one code as they came."""
        few = len(self._symbols) * len(self._exchanges) <= 2**16
        # A stable sort of small integers is a radix sort.
        return np.argsort(self.codes.astype(np.uint16) if few else self.codes, kind="stable")


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
