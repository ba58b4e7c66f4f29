"""Before a sink reads: waiting until it can, and saying meanwhile why it cannot.

Topic and table come in any order, services are away, and what the table records may be such that a person has to decide. None of
that ends the process: it looks again, and goes on by itself. A sink that waits is no member of its group, so it takes no
partition from one that can work; what it leaves beside the group's offsets Kafka takes only while nobody is at work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from k2.bus.admin import (
    beginning_offsets,
    cluster_id,
    committed_with_metadata,
    end_offsets,
    partition_counts,
    topic_ids,
)
from k2.bus.groups import tell_for_group
from k2.lake.appends.commit import Committer, Origin
from k2.lake.catalog import load_table, open_catalog
from k2.model.commit_note import CommitNote, note
from k2.model.errors import K2Error, RefusedError, UserError, WorldError
from k2.model.held_up import HeldUpBy
from k2.model.settings import Settings
from k2.model.workload import SinkConfig
from k2.obs.logging import get_logger
from k2.sink.first_figures import tell
from k2.sink.reading import Starts
from k2.sink.telling import Telling, in_words

log = get_logger(__name__)

WAIT_SECONDS = 2.0
REFUSED_SECONDS = 5.0
"""Between two looks at what a person has to decide."""


@dataclass(slots=True)
class SinkWait:
    """Waits for what one sink needs.

    Args:
        env: addresses.
        config: the sink's.
        stop: set by a signal.
        telling: what holds it up.

    Attributes:
        reason: what it waits for, for a probe.
    """

    env: Settings
    config: SinkConfig
    stop: threading.Event
    telling: Telling
    reason: str = field(init=False)

    def __post_init__(self) -> None:
        self.reason = f"waiting for {self.config.topic} and {self.config.table}"

    def origin(self, ended: tuple[HeldUpBy, str] | None = None) -> Origin | None:
        """Wait until the sink can begin. None: stopped meanwhile.

        Args:
            ended: the kind and the words of what has just ended its run; they hold until a look finds nothing of the kind.

        Raises:
            RefusedError: a person has to decide, and the sink is to end by itself (`until_end`).
        """
        found, patience = ended, REFUSED_SECONDS
        tell(self.env.kafka_config(), self.config)
        while not self.stop.is_set():
            if found is not None:
                self._say(*found)
                self.stop.wait(patience)
                if self.stop.is_set():
                    break
            try:
                return look(self.env, self.config)
            except RefusedError as error:
                if self.config.until_end:
                    raise
                found, patience = in_words(error), REFUSED_SECONDS
            except K2Error as error:
                found, patience = in_words(error), WAIT_SECONDS
        return None

    def _say(self, kind: HeldUpBy, reason: str) -> None:
        if reason != self.reason:
            log.info("sink.parts_awaited", reason=reason)
        self.reason = reason
        if self.telling.see(kind, reason, datetime.now(UTC)):
            tell(self.env.kafka_config(), self.config)
            self._leave()

    def _leave(self) -> None:
        """Tell it beside the offsets. Where that does not work, /ready and the log tell it."""
        kafka, topic, group = self.env.kafka_config(), self.config.topic, self.config.group_id
        try:
            left = committed_with_metadata(kafka, group, topic)
            told = {
                number: (offset, note(CommitNote.from_json(text), self.telling.held))
                for number in range(partition_counts(kafka, [topic]).get(topic, 0))
                for offset, text in [left.get(number, (0, ""))]
            }
            if told:
                tell_for_group(kafka, group, topic, told)
        except K2Error as error:
            log.debug("sink.reason_not_left", topic=topic, error=str(error))


def look(env: Settings, config: SinkConfig) -> Origin:
    """The topic as it is now, if the sink can read it into the table.

    Raises:
        RefusedError: a person has to decide.
        K2Error: something is not there (yet).
    """
    kafka, topic = env.kafka_config(), config.topic
    ids = topic_ids(kafka, [topic])
    # Closed at once: a sink that waits long would use up the connections that the catalog's database grants.
    with open_catalog(env) as catalog, catalog_errors(config.table):
        load_table(catalog, config.table)
        if topic not in ids:
            raise WorldError(f"there is no topic {topic} yet")
        origin = Origin(topic, ids[topic], cluster_id(kafka))
        recorded = Committer(catalog, config.table, origin, config.data_type).start_offsets()
    earliest, ends = beginning_offsets(kafka, topic), end_offsets(kafka, topic, "read_uncommitted")
    starts = Starts(lambda: recorded, lambda: earliest, topic, config.table).of(set(earliest))
    for partition, start in sorted(starts.items()):
        if start > ends[partition]:
            raise RefusedError(
                f"{topic}/{partition} ends before the offset to read: the topic was made anew, or Kafka lost its end",
                found=f"end offset {ends[partition]}",
                expected=f"offset {start} or more",
                remedy="Find out which, then choose where to go on with k2 sink reset",
            )
    return origin


def origin_now(env: Settings, origin: Origin, check: Callable[[Origin], dict[int, int]]) -> dict[int, int]:
    """Partition → next offset of a topic that may have been deleted and made again while the sink ran.

    Args:
        env: addresses.
        origin: the topic as it was when the sink began.
        check: what the table records for an origin; refuses one that is not the one whose offsets it holds.

    Raises:
        RefusedError: it is another topic than the one whose offsets the table holds.
        UserError: it is gone, or another one of which the table holds nothing: the sink begins again.
    """
    found = topic_ids(env.kafka_config(), [origin.topic]).get(origin.topic)
    if found is None:
        raise UserError(f"Topic {origin.topic} was deleted while the sink read it")
    now = Origin(origin.topic, found, origin.cluster_id)
    recorded = check(now)
    if now != origin:
        raise UserError(f"Topic {origin.topic} was made anew while the sink read it", found=f"topic id {found}")
    return recorded


@contextmanager
def catalog_errors(table: str) -> Generator[None]:
    """What a catalog or its driver raises while it is asked about a table, as an error of the world."""
    try:
        yield
    except K2Error:
        raise
    except Exception as error:
        raise WorldError(f"The catalog does not tell of {table}: {error}") from error
