"""The writers' schemas that a table keeps: what each id meant when rows were read by it, whatever becomes of the registry.

They stand in the property `k2.schemas`, by the topic's id, and are written by the commit of the first rows that were read by
them; a commit that brings nothing new writes nothing. Not in the snapshots: what an id means is no matter of time travel,
and a rollback takes back rows, not what their writers meant.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Self

from pyiceberg.table.metadata import TableMetadata

from k2.lake.offsets import OFFSETS, OffsetMap
from k2.model.codec.meaning import mean_the_same, meaning
from k2.model.errors import RefusedError

SCHEMAS = "k2.schemas"

MOST = 32
"""Ids that are kept of a topic; beyond it those that came first are given up."""

ABSENT = "absent"
"""In place of a digest: the registry knows nothing under the id."""

_MOST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class TopicSchemas:
    """What is kept of one topic.

    Attributes:
        schemas: the schema (JSON) of each id, those that came first at the beginning.
        settled: what the registry has said of an id otherwise, as `digest`, and a person has decided not to mind.
    """

    schemas: Mapping[int, str] = field(default_factory=dict[int, str])
    settled: Mapping[int, str] = field(default_factory=dict[int, str])

    def contradicts(self, schemas: Mapping[int, str]) -> bool:
        """Whether any of these ids means something else here."""
        return any(
            not mean_the_same(self.schemas[schema_id], text)
            for schema_id, text in schemas.items()
            if schema_id in self.schemas
        )

    def joined(self, schemas: Mapping[int, str]) -> TopicSchemas:
        """With these too, where they are new."""
        new = {schema_id: meaning(text) for schema_id, text in schemas.items() if schema_id not in self.schemas}
        return replace(self, schemas=dict([*self.schemas.items(), *new.items()][-MOST:])) if new else self

    def minds(self, schema_id: int, now: str | None) -> bool:
        """Whether what the registry says of an id (None: nothing) is not what is kept of it, and nobody has settled that."""
        kept = self.schemas[schema_id]
        same = now is not None and mean_the_same(now, kept)
        return not same and self.settled.get(schema_id) != digest(now)


@dataclass(frozen=True, slots=True)
class KeptSchemas:
    """All that a table keeps, by topic id."""

    topics: Mapping[str, TopicSchemas] = field(default_factory=dict[str, TopicSchemas])

    def of(self, topic_id: str) -> TopicSchemas:
        """What is kept of a topic; empty for one that it knows nothing of."""
        return self.topics.get(topic_id) or TopicSchemas()

    def having(self, topic_id: str, kept: TopicSchemas, recorded: OffsetMap) -> KeptSchemas:
        """With this of a topic, and without topics that the table records no more: they were made anew, or forgotten."""
        live = {held.topic_id for held in recorded.topics.values()}
        return KeptSchemas({each: held for each, held in self.topics.items() if each in live} | {topic_id: kept})

    def to_json(self) -> str:
        """Compact text: it is written and read with the table's metadata. A schema of many topics stands in it once."""
        texts: dict[str, int] = {}
        for held in self.topics.values():
            for text in held.schemas.values():
                texts.setdefault(text, len(texts))
        topics = {
            topic_id: {str(schema_id): texts[text] for schema_id, text in held.schemas.items()}
            for topic_id, held in sorted(self.topics.items())
        }
        settled = {topic_id: _keyed(held.settled) for topic_id, held in sorted(self.topics.items()) if held.settled}
        told: dict[str, Any] = {"schemas": [json.loads(text) for text in texts], "topics": topics}
        return json.dumps(told | ({"settled": settled} if settled else {}), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | None) -> Self:
        """The inverse of `to_json`; None: nothing is kept, as in tables of before.

        Raises:
            RefusedError: it is no such text.
        """
        return cls(_topics(text)) if text else cls()


def kept_schemas(metadata: TableMetadata) -> KeptSchemas:
    """What a table keeps.

    Raises:
        RefusedError: the property was written by somebody else and cannot be read.
    """
    return KeptSchemas.from_json(metadata.properties.get(SCHEMAS))


def kept_of_topic(tables: Iterable[TableMetadata], topic: str) -> dict[int, str]:
    """The schemas of a topic that any of these tables keeps, by id."""
    found: dict[int, str] = {}
    for metadata in tables:
        held = OffsetMap.from_json(metadata.properties.get(OFFSETS)).topics.get(topic)
        if held is not None:
            found |= kept_schemas(metadata).of(held.topic_id).schemas
    return found


def digest(schema_text: str | None) -> str:
    """A short word for what the registry says of an id; None: it says nothing."""
    if schema_text is None:
        return ABSENT
    try:
        same = meaning(schema_text)
    except ValueError:
        same = schema_text
    return hashlib.sha256(same.encode()).hexdigest()[:16]


def ids_named(schema_ids: Collection[int]) -> str:
    """Ids in words: `schema id 7`, `schema ids 7, 9`; of many the first ones."""
    some = ", ".join(map(str, sorted(schema_ids)[:10])) + (", …" if len(schema_ids) > 10 else "")
    return f"schema id{'s' if len(schema_ids) > 1 else ''} {some}"


@lru_cache(maxsize=64)
def _topics(text: str) -> Mapping[str, TopicSchemas]:
    try:
        told = json.loads(text)
        texts = [json.dumps(each, separators=(",", ":")) for each in told["schemas"]]
        settled = told.get("settled", {})
        return {
            topic_id: TopicSchemas(
                {int(schema_id): texts[number] for schema_id, number in held.items()},
                {int(schema_id): str(state) for schema_id, state in settled.get(topic_id, {}).items()},
            )
            for topic_id, held in told["topics"].items()
        }
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise RefusedError(
            "The schemas that the table keeps cannot be read: they were cut short or written by hand",
            found=text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…",
            expected=f"the property {SCHEMAS} as k2 wrote it",
            remedy="Restore it from an older metadata file of the table; or remove it, where the registry is as it always was",
        ) from error


def _keyed(states: Mapping[int, str]) -> dict[str, str]:
    return {str(schema_id): state for schema_id, state in states.items()}
