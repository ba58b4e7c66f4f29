"""`--wait`: until the table records the offsets that a load ended at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from k2.bus.groups import active_members
from k2.lake.catalog import LastingCatalog, load_table
from k2.lake.offsets import PartitionOffsets, recorded_offsets
from k2.model.errors import WorldError
from k2.model.settings import Settings
from k2.model.topics import sink_group_id

POLL_SECONDS = 0.5
_ALIVE_SECONDS = 3.0  # how often the group's members are asked for
NO_SINK_SECONDS = 20.0  # a sink that starts, or rebalances, has no members for a while


class Outcome(Enum):
    """How a wait ended."""

    IN_TABLE = "in the table"
    TIMED_OUT = "timed out"
    NO_SINK = "no sink runs"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Waited:
    """What a wait found.

    `missing` are offsets that the table had not reached; `dead_letters` and `duplicates` those that the table counted for
    the topic since the load began (other producers of the topic included).
    """

    outcome: Outcome
    topic: str
    table: str
    group: str
    missing: int
    dead_letters: int
    duplicates: int
    seconds: float

    @property
    def in_table(self) -> bool:
        """The table holds all of the load."""
        return self.outcome is Outcome.IN_TABLE

    @property
    def interrupted(self) -> bool:
        """A signal ended the wait."""
        return self.outcome is Outcome.INTERRUPTED

    def __str__(self) -> str:
        if self.outcome is Outcome.IN_TABLE:
            text = f"in {self.table} after {self.seconds:.1f} s"
        elif self.outcome is Outcome.NO_SINK:
            text = (
                f"no sink writes {self.topic} to {self.table} (group {self.group} has no members): {self.missing:,} messages "
                "wait in the topic. Start the sink (`k2 up`, or the feed's Deployment) and run the same command again"
            )
        else:
            text = f"{self.outcome.value} after {self.seconds:.1f} s: {self.table} lacks {self.missing:,} messages of {self.topic}"
        text += f"; duplicates {self.duplicates:,}, dead letters {self.dead_letters:,}"
        return f"{text} (each with its reason in {self.topic}.dlq)" if self.dead_letters else text


class Recorded:
    """What a table records of a topic's partitions, with counts. The catalog is opened once, the table read each time."""

    def __init__(self, settings: Settings, table: str, topic: str) -> None:
        self._catalog = LastingCatalog(settings)
        self._table = table
        self._topic = topic

    def partitions(self) -> Mapping[int, PartitionOffsets]:
        """Partition → what is recorded now; empty for a topic that the table has nothing of.

        Raises:
            UserError: there is no such table.
            WorldError: the catalog cannot be reached.
        """
        held = recorded_offsets(load_table(self._catalog, self._table)).topics.get(self._topic)
        return {} if held is None else held.partitions


def wait_for_table(
    settings: Settings,
    *,
    topic: str,
    table: str,
    wanted: Mapping[int, int],
    before: Mapping[int, PartitionOffsets],
    timeout: float,
    stop: threading.Event,
    report: Callable[[int], None] | None = None,
) -> Waited:
    """Wait until the table's offsets have passed those wanted.

    Args:
        settings: addresses of Kafka and the catalog.
        topic: the load's topic.
        table: where its sink writes.
        wanted: partition → offset to reach.
        before: what the table recorded when the load began, to tell what was counted since.
        timeout: seconds.
        stop: ends the wait.
        report: called with the number of messages that the table lacks.
    """
    began = time.monotonic()
    group = sink_group_id(topic, table)
    recorded = Recorded(settings, table, topic)
    seen_alive, asked = began, 0.0
    last_missing = -1
    while True:
        held = _partitions_or_none(recorded)
        missing = _missing(wanted, held) if held is not None else max(last_missing, 0)
        now = time.monotonic()
        if report is not None:
            report(missing)
        if missing != last_missing:
            seen_alive, last_missing = now, missing
        elif now - asked > min(_ALIVE_SECONDS, NO_SINK_SECONDS / 4):
            asked = now
            if _alive(settings, group):
                seen_alive = now
        outcome = None
        if held is not None and missing == 0:
            outcome = Outcome.IN_TABLE
        elif stop.is_set():
            outcome = Outcome.INTERRUPTED
        elif now - seen_alive > min(NO_SINK_SECONDS, timeout):
            outcome = Outcome.NO_SINK
        elif now - began > timeout:
            outcome = Outcome.TIMED_OUT
        if outcome is not None:
            held = held or {}
            return Waited(
                outcome,
                topic,
                table,
                group,
                missing,
                _since(before, held, "dead_letters"),
                _since(before, held, "duplicates"),
                now - began,
            )
        stop.wait(POLL_SECONDS)


def _partitions_or_none(recorded: Recorded) -> Mapping[int, PartitionOffsets] | None:
    """None when the catalog did not answer: the wait goes on."""
    try:
        return recorded.partitions()
    except WorldError:
        return None


def _alive(settings: Settings, group: str) -> bool:
    try:
        return active_members(settings.kafka_config(), group) > 0
    except WorldError:
        return True  # not known: the time-out decides


def _missing(wanted: Mapping[int, int], held: Mapping[int, PartitionOffsets]) -> int:
    return sum(max(0, offset - (held[p].next if p in held else 0)) for p, offset in wanted.items())


def _since(before: Mapping[int, PartitionOffsets], now: Mapping[int, PartitionOffsets], what: str) -> int:
    first = sum(getattr(each, what) for each in before.values())
    return max(0, sum(getattr(each, what) for each in now.values()) - first)
