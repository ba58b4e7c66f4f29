"""What a sink leaves beside its group's offsets, and the operator reads: one line of JSON about its last commit, and what holds it up.

So lag, freshness, commits and what is wrong are known from Kafka alone, without a table being loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from k2.model.dead_share import DeadShare
from k2.model.held_up import HeldUp

_HELD_UP = "held"


@dataclass(frozen=True, slots=True)
class CommitNote:
    """One commit. Times are UTC; what a sink has not said is None.

    Args:
        snapshot: id of the snapshot.
        sequence: the snapshot's sequence number. A table counts every commit by it, whoever made it.
        committed: when the snapshot was made.
        newest: time of the newest event in the commit.
        rows: how many rows the commit added.
        gaps: times that a source's sequence jumped ahead, of all that this partition's sinks have seen.
        dead: the dead letters among the last messages of the sink, of all its partitions.
        letters: dead letters of this partition, of all that the table has counted.
    """

    snapshot: int
    sequence: int | None = None
    committed: datetime | None = None
    newest: datetime | None = None
    rows: int = 0
    gaps: int | None = None
    dead: DeadShare | None = None
    letters: int | None = None

    def told(self) -> dict[str, Any]:
        """Its parts by name, without what is not known."""
        told: dict[str, Any] = {
            "snapshot": self.snapshot,
            "sequence": self.sequence,
            "committed": _text(self.committed),
            "newest": _text(self.newest),
            "rows": self.rows,
            "gaps": self.gaps,
            "dead": None if self.dead is None else [self.dead.dead, self.dead.in_a_row, self.dead.kind],
            "letters": self.letters,
        }
        return {name: value for name, value in told.items() if value is not None}

    def to_json(self) -> str:
        """Compact text, without what is not known."""
        return note(self)

    @classmethod
    def from_json(cls, text: str) -> CommitNote | None:
        """The commit that a note tells of; None for what anybody else has left, and where nothing was committed yet."""
        try:
            told = json.loads(text)
            return cls(
                snapshot=int(told["snapshot"]),
                sequence=_integer(told.get("sequence")),
                committed=_time(told.get("committed")),
                newest=_time(told.get("newest")),
                rows=int(told.get("rows", 0)),
                gaps=_integer(told.get("gaps")),
                dead=_share(told.get("dead")),
                letters=_integer(told.get("letters")),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def note(commit: CommitNote | None, held: HeldUp | None = None) -> str:
    """What is left beside an offset: the last commit, and what holds the sink up. Empty where there is nothing to say."""
    told = {} if commit is None else commit.told()
    if held is not None:
        told[_HELD_UP] = held.as_told()
    # Other letters than ASCII's as they are: escaped they would take three times as much of the 4 KB that Kafka keeps.
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False) if told else ""


def held_up_of(text: str) -> HeldUp | None:
    """What a note says that holds its sink up; None when it says nothing of the kind."""
    try:
        told = json.loads(text)
        return HeldUp.of_told(told[_HELD_UP])
    except (ValueError, TypeError, KeyError):
        return None


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _integer(value: int | None) -> int | None:
    return None if value is None else int(value)


def _share(told: list[Any] | None) -> DeadShare | None:
    if told is None:
        return None
    dead, in_a_row, kind = told
    return DeadShare(int(dead), int(in_a_row), str(kind))
