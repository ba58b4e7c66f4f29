"""The world outside, watched once for all: whether Kafka, the registry, the catalog and the store answer.

Each is asked one cheap question every quarter of a minute. While one is known to be away nobody else asks it: whoever needs it says
so in its status, and waits to be woken. So an outage costs a few questions, whether one feed needs it or hundreds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum

from k2.bus.reachable import ask_kafka, subjects_of
from k2.lake.reachable import AbsentError, ask_catalog, ask_store
from k2.model.errors import StoreError, UserError, WorldError
from k2.model.settings import Settings
from k2.obs.logging import get_logger
from k2_operator.reconcile import metrics

AGAIN_SECONDS = 3.0
"""After a question that was not answered: two of them in a row are an outage, one may be a broker that has just moved."""

MOST_FAILURES = 2

_log = get_logger(__name__)


class WorldPart(StrEnum):
    """A part of the world outside that resources need."""

    KAFKA = "kafka"
    REGISTRY = "registry"
    CATALOG = "catalog"
    STORE = "store"


class AwayError(WorldError):
    """A part of the world is known to be away. Nobody has to try again: its return wakes whoever needs it."""

    def __init__(self, part: WorldPart, told: str) -> None:
        super().__init__(told)
        self.part = part


@dataclass(slots=True)
class World:
    """What is known of each part. One that nobody has asked yet is taken to be there."""

    _away: dict[WorldPart, str] = field(default_factory=dict[WorldPart, str])
    _failures: dict[WorldPart, int] = field(default_factory=dict[WorldPart, int])
    _has_answered: set[WorldPart] = field(default_factory=set[WorldPart])

    def away(self, *parts: WorldPart) -> AwayError | None:
        """The first of these parts that is away, with the words of who has found it so."""
        return next((AwayError(part, self._away[part]) for part in parts if part in self._away), None)

    def require(self, *parts: WorldPart) -> None:
        """Raise an `AwayError` when one of these parts is away."""
        if (away := self.away(*parts)) is not None:
            raise away

    def doubtful(self, part: WorldPart) -> bool:
        """Whether it has not answered lately, and is not taken to be away yet."""
        return part not in self._away and self._failures.get(part, 0) > 0

    def answered(self, part: WorldPart) -> bool:
        """Take in an answer; returns whether the part was away until now."""
        self._failures.pop(part, None)
        self._has_answered.add(part)
        return self._away.pop(part, None) is not None

    def untold(self, part: WorldPart) -> bool:
        """Take in that there was nothing to ask; returns whether the part was away until now. Who needs it finds out by itself."""
        self._failures.pop(part, None)
        return self._away.pop(part, None) is not None

    def failed(self, part: WorldPart, error: WorldError) -> bool:
        """Take in that a part has not answered; returns whether it is away from now on. What is told stays until it is back.

        What is not there is away only where it was there before. So is a store, whose warehouse we may have no leave to look at.
        """
        if part in self._away:
            return False
        if part is WorldPart.STORE and (WorldPart.CATALOG in self._away or self._failures.get(WorldPart.CATALOG)):
            return False  # where its catalog lends the credentials, one cannot be asked without the other
        if part not in self._has_answered and (part is WorldPart.STORE or isinstance(error, AbsentError)):
            return False
        self._failures[part] = self._failures.get(part, 0) + 1
        if self._failures[part] < MOST_FAILURES:
            return False
        self._away[part] = str(error)
        return True


def of_the_world(error: Exception) -> WorldError:
    """What a driver has raised, as K2's: storage and catalogs raise whatever they like, and none of it is a mistake in a resource."""
    if isinstance(error, WorldError):
        return error
    told = f"({type(error).__name__}): {error}"
    # PyArrow's file systems raise OSErrors, and so do REST catalogs' HTTP errors, which say that they are.
    if isinstance(error, OSError) and not type(error).__module__.startswith("requests"):
        return StoreError(
            f"The store of the tables does not do as asked {told}. Look at the warehouse, and at s3.* among the catalog's "
            "properties and in its Secret."
        )
    return WorldError(f"The catalog does not do as asked {told}")


@dataclass(slots=True)
class Lookout:
    """Asks each part every `interval` seconds, in threads of its own: others may be stuck with what is away.

    Args:
        world: takes in what is found.
        settings: addresses and credentials, read anew for each question.
        turned: is told of a part that has gone or come back.
        listed: takes the registry's subjects, and when they were asked for, in seconds of a steady clock.
        a_table: identifier of a table that should be there; see `ask_store`.
        interval: seconds between two questions to a part.
    """

    world: World
    settings: Settings
    turned: Callable[[WorldPart], None]
    listed: Callable[[frozenset[str], float], None]
    a_table: Callable[[], str | None]
    interval: float = 15.0
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(len(WorldPart), "k2-lookout"))

    async def run(self) -> None:
        """Ask until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in WorldPart:
                    group.create_task(self._watch(part), name=f"k2-lookout-{part}")
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _watch(self, part: WorldPart) -> None:
        while True:
            await self._look(part)
            soon = AGAIN_SECONDS if self.world.doubtful(part) else self.interval
            await asyncio.sleep(min(soon, self.interval) * random.uniform(0.9, 1.0))

    async def _look(self, part: WorldPart) -> None:
        began = time.monotonic()
        table = self.a_table() if part is WorldPart.STORE else None
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, part, table)
        except UserError:
            return  # no address of it is known: each resource that needs it says so
        except Exception as error:  # noqa: BLE001 - whatever it is, the part does not answer
            away = of_the_world(error)
            turned = self.world.failed(part, away)
            if turned:
                metrics.REACHABLE.labels(part.value).set(0)
                _log.warning("world.lost", part=part.value, error=str(away))
        else:
            turned = self.world.untold(part) if found is False else self.world.answered(part)
            metrics.REACHABLE.labels(part.value).set(1)
            if turned:
                _log.info("world.returned", part=part.value)
            if isinstance(found, frozenset):
                self.listed(found, began)
        if turned:
            self.turned(part)

    def _ask(self, part: WorldPart, table: str | None) -> frozenset[str] | bool | None:
        """One question to a part; the registry's answer is its subjects, False that there was nothing to ask for."""
        settings = self.settings
        match part:
            case WorldPart.KAFKA:
                ask_kafka(settings.kafka_config())
            case WorldPart.REGISTRY:
                return subjects_of(settings.registry_config())
            case WorldPart.CATALOG:
                ask_catalog(settings.catalog_name, settings.catalog_config())
            case WorldPart.STORE:
                return ask_store(settings.catalog_name, settings.catalog_config(), table)
        return None
