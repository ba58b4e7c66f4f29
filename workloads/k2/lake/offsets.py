"""Which offsets of which topics a table holds: kept by the table itself, in a property and in every K2 snapshot.

"Next" is always the next offset to read. For a partition the counts satisfy, at any time,

    next - first = rows + duplicates + dead_letters + lost + non_records

where lost are offsets that a person gave up (`k2 sink reset --skip-to-earliest`), and non-records are offsets that held
no message (transaction markers). The same map stands in the property
`k2.offsets` of the table (what is true now) and in the summary of each snapshot K2 makes (what was true then); a
difference between the two means that somebody rolled the table back, and K2 then refuses to go on.

With a topic's offsets stand the rules of its feed, for tails; a map without them was written under the usual ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Self

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from k2.lake.catalog import load_table, open_named
from k2.model.errors import RefusedError
from k2.model.feed_rules import FeedRules

OFFSETS = "k2.offsets"
COMMIT_ID = "k2.commit-id"
OPERATION = "k2.operation"
BATCH = "k2.batch"

MOST_SHOWN = 80
"""Characters of a broken map that an error quotes."""


@dataclass(frozen=True, slots=True)
class PartitionOffsets:
    """What a table holds of one partition: offsets [first, next), and what became of them (cumulative counts).

    `repeated`: of the dead letters those that a person had sent again, and that failed again: copies of letters that count already.
    """

    first: int
    next: int
    rows: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    lost: int = 0
    repeated: int = 0

    @property
    def letters(self) -> int:
        """Dead letters, each once however often it was sent again."""
        return self.dead_letters - self.repeated

    @property
    def non_records(self) -> int:
        """Offsets in [first, next) that held no message."""
        return self.next - self.first - self.rows - self.duplicates - self.dead_letters - self.lost

    def advanced(
        self, next_offset: int, *, rows: int, duplicates: int, dead_letters: int, repeated: int = 0
    ) -> PartitionOffsets:
        """This partition after a batch that ended before `next_offset`."""
        return replace(
            self,
            next=next_offset,
            rows=self.rows + rows,
            duplicates=self.duplicates + duplicates,
            dead_letters=self.dead_letters + dead_letters,
            repeated=self.repeated + repeated,
        )


@dataclass(frozen=True, slots=True)
class TopicOffsets:
    """What a table holds of one topic. The topic's id and the cluster's tell a topic from one made anew under its name.

    `rules` are those of its feed, by which the sink made its last commit.
    """

    topic_id: str
    cluster_id: str
    partitions: Mapping[int, PartitionOffsets] = field(default_factory=dict)
    rules: FeedRules = field(default_factory=FeedRules)


@dataclass(frozen=True, slots=True)
class OffsetMap:
    """The whole map of a table: every topic that was ever written to it."""

    topics: Mapping[str, TopicOffsets] = field(default_factory=dict)

    def next_of(self, topic: str) -> dict[int, int]:
        """Partition → next offset to read; empty for a topic the table has nothing of."""
        found = self.topics.get(topic)
        return {} if found is None else {number: held.next for number, held in found.partitions.items()}

    def with_topic(self, topic: str, offsets: TopicOffsets) -> OffsetMap:
        """The map with one topic replaced."""
        return replace(self, topics={**self.topics, topic: offsets})

    def to_json(self) -> str:
        """Compact text: it stands in every snapshot, so each byte is paid hundreds of times. Usual rules cost none."""
        return json.dumps(
            {
                topic: {
                    "id": held.topic_id,
                    "cluster": held.cluster_id,
                    "partitions": {
                        str(number): [
                            p.first,
                            p.next,
                            p.rows,
                            p.duplicates,
                            p.dead_letters,
                            *([p.lost] if p.lost or p.repeated else []),
                            *([p.repeated] if p.repeated else []),
                        ]
                        for number, p in sorted(held.partitions.items())
                    },
                    **({"rules": rules} if (rules := held.rules.recorded()) else {}),
                }
                for topic, held in sorted(self.topics.items())
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str | None) -> Self:
        """The inverse of `to_json`; None is the empty map."""
        return cls(_topics(text)) if text else cls()


@lru_cache(maxsize=64)  # every answer asks for the current snapshot's
def _topics(text: str) -> Mapping[str, TopicOffsets]:
    try:
        return MappingProxyType(
            {
                topic: TopicOffsets(
                    held["id"],
                    held["cluster"],
                    {int(number): PartitionOffsets(*counts) for number, counts in held["partitions"].items()},
                    FeedRules.of_recorded(held.get("rules")),
                )
                for topic, held in json.loads(text).items()
            }
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(
            "The offsets that the table records cannot be read: they were cut short or written by hand",
            found=text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…",
            expected=f"the property {OFFSETS} as k2 wrote it",
            remedy="If the snapshot's own copy is whole: k2 sink reset TABLE --to-snapshot ID; `k2 audit` counts the rows then",
        ) from error


def ancestors(metadata: TableMetadata) -> Iterator[Snapshot]:
    """The current snapshot and its ancestors as far as they are retained, newest first."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    current = metadata.current_snapshot_id
    while current is not None and (snapshot := by_id.get(current)) is not None:
        yield snapshot
        current = snapshot.parent_snapshot_id


def summary_of(snapshot: Snapshot) -> dict[str, str]:
    """A snapshot's summary as plain text by key (without the operation)."""
    return {} if snapshot.summary is None else dict(snapshot.summary.additional_properties)


def find_commit(metadata: TableMetadata, commit_id: str) -> int | None:
    """The snapshot that carries this commit id, if the commit landed."""
    for snapshot in ancestors(metadata):
        if summary_of(snapshot).get(COMMIT_ID) == commit_id:
            return snapshot.snapshot_id
    return None


def snapshot_offsets(metadata: TableMetadata) -> OffsetMap | None:
    """The map of the nearest ancestor snapshot that carries one, or None when none does."""
    for snapshot in ancestors(metadata):
        text = summary_of(snapshot).get(OFFSETS)
        if text is not None:
            return OffsetMap.from_json(text)
    return None


def recorded_offsets(table: Table) -> OffsetMap:
    """The offsets that the loaded table records.

    Raises:
        RefusedError: property and snapshots disagree: somebody rolled the table back or wrote the property.
    """
    text = table.metadata.properties.get(OFFSETS)
    in_property = OffsetMap.from_json(text)
    in_snapshot = snapshot_offsets(table.metadata) or OffsetMap()
    if in_property != in_snapshot:
        identifier = ".".join(table.name())
        current = table.metadata.current_snapshot_id
        raise RefusedError(
            f"Table {identifier} was rolled back, or its property {OFFSETS} was written by hand: its offsets are not its snapshot's",
            found=in_property.to_json(),
            expected=in_snapshot.to_json(),
            remedy=f"To read on from what snapshot {current} holds: k2 sink reset {identifier} --to-snapshot {current}",
        )
    return in_property


def table_offsets(catalog_properties: Mapping[str, str], catalog_name: str, table: str, topic: str) -> dict[int, int]:
    """Partition → next offset that the table records for the topic, for a caller that only waits for it.

    Raises:
        UserError: there is no such table.
        WorldError: the catalog cannot be reached.
    """
    return recorded_offsets(load_table(open_named(catalog_name, catalog_properties), table)).next_of(topic)
