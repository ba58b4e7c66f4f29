"""The symbol that was perhaps meant: the same in another case, or one or two letters away. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_SHORT = 4
"""Of so many letters one may be wrong, of more two."""


def nearest(symbol: str, known: Iterable[str]) -> str | None:
    """The nearest of the known symbols; None where none is near. Of equally near ones the first by name.

    >>> nearest("bhp", ["BHP", "BHQ"])
    'BHP'
    """
    folded = symbol.casefold()
    most = 1 if len(symbol) <= _SHORT else 2
    best: tuple[int, str] | None = None
    for name in known:
        if abs(len(name) - len(symbol)) > most:
            continue
        found = distance(folded, name.casefold(), most)
        if found <= most and (best is None or (found, name) < best):
            best = found, name
    return None if best is None or best[1] == symbol else best[1]


def distance(one: str, other: str, most: int) -> int:
    """How many letters must be put in, left out or changed; `most + 1` where that is more than `most`."""
    if len(set(one) ^ set(other)) > 2 * most:
        return most + 1
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        line = [row]
        for column, against in enumerate(other, 1):
            line.append(min(before[column] + 1, line[-1] + 1, before[column - 1] + (letter != against)))
        if min(line) > most:
            return most + 1
        before = line
    return min(before[-1], most + 1)
