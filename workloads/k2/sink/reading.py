"""What a sink's loop reads from: the consumer as it needs it, and where each partition begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from k2.model.errors import RefusedError
from k2.sink.held import PolledColumns


class Reader(Protocol):
    """What the loop needs of a consumer (`k2.bus.consumer.TopicReader`)."""

    def joined(self) -> bool:
        """Whether the group counts us among its members, be it without partitions."""
        ...

    def poll_block(self, max_messages: int, timeout: float) -> PolledColumns | None:
        """Up to so many messages, or None when there was none within the timeout. Rebalances happen in here."""
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Read on from there."""
        ...

    def position(self) -> dict[int, int]:
        """Partition → next offset, transaction markers passed."""
        ...

    def seen_ends(self) -> dict[int, int]:
        """Partition → end, as far as is known without asking."""
        ...

    def commit_group_offsets(self, told: Mapping[int, tuple[int, str]]) -> None:
        """Tell Kafka partition → offset and what stands beside it, for lag and status alone."""
        ...

    def pause(self) -> None:
        """Fetch nothing more until `resume`; polls go on, so the group keeps us."""
        ...

    def resume(self) -> None:
        """Fetch again."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


@dataclass(frozen=True, slots=True)
class Starts:
    """Where to begin, asked anew at every assignment: what the table records, and the earliest offsets of the topic."""

    recorded: Callable[[], dict[int, int]]
    earliest: Callable[[], dict[int, int]]
    topic: str
    table: str

    def of(self, partitions: set[int]) -> dict[int, int]:
        """Partition → offset to read from.

        Raises:
            RefusedError: retention has passed an offset that was not read.
        """
        recorded, earliest = self.recorded(), self.earliest()
        starts = {partition: recorded.get(partition, earliest[partition]) for partition in partitions}
        for partition, start in starts.items():
            if start < earliest[partition]:
                raise RefusedError(
                    f"Retention has passed what {self.table} has not read of {self.topic}/{partition}",
                    found=f"earliest offset {earliest[partition]}",
                    expected=f"offset {start}",
                    remedy=f"The rows between are lost in Kafka; to go on without them: k2 sink reset {self.table} "
                    f"--topic {self.topic} --skip-to-earliest",
                )
        return starts
