"""Manifests written anew by partition: many small ones, which each question and each commit reads, become few.

The files that they name, and all that is said of each, stay as they are: what was written is read back and compared with what was
read before the commit. Whoever else commits in between is quicker, and it is done again on the table as it is then.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.manifest import ManifestContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary

from k2.lake.appends.batch import slices
from k2.lake.catalog import TableSource, load_table
from k2.lake.landed import TRIES, guard, tried_again
from k2.lake.upkeep.replacing import NOTHING, ReplaceFiles, UnequalError, replacement_summary
from k2.model.errors import UserError, WorldError
from k2.obs.logging import get_logger

log = get_logger(__name__)

OPERATION = "manifests"
TARGET_BYTES = 8 << 20
"""The size of a manifest where the table's `commit.manifest.target-size-bytes` says no other."""

SMALL = 0.75
"""A manifest below this share of the target is small."""

LEAST = 10
"""Small manifests that a table must have: sinks add one with each commit, and the next run takes them together."""

MOST_ENTRIES = 20_000
"""Entries that are written anew by a run: it must come between two commits of a sink (PyIceberg writes some thousands a second)."""


@dataclass(frozen=True, slots=True)
class RewrittenManifests:
    """What was done. `before`, `after`: manifests of the snapshot. `entries`: that were written anew; 0: there was nothing to do."""

    before: int
    after: int
    entries: int = 0
    tries: int = 0
    snapshot_id: int | None = None


def small_manifests(table: Table, most_entries: int = MOST_ENTRIES) -> list[ManifestFile]:
    """Data manifests of the current snapshot that are worth writing anew; none where they are few."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return []
    target = target_bytes(table)
    small = [
        manifest
        for manifest in snapshot.manifests(table.io)
        if manifest.content is ManifestContent.DATA
        and manifest.manifest_length < SMALL * target
        and entries_of(manifest)
    ]
    chosen: list[ManifestFile] = []
    entries = 0
    for manifest in small:
        entries += entries_of(manifest)
        if chosen and entries > most_entries:
            break
        chosen.append(manifest)
    outcome = sum(_outcome(group, target) for group in _by_spec(chosen).values())
    return chosen if len(chosen) >= LEAST and outcome < len(chosen) else []


def target_bytes(table: Table) -> int:
    """About the size of the manifests to be made. A `UserError` where the table's property is no size."""
    text = table.properties.get("commit.manifest.target-size-bytes", str(TARGET_BYTES))
    if not text.isdecimal() or not int(text):
        raise UserError(
            f"commit.manifest.target-size-bytes of {'.'.join(table.name())} is no size",
            found=text,
            expected="a whole number above 0",
            remedy="Set it in the IcebergTable's properties",
        )
    return int(text)


def entries_of(manifest: ManifestFile) -> int:
    """How many live files a manifest names."""
    return (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)


def rewrite_manifests(
    catalog: TableSource, identifier: str, *, dry_run: bool = False, most_entries: int = MOST_ENTRIES
) -> RewrittenManifests:
    """Write the small manifests of a table anew, ordered by partition.

    Args:
        catalog: where the table is loaded from.
        identifier: the table.
        dry_run: only say what would be done.
        most_entries: see `MOST_ENTRIES`.

    Raises:
        UserError: there is no such table, or manifests of its format version cannot be written here.
        RefusedError: the table was rolled back.
        UnequalError: what was written is not what was read. Nothing was committed.
        WorldError: others committed each time.
    """
    commit_id, tries = uuid.uuid4().hex, 0

    @tried_again()
    def once() -> RewrittenManifests:
        nonlocal tries
        table = load_table(catalog, identifier)
        tries += 1
        _check(table)
        snapshot, chosen = table.current_snapshot(), small_manifests(table, most_entries)
        before = 0 if snapshot is None else len(snapshot.manifests(table.io))
        entries = sum(entries_of(each) for each in chosen)
        if not chosen:
            return RewrittenManifests(before, before)
        if dry_run:
            target = target_bytes(table)
            outcome = sum(_outcome(group, target) for group in _by_spec(chosen).values())
            return RewrittenManifests(before, before - len(chosen) + outcome, entries)
        landed, after = _replace(table, chosen, commit_id)
        return RewrittenManifests(before, after, entries, tries, landed)

    try:
        done = once()
    except CommitFailedException as error:
        raise WorldError(
            f"Others committed to {identifier} each of {TRIES} times: its manifests stay as they are"
        ) from error
    if done.snapshot_id is not None:
        log.info("manifests.rewritten", table=identifier, before=done.before, after=done.after, entries=done.entries)
    return done


def _check(table: Table) -> None:
    if table.metadata.format_version != 2:
        raise UserError(
            f"The manifests of {'.'.join(table.name())} cannot be written anew",
            found=f"format version {table.metadata.format_version}",
            expected="version 2",
        )


def _replace(table: Table, chosen: Sequence[ManifestFile], commit_id: str) -> tuple[int, int]:
    """The new snapshot's id, and how many manifests it has."""
    summary, target = replacement_summary(table, commit_id, OPERATION), target_bytes(table)
    guard(table)
    with table.transaction() as transaction:
        producer = _RewriteManifests(
            operation=Operation.OVERWRITE,
            transaction=transaction,
            io=table.io,
            commit_uuid=uuid.uuid4(),
            snapshot_properties=summary,
        )
        producer.choose(chosen, target)
        with producer:
            pass
    return producer.snapshot_id, producer.manifests


class _RewriteManifests(ReplaceFiles):
    """A replacement of no file: the same entries in other manifests. Its counts in the summary are those of Iceberg's Java library."""

    def choose(self, chosen: Sequence[ManifestFile], target: int) -> None:
        """Say which manifests are replaced, by such of about so many bytes."""
        self._chosen, self._target = chosen, target
        self._counts: dict[str, str] = {}
        self.manifests = 0

    def _summary(self, snapshot_properties: Mapping[str, str] = NOTHING) -> Summary:
        return super()._summary({**snapshot_properties, **self._counts})

    def _deleted_entries(self) -> list[ManifestEntry]:
        return []

    def _existing_manifests(self) -> list[ManifestFile]:
        snapshot = self._transaction.table_metadata.current_snapshot()
        replaced = {each.manifest_path for each in self._chosen}
        kept = [
            manifest
            for manifest in ([] if snapshot is None else snapshot.manifests(self._io))
            if manifest.manifest_path not in replaced and entries_of(manifest)
        ]
        try:
            written, entries = self._all_written()
        except BaseException:
            self._clean_all_uncommitted()
            raise
        self._counts = {
            "manifests-created": str(len(written)),
            "manifests-kept": str(len(kept)),
            "manifests-replaced": str(len(self._chosen)),
            "entries-processed": str(entries),
        }
        self.manifests = len(written) + len(kept)
        return [*written, *kept]

    def _all_written(self) -> tuple[list[ManifestFile], int]:
        """The new manifests, proven to say what the old ones said, and how many entries they have."""
        written: list[ManifestFile] = []
        before: Counter[tuple[Any, ...]] = Counter()
        for spec_id, group in _by_spec(self._chosen).items():
            entries = _in_order(entry for each in group for entry in self.fetch_manifest_entry(each))
            before.update(map(_identity, entries))
            size = -(-len(entries) // _outcome(group, self._target))
            written += [self._written(spec_id, entries[piece]) for piece in slices(len(entries), size)]
        after = Counter(_identity(entry) for each in written for entry in self.fetch_manifest_entry(each))
        if after != before:
            different = (before - after).total() + (after - before).total()
            raise UnequalError(
                f"Manifests were not written anew: {different:,} entries would differ. Nothing was committed"
            )
        return written, before.total()

    def _written(self, spec_id: int, entries: Sequence[ManifestEntry]) -> ManifestFile:
        with self.new_manifest_writer(self.spec(spec_id)) as writer:
            for entry in entries:
                writer.existing(entry)
        return writer.to_manifest_file()


def _identity(entry: ManifestEntry) -> tuple[Any, ...]:
    """All that an entry says of a file, but for being added or there before."""
    file = entry.data_file
    values = [file[place] for place in range(len(file))]
    said = repr([sorted(value.items()) if isinstance(value, Mapping) else value for value in values])
    return entry.snapshot_id, entry.sequence_number, entry.file_sequence_number, said


def _in_order(entries: Iterable[ManifestEntry]) -> list[ManifestEntry]:
    """By partition, then as they came into the table."""

    def key(entry: ManifestEntry) -> tuple[Any, ...]:
        values = [entry.data_file.partition[place] for place in range(len(entry.data_file.partition))]
        known = [(value is not None, value) if value is not None else (False,) for value in values]
        return known, entry.sequence_number or 0, entry.data_file.file_path

    return sorted(entries, key=key)


def _by_spec(manifests: Iterable[ManifestFile]) -> dict[int, list[ManifestFile]]:
    found: dict[int, list[ManifestFile]] = defaultdict(list)
    for each in manifests:
        found[each.partition_spec_id].append(each)
    return found


def _outcome(manifests: Sequence[ManifestFile], target: int) -> int:
    """How many they are to become."""
    return max(1, -(-sum(each.manifest_length for each in manifests) // target))
