"""What holds a sink up: told by the sink in its /ready, its log, a metric and beside its group's offsets, read by the operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

HEAD, TAIL = 380, 300
"""Characters of a long text that are kept. What is wrong stands at its beginning and the remedy at its end, and Kafka keeps no more
than 4 KB beside an offset."""


class HeldUpBy(StrEnum):
    """What kind of thing it is: stable words, of which a metric's label is one.

    `passes` tells whether it may well be over by itself in a moment: it is then told to people once it has lasted.
    """

    _value_: str
    passes: bool

    def __new__(cls, value: str, passes: bool = False) -> Self:
        """A member: its value is the word."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.passes = passes
        return member

    DECISION = "decision"
    """A person decides (`k2 sink reset`, `k2 sink schemas`): a rollback, a topic made anew, retention past what was not read, an id of a
    schema given away."""
    DEAD_LETTERS = "dead_letters"
    """More of the last messages are dead letters than the feed allows."""
    TABLE = "table"
    """The table takes no rows as it is: a property that no writer can honour, a column that is missing."""
    ACCESS = "access"
    """Credentials or rights that the catalog or the store refuses."""
    REGISTRY = "registry", True
    """Messages cannot be decoded: the registry is away, or has forgotten a schema."""
    COMMIT = "commit", True
    """Commits fail and are tried again: the catalog or the store is away."""
    PARTS = "parts", True
    """The topic, the table or one of the services that know them is not there (yet)."""


@dataclass(frozen=True, slots=True)
class HeldUp:
    """A sink that has stopped bringing events into its table. Times are UTC.

    Args:
        by: the kind of thing that holds it up.
        said: for a person: what was found, what was expected, and the remedy. Kept short (`in_short`).
        since: since when it has stood still.
        told: when it last said so. It says it again as long as it lasts, so what is old was left by a sink that is gone.
    """

    by: HeldUpBy
    said: str
    since: datetime
    told: datetime

    def as_told(self) -> list[str]:
        """Its parts as texts, for a note."""
        return [self.by.value, self.said, self.since.isoformat(), self.told.isoformat()]

    @classmethod
    def of_told(cls, parts: Any) -> HeldUp | None:
        """The inverse of `as_told`; None for anything else."""
        try:
            by, said, since, told = parts
            return cls(HeldUpBy(by), str(said), datetime.fromisoformat(since), datetime.fromisoformat(told))
        except (ValueError, TypeError):
            return None


def in_short(text: str) -> str:
    """A text on one line, without what no terminal shows, and of a long one its beginning and its end."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= HEAD + TAIL else f"{line[:HEAD]} … {line[-TAIL:]}"
