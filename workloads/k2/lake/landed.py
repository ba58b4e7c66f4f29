"""Whether a commit landed: the catalog's word is final, where PyIceberg would guess or try again by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import stamina
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.update import AddSnapshotUpdate, TableRequirement, TableUpdate

from k2.obs.logging import get_logger

log = get_logger(__name__)


P = ParamSpec("P")
T = TypeVar("T")

TRIES = 40
"""How often a small commit (tags, expiry) is tried beside others who commit all the time."""


def tried_again(attempts: int = TRIES) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates what loads a table and commits to it: done again on the table as it is then, when another was quicker."""
    # Waits are drawn at random and do not grow: two who met do not meet again, and a commit takes no longer each time.
    return stamina.retry(
        on=CommitFailedException, attempts=attempts, timeout=None, wait_initial=0.01, wait_exp_base=1, wait_jitter=0.4
    )


class LandedIsSuccess:
    """A catalog whose `commit_table` does not call a commit failed that landed.

    A proxy or client that sends a request again after a lost reply gets a conflict from the catalog, because its first
    try landed. PyIceberg would take that for a failure and delete the manifests of what the table now refers to.
    `landed` says afterwards whether it was so.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.landed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit; on a conflict, look whether the snapshot being committed is there before calling it one."""
        try:
            return self._catalog.commit_table(table, requirements, updates)
        except CommitFailedException:
            now = self._catalog.load_table(table.name())
            wanted = [update.snapshot.snapshot_id for update in updates if isinstance(update, AddSnapshotUpdate)]
            if wanted and all(now.metadata.snapshot_by_id(snapshot) is not None for snapshot in wanted):
                self.landed = True
                log.warning("commit.landed_before_conflict", table=".".join(table.name()), snapshots=wanted)
                return CommitTableResponse.model_validate(
                    {"metadata": now.metadata, "metadata-location": now.metadata_location}
                )
            raise


def guard(table: Table) -> None:
    """Make the next commit of this loaded table one that either lands as it was built, or fails.

    PyIceberg must not retry: it would re-base a stale append on the newest snapshot, with the old offsets. Set on this
    loaded object alone; as a property of the table it would bind Trino and Spark too.
    """
    table.metadata.properties["commit.retry.num-retries"] = "0"
    table.catalog = LandedIsSuccess(table.catalog)  # pyright: ignore[reportAttributeAccessIssue]
