"""The audit of a table as a question: every offset that it records is in its files once, and what the topics hold beyond.

The rows of a snapshot never change, so they are counted once; whether its files are there, and how far the topics have
gone, is asked each time.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from k2.lake.offsets import OffsetMap
from k2.lake.proof.audit import Audit, PartitionAudit
from k2.lake.proof.files_audit import FileFinding
from k2.lake.proof.sequence_audit import SequenceAudit
from k2.lake.reader import TableReader, TableState
from k2.model.lru import Lru
from k2.model.sequences import SequenceScope
from k2.query.rows.errors import EngineBusyError
from k2.query.rows.tail_view import TailSource

_audits: Lru[tuple[str, int | None, Sequence[FileFinding]], Audit] = Lru(64)
_sequences: Lru[tuple[str, int | None, SequenceScope], SequenceAudit] = Lru(64)
_working = threading.Lock()

Ends = Mapping[str, Mapping[int, int]]
"""Topic → partition → offset after the last readable one."""


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit, and what was said beside it.

    Attributes:
        audit: of the rows and files, at a snapshot.
        problem: why the topics' ends are not known; None when they are, or nobody knows of Kafka.
        sequences: what the source's own numbers show, where it was asked for. What a source left out is not a fault of the
            table: it does not enter `ok`.
    """

    audit: Audit
    problem: str | None
    sequences: SequenceAudit | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, doubled or from nowhere, beyond what a person accepted."""
        return self.audit.ok


def audit(
    reader: TableReader, identifier: str, tails: TailSource | None, sequences: SequenceScope | None = None
) -> Audited:
    """Audit a table at its current snapshot.

    Args:
        reader: of the catalog.
        identifier: the table.
        tails: knows the topics' ends; None: nobody does.
        sequences: look at the source's numbers too, counted together as this says.

    Raises:
        EngineBusyError: another table is being counted: one at a time.
        RefusedError: the table was rolled back: its offsets say nothing about its rows.
        TableMissingError, WorldError: see `TableReader.state`.
    """
    state = reader.state(identifier)
    # Rows of a snapshot never change, its files may go any time: those are listed for each audit.
    snapshot_id, listed = reader.audit_files(identifier)
    found = _audits.get((state.uuid, snapshot_id, listed.findings))
    if found is None:
        with _one_at_a_time():
            found = reader.audit(identifier)
        if found.files.findings == listed.findings:  # what could not be read may be mended without a trace in a listing
            _audits.put((state.uuid, found.snapshot_id, listed.findings), found)
    numbers = None if sequences is None else _numbers(reader, state, sequences)
    ends: Ends = {}
    problem: str | None = None
    if tails is not None:
        current = state.by_id.get(found.snapshot_id or -1)
        ends, problem = tails.ends(OffsetMap() if current is None else current.offsets)
    parts = tuple(_with_end(part, ends) for part in found.partitions)
    return Audited(replace(found, partitions=parts), problem, numbers)


def _numbers(reader: TableReader, state: TableState, scope: SequenceScope) -> SequenceAudit:
    found = _sequences.get((state.uuid, state.current_id, scope))
    if found is None:
        with _one_at_a_time():
            snapshot_id, found = reader.audit_sequences(state.identifier, scope)
        _sequences.put((state.uuid, snapshot_id, scope), found)
    return found


@contextmanager
def _one_at_a_time() -> Generator[None]:
    if not _working.acquire(blocking=False):
        raise EngineBusyError("An audit is under way, and there is one at a time. Ask again later")
    try:
        yield
    finally:
        _working.release()


def _with_end(part: PartitionAudit, ends: Ends) -> PartitionAudit:
    return part if part.forgotten else replace(part, end=ends.get(part.topic, {}).get(part.partition))
