"""What a table is at this moment, for readers: its snapshots, columns and files as plain frozen values.

PyIceberg's objects must not be shared between threads; what this module gives out may be. The catalog is asked each time,
so that what was committed before a question is in its answer; where asking is dear (a REST catalog), at most once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from sqlalchemy import select

from k2.lake.damaged import files_of, load_whole
from k2.lake.offsets import OFFSETS, OffsetMap, summary_of
from k2.lake.proof.audit import Audit, audit_table
from k2.lake.proof.files_audit import FilesAudit, audit_files
from k2.lake.proof.sequence_audit import SequenceAudit, audit_sequences
from k2.lake.scan import SnapshotFiles, cached_files
from k2.lake.snapshots import began_ms
from k2.lake.time_limits import ANSWER_SECONDS
from k2.model.errors import DamagedError, K2Error, WorldError
from k2.model.sequences import SequenceScope
from k2.obs import metrics
from k2.obs.logging import get_logger
from k2.obs.renewed import ClientSettings, Renewed

_ASK_AGAIN_SECONDS = 1.0
_log = get_logger(__name__)


class TableMissingError(WorldError):
    """The table does not exist (yet). Wait for its IcebergTable resource, or apply one."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One retained snapshot. `time_us`: when it was committed, microseconds since 1970 UTC (the catalog keeps ms)."""

    id: int
    parent_id: int | None
    sequence: int
    time_us: int
    operation: str
    summary: Mapping[str, str]
    schema_id: int

    @property
    def offsets(self) -> OffsetMap:
        """Which offsets of which topics the table held then; empty when the snapshot was not made by K2."""
        return OffsetMap.from_json(self.summary.get(OFFSETS))

    def count(self, key: str) -> int | None:
        """A figure of Iceberg's summary (`added-records`, `total-records`, …), None when its writer gave none."""
        text = self.summary.get(key)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """One column: Iceberg's field id (which outlives renames), its name, and Iceberg's name of its type.

    `stable`: every schema that the table ever had has it just so; then a file's column of that name is this one.
    """

    field_id: int
    name: str
    type: str
    stable: bool = False


@dataclass(frozen=True, slots=True)
class TagInfo:
    """A tag: a name that keeps a snapshot, until `until_us` (microseconds since 1970 UTC; None: for good)."""

    name: str
    snapshot_id: int
    until_us: int | None


@dataclass(frozen=True, slots=True)
class TableState:
    """A table at one moment. `snapshots` are the retained ones, oldest first; `roots` are where its files may lie.

    `unconfirmed`: why the catalog did not say that this is still so; None: it did. `began_us`: when its first snapshot was
    committed, retained or not; None: that is not known.
    """

    identifier: str
    uuid: str
    current_id: int | None
    snapshots: tuple[SnapshotInfo, ...]
    schemas: Mapping[int, tuple[ColumnInfo, ...]]
    schema_id: int
    roots: tuple[str, ...]
    by_id: Mapping[int, SnapshotInfo] = field(default_factory=dict)
    tags: Mapping[str, TagInfo] = field(default_factory=dict)
    unconfirmed: str | None = None
    began_us: int | None = None

    @property
    def current(self) -> SnapshotInfo | None:
        """The current snapshot; None when nothing was ever committed."""
        return None if self.current_id is None else self.by_id.get(self.current_id)

    def recorded(self, snapshot: SnapshotInfo | None) -> str | None:
        """The offsets that the snapshot records, or the nearest ancestor that K2 made: other engines' snapshots change none."""
        while snapshot is not None:
            if OFFSETS in snapshot.summary:
                return snapshot.summary[OFFSETS]
            snapshot = None if snapshot.parent_id is None else self.by_id.get(snapshot.parent_id)
        return None

    def columns(self, snapshot: SnapshotInfo | None) -> tuple[ColumnInfo, ...]:
        """The columns as of that snapshot (None: the table's current ones)."""
        return self.schemas[self.schema_id if snapshot is None else snapshot.schema_id]


class TableReader:
    """Reads tables through one catalog. Threads may share it; each call is exact to `max_age_seconds`.

    Args:
        open_catalog: opens the catalog.
        settings: what it opens it with. When they change (credentials are rotated) it is opened anew, for the next question.
        max_age_seconds: for how long what a REST catalog said holds.
        answer_seconds: how long a caller waits while another one waits for the catalog's answer. Once it has not answered,
            one caller a second asks it, and the others have their answer at once.
    """

    def __init__(
        self,
        open_catalog: Callable[[], Catalog],
        *,
        settings: ClientSettings = MappingProxyType({}),
        max_age_seconds: float = 1.0,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._open = open_catalog
        self._opened = Renewed(settings, lambda _: open_catalog(), "catalog")
        self._max_age = max_age_seconds
        self._answer_seconds = answer_seconds
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._loaded: dict[str, _Loaded] = {}
        self._silence: str | None = None
        self._ask_again = 0.0

    def state(self, identifier: str) -> TableState:
        """The table as it is now.

        Raises:
            TableMissingError: there is no such table.
            DamagedError: its metadata is gone.
            WorldError: the catalog cannot be read, or does not answer.
        """
        with self._asking():
            return self._load(identifier).state

    def known(self, identifier: str) -> TableState:
        """The table as it is now or, where the catalog does not answer, as it was when it last did: `unconfirmed` says so.

        Raises:
            TableMissingError: there is no such table.
            WorldError: the catalog does not answer, and never did about this table.
        """
        try:
            return self.state(identifier)
        except TableMissingError:
            raise
        except WorldError as error:
            loaded = self._loaded.get(identifier)
            if loaded is None:
                raise
            return replace(loaded.state, unconfirmed=str(error))

    @contextmanager
    def _asking(self) -> Generator[None]:
        """One caller at a time asks the catalog; nobody waits in a row for one that is known to be silent."""
        if not self._lock.acquire(timeout=self._answer_seconds if self._silence is None else 0):
            raise WorldError(self._silence or f"The catalog has not answered for {self._answer_seconds:g} s")
        try:
            if self._silence is not None and time.monotonic() < self._ask_again:
                raise WorldError(self._silence)
            try:
                yield
            except (TableMissingError, DamagedError):  # it is the table that is not well
                self._heard()
                raise
            except WorldError as error:
                self._silence, self._ask_again = str(error), time.monotonic() + _ASK_AGAIN_SECONDS
                _log.warning("catalog.not_answered", error=str(error))
                raise
            self._heard()
        finally:
            self._lock.release()

    def _heard(self) -> None:
        if self._silence is not None:
            self._silence = None
            _log.info("catalog.answered_again")

    def another_catalog(self) -> Catalog:
        """The same catalog opened for the caller alone, to write with; to be closed by the caller."""
        return self._open()

    def tables(self, namespace: str) -> tuple[str, ...]:
        """Identifiers of all tables of a namespace, in their order; none where there is no such namespace. Raises as `state` does."""
        with self._asking():
            try:
                found = self._opened.now().list_tables(namespace)
            except NoSuchNamespaceError:
                return ()
            except K2Error:
                raise
            except Exception as error:
                raise WorldError(
                    f"The catalog cannot list the tables of {namespace}: {type(error).__name__}: {error}"
                ) from error
        return tuple(sorted(".".join(each) for each in found))

    def files(self, state: TableState, snapshot_id: int) -> SnapshotFiles:
        """The data files of a snapshot of that state (see `SnapshotFiles.select`).

        Raises:
            DamagedError: a manifest is gone or broken.
            WorldError: the store does not answer.
        """
        found = cached_files(state.uuid, snapshot_id)
        metrics.PLAN_CACHE.labels("miss" if found is None else "hit").inc()
        if found is not None:
            return found
        table = self._table_with(state, snapshot_id)
        # Apart from what asks the catalog: manifests may take long, and nobody else touches what this reads with.
        with self._reading:
            return files_of(table, state.identifier, snapshot_id)

    def _table_with(self, state: TableState, snapshot_id: int) -> Table:
        loaded = self._loaded.get(state.identifier)
        if loaded is not None and loaded.state.uuid == state.uuid and snapshot_id in loaded.state.by_id:
            return loaded.table
        with self._asking():
            table = self._load(state.identifier).table
        if table.snapshot_by_id(snapshot_id) is None:
            raise WorldError(f"Snapshot {snapshot_id} of {state.identifier} was expired a moment ago: ask again")
        return table

    def audit(self, identifier: str) -> Audit:
        """Count the rows of the current snapshot (see `audit_table`); the topics are not asked."""
        return audit_table(self._another(identifier), {})

    def audit_files(self, identifier: str) -> tuple[int | None, FilesAudit]:
        """The current snapshot, and whether its files are there (see `k2.lake.proof.files_audit`)."""
        table = self._another(identifier)
        snapshot_id = table.metadata.current_snapshot_id
        return snapshot_id, audit_files(table, snapshot_id)

    def audit_sequences(self, identifier: str, scope: SequenceScope) -> tuple[int | None, SequenceAudit]:
        """The current snapshot, and the source's numbers in it (see `k2.lake.proof.sequence_audit`)."""
        table = self._another(identifier)
        snapshot = table.current_snapshot()
        return None if snapshot is None else snapshot.snapshot_id, audit_sequences(table, scope)

    def _another(self, identifier: str) -> Table:
        """The table loaded for the caller's thread alone: what it does with it takes long."""
        with self._asking():
            self._load(identifier)
            table = load_whole(self._opened.now(), identifier)
        current = table.metadata.current_snapshot_id
        if current is not None:
            files_of(table, identifier, current)  # so that what is wrong with its manifests is told as such
        return table

    def _load(self, identifier: str) -> _Loaded:
        loaded = self._loaded.get(identifier)
        try:
            catalog = self._opened.now()
            if loaded is not None and loaded.catalog is catalog and self._is_fresh(loaded):
                return loaded
            loaded = _Loaded(catalog, load_whole(catalog, identifier))
        except (NoSuchTableError, NoSuchNamespaceError) as error:
            self._loaded.pop(identifier, None)
            raise TableMissingError(
                f"There is no table {identifier} yet: it is made by an IcebergTable resource"
            ) from error
        except K2Error:
            raise
        except Exception as error:
            raise WorldError(f"The catalog cannot be read for {identifier}: {type(error).__name__}: {error}") from error
        self._loaded[identifier] = loaded
        return loaded

    def _is_fresh(self, loaded: _Loaded) -> bool:
        if loaded.pointer is not None:
            return loaded.pointer.location() == loaded.table.metadata_location
        return time.monotonic() - loaded.at < self._max_age


class _Loaded:
    """A loaded table, its state, when it was loaded, and what tells whether it has changed (an SQL catalog's)."""

    def __init__(self, catalog: Catalog, table: Table) -> None:
        self.catalog, self.table = catalog, table
        self.at = time.monotonic()
        self.pointer = _Pointer(catalog, table) if isinstance(catalog, SqlCatalog) else None
        self.state = _state(table)


class _Pointer:
    """A table's entry in an SQL catalog, asked of the driver itself.

    Every question asks for it. Loading 300 snapshots takes 3 ms, and SQLAlchemy's own way 0.6 ms between two queries that
    have used up the processor's caches; this takes a tenth.
    """

    def __init__(self, catalog: SqlCatalog, table: Table) -> None:
        *namespace, name = table.name()
        query = (
            select(IcebergTables.metadata_location)
            .where(IcebergTables.catalog_name == catalog.name)
            .where(IcebergTables.table_namespace == ".".join(namespace))
            .where(IcebergTables.table_name == name)
        )
        compiled = query.compile(dialect=catalog.engine.dialect)
        values = compiled.params
        self._engine = catalog.engine
        self._sql = compiled.string
        self._values = tuple(values[name] for name in compiled.positiontup) if compiled.positiontup else values

    def location(self) -> str | None:
        """Where the table's metadata lies now."""
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(self._sql, self._values)
            row = cursor.fetchone()
            cursor.close()
            return None if row is None else str(row[0])
        except Exception:
            connection.invalidate()  # it may be in the middle of an answer: the pool must not use it again
            raise
        finally:
            connection.close()  # back to the pool, which ends its transaction


def _state(table: Table) -> TableState:
    metadata = table.metadata
    snapshots = sorted(
        (_snapshot(snapshot, metadata.current_schema_id) for snapshot in metadata.snapshots),
        key=lambda snapshot: (snapshot.sequence, snapshot.time_us),
    )
    began = began_ms(metadata)
    roots = {table.location(), metadata.properties.get("write.data.path", table.location())}
    return TableState(
        identifier=".".join(table.name()),
        uuid=str(metadata.table_uuid),
        current_id=metadata.current_snapshot_id,
        snapshots=tuple(snapshots),
        schemas=_columns(table),
        schema_id=metadata.current_schema_id,
        roots=tuple(sorted(root.rstrip("/") + "/" for root in roots)),
        by_id={snapshot.id: snapshot for snapshot in snapshots},
        tags=_tags(table),
        began_us=None if began is None else began * 1000,
    )


def _tags(table: Table) -> dict[str, TagInfo]:
    times = {snapshot.snapshot_id: snapshot.timestamp_ms for snapshot in table.metadata.snapshots}
    found: dict[str, TagInfo] = {}
    for name, reference in table.metadata.refs.items():
        if reference.snapshot_ref_type is SnapshotRefType.TAG and reference.snapshot_id in times:
            age = reference.max_ref_age_ms
            until = None if age is None else (times[reference.snapshot_id] + age) * 1000
            found[name] = TagInfo(name, reference.snapshot_id, until)
    return found


def _columns(table: Table) -> dict[int, tuple[ColumnInfo, ...]]:
    schemas = {
        schema.schema_id: [(f.field_id, f.name, str(f.field_type)) for f in schema.fields]
        for schema in table.metadata.schemas
    }
    stable = set[tuple[int, str, str]].intersection(*(set(fields) for fields in schemas.values()))
    return {
        schema_id: tuple(ColumnInfo(*field, stable=field in stable) for field in fields)
        for schema_id, fields in schemas.items()
    }


def _snapshot(snapshot: Snapshot, current_schema_id: int) -> SnapshotInfo:
    return SnapshotInfo(
        id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        sequence=snapshot.sequence_number or 0,
        time_us=snapshot.timestamp_ms * 1000,
        operation="unknown" if snapshot.summary is None else snapshot.summary.operation.value,
        summary=summary_of(snapshot),
        schema_id=current_schema_id if snapshot.schema_id is None else snapshot.schema_id,
    )
