"""The scrub: all bytes of a table's files compared with what was written, those that were checked longest ago first, at a rate.

How far it came stands in the table's folder (`metadata/k2-scrub`), so that a run that was stopped, or whose pod is gone, is gone on
with by the next one. A file that is damaged or gone is told with the partition and the offsets that it held.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2.lake.catalog import TableSource, load_table
from k2.lake.offsets import OffsetMap
from k2.lake.proof.deep import GOOD, DeepFinding, Proof, WantedFile
from k2.lake.proof.files_audit import FileFinding, FileProblem, compare_sizes, name_below
from k2.lake.upkeep.apart import ReadApart
from k2.lake.upkeep.held import held_ranges
from k2.lake.upkeep.referred import Folder
from k2.model.errors import RefusedError, StoreError, WorldError
from k2.obs.logging import get_logger

FOLDER = "metadata/k2-scrub"

SAVE_SECONDS = 60.0
"""How often it is written down how far it came: a run that is killed reads so much again."""

log = get_logger(__name__)

ScrubProgress = Callable[[int, int], None]
"""Told after each file: bytes that were read, bytes that are to be read."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of the table that is not what was written.

    Attributes:
        name: below the table's location.
        path: where it lies.
        problem: what is wrong, and `where` in it, as far as that can be told.
        rows: that it held, by its manifest.
        partition: the table's partition that they are in.
        offsets: where they came from, as `HeldRange` says it; empty: nothing says it.
    """

    name: str
    path: str
    problem: str
    where: str
    rows: int
    partition: str
    offsets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a run has shown.

    Attributes:
        files, bytes: of the table now, delete files too.
        checked, checked_bytes: that were read by this run.
        fresh: files that were checked lately enough.
        unread: files that were due, and to which the run did not come.
        damaged: files that are not what was written, found by this run or before.
        oldest_us: when the file that was checked longest ago was; None: one was never checked.
    """

    table: str
    files: int
    bytes: int
    checked: int
    checked_bytes: int
    fresh: int
    unread: int
    damaged: tuple[DamagedFile, ...]
    oldest_us: int | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.damaged


@dataclass(slots=True)
class Scrubber:
    """Scrubs one table.

    Args:
        catalog: where it is loaded from.
        identifier: the table.
        rate: bytes a second; 0: as many as there are.
        older_than_us: files that were checked later are left.
        most_seconds: a run ends after so many, whatever is left.
        progress: see `ScrubProgress`.
        stop: when set, the run ends.
    """

    catalog: TableSource
    identifier: str
    rate: float = 0.0
    older_than_us: int = 0
    most_seconds: float = float("inf")
    progress: ScrubProgress = field(default=lambda *_: None)
    stop: threading.Event = field(default_factory=threading.Event)

    def due(self) -> list[WantedFile]:
        """The files that a run would read, in that order. Raises as `run` does."""
        table = load_table(self.catalog, self.identifier)
        state = _State.of(table)
        return _due(table, all_files(table), state, time.time_ns() // 1000 - self.older_than_us)

    def run(self) -> Scrubbed:
        """Scrub.

        Raises:
            UserError: there is no such table, or its store cannot be listed here.
            StoreError: the store did not answer, or a manifest cannot be read. What was read so far is kept.
        """
        began = time.monotonic()
        table = load_table(self.catalog, self.identifier)
        state, files = _State.of(table), all_files(table)
        bad = {each.name: _LISTED[each.problem] for each in _listed(table, files)}
        due = _due(table, files, state, time.time_ns() // 1000 - self.older_than_us)
        fresh = len(files) - len({each.name for each in due} | bad.keys())
        state.gone({path: bad[name] for path in files if (name := name_below(table, path)) in bad}, table)
        due = [each for each in due if each.name not in bad]
        try:
            done = self._read(table, state, due, began)
        except BaseException:
            state.save(table)
            raise
        return self._told(state, due, done, fresh, began)

    def _read(self, table: Table, state: _State, due: Sequence[WantedFile], began: float) -> int:
        """Read the files; how many of them it came to."""
        total, read, saved = sum(each.bytes for each in due), 0, time.monotonic()
        with ReadApart(table.io.properties, table.location(), self.rate, self.stop) as apart:
            for number, file in enumerate(due):
                if self.stop.is_set() or time.monotonic() - began >= self.most_seconds:
                    return number
                try:
                    found = apart.verify(file)
                except WorldError:
                    if self.stop.is_set():
                        return number
                    if file.path in all_files(load_table(self.catalog, self.identifier)):
                        raise
                    continue  # compacted, expired and deleted since the run began
                state.found(file.path, found)
                if found.problem not in GOOD:
                    log.warning(
                        "scrub.file_damaged", table=self.identifier, file=file.name, problem=found.problem.value
                    )
                read += file.bytes
                self.progress(read, total)
                if time.monotonic() - saved >= SAVE_SECONDS:
                    state.save(table)
                    saved = time.monotonic()
        return len(due)

    def _told(self, state: _State, due: Sequence[WantedFile], done: int, fresh: int, began: float) -> Scrubbed:
        # What went meanwhile, by a compaction and an expiry, is nobody's any more.
        table = load_table(self.catalog, self.identifier)
        files = all_files(table)
        state.keep(files)
        state.save(table)
        times = [state.checked.get(path, 0) for path in files if path not in state.damaged]
        return Scrubbed(
            self.identifier,
            len(files),
            sum(file.file_size_in_bytes for file in files.values()),
            done,
            sum(each.bytes for each in due[:done]),
            fresh,
            len(due) - done,
            tuple(_damaged(table, files[path], found) for path, found in sorted(state.damaged.items())),
            min(times, default=0) or None,
            time.monotonic() - began,
        )


_LISTED = {FileProblem.MISSING: Proof.MISSING, FileProblem.SIZE: Proof.SIZE}


def _listed(table: Table, files: Mapping[str, DataFile]) -> Sequence[FileFinding]:
    """Files that are gone or were cut: a listing says so."""
    return compare_sizes(table, {path: file.file_size_in_bytes for path, file in files.items()}).findings


def all_files(table: Table) -> dict[str, DataFile]:
    """Path → data and delete files of the current snapshot.

    Raises:
        StoreError: a manifest cannot be read.
    """
    snapshot = table.current_snapshot()
    try:
        return {
            entry.data_file.file_path: entry.data_file
            for manifest in ([] if snapshot is None else snapshot.manifests(table.io))
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        }
    except Exception as error:
        # Whatever a reader of Avro makes of broken bytes.
        raise StoreError(f"A manifest of {'.'.join(table.name())} cannot be read: {error}") from error


def known_damaged(table: Table) -> dict[str, DeepFinding]:
    """Path → what the last scrub found of files of the current snapshot that are not what was written."""
    live = all_files(table)
    return {path: found for path, found in _State.of(table).damaged.items() if path in live}


def damaged_now(table: Table) -> tuple[DamagedFile, ...]:
    """The same, as a run tells them."""
    live = all_files(table)
    return tuple(_damaged(table, live[path], found) for path, found in sorted(known_damaged(table).items()))


def _due(table: Table, files: Mapping[str, DataFile], state: _State, before_us: int) -> list[WantedFile]:
    """Those that were damaged first, for they may be mended; then those that were never checked; then the others by age."""
    due = [
        path for path in files if path in state.damaged or (at := state.checked.get(path)) is None or at <= before_us
    ]
    due.sort(key=lambda path: (path not in state.damaged, state.checked.get(path, 0), path))
    return [WantedFile.of(name_below(table, path), files[path]) for path in due]


def _damaged(table: Table, file: DataFile, found: DeepFinding) -> DamagedFile:
    try:
        offsets = OffsetMap.from_json(table.properties.get("k2.offsets"))
    except RefusedError:  # cut short or written by hand: the sink says so
        offsets = OffsetMap()
    spec = table.specs()[file.spec_id]
    return DamagedFile(
        found.name,
        file.file_path,
        found.problem.value,
        found.where,
        file.record_count,
        spec.partition_to_path(file.partition, table.schema()),
        tuple(str(each) for each in held_ranges(table, offsets, file)),
    )


@dataclass(slots=True)
class _State:
    """How far it came: path → when a file was found well (microseconds since 1970 UTC), and what was found of those that are not."""

    checked: dict[str, int] = field(default_factory=dict[str, int])
    damaged: dict[str, DeepFinding] = field(default_factory=dict[str, DeepFinding])

    @classmethod
    def of(cls, table: Table) -> _State:
        """As it was written last. What cannot be read was cut short: the one before counts, or it is begun anew."""
        folder = Folder.of(table)
        for file in sorted(folder.files(FOLDER), key=lambda each: each.path, reverse=True):
            try:
                with folder.system.open_input_stream(file.path) as stream:
                    content = json.loads(stream.read())
                if content["table_uuid"] != str(table.metadata.table_uuid):
                    continue
                damaged = {
                    path: DeepFinding(each["name"], Proof(each["problem"]), each["where"])
                    for path, each in content["damaged"].items()
                }
                return cls({str(path): int(at) for path, at in content["checked"].items()}, damaged)
            except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
                log.warning("scrub.state_unreadable", path=file.path, error=repr(error))
        return cls()

    def found(self, path: str, what: DeepFinding) -> None:
        """A file was read."""
        if what.problem in GOOD:
            self.damaged.pop(path, None)
            self.checked[path] = time.time_ns() // 1000
        else:
            self.checked.pop(path, None)
            self.damaged[path] = what

    def gone(self, problems: Mapping[str, Proof], table: Table) -> None:
        """A listing says of these paths what is wrong."""
        for path, problem in problems.items():
            self.found(path, DeepFinding(name_below(table, path), problem))

    def keep(self, files: Mapping[str, Any]) -> None:
        """Forget files that are not among these."""
        self.checked = {path: at for path, at in self.checked.items() if path in files}
        self.damaged = {path: what for path, what in self.damaged.items() if path in files}

    def save(self, table: Table) -> None:
        """Write it beside the one before, and delete that one then.

        Raises:
            StoreError: the store does not take it.
        """
        folder = Folder.of(table)
        before: Sequence[str] = [file.path for file in folder.files(FOLDER)]
        path = (
            f"{table.location().rstrip('/')}/{FOLDER}/{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}.json"
        )
        content = {
            "table_uuid": str(table.metadata.table_uuid),
            "checked": self.checked,
            "damaged": {path: asdict(what) for path, what in self.damaged.items()},
        }
        try:
            with table.io.new_output(path).create() as stream:
                stream.write(json.dumps(content, separators=(",", ":")).encode())
        except OSError as error:
            raise StoreError(f"How far the scrub came could not be written to {path}: {error}") from error
        for each in before:
            folder.delete(each)
