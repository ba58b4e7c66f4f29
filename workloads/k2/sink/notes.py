"""What a sink leaves beside the offsets of its partitions: the newest commit of each, and what is told of the sink as a whole.

Whoever gets a partition goes on with what its last sink has left there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from k2.model.commit_note import CommitNote
from k2.model.errors import K2Error
from k2.obs.logging import get_logger

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

    def take_over(self, partitions: set[int]) -> None:
        """Go on from what the partitions' former sinks have left."""
        try:
            left = self.left()
        except K2Error as error:
            log.warning("sink.notes_not_told", topic=self.topic, error=str(error))
            left = {}
        for partition in partitions:
            note = CommitNote.from_json(left.get(partition, (0, ""))[1])
            if note is not None:
                self._notes[partition] = note

    def drop(self, partitions: set[int]) -> None:
        """They are ours no more."""
        for partition in partitions:
            self._notes.pop(partition, None)

    def after(
        self,
        commit: CommitNote,
        moved: Collection[int],
        in_table: Mapping[int, int],
        gaps: Mapping[int, int] | None,
    ) -> dict[int, tuple[int, str]]:
        """Partition → offset and what is to be left beside it, once a commit is made.

        All partitions that have a note get one: what is told of the sink as a whole must not be old beside one that is quiet.

        Args:
            commit: what the commit was; its gaps are not looked at.
            moved: the partitions of the commit.
            in_table: partition → next offset, of all that are ours.
            gaps: partition → gaps that the commit has found in the source's numbers; None: nobody looks at them.
        """
        for partition in moved:
            counted = None if gaps is None else self._gaps(partition) + gaps.get(partition, 0)
            self._notes[partition] = replace(commit, gaps=counted)
        for partition, note in self._notes.items():
            self._notes[partition] = replace(note, dead=commit.dead)
        return {partition: (in_table[partition], note.to_json()) for partition, note in self._notes.items()}

    def _gaps(self, partition: int) -> int:
        note = self._notes.get(partition)
        return 0 if note is None else note.gaps or 0
