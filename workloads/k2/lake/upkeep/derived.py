"""A table whose rows are made of another's: which of that table's snapshots they are of, and rows in place of others, in one commit.

What the rows are of stands in the summary of the very snapshot that has them: a run that is killed leaves what was there, or
all of it. The commit asserts the snapshot that the run has looked at, so of two runs one gives up.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation

from k2.lake.appends.writer import WrittenFile, discard_files, write_files
from k2.lake.catalog import TableSource, load_table
from k2.lake.landed import guard
from k2.lake.offsets import COMMIT_ID, OPERATION, ancestors, summary_of
from k2.lake.upkeep.replacing import ReplaceFiles, live_files
from k2.model.errors import WorldError

DERIVED = "k2.derived"
"""In a snapshot's summary: what its rows are of, as text."""


class _OverwriteRows(ReplaceFiles):
    """Other rows in place of those of whole files, asserted against the one snapshot that was looked at."""

    says = Operation.OVERWRITE


@dataclass(frozen=True, slots=True)
class Derivation:
    """What a table's rows are of, as its newest snapshots say; None: nobody knows (somebody else wrote rows)."""

    snapshot_id: int | None
    said: str | None


def _derivation(metadata: TableMetadata) -> Derivation:
    """Snapshots that only replaced files (compaction) changed no row."""
    for snapshot in ancestors(metadata):
        said = summary_of(snapshot).get(DERIVED)
        is_replacement = snapshot.summary is not None and snapshot.summary.operation is Operation.REPLACE
        if said is not None or not is_replacement:
            return Derivation(metadata.current_snapshot_id, said)
    return Derivation(metadata.current_snapshot_id, None)


class DerivedTable:
    """The table as it was when this was made; what is written to it is in no snapshot until `commit`.

    `derivation` is what its rows were of then.

    Args:
        catalog: where it is loaded from.
        identifier: of the table, which must be there.
    """

    def __init__(self, catalog: TableSource, identifier: str) -> None:
        self.identifier = identifier
        self._table = load_table(catalog, identifier)
        self._written: list[WrittenFile] = []
        self.derivation = _derivation(self._table.metadata)

    def write(self, rows: pa.Table) -> None:
        """Write rows, which come in the table's sort order, to files of their own."""
        if rows.num_rows:
            self._written += write_files(self._table, rows, np.arange(rows.num_rows, dtype=np.int64))

    def discard(self) -> None:
        """Delete what was written and not committed."""
        written, self._written = self._written, []
        discard_files(self._table.io, written)

    def commit(self, old_paths: Sequence[str], said: str, operation: str) -> int:
        """What was written in place of these files, and what the rows are of from now on; the snapshot's id.

        Raises:
            WorldError: another run, or an engine, was quicker (nothing has changed: what was written is deleted), or the outcome is not
                known: then the table says what it holds to the next run.
        """
        summary = {DERIVED: said, OPERATION: operation, COMMIT_ID: uuid.uuid4().hex}
        live = live_files(self._table) if old_paths else {}
        guard(self._table)
        try:
            with self._table.transaction() as transaction:
                producer = (
                    _OverwriteRows(
                        operation=Operation.OVERWRITE,
                        transaction=transaction,
                        io=self._table.io,
                        commit_uuid=uuid.uuid4(),
                        snapshot_properties=summary,
                    )
                    if old_paths
                    else transaction.update_snapshot(snapshot_properties=summary).fast_append()
                )
                with producer:
                    for path in old_paths:
                        producer.delete_data_file(live[path])
                    for file in self._written:
                        producer.append_data_file(file.data_file)
        except CommitFailedException as error:
            self.discard()
            raise WorldError(f"Somebody else committed to {self.identifier} meanwhile: run it again") from error
        except (
            Exception
        ) as error:  # files that may belong to the table stay; if they do not, they are orphans for upkeep
            self._written = []
            raise WorldError(f"The commit to {self.identifier} has no known outcome: {error}. Run it again") from error
        self._written = []
        return producer.snapshot_id
