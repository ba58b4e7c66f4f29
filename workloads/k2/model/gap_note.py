"""What a live feed leaves beside a group's offsets, and the operator reads: one line of JSON about its account of gaps.

So what is missing is known from Kafka alone, without the account being read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from k2.model.gaps import GapCounts


@dataclass(frozen=True, slots=True)
class GapNote:
    """What an account comes to.

    Attributes:
        counts: its counts.
        at: when, in microseconds since 1970.
        numbered: whether the exchange's numbers tell what is missing.
        deaf: symbols that no connection carries now.
        worst: a symbol of the oldest open gap.
    """

    counts: GapCounts
    at: int
    numbered: bool = True
    deaf: int = 0
    worst: str = ""

    def to_json(self) -> str:
        """Compact text."""
        counts = self.counts
        told: dict[str, Any] = {
            "open": counts.open,
            "ranges": counts.open_ranges,
            "filled": counts.filled,
            "unfillable": counts.unfillable,
            "unknown": counts.unknown,
            "dead_lettered": counts.dead_lettered,
            "oldest": counts.oldest,
            "at": self.at,
            "numbered": self.numbered,
            "deaf": self.deaf,
            "worst": self.worst,
        }
        return json.dumps({"account": told}, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> GapNote | None:
        """The inverse; None for what anybody else has left."""
        try:
            told = json.loads(text)["account"]
            counts = GapCounts(
                open=int(told["open"]),
                filled=int(told["filled"]),
                unfillable=int(told["unfillable"]),
                unknown=int(told["unknown"]),
                dead_lettered=int(told["dead_lettered"]),
                open_ranges=int(told["ranges"]),
                oldest=None if told["oldest"] is None else int(told["oldest"]),
            )
            return cls(counts, int(told["at"]), bool(told["numbered"]), int(told["deaf"]), str(told["worst"]))
        except (ValueError, TypeError, KeyError):
            return None
