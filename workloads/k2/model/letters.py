"""What is known of dead letters without their payloads, and how they are counted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

MOST_ATTEMPTS = 5
"""A letter that was sent to its topic again so often is parked."""


@dataclass(frozen=True, slots=True)
class KnownLetter:
    """The last copy of a letter, without its payload: there may be many.

    Attributes:
        partition, offset: of the dead-letter topic.
        reason: the reason's class.
        example: the reason.
        attempts: how often it was sent again.
        from_file: it is a row of a file.
        truncated: the topic has its head alone.
        time: when it was put aside.
    """

    partition: int
    offset: int
    reason: str
    example: str
    attempts: int
    from_file: bool
    truncated: bool
    time: datetime | None

    @property
    def parked(self) -> bool:
        """Whether it is left alone unless somebody asks for it."""
        return self.attempts >= MOST_ATTEMPTS


def counted(letters: Iterable[KnownLetter]) -> dict[str, list[KnownLetter]]:
    """Letters by the class of their reason, the commonest first."""
    by_class: dict[str, list[KnownLetter]] = {}
    for each in letters:
        by_class.setdefault(each.reason, []).append(each)
    counts = Counter({name: len(those) for name, those in by_class.items()})
    return {name: by_class[name] for name, _ in counts.most_common()}
