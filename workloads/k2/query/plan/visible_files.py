"""The files of a snapshot as one who may see some rows of it is told of them: no others, and bounds of visible rows alone.

A file may hold visible rows beside others, so its own bounds tell too much. The first and last visible event come from
what the directory remembers of files, looked up from either end of the table until no other file can hold a further one.
"""

from __future__ import annotations

from collections.abc import Iterable

from k2.lake.scan import DataFileRef, SnapshotFiles
from k2.model.lru import Lru
from k2.query.plan.directory import SymbolDirectory
from k2.query.rows.relation import Relation
from k2.query.rows.visibility import Sight

_FILES_AT_A_TIME = 8
_remembered: Lru[tuple[str, int, Sight], SeenFiles] = Lru(256)


class SeenFiles(SnapshotFiles):
    """Files that may hold visible rows. Their times are those of visible rows (µs since 1970 UTC), exactly."""

    def __init__(self, files: Iterable[DataFileRef], oldest_us: int | None, newest_us: int | None) -> None:
        super().__init__(tuple(files))
        self._oldest_us, self._newest_us = oldest_us, newest_us

    @property
    def oldest_us(self) -> int | None:
        """Time of the first visible event; None when there is none."""
        return self._oldest_us

    @property
    def newest_us(self) -> int | None:
        """Time of the last visible event; None when there is none."""
        return self._newest_us


def seen_files(directory: SymbolDirectory, table_uuid: str, snapshot_id: int, relation: Relation) -> SeenFiles:
    """What the relation's sight leaves of its files, which are all files of the snapshot.

    Raises as `RowSource.fetch` does.
    """
    key = (table_uuid, snapshot_id, relation.sight)
    found = _remembered.get(key)
    if found is not None:
        return found
    sight = relation.sight
    files = SnapshotFiles(relation.files).select(
        symbols=sight.symbols, exchanges=sight.exchanges, start_us=sight.oldest_us
    )
    narrowed = relation.of(files)
    made = SeenFiles(files, _oldest(directory, narrowed), _newest(directory, narrowed))
    return _remembered.put(key, made)


def _oldest(directory: SymbolDirectory, relation: Relation) -> int | None:
    found: int | None = None
    files = sorted(relation.files, key=lambda file: file.start_us)
    for first in range(0, len(files), _FILES_AT_A_TIME):
        if found is not None and files[first].start_us >= found:
            break
        infos = directory.symbols(relation.of(files[first : first + _FILES_AT_A_TIME]))
        found = min([info.first_us for info in infos] + ([] if found is None else [found]), default=None)
    return found


def _newest(directory: SymbolDirectory, relation: Relation) -> int | None:
    found: int | None = None
    files = sorted(relation.files, key=lambda file: file.end_us, reverse=True)
    for first in range(0, len(files), _FILES_AT_A_TIME):
        if found is not None and files[first].end_us <= found:
            break
        infos = directory.symbols(relation.of(files[first : first + _FILES_AT_A_TIME]))
        found = max([info.last_us for info in infos] + ([] if found is None else [found]), default=None)
    return found
