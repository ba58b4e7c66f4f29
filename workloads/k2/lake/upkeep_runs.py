"""What the last run of each task of upkeep came to, kept in the table: a CronJob's pod is gone before anybody could ask it.

Each task has a property of its own, so that two which end at once overwrite nothing of each other's. It is figures alone: nothing
depends on it but what a person is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.table.metadata import TableMetadata

from k2.lake.catalog import TableSource, load_table
from k2.lake.landed import tried_again
from k2.obs.logging import get_logger

PREFIX = "k2.upkeep."

TASKS = ("compact", "expire", "orphans", "metadata", "scrub", "restore")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A run that came to its end.

    Attributes:
        task: compact, expire, orphans, metadata, scrub or restore.
        ended_us: when; microseconds since 1970 UTC.
        seconds: how long it took.
        figures: numbers by their names, and short texts.
    """

    task: str
    ended_us: int
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def number(self, name: str) -> int:
        """A figure; 0 where the run has none of that name."""
        value = self.figures.get(name)
        return value if isinstance(value, int) else 0


def record_run(catalog: TableSource, identifier: str, run: TaskRun) -> None:
    """Write a run into the table, in place of the one before. What stands in the way is logged: the run's work is done."""
    text = json.dumps(
        {"ended_us": run.ended_us, "seconds": round(run.seconds, 3), **run.figures}, separators=(",", ":")
    )

    @tried_again()
    def once() -> None:
        with load_table(catalog, identifier).transaction() as transaction:
            transaction.set_properties({PREFIX + run.task: text})

    try:
        once()
    except Exception as error:  # noqa: BLE001 - catalogs raise whatever they like, and the work is done
        log.warning("upkeep.run_not_recorded", table=identifier, task=run.task, error=repr(error))


def last_runs(metadata: TableMetadata) -> dict[str, TaskRun]:
    """Task → its last run. One that cannot be read is left out: somebody else wrote it."""
    found: dict[str, TaskRun] = {}
    for name, text in metadata.properties.items():
        if not name.startswith(PREFIX):
            continue
        try:
            figures = json.loads(text)
            ended, seconds = int(figures.pop("ended_us")), float(figures.pop("seconds"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        task = name.removeprefix(PREFIX)
        found[task] = TaskRun(task, ended, seconds, figures)
    return found
