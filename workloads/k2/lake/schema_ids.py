"""Which schema an id of a topic's messages means: what the table keeps of it, and for a new id what the registry says.

A registry may forget: restored from an old backup, or kept in memory and restarted. What is kept is read whatever it says by
then. An id that nobody knows is a dead letter, unless the registry lacks an id that is kept: then it forgot that one, too, maybe,
and its messages wait. A registry that has given a kept id to another schema of the topic makes two messages of that id ambiguous:
nothing more of it is committed until a person has mended or decided it. docs/architecture.md argues why this is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from k2.lake.kept_schemas import TopicSchemas, ids_named
from k2.lake.payloads import PausedError
from k2.model.errors import K2Error, WorldError
from k2.model.topics import subject_of
from k2.obs.logging import get_logger

log = get_logger(__name__)

_ASKED_AGAIN = 100


class BoundAnewError(PausedError):
    """The registry has given a kept id to another schema of the topic: a person decides which of the two messages mean."""


class Registry(Protocol):
    """What is asked of a Schema Registry (`k2.bus.registry.Schemas`)."""

    def now(self, schema_id: int) -> str | None:
        """The Avro schema (JSON) of that id as the registry has it now; None: it has none."""
        ...

    def is_of(self, schema_id: int, subject: str) -> bool:
        """Whether that id's schema is one of the subject's."""
        ...


@dataclass(slots=True)
class SchemaIds:
    """The ids of one topic's messages, for whoever decodes them into a table. For one thread.

    Args:
        topic, table: their names, for messages.
        registry: see `Registry`.
        load: what the table keeps of the topic now.
        recheck_seconds: how often the registry is asked whether it has bound a kept id anew. None: whoever commits asks.
    """

    topic: str
    table: str
    registry: Registry
    load: Callable[[], TopicSchemas]
    recheck_seconds: float | None = None
    _kept: TopicSchemas = field(init=False)
    _met: dict[int, str] = field(default_factory=dict[int, str], init=False)
    _checked: dict[int, float] = field(default_factory=dict[int, float], init=False)

    def __post_init__(self) -> None:
        self._kept = self.load()

    def renew(self) -> None:
        """Look at the table anew, and forget what only the registry has said: what is read from now on is read by the table."""
        self._kept = self.load()
        self._met.clear()

    def schema(self, schema_id: int) -> str | None:
        """The schema (JSON) of an id, or None when neither the table nor the registry knows it (see `settle`).

        Raises:
            BoundAnewError: the registry has bound a kept id anew, so what it says of others cannot be trusted either.
            WorldError: the id is not kept, and the registry or the catalog does not answer.
        """
        if self._due(schema_id):
            self._look_again(schema_id)
            self._checked[schema_id] = time.monotonic()  # as long as it is not confirmed it stays due
        known = self._kept.schemas.get(schema_id) or self._met.get(schema_id)
        if known is not None:
            return known
        found = self.registry.now(schema_id)
        if found is None:
            return None
        self._kept = self.load()  # another sink of the topic may have met it first
        if schema_id in self._kept.schemas:
            return self._kept.schemas[schema_id]
        refuse_bound_anew(self.topic, self.table, bound_anew(self.registry, self.topic, self._kept))
        self._met[schema_id], self._checked[schema_id] = found, time.monotonic()
        return found

    def settle(self, unknown: Collection[int]) -> bool:
        """Say what becomes of messages whose ids were not known a moment ago. False: they are dead letters. True: decode again.

        Raises:
            WorldError: the registry has forgotten something; or it, or the catalog, does not answer.
        """
        self._kept = self.load()
        if not self._kept.schemas.keys().isdisjoint(unknown):
            return True
        # The newest first: a backup lacks those.
        lost = next((each for each in sorted(self._kept.schemas, reverse=True) if self._is_lost(each)), None)
        if lost is None:
            # It may have been restored between the two questions. (Of what is no message of any registry some are enough.)
            return any(self.registry.now(each) is not None for each in sorted(unknown)[:_ASKED_AGAIN])
        raise WorldError(
            f"Messages of {self.topic} name {ids_named(unknown)}, which neither the Schema Registry nor {self.table} knows; "
            f"and the registry has lost what it knew: under schema id {lost} it has no longer the one by which rows were read. "
            "Nothing is dropped: the sink waits. Restore the registry's state, or register the schema until it has that id. "
            "If the registry stays as it is, and these messages are to become dead letters: "
            f"k2 sink schemas {self.table} --topic {self.topic} --keep"
        )

    def _is_lost(self, schema_id: int) -> bool:
        return self._kept.minds(schema_id, self.registry.now(schema_id))

    def _look_again(self, schema_id: int) -> None:
        if schema_id not in self._kept.schemas:
            self.renew()
            return
        try:
            confirm(self.registry, self.topic, self.table, self._kept, [schema_id])
        except BoundAnewError:
            self.renew()  # a person may have decided it since
            confirm(self.registry, self.topic, self.table, self._kept, [schema_id])

    def _due(self, schema_id: int) -> bool:
        """Whether an id that is known is to be looked at once more."""
        if self.recheck_seconds is None or not (schema_id in self._kept.schemas or schema_id in self._met):
            return False
        last = self._checked.get(schema_id)
        return last is None or time.monotonic() - last >= self.recheck_seconds


def bound_anew(registry: Registry, topic: str, kept: TopicSchemas, ids: Iterable[int] | None = None) -> dict[int, str]:
    """Kept ids (all, or some) under which the topic's subject has another schema now, with that schema; but for what is settled.

    A schema of other subjects alone is nobody's who writes to the topic: a registry may number those as it likes.

    Raises:
        WorldError: the registry cannot be reached.
    """
    found: dict[int, str] = {}
    for schema_id in kept.schemas if ids is None else kept.schemas.keys() & set(ids):
        now = registry.now(schema_id)
        if now is not None and kept.minds(schema_id, now) and registry.is_of(schema_id, subject_of(topic)):
            found[schema_id] = now
    return found


def refuse_bound_anew(topic: str, table: str, bound: Collection[int]) -> None:
    """Raise a `BoundAnewError` that says what to do, if any id is bound anew."""
    if not bound:
        return
    raise BoundAnewError(
        f"The Schema Registry has another schema under {ids_named(bound)} than the one by which {table} has read {topic}: it has "
        "forgotten, and given the number anew. A message does not tell which of the two it means: the sink waits, and nothing is "
        "dropped. Restore the registry's state; or decide what those messages mean that are not in the table yet: "
        f"k2 sink schemas {table} --topic {topic}, with --keep (what they always meant: none was sent under the new one) or "
        f"--take {min(bound)} (what the registry says now: none is older)"
    )


def confirm(registry: Registry, topic: str, table: str, kept: TopicSchemas, ids: Iterable[int]) -> None:
    """See that the registry has bound anew none of these ids, by which rows were read. A registry that is away binds nothing.

    Args:
        registry: see `Registry`.
        topic: its name.
        table: the table's.
        kept: what these ids mean.
        ids: those that are asked for.

    Raises:
        BoundAnewError: it has.
    """
    try:
        bound = bound_anew(registry, topic, kept, ids)
    except K2Error as error:
        log.debug("schema_ids.not_confirmed", topic=topic, table=table, reason=str(error))
        return
    refuse_bound_anew(topic, table, bound)
