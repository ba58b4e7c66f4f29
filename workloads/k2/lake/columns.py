"""How the columns of an existing table become those of its spec: added, renamed, widened, made optional; never lost.

All of an edit is one commit, with a snapshot of its own: no row is in it, but what is asked of the table from then on has the
new columns, and what is asked of an earlier snapshot has the old ones. Which columns a resource has declared is kept in
a property, so that one that goes from its list is noticed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import IcebergType, NestedField

from k2.lake.landed import guard
from k2.lake.offsets import COMMIT_ID, OFFSETS, OPERATION, snapshot_offsets
from k2.model.codec.further import field_id, reader_field
from k2.model.errors import UserError
from k2.model.further import canonical, is_wider, of_table
from k2.model.tables import TableColumn, TableSpec, event_columns
from k2.model.topics import DataType

DECLARED = "k2.columns"
"""Property: the field ids of the columns that the table's resource lists, as a JSON list."""


@dataclass(slots=True)
class ColumnChanges:
    """What an edit does to a table's columns; each by its name now.

    Attributes:
        added: new ones.
        renamed: the name now → the name then.
        widened: the name now → the type then.
        optional: those that need have no value any more.
        described: the name now → what it means.
        declared: names then of the further columns that the resource lists.
    """

    added: list[NestedField] = field(default_factory=list[NestedField])
    renamed: dict[str, str] = field(default_factory=dict[str, str])
    widened: dict[str, IcebergType] = field(default_factory=dict[str, IcebergType])
    optional: list[str] = field(default_factory=list[str])
    described: dict[str, str] = field(default_factory=dict[str, str])
    declared: list[str] = field(default_factory=list[str])

    def __bool__(self) -> bool:
        """Whether the schema changes."""
        return bool(self.added or self.renamed or self.widened or self.optional or self.described)

    def sentences(self, identifier: str) -> list[str]:
        """What is done, a sentence each."""
        told: list[str] = []
        if self.added:
            told.append(f"added {', '.join(each.name for each in self.added)} to {identifier}")
        told += [f"renamed {now} of {identifier} to {then}" for now, then in self.renamed.items()]
        told += [
            f"widened {self.renamed.get(now, now)} of {identifier} to {kind}" for now, kind in self.widened.items()
        ]
        told += [f"made {self.renamed.get(now, now)} of {identifier} optional" for now in self.optional]
        told += [f"described {self.renamed.get(now, now)} of {identifier}" for now in self.described]
        return told


def column_changes(metadata: TableMetadata, spec: TableSpec, wanted: Schema) -> ColumnChanges:
    """What brings the table's columns to the spec's.

    Args:
        metadata: the table as it is.
        spec: as it should be.
        wanted: the spec's columns as Iceberg types, in the spec's order.

    Raises:
        UserError: a change that would lose rows or change a value. Nothing was changed.
    """
    known = {each.name: each for each in metadata.schema().fields}
    further = {column.name for column in of_table(spec)}
    changes = ColumnChanges(declared=[column.name for column in spec.columns if column.name in further])
    met: dict[int, str] = {}
    for column, then in zip(spec.columns, wanted.fields, strict=True):
        now = _now(known, column, spec) if column.name in further else known.get(column.name)
        if column.name in further and (now is None or now.name != column.name):
            _check_name(metadata, now, column, spec)
        if now is None:
            _check_new(column, spec)
            changes.added.append(then)
            continue
        if now.field_id in met:
            raise UserError(
                f"Two columns of {spec.identifier} were one before",
                found=f"{met[now.field_id]} and {column.name}",
                expected=f"one column that was {now.name}",
            )
        met[now.field_id] = column.name
        _compare(changes, now, then, column, spec, is_further=column.name in further)
    _check_none_goes(metadata, met, spec)
    return changes


def apply_changes(table: Table, changes: ColumnChanges) -> None:
    """Commit an edit of the columns, and which of them are declared. The table object is not to be used afterwards.

    Raises:
        CommitFailedException: somebody committed meanwhile. Nothing was changed: load the table and look again.
    """
    guard(table)
    with table.transaction() as transaction:
        if changes:
            with transaction.update_schema() as update:
                for each in changes.added:
                    update.add_column(each.name, each.field_type, doc=each.doc)
                for name, kind in changes.widened.items():
                    update.update_column(name, field_type=kind)
                for name in changes.optional:
                    update.make_column_optional(name)
                for name, doc in changes.described.items():
                    update.update_column(name, doc=doc)
                for name, then in changes.renamed.items():
                    update.rename_column(name, then)
        declared = _ids(transaction.table_metadata.schema(), changes.declared)
        if declared != declared_ids(table.metadata):
            transaction.set_properties({DECLARED: json.dumps(sorted(declared))})
        if changes and table.metadata.current_snapshot_id is not None:
            offsets = snapshot_offsets(table.metadata)
            summary = {COMMIT_ID: uuid.uuid4().hex, OPERATION: "columns"}
            summary |= {} if offsets is None else {OFFSETS: offsets.to_json()}
            with transaction.update_snapshot(snapshot_properties=summary).fast_append():
                pass


def is_declared(metadata: TableMetadata, changes: ColumnChanges) -> bool:
    """Whether the table records already which columns its resource lists; asked where the schema stays as it is."""
    return _ids(metadata.schema(), changes.declared) == declared_ids(metadata)


def declared_ids(metadata: TableMetadata) -> frozenset[int]:
    """Field ids of the columns that the table's resource has listed."""
    return frozenset(json.loads(metadata.properties.get(DECLARED, "[]")))


def extra_columns(table: Table, data_type: DataType) -> tuple[pa.Field, ...]:
    """Columns that a table has beside those of its built-in schema, as decoding wants them: with ids and former names.

    It does not matter who has added them: a sink carries them all.
    """
    own = {column.name for column in event_columns(data_type)}
    schema = table.schema()
    types = {each.name: each.type for each in schema_to_pyarrow(schema, include_field_ids=False)}
    taken = {each.name for each in schema.fields}
    formerly = _former_names(table.metadata)
    return tuple(
        reader_field(
            each.name, types[each.name], each.field_id, [name for name in formerly[each.field_id] if name not in taken]
        )
        for each in schema.fields
        if each.name not in own
    )


def placed(rows: pa.Schema, target: pa.Schema) -> tuple[dict[str, str], list[str]]:
    """Which column of some rows belongs into which of a table: by the id where it has one, for names change; else by the name.

    Returns:
        The table's name → the rows' name; and the rows' columns that the table has no place for.
    """
    by_id = {field_id(each): each.name for each in target}
    found: dict[str, str] = {}
    unknown: list[str] = []
    for each in rows:
        number = field_id(each)
        name = by_id.get(number) if number is not None else each.name if each.name in target.names else None
        if name is None:
            unknown.append(each.name)
        else:
            found[name] = each.name
    return found, sorted(unknown)


def alike(tables: Sequence[pa.Table]) -> Sequence[pa.Table]:
    """Tables of which some were decoded before an edit of the columns and some after it, with the later names and the wider types."""
    first = tables[0].schema
    if all(each.schema.equals(first, check_metadata=True) for each in tables[1:]):
        return tables
    newest: dict[int, pa.Field] = {}
    for table in tables:
        for each in table.schema:
            if (number := field_id(each)) is not None:
                before = newest.get(number)
                narrower = before is not None and _bits(before.type) > _bits(each.type)
                newest[number] = each.with_type(before.type) if before is not None and narrower else each
    return [_with(table, newest) for table in tables]


def _with(table: pa.Table, newest: Mapping[int, pa.Field]) -> pa.Table:
    for place, each in enumerate(table.schema):
        number = field_id(each)
        if number is not None and not newest[number].equals(each, check_metadata=True):
            table = table.set_column(place, newest[number], table.column(place).cast(newest[number].type))
    return table


def _bits(kind: pa.DataType) -> int:
    if pa.types.is_decimal(kind):
        return kind.precision
    return kind.bit_width if pa.types.is_integer(kind) or pa.types.is_floating(kind) else 0


def _now(known: Mapping[str, NestedField], column: TableColumn, spec: TableSpec) -> NestedField | None:
    """The column as the table has it, under this name or the one before; None: it has none."""
    have, before = known.get(column.name), known.get(column.was) if column.was != column.name else None
    if have is not None and before is not None:
        raise UserError(
            f"{spec.identifier} has both {column.name} and {column.was}, which {column.name} is said to have been",
            expected="one of them",
            remedy=f"Leave out `was`, and list {column.was} too",
        )
    return have or before


def _check_new(column: TableColumn, spec: TableSpec) -> None:
    if column.required:
        raise UserError(
            f"Table {spec.identifier} has rows that a new required column would leave without a value",
            found=column.name,
            expected="optional columns",
            remedy="Make them optional",
        )


def _check_name(metadata: TableMetadata, own: NestedField | None, column: TableColumn, spec: TableSpec) -> None:
    """The name that a column gets is no other column's: not in other letters, and none ever had it.

    Args:
        metadata: the table as it is.
        own: the column, where it is renamed; None: it is new.
        column: as it should be.
        spec: of the table.
    """
    number = None if own is None else own.field_id
    others = [each for each in metadata.schema().fields if each.field_id != number]
    same = next((each.name for each in others if each.name.lower() == column.name.lower()), None)
    if same is not None:
        raise UserError(
            f"{spec.identifier} has a column whose name differs in capitals alone: questions could not tell them apart",
            found=column.name,
            expected=f"another name than {same}",
            remedy="Choose another name" if own else f"Rename it (`was: {same}`), or choose another name",
        )
    for other, names in _former_names(metadata).items():
        if other != number and column.name in names:
            now = next((each.name for each in others if each.field_id == other), None)
            raise UserError(
                f"A column of {spec.identifier} that is {f'now called {now}' if now else 'gone'} had that name: messages and "
                "snapshots that still speak of it would seem to speak of "
                f"{f'what is called {own.name} now' if own else 'the new one'}",
                found=column.name,
                expected="a name that no other column of the table ever had"
                if own
                else "a name that no column of the table ever had",
                remedy="Choose another name" if own or not now else f"To rename it back: `was: {now}`",
            )


def _compare(
    changes: ColumnChanges,
    now: NestedField,
    then: NestedField,
    column: TableColumn,
    spec: TableSpec,
    *,
    is_further: bool,
) -> None:
    """Note what has to change of a column that is there."""
    have, want = _text(now.field_type), _text(then.field_type)
    if have != want:
        if not (is_further and is_wider(have, want)):
            raise UserError(
                f"Column {column.name} of {spec.identifier} cannot change its type",
                found=want,
                expected=f"{have}{_wider_ones(have) if is_further else ''}",
                remedy="Add a column with the new type beside it, or make another table",
            )
        changes.widened[now.name] = then.field_type
    if not is_further:
        return
    if column.required and not now.required:
        raise UserError(
            f"Column {column.name} of {spec.identifier} cannot become required: there are rows and writers without a value for it",
            found="required",
            expected="an optional column",
            remedy="Leave it optional",
        )
    if now.required and not column.required:
        changes.optional.append(now.name)
    if now.name != column.name:
        changes.renamed[now.name] = column.name
    if column.doc and column.doc != (now.doc or ""):
        changes.described[now.name] = column.doc


def _check_none_goes(metadata: TableMetadata, met: Collection[int], spec: TableSpec) -> None:
    """A column that the resource listed and lists no more is not dropped, and it is not passed over in silence either."""
    gone = [each.name for each in metadata.schema().fields if each.field_id in declared_ids(metadata) - set(met)]
    if gone:
        raise UserError(
            f"A column of {spec.identifier} cannot go by leaving it out: what its rows hold there would be lost",
            found=f"no {', '.join(gone)} among the columns",
            expected=f"all that were listed before: {', '.join(gone)} is missing",
            remedy="List it again (a new name for it takes `was`). To lose it on purpose, drop it with another engine first",
        )


def _wider_ones(have: str) -> str:
    wider = {"int": " or long", "float": " or double"}.get(have, "")
    return " or one of the same scale with more digits" if have.startswith("decimal") else wider


def _text(kind: IcebergType) -> str:
    """A type without the ids of its elements, which differ from table to table."""
    return canonical(re.sub(r"\d+: ", "", str(kind)))


def _former_names(metadata: TableMetadata) -> dict[int, list[str]]:
    """Field id → all names that the column had in any schema of the table, apart from its present one."""
    found: dict[int, list[str]] = {}
    for schema in metadata.schemas:
        for each in schema.fields:
            names = found.setdefault(each.field_id, [])
            if each.name not in names:
                names.append(each.name)
    present = {each.field_id: each.name for each in metadata.schema().fields}
    return {number: [name for name in names if name != present.get(number)] for number, names in found.items()}


def _ids(schema: Schema, names: Iterable[str]) -> frozenset[int]:
    wanted = set(names)
    return frozenset(each.field_id for each in schema.fields if each.name in wanted)
