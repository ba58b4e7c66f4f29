"""How many of a sink's last messages were dead letters: counted by the sink, told beside its offsets, judged by whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = 10_000
"""Messages that are looked back upon. Until a sink has read as many, those that it has not read count as good: five dead
letters of the first ten messages are no share that says anything."""
MANY = WINDOW // 100
"""Dead letters among them above which there are too many to be chance: one in a hundred."""
MANY_IN_A_ROW = 1_000
"""So many without a good one between: nothing that comes can be used any more. They are always more than `MANY`."""
SOME_IN_A_ROW = 10
"""More than so many without a good one between are no chance either, however few messages there were by then."""


@dataclass(frozen=True, slots=True)
class DeadShare:
    """The dead letters among a sink's last messages, over all partitions that it reads, in the order in which it read them.

    Args:
        dead: of the last 10,000 messages.
        in_a_row: dead letters since the last message that was none, however far back.
        kind: what the commonest of their reasons is about, without values (`k2.model.reasons`); empty where none is dead.
    """

    dead: int = 0
    in_a_row: int = 0
    kind: str = ""

    @property
    def many(self) -> bool:
        """Whether people should know: more than 1 % of the last 10,000 messages, which a thousand in a row always are."""
        return self.dead > MANY

    @property
    def none_good(self) -> bool:
        """Whether all of the newest messages are dead letters, and more of them than chance makes."""
        return self.in_a_row > SOME_IN_A_ROW

    def above(self, most: int | None) -> bool:
        """Whether there are more than `most` of the last 10,000; never when that is None."""
        return most is not None and self.dead > most

    def said(self, topic: str) -> str:
        """For a person: how many, why, and where to look. Rounded, for it is written anew wherever it changes."""
        commonest = f"most of them for one reason: {self.kind}. `k2 dlq list {topic}` shows them"
        if self.none_good and not self.many:
            return f"The last messages of {topic}, more than {SOME_IN_A_ROW}, are dead letters without exception, {commonest}"
        row = ", more than a thousand of them in a row" if self.in_a_row > MANY_IN_A_ROW else ""
        return f"{percent(self.dead)} of the last {WINDOW:,} messages of {topic} are dead letters{row}, {commonest}"

    def stop_said(self, topic: str, most: int) -> str:
        """For a person: why a sink that may have `most` dead letters among the last 10,000 messages reads no more."""
        return (
            f"{self.said(topic)}. That is more than deadLetters.stopAbove allows ({percent(most)}): the sink reads no more, and "
            "nothing is lost. Mend what sends them and restart the sink, which begins to count anew; or raise stopAbove, or "
            "take it away"
        )


def percent(count: int) -> str:
    """A count of the last 10,000 messages as a share of them, in two digits: 1234 → `12 %`."""
    return f"{float(f'{count * 100 / WINDOW:.2g}'):g} %"
