"""Dead letters as JSON objects: counts by class of reason, and one letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2.model.letters import KnownLetter
from k2.query.rows.letters import LetterCounts

if TYPE_CHECKING:
    from k2.bus.dead_letters import BuriedLetter


def letters_body(topic: str, groups: Mapping[str, Sequence[KnownLetter]]) -> dict[str, Any]:
    """How many letters a dead-letter topic has, by class of reason, with the newest of each."""
    return {
        "topic": topic,
        "letters": sum(map(len, groups.values())),
        "reasons": [_group(reason, letters) for reason, letters in groups.items()],
    }


def counted_body(found: LetterCounts) -> dict[str, Any]:
    """Counts of the newest letters, and whether those are all."""
    return letters_body(found.topic, found.reasons) | {"complete": found.complete}


def _group(reason: str, letters: Sequence[KnownLetter]) -> dict[str, Any]:
    newest = max(letters, key=lambda each: (each.time or datetime.min.replace(tzinfo=UTC), each.offset))
    return {
        "reason": reason,
        "letters": len(letters),
        "tried_again": sum(each.attempts > 0 for each in letters),
        "parked": sum(each.parked for each in letters),
        "truncated": sum(each.truncated for each in letters),
        "from_files": sum(each.from_file for each in letters),
        "newest": None if newest.time is None else newest.time.isoformat(),
        "partition": newest.partition,
        "offset": newest.offset,
        "example": newest.example,
    }


def letter_body(buried: BuriedLetter) -> dict[str, Any]:
    """One letter but for its payload: where it lies, where it came from and why."""
    letter = buried.letter
    key = letter.key
    return {
        "partition": buried.partition,
        "offset": buried.offset,
        "reason": letter.reason,
        "time": letter.time,
        "origin": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
        if letter.file is None
        else {"file": letter.file, "line": letter.line},
        "attempts": letter.attempts,
        "key": None if key is None else key.decode("utf-8", "backslashreplace"),
        "data_type": letter.data_type,
        "size": len(letter.payload or b"") if letter.size is None else letter.size,
        "truncated": letter.truncated,
        "tombstone": letter.payload is None,
    }
