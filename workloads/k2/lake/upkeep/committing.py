"""The commit of files that were written in place of others: it alone is tried again, beside whoever else commits.

It asserts the snapshot that it looked at, in which every file that is replaced is still there and no row of them was deleted. Only then
does anything refer to the new files; until then they are deleted when it is given up.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2.lake.appends.writer import WrittenFile, discard_files
from k2.lake.catalog import TableSource, load_table
from k2.lake.offsets import find_commit
from k2.lake.scan import plan_files
from k2.lake.upkeep.replacing import live_files, replace_files
from k2.model.errors import UserError, WorldError
from k2.obs.logging import get_logger

log = get_logger(__name__)

TRIES = 20
"""Commits of others that may come in between before it is given up; each try takes as long as a commit."""


class OvertakenError(WorldError):
    """What was written anew is no longer what the table has: it is to be chosen again."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Commits replacements of one table's files.

    Args:
        catalog: where the table is loaded from.
        identifier: the table.
        operation: what the summary says of who did it.
        stop: when set, no further try is made.
        same_rows: see `replace_files`.
    """

    catalog: TableSource
    identifier: str
    operation: str
    stop: threading.Event
    same_rows: bool = True

    def commit(self, written_for: Table, old_paths: Collection[str], written: Sequence[WrittenFile]) -> tuple[int, int]:
        """Put `written` in the place of the old files: how many tries it took, and the snapshot.

        Args:
            written_for: the table as it was when the new files were written.
            old_paths: files of its current snapshot.
            written: with the same rows. They are deleted when it is given up.

        Raises:
            OvertakenError: others changed the files, or committed each time.
            UserError: as `replace_files` does.
            WorldError: whether it landed cannot be told.
        """
        commit_id, tries, unknown, last = uuid.uuid4().hex, 0, False, ""
        while True:
            tries += 1
            began, answers = time.monotonic(), False
            try:
                table = load_table(self.catalog, self.identifier)
                if unknown and (landed := find_commit(table.metadata, commit_id)) is not None:
                    return tries, landed
                answers = True
                live = self._unchanged(table, written_for, set(old_paths))
                old, new = [live[path] for path in sorted(old_paths)], [file.data_file for file in written]
                return tries, replace_files(table, old, new, commit_id, self.operation, same_rows=self.same_rows)
            except CommitFailedException as conflict:
                if tries >= TRIES or self.stop.is_set():
                    self._discard(written_for, written, unknown=unknown)
                    raise OvertakenError(f"others committed each of {tries} times: {conflict}") from conflict
                log.info("replacement.conflicted", table=self.identifier, operation=self.operation, attempt=tries)
                self.stop.wait(random.uniform(0.0, min(time.monotonic() - began, 1.0)))
            except (UserError, OvertakenError):
                self._discard(written_for, written, unknown=unknown)
                raise
            except Exception as error:
                # Whether it landed, the table will say. An error that comes twice, while the catalog answers, will come again.
                unknown, is_same, last = True, answers and repr(error) == last, repr(error)
                log.warning("replacement.outcome_lost", table=self.identifier, attempt=tries, error=repr(error))
                if is_same or tries >= TRIES or self.stop.wait(random.uniform(0.5, 1.0) * min(0.1 * 2**tries, 10.0)):
                    raise WorldError(
                        f"The operation {self.operation} of {self.identifier} could not be finished: {error}"
                    ) from error

    def _discard(self, table: Table, written: Sequence[WrittenFile], *, unknown: bool) -> None:
        """Delete what was written, unless a commit of unknown outcome may refer to it: then it is an orphan for later."""
        if not unknown:
            discard_files(table.io, written)

    def _unchanged(self, table: Table, written_for: Table, old_paths: set[str]) -> dict[str, DataFile]:
        """The live files of the snapshot that the commit will assert, where the new ones can still take the old ones' place."""
        if table.metadata.table_uuid != written_for.metadata.table_uuid:
            raise OvertakenError("the table was made anew")
        if table.metadata.default_spec_id != written_for.metadata.default_spec_id:
            raise OvertakenError("the partition spec has changed")
        live = live_files(table)
        if gone := old_paths - live.keys():
            raise OvertakenError(f"{len(gone)} of its files are not in the table any more")
        if deleted := old_paths & files_with_deletes(table):
            raise OvertakenError(f"rows were deleted from {len(deleted)} of its files")
        return live


def files_with_deletes(table: Table) -> set[str]:
    """Paths of data files of the current snapshot from which delete files take rows."""
    snapshot = table.current_snapshot()
    return set() if snapshot is None else {ref.path for ref in plan_files(table, snapshot.snapshot_id) if ref.deletes}
