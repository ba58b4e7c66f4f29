"""Numbers that are missing, as ranges: those of one symbol, sorted, which split and shrink as some of them come."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class MissingRange:
    """Numbers of a symbol that are missing: first to last, both included.

    Attributes:
        after, before: times of the trades beside it, in microseconds since 1970 by the venue's clock; None: not known.
        since: when it showed itself, in microseconds since 1970 by our clock.
        why: in a person's words, as far as it is known.
    """

    first: int
    last: int
    after: int | None = None
    before: int | None = None
    since: int = 0
    why: str = ""

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return self.last - self.first + 1


class MissingNumbers:
    """The missing numbers of one symbol. Work is by the ranges that are touched, whatever their length."""

    def __init__(self) -> None:
        self._ranges: list[MissingRange] = []

    def __len__(self) -> int:
        """Ranges, not numbers."""
        return len(self._ranges)

    def __iter__(self) -> Iterator[MissingRange]:
        return iter(self._ranges)

    @property
    def count(self) -> int:
        """Numbers of all ranges together."""
        return sum(each.count for each in self._ranges)

    def add(self, missing: MissingRange) -> None:
        """Numbers are missing. Those that were before stay as they were told first."""
        first = missing.first
        for held in [*self._touched(missing.first, missing.last)]:
            if held.first > first:
                insort(self._ranges, replace(missing, first=first, last=held.first - 1), key=_first)
            first = held.last + 1
        if first <= missing.last:
            insort(self._ranges, replace(missing, first=first), key=_first)

    def take(self, first: int, last: int) -> list[MissingRange]:
        """Numbers from first to last are not missing any more; the parts that were."""
        touched = self._touched(first, last)
        if not touched:
            return []
        at = bisect_left(self._ranges, touched[0].first, key=_first)
        left = [
            part
            for held in touched
            for part in (replace(held, last=first - 1), replace(held, first=last + 1))
            if part.first <= part.last
        ]
        self._ranges[at : at + len(touched)] = left
        return [replace(held, first=max(held.first, first), last=min(held.last, last)) for held in touched]

    def within(self, first: int, last: int) -> list[MissingRange]:
        """What is missing from first to last."""
        return [
            replace(held, first=max(held.first, first), last=min(held.last, last))
            for held in self._touched(first, last)
        ]

    def clear(self) -> list[MissingRange]:
        """None is missing any more; what was."""
        former, self._ranges = self._ranges, []
        return former

    def _touched(self, first: int, last: int) -> list[MissingRange]:
        at = bisect_left(self._ranges, first, key=_last)
        end = at
        while end < len(self._ranges) and self._ranges[end].first <= last:
            end += 1
        return self._ranges[at:end]


def _first(each: MissingRange) -> int:
    return each.first


def _last(each: MissingRange) -> int:
    return each.last
