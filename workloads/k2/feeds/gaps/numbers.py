"""Which numbers of each symbol came, where an exchange numbers its trades without holes. Pure; columns, not rows.

The rules, for the trades of one symbol:

- the lowest number of the first batch is taken as it is: what came before it nobody here can say;
- numbers between the highest and a higher one are missing from the moment that one is seen;
- a number at or below the highest is late, or a repetition: it closes what it was missing in;
- a number far below the highest, of a trade that is newer, is a new numbering; and so is one that is further ahead than an exchange
  can have traded in the time between: never a hole of a million trades that were none;
- a trade from before its numbering began belongs to the former one, and is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.missing import MissingNumbers, MissingRange
from k2.model.times import SECOND_US

Ints = npt.NDArray[np.int64]

FAR = 100
"""A number this much below the highest is more than out of order."""

GIANT = 1_000_000
FASTEST = 10_000
"""A jump by more than `GIANT` numbers, and by more than so many for each second between the two trades, is a new numbering."""

MOST_RANGES = 10_000
"""Ranges of one symbol that are held to be filled; the oldest beyond it are given up."""

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class NewNumbering:
    """A symbol's numbers began again.

    Attributes:
        first: the first number of the new numbering.
        last: the highest of the former one.
        time: of the trade that has `first`, in microseconds since 1970 by the venue's clock.
        given_up: what was missing of the former numbering: it cannot be asked for any more.
    """

    symbol: str
    first: int
    last: int
    time: int
    given_up: tuple[MissingRange, ...]


@dataclass(slots=True)
class NumberChanges:
    """What a batch changed, each with its symbol.

    Attributes:
        opened: numbers that are missing now.
        closed: numbers that were missing and came.
        begun: numberings that began again.
        given_up: ranges beyond `MOST_RANGES` of a symbol.
    """

    opened: list[tuple[str, MissingRange]] = field(default_factory=list[tuple[str, MissingRange]])
    closed: list[tuple[str, MissingRange]] = field(default_factory=list[tuple[str, MissingRange]])
    begun: list[NewNumbering] = field(default_factory=list[NewNumbering])
    given_up: list[tuple[str, MissingRange]] = field(default_factory=list[tuple[str, MissingRange]])


class Numbers:
    """The numbers of each symbol, from batch to batch. Not to be shared between threads."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        # By slot: the highest number, the time of its trade, the newest time, and when its numbering began.
        self._high, self._at_high, self._newest, self._begun = (np.zeros(0, dtype=np.int64) for _ in range(4))
        self._missing: dict[str, MissingNumbers] = {}

    def missing(self, symbol: str) -> MissingNumbers:
        """What is missing of a symbol."""
        found = self._missing.get(symbol)
        return MissingNumbers() if found is None else found

    def all_missing(self) -> Iterator[tuple[str, MissingRange]]:
        """What is missing of all symbols."""
        return ((symbol, each) for symbol, held in self._missing.items() for each in held)

    def highest(self, symbol: str) -> int | None:
        """The highest number that was seen; None: none yet."""
        slot = self._slots.get(symbol)
        return None if slot is None or self._high[slot] == _UNKNOWN else int(self._high[slot])

    def highs(self) -> dict[str, int]:
        """The highest number of each symbol that has one."""
        return {name: high for name, high in zip(self._names, self._high.tolist(), strict=False) if high != _UNKNOWN}

    def time_of_highest(self, symbol: str) -> int:
        """The time of that trade, by the venue's clock."""
        return int(self._at_high[self._slots[symbol]])

    def begin(self, symbol: str, high: int, time: int) -> None:
        """A symbol's numbers are known up to that one, from before."""
        slot = self._slot(symbol)
        self._high[slot], self._at_high[slot], self._newest[slot] = high, time, time

    def add_missing(self, symbol: str, missing: MissingRange) -> None:
        """Numbers are missing of which a batch does not tell."""
        self._missing.setdefault(symbol, MissingNumbers()).add(missing)

    def take(self, symbol: str, first: int, last: int) -> list[MissingRange]:
        """Numbers are not missed any more, though they did not come; the parts that were missing."""
        held = self._missing.get(symbol)
        return [] if held is None else held.take(first, last)

    def see(
        self, trades: pa.RecordBatch, at: int, *, only_missing: bool = False, in_order: bool = True
    ) -> NumberChanges:
        """Take in trades.

        Args:
            trades: with symbol, source_sequence and timestamp, in the order they came.
            at: when they came, in microseconds since 1970 by our clock.
            only_missing: they were asked for: they close what is missing and tell nothing new.
            in_order: they came as the market made them: a numbering that begins again is seen by them.
        """
        changes = NumberChanges()
        names, codes, numbers, times = _numbered(trades)
        if not len(numbers):
            return changes
        order = np.argsort(codes, kind="stable")
        codes, numbers, times = codes[order], numbers[order], times[order]
        firsts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
        ends = np.append(firsts[1:], len(codes))
        slots = np.array([self._slot(names[code]) for code in codes[firsts].tolist()])  # of distinct symbols
        before = np.append(0, numbers[:-1])
        before[firsts] = self._high[slots]
        follows = np.logical_and.reduceat(numbers == before + 1, firsts) & (self._high[slots] != _UNKNOWN)
        # Nearly always each number is one more than that before it: nothing to look at one by one.
        if not only_missing:
            plain, last = slots[follows], ends[follows] - 1
            self._high[plain], self._at_high[plain] = numbers[last], times[last]
            self._newest[plain] = np.maximum(self._newest[plain], np.maximum.reduceat(times, firsts)[follows])
        else:
            follows[:] = False
        for group in np.flatnonzero(~follows).tolist():
            part = slice(int(firsts[group]), int(ends[group]))
            slot = int(slots[group])
            if only_missing:
                self._close(slot, np.unique(numbers[part]), changes)
            else:
                self._judge(slot, numbers[part], times[part], at, in_order=in_order, changes=changes)
        return changes

    def _slot(self, symbol: str) -> int:
        slot = self._slots.get(symbol)
        if slot is None:
            slot = self._slots[symbol] = len(self._names)
            self._names.append(symbol)
            if slot >= len(self._high):
                more = max(64, slot)
                self._high = np.append(self._high, np.full(more, _UNKNOWN, dtype=np.int64))
                self._at_high, self._newest, self._begun = (
                    np.append(each, np.zeros(more, dtype=np.int64))
                    for each in (self._at_high, self._newest, self._begun)
                )
                self._begun[slot:] = np.iinfo(np.int64).min
        return slot

    def _judge(self, slot: int, numbers: Ints, times: Ints, at: int, *, in_order: bool, changes: NumberChanges) -> None:
        """The trades of one symbol, at least one of which does not simply follow."""
        while len(numbers):
            begins = self._new_numbering(slot, numbers, times) if in_order else len(numbers)
            self._take_in(slot, numbers[:begins], times[:begins], at, changes)
            numbers, times = numbers[begins:], times[begins:]
            if len(numbers):
                symbol = self._names[slot]
                former = self._missing.get(symbol)
                given_up = () if former is None else tuple(former.clear())
                first, time = int(numbers[0]), int(times[0])
                changes.begun.append(NewNumbering(symbol, first, int(self._high[slot]), time, given_up))
                self._high[slot], self._at_high[slot], self._newest[slot] = first - 1, time, time
                self._begun[slot] = time
                if first == 0:  # a numbering that begins with 0 has nothing before it
                    self._high[slot], numbers, times = 0, numbers[1:], times[1:]

    def _new_numbering(self, slot: int, numbers: Ints, times: Ints) -> int:
        """Where the first trade of another numbering stands; their number where there is none."""
        if self._high[slot] == _UNKNOWN:
            return len(numbers)
        former = times < self._begun[slot]
        levels = np.where(former, self._high[slot], numbers)
        top = np.maximum.accumulate(np.append(self._high[slot], levels))[:-1]
        newest = np.maximum.accumulate(np.append(self._newest[slot], times))[:-1]
        again = (numbers <= 1) & (top - numbers > FAR) & (times >= newest)
        again |= (top - numbers > FAR) & (times > newest + SECOND_US)
        ahead = numbers - top
        seconds = np.maximum(times - newest, 0) // SECOND_US + 1
        again |= (ahead > GIANT) & (ahead // FASTEST > seconds)
        again &= ~former
        found = np.flatnonzero(again)
        return int(found[0]) if len(found) else len(numbers)

    def _take_in(self, slot: int, numbers: Ints, times: Ints, at: int, changes: NumberChanges) -> None:
        begun, high = int(self._begun[slot]), int(self._high[slot])
        former = (times < begun) | ((times == begun) & (numbers - high > FAR))
        numbers, times = numbers[~former], times[~former]
        if not len(numbers):
            return
        numbers, where = np.unique(numbers, return_index=True)
        times = times[where]
        if high == _UNKNOWN:
            high = int(numbers[0]) - 1
            self._at_high[slot], self._newest[slot] = times[0], times[0]
        self._close(slot, numbers[numbers <= high], changes)
        ahead = numbers > high
        numbers, times = numbers[ahead], times[ahead]
        if len(numbers):
            before = np.append(high, numbers[:-1])
            before_at = np.append(self._at_high[slot], times[:-1])
            for jump in np.flatnonzero(numbers - before > 1).tolist():
                first, last = int(before[jump]) + 1, int(numbers[jump]) - 1
                self._open(slot, MissingRange(first, last, int(before_at[jump]), int(times[jump]), at), changes)
            high = int(numbers[-1])
            self._at_high[slot] = times[-1]
            self._newest[slot] = max(int(self._newest[slot]), int(times.max()))
        self._high[slot] = high

    def _open(self, slot: int, missing: MissingRange, changes: NumberChanges) -> None:
        symbol = self._names[slot]
        held = self._missing.setdefault(symbol, MissingNumbers())
        held.add(missing)
        changes.opened.append((symbol, missing))
        if len(held) > MOST_RANGES:
            oldest = next(iter(held))
            changes.given_up += [(symbol, each) for each in held.take(oldest.first, oldest.last)]

    def _close(self, slot: int, numbers: Ints, changes: NumberChanges) -> None:
        symbol = self._names[slot]
        held = self._missing.get(symbol)
        if not held or not len(numbers):
            return
        begins = np.append(0, np.flatnonzero(numbers[1:] - numbers[:-1] != 1) + 1)
        ends = np.append(begins[1:], len(numbers)) - 1
        for first, last in zip(numbers[begins].tolist(), numbers[ends].tolist(), strict=True):  # runs of late numbers
            changes.closed += [(symbol, each) for each in held.take(first, last)]


def _numbered(trades: pa.RecordBatch) -> tuple[list[str], Ints, Ints, Ints]:
    """Names of symbols; and of the trades with a number the symbol's code, the number and the time."""
    symbols, numbers, times = (trades.column(name) for name in ("symbol", "source_sequence", "timestamp"))
    encoded = symbols if pa.types.is_dictionary(symbols.type) else symbols.dictionary_encode()
    has = np.asarray(numbers.is_valid()) & np.asarray(encoded.is_valid())
    values = numbers.fill_null(_UNKNOWN).to_numpy(zero_copy_only=False)
    has &= values >= 0  # no exchange counts below zero
    codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    micros = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), codes[has], values[has], micros[has]
