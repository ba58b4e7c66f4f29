"""Dead letters as a question sees them: what the tail's room reads, for a room that knows no Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from k2.model.letters import KnownLetter
from k2.model.topics import TopicName


@dataclass(frozen=True, slots=True)
class LetterCounts:
    """The newest letters of a dead-letter topic.

    Attributes:
        topic: the dead-letter topic.
        reasons: letters by the class of their reason, the commonest first.
        complete: whether there are no older ones than those that were read.
    """

    topic: str
    reasons: Mapping[str, Sequence[KnownLetter]]
    complete: bool


class LetterSource(Protocol):
    """Where letters come from (`k2.query.tail.letters.TopicLetters`)."""

    def newest(self, topic: TopicName, most: int, reason: str | None) -> LetterCounts:
        """The newest of a topic's letters, each once; `most` messages of each partition are looked at.

        Raises:
            NotFoundError: the topic has no dead-letter topic.
            WorldError: Kafka cannot be reached.
        """
        ...
