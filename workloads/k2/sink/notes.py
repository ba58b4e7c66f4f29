"""What a sink leaves beside the offsets of its partitions: the newest commit of each, and what is told of the sink as a whole.

Whoever gets a partition goes on with what its last sink has left there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from k2.lake.offsets import OFFSETS, OffsetMap
from k2.model.commit_note import CommitNote, held_up_of, note
from k2.model.errors import K2Error
from k2.model.held_up import HeldUp
from k2.model.times import to_datetime
from k2.obs.logging import get_logger
from k2.sink.writing import Written

log = get_logger(__name__)

Left = Callable[[], Mapping[int, tuple[int, str]]]
"""Partition → the group's offset and what was left beside it, asked of Kafka."""


@dataclass(slots=True)
class Notes:
    """The notes of the partitions that are ours.

    Args:
        topic: its name, for the log.
        left: see `Left`. Its errors are logged: figures for people to see are no reason to stop.
    """

    topic: str
    left: Left
    _notes: dict[int, CommitNote] = field(default_factory=dict[int, CommitNote])
    _held: set[int] = field(default_factory=set[int])

    def take_over(self, partitions: set[int]) -> None:
        """Go on from what the partitions' former sinks have left."""
        try:
            left = self.left()
        except K2Error as error:
            log.warning("sink.notes_not_told", topic=self.topic, error=str(error))
            left = {}
        for partition in partitions:
            _, text = left.get(partition, (0, ""))
            if (found := CommitNote.from_json(text)) is not None:
                self._notes[partition] = found
            if held_up_of(text) is not None:
                self._held.add(partition)

    def drop(self, partitions: set[int]) -> None:
        """They are ours no more."""
        for partition in partitions:
            self._notes.pop(partition, None)
        self._held -= partitions

    def after(
        self,
        commit: CommitNote,
        moved: Collection[int],
        in_table: Mapping[int, int],
        gaps: Mapping[int, int] | None,
        letters: Mapping[int, int] | None = None,
    ) -> dict[int, tuple[int, str]]:
        """Partition → offset and what is to be left beside it, once a commit is made.

        All partitions that have a note get one: what is told of the sink as a whole must not be old beside one that is quiet.
        That something holds it up is told of none any more.

        Args:
            commit: what the commit was; what it tells of one partition alone is not looked at.
            moved: the partitions of the commit.
            in_table: partition → next offset, of all that are ours.
            gaps: partition → gaps that the commit has found in the source's numbers; None: nobody looks at them.
            letters: partition → its dead letters that the table has counted.
        """
        for partition in moved:
            counted = None if gaps is None else self._gaps(partition) + gaps.get(partition, 0)
            self._notes[partition] = replace(commit, gaps=counted)
        counts = letters or {}
        for partition, each in self._notes.items():
            self._notes[partition] = replace(each, dead=commit.dead, letters=counts.get(partition, each.letters))
        told = {partition: (in_table[partition], note(each)) for partition, each in self._notes.items()}
        return self.standing(None, in_table) | told

    def standing(self, held: HeldUp | None, in_table: Mapping[int, int]) -> dict[int, tuple[int, str]]:
        """The same where nothing was committed, and only what holds the sink up has changed.

        Offsets are those that are there. Without `held` only the partitions are told of beside which something of the kind
        still stands, also what a former sink left.
        """
        partitions = self._held & set(in_table) if held is None else set(in_table)
        self._held = set() if held is None else set(partitions)
        return {each: (in_table[each], note(self._notes.get(each), held)) for each in sorted(partitions)}

    def _gaps(self, partition: int) -> int:
        found = self._notes.get(partition)
        return 0 if found is None else found.gaps or 0


def of_written(written: Written) -> CommitNote:
    """What is told of a batch that is in the table, as far as it is the same for all partitions."""
    done, newest = written.committed, written.newest_event_us
    snapshot = done.metadata.snapshot_by_id(done.snapshot_id)
    return CommitNote(
        snapshot=done.snapshot_id,
        sequence=None if snapshot is None else snapshot.sequence_number,
        committed=None if snapshot is None else to_datetime(snapshot.timestamp_ms * 1000),
        newest=None if newest is None else to_datetime(newest),
        rows=done.rows,
        dead=written.dead,
    )


def letters_of(written: Written, topic: str) -> dict[int, int]:
    """Partition → its dead letters, each once, of all that the table counts after the batch."""
    held = OffsetMap.from_json(written.committed.metadata.properties.get(OFFSETS)).topics.get(topic)
    return {} if held is None else {number: part.letters for number, part in held.partitions.items()}
