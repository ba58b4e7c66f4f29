"""Pins: tags that keep one snapshot of each of several tables from being expired, until they lapse.

A tag belongs to the table, so every reader and writer of the catalog sees it, whoever made it. Iceberg counts a tag's age
from its snapshot's time: the greatest age is chosen so that it ends when the pin does.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.update.snapshot import ManageSnapshots

from k2.lake.catalog import load_table
from k2.lake.landed import TRIES, guard, tried_again
from k2.model.errors import UserError, WorldError

PIN_TAG = "k2-pin-"


def hold(catalog: Catalog, identifier: str, snapshot_id: int, pin: str, until: datetime) -> None:
    """Tag the snapshot for the pin until that time.

    Raises:
        UserError: the table does not have the snapshot (any more).
        WorldError: others committed each time, or the catalog cannot be written.
    """

    def tag(table: Table, manage: ManageSnapshots) -> None:
        snapshot = table.metadata.snapshot_by_id(snapshot_id)
        if snapshot is None:
            raise UserError(f"{identifier} does not have that snapshot (any more)", found=snapshot_id)
        age = int(until.timestamp() * 1000) - snapshot.timestamp_ms
        manage.create_tag(snapshot_id, PIN_TAG + pin, max_ref_age_ms=max(age, 1))

    _change(catalog, identifier, tag)


def release(catalog: Catalog, identifier: str, pin: str) -> bool:
    """Take the pin's tag from the table; whether there was one. Raises as `hold` does."""
    if PIN_TAG + pin not in load_table(catalog, identifier).metadata.refs:
        return False

    def untag(table: Table, manage: ManageSnapshots) -> None:
        if PIN_TAG + pin in table.metadata.refs:
            manage.remove_tag(PIN_TAG + pin)

    _change(catalog, identifier, untag)
    return True


def lapsed(table: Table, now: datetime) -> list[str]:
    """Names of the table's tags of pins that have ended."""
    names: list[str] = []
    for name, reference in table.metadata.refs.items():
        if reference.snapshot_ref_type is not SnapshotRefType.TAG or not name.startswith(PIN_TAG):
            continue
        snapshot = table.metadata.snapshot_by_id(reference.snapshot_id)
        age = reference.max_ref_age_ms
        if snapshot is not None and age is not None and snapshot.timestamp_ms + age <= now.timestamp() * 1000:
            names.append(name)
    return names


def _change(catalog: Catalog, identifier: str, change: Callable[[Table, ManageSnapshots], object]) -> None:
    """Commit a change of tags. A sink may commit at any moment: then it is done again on the table as it is now."""

    @tried_again()
    def once() -> None:
        table = load_table(catalog, identifier)
        guard(table)
        try:
            with table.manage_snapshots() as manage:
                change(table, manage)
        except (CommitFailedException, UserError):
            raise
        except Exception as error:
            raise WorldError(f"The tags of {identifier} cannot be changed: {type(error).__name__}: {error}") from error

    try:
        once()
    except CommitFailedException as error:
        raise WorldError(f"Others committed to {identifier} each of {TRIES} times: the pin could not be set") from error
