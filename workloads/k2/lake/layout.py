"""How a table lies in its files: totals of the newest snapshot and files of the newest partitions, from its metadata alone.

Whether the files are there takes a listing, and is looked for only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import TimeTransform
from pyiceberg.typedef import Record

from k2.lake.catalog import load_table
from k2.lake.offsets import recorded_offsets, summary_of
from k2.lake.proof.decisions import Accepted, decisions_of, in_force
from k2.lake.proof.files_audit import FileFinding, compare_sizes, live_sizes
from k2.lake.upkeep_runs import TaskRun, last_runs
from k2.model.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Totals:
    """The newest snapshot: its id, sequence number and time, and what it holds. No snapshot: nobody has written yet.

    `missing`: rows that the recorded offsets count and the snapshot does not hold, beyond what a person accepted.
    """

    snapshot: int | None = None
    sequence: int = 0
    committed: datetime | None = None
    rows: int = 0
    bytes: int = 0
    files: int = 0
    missing: int = 0


@dataclass(frozen=True, slots=True)
class PartitionFiles:
    """Data files of one partition, named as in a path (`2026-03-02`); sizes in bytes."""

    partition: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """One look at a table.

    Attributes:
        totals: of the newest snapshot.
        newest: empty when it was not asked for, and None when no partition is the newest.
        files: whether all files are there, or why that cannot be told; None when it was not asked for.
        runs: what the last runs of upkeep came to, by task.
    """

    totals: Totals
    newest: Sequence[PartitionFiles] | None
    files: Presence | Exception | None = None
    runs: Mapping[str, TaskRun] = field(default_factory=dict[str, TaskRun])


@dataclass(frozen=True, slots=True)
class Presence:
    """The files of the newest snapshot: how many there are, and those that are not as they should be, beyond what was accepted."""

    checked: int
    findings: Sequence[FileFinding] = ()


@dataclass(frozen=True, slots=True)
class LookFor:
    """What is asked for beside the totals: so many of the newest partitions (0: none), and whether all files are there."""

    newest: int = 0
    files: bool = False


def layouts(catalog: Catalog, wanted: Mapping[str, LookFor]) -> dict[str, Layout | Exception]:
    """One look at each of these tables, or the error that stood in its way: it must not hide the others.

    Args:
        catalog: opened for this thread.
        wanted: identifiers, with what is asked for; for the totals alone no manifest is read.
    """
    return {identifier: _layout(catalog, identifier, asked) for identifier, asked in wanted.items()}


def _layout(catalog: Catalog, identifier: str, asked: LookFor) -> Layout | Exception:
    try:
        table = load_table(catalog, identifier)
        newest = newest_partitions(table, asked.newest) if asked.newest else ()
        present = _presence(table) if asked.files else None
        return Layout(totals(table), newest, present, last_runs(table.metadata))
    except Exception as error:  # noqa: BLE001 - catalogs and stores raise whatever they like
        return error


def _presence(table: Table) -> Presence | Exception:
    """All files against a listing. Who may read metadata need not have leave to list: that hides nothing else."""
    try:
        found = compare_sizes(table, live_sizes(table))
        accepted = in_force(decisions_of(table.metadata)) or Accepted()
        return Presence(found.checked, accepted.not_accepted(found.findings))
    except Exception as error:  # noqa: BLE001 - as above
        return error


def totals(table: Table) -> Totals:
    """Totals of a loaded table. Costs nothing: every writer leaves them in the snapshot's summary."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return Totals()
    summary = summary_of(snapshot)
    rows = int(summary.get("total-records", 0))
    return Totals(
        snapshot=snapshot.snapshot_id,
        sequence=snapshot.sequence_number or 0,
        committed=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
        rows=rows,
        bytes=int(summary.get("total-files-size", 0)),
        files=int(summary.get("total-data-files", 0)),
        missing=_missing(table, rows),
    )


def _missing(table: Table, rows: int) -> int:
    """What the audit would miss, by the sums alone: rows of others hide as many. A table that was rolled back waits for a person."""
    try:
        recorded = recorded_offsets(table)
    except RefusedError:
        return 0
    counted = sum(part.rows for held in recorded.topics.values() for part in held.partitions.values())
    accepted = in_force(decisions_of(table.metadata)) or Accepted()
    return max(0, counted - rows - sum(each.missing for each in accepted.rows.values()))


def newest_partitions(table: Table, most: int) -> list[PartitionFiles] | None:
    """Partitions of the newest `most` hours, days, months or years that the table has, newest first.

    Reads the manifests that may hold any of them. None when the table is not partitioned by time: no part of it is the newest.
    """
    spec, schema, snapshot = table.spec(), table.schema(), table.current_snapshot()
    place = next((at for at, field in enumerate(spec.fields) if isinstance(field.transform, TimeTransform)), None)
    if place is None:
        return None
    manifests = [] if snapshot is None else list(_of_data(snapshot.manifests(table.io), spec))
    last = {id(each): _upper(each, spec, schema, place) for each in manifests}
    newest = max((each for each in last.values() if each is not None), default=None)
    if newest is None:
        return []
    found: dict[Record, tuple[int, int]] = {}
    for manifest in manifests:
        upper = last[id(manifest)]
        if upper is None or upper <= newest - most:
            continue
        for entry in manifest.fetch_manifest_entry(table.io):
            file = entry.data_file
            value = file.partition[place]
            if value is not None and value > newest - most:
                files, size = found.get(file.partition, (0, 0))
                found[file.partition] = files + 1, size + file.file_size_in_bytes
    newest_first = sorted(found.items(), key=lambda each: each[0][place], reverse=True)
    return [PartitionFiles(_name(partition, spec, schema), *counts) for partition, counts in newest_first]


def _of_data(manifests: Iterable[ManifestFile], spec: PartitionSpec) -> Iterable[ManifestFile]:
    """Manifests of data under the spec that is written now: values of another cannot be compared with its."""
    return (
        each for each in manifests if each.content is ManifestContent.DATA and each.partition_spec_id == spec.spec_id
    )


def _upper(manifest: ManifestFile, spec: PartitionSpec, schema: Schema, place: int) -> int | None:
    bound = manifest.partitions[place].upper_bound if manifest.partitions else None
    if bound is None:
        return None
    field = spec.fields[place]
    return int(from_bytes(field.transform.result_type(schema.find_type(field.source_id)), bound))


def _name(partition: Record, spec: PartitionSpec, schema: Schema) -> str:
    return "/".join(
        field.transform.to_human_string(schema.find_type(field.source_id), partition[at])
        for at, field in enumerate(spec.fields)
    )
