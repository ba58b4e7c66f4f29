"""What a sink leaves beside its group's offsets after each commit, and the operator reads: one line of JSON.

So lag, freshness and commits are known from Kafka alone, without a table being loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from k2.model.dead_share import DeadShare


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
    """

    snapshot: int
    sequence: int | None = None
    committed: datetime | None = None
    newest: datetime | None = None
    rows: int = 0
    gaps: int | None = None
    dead: DeadShare | None = None

    def to_json(self) -> str:
        """Compact text, without what is not known."""
        told: dict[str, Any] = {
            "snapshot": self.snapshot,
            "sequence": self.sequence,
            "committed": _text(self.committed),
            "newest": _text(self.newest),
            "rows": self.rows,
            "gaps": self.gaps,
            "dead": None if self.dead is None else [self.dead.dead, self.dead.in_a_row, self.dead.kind],
        }
        return json.dumps({name: value for name, value in told.items() if value is not None}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> CommitNote | None:
        """The inverse of `to_json`; None for what anybody else has committed."""
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
            )
        except (ValueError, TypeError, KeyError, AttributeError):
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
