"""PyIceberg copies a table's whole metadata, to the last snapshot's summary, each time a transaction looks at it.

That is sixteen times a commit, and nine tenths of its processor time (measured: 186 to 253 ms at 300 snapshots, 37 ms with
the copies made here). PyIceberg 0.12 itself only ever puts new values into a copy, never into what it was copied from, so
copying the containers of the first level is enough.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.table.metadata import TableMetadataV2


def _copy_containers(self: TableMetadataV2, memo: dict[int, Any] | None = None) -> TableMetadataV2:
    del memo  # nothing that is copied here can lead back to itself
    containers = {
        name: list(value) if isinstance(value, list) else dict(value)
        for name, value in vars(self).items()
        if isinstance(value, (list, dict))
    }
    return self.model_copy(update=containers)


def copy_metadata_cheaply() -> None:
    """Make copies of table metadata in this process as deep as they need to be, and no deeper. Done once; idempotent."""
    TableMetadataV2.__deepcopy__ = _copy_containers
