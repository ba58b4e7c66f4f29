"""How a table's properties, partition spec and sort order become those of its spec: in one commit, and also where they are unusable.

The commit is put together here. PyIceberg's own updates check the whole table after each step and read the very properties that may be
wrong, so that they cannot mend a table; and they refuse to put one bucket in the place of another. While a table has no snapshot, a
partition spec that no writer can fill is taken out of it too: engines on the JVM load no table that has one, current or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSortOrderUpdate,
    AssertCurrentSchemaId,
    AssertDefaultSortOrderId,
    AssertDefaultSpecId,
    AssertLastAssignedPartitionId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemovePartitionSpecsUpdate,
    RemovePropertiesUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.transforms import VoidTransform

from k2.lake.refusals import is_refusal
from k2.model.errors import UserError
from k2.model.table_layout import is_sortable, takes, unusable_field
from k2.model.table_properties import unusable
from k2.model.tables import RESERVED_PROPERTIES, TableColumn, TableSpec


def spec_faults(spec: PartitionSpec, schema: Schema) -> list[str]:
    """What of a partition spec no writer can fill, a part of a sentence each."""
    by_id = {each.field_id: TableColumn(each.name, str(each.field_type)) for each in schema.fields}
    columns = list(by_id.values())
    found = [unusable_field(each.name, str(each.transform), by_id.get(each.source_id), columns) for each in spec.fields]
    return [each for each in found if each]


def order_faults(order: SortOrder, schema: Schema) -> list[str]:
    """What of a sort order no writer can keep to, a part of a sentence each."""
    by_id = {each.field_id: each for each in schema.fields}
    found: list[str] = []
    for each in order.fields:
        column = by_id.get(each.source_id)
        if column is None:
            found.append("it names a column that is gone")
        elif not is_sortable(str(column.field_type)) or not takes(str(each.transform), str(column.field_type)):
            found.append(f"it has {each.transform} of {column.name}, which is {column.field_type}")
    return found


def is_faulty(table: Table) -> bool:
    """Whether something of a table's layout or properties is of no use to any writer, whoever has made it so."""
    schema = table.schema()
    faults = [fault for spec in table.metadata.partition_specs for fault in spec_faults(spec, schema)]
    return bool(faults or order_faults(table.sort_order(), schema) or _wrong(table.metadata))


def settle(
    catalog: Catalog, table: Table, spec: TableSpec, fields: Sequence[PartitionField], order: SortOrder
) -> list[str]:
    """Bring them to the spec, if they differ; returns what was done, one sentence each.

    Args:
        catalog: where the table is.
        table: as it was just loaded; not to be used afterwards where something was done.
        spec: as it should be.
        fields: of the partition spec then, by the ids of the table's columns; their own ids do not matter.
        order: the sort order then.

    Raises:
        CommitFailedException: somebody committed meanwhile. Nothing was changed: load the table and look again.
    """
    metadata, schema, name = table.metadata, table.schema(), spec.identifier
    is_new = not metadata.snapshots
    bad = {each.spec_id: faults for each in metadata.partition_specs if (faults := spec_faults(each, schema))}
    updates: list[TableUpdate] = []
    done: list[str] = []
    settings = {
        key: value
        for key, value in spec.properties.items()
        if key != "format-version" and metadata.properties.get(key) != value
    }
    if settings:
        updates.append(SetPropertiesUpdate(updates=settings))
        done.append(f"set {', '.join(sorted(settings))} of {name}")
    if is_new and (wrong := sorted(set(_wrong(metadata)) - spec.properties.keys())):
        updates.append(RemovePropertiesUpdate(removals=wrong))
        done.append(f"took {', '.join(wrong)} off {name}: no writer could use that")
    if (now := _meaning(metadata.spec().fields)) != _meaning(fields):
        is_first = metadata.format_version == 1
        if is_first and not is_new and now - _meaning(fields):
            raise UserError(
                f"A partition field of {name} cannot go: the table has format version 1 and rows, and what comes could not be written",
                found=f"no {', '.join(sorted(field for _, _, field in now - _meaning(fields)))}",
                expected="all fields that there are, and others behind them",
                remedy="Leave them, or make another table, of format version 2",
            )
        updates += _another_spec(metadata, fields, afresh=is_new and (is_first or bool(bad)))
        why = bad.get(metadata.default_spec_id)
        done.append(
            f"replaced the partition spec of {name}: {'; '.join(why)}"
            if why
            else f"changed the partition spec of {name}; rows written before keep theirs"
        )
        unused = [each.spec_id for each in metadata.partition_specs if is_first or each.spec_id in bad]
        if is_new and unused:
            updates.append(_without(unused))
    elif is_new and bad and metadata.default_spec_id not in bad:
        updates.append(_without(sorted(bad)))
        done.append(f"took a former partition spec off {name}: {'; '.join(min(bad.items())[1])}")
    if table.sort_order().fields != order.fields:
        updates += _another_order(metadata, order)
        faults = order_faults(table.sort_order(), schema)
        done.append(
            f"replaced the sort order of {name}: {'; '.join(faults)}"
            if faults
            else f"changed the sort order of {name}; rows written before keep theirs"
        )
    return done if not updates or _committed(catalog, table, updates, is_new=is_new) else []


def _committed(catalog: Catalog, table: Table, updates: Sequence[TableUpdate], *, is_new: bool) -> bool:
    """Commit; False: nothing was left to be done of it, by a catalog that does not know how to take a partition spec out."""
    unchanged = _unchanged(table.metadata, is_new=is_new)
    try:
        catalog.commit_table(table, unchanged, tuple(updates))
    except Exception as error:
        rest = [each for each in updates if not isinstance(each, RemovePartitionSpecsUpdate)]
        if len(rest) == len(updates) or not is_refusal(error):
            raise
        if rest:
            catalog.commit_table(table, unchanged, tuple(rest))
        return bool(rest)
    return True


def _wrong(metadata: TableMetadata) -> list[str]:
    """Properties that no writer can use."""
    return [
        name
        for name, value in metadata.properties.items()
        if not name.startswith(RESERVED_PROPERTIES) and unusable(name, value)
    ]


def _meaning(fields: Sequence[PartitionField]) -> set[tuple[int, str, str]]:
    """What rows are divided by. Where fields cannot go, in tables of version 1, void stands for one that did."""
    return {
        (each.source_id, str(each.transform), each.name)
        for each in fields
        if not isinstance(each.transform, VoidTransform)
    }


def _another_spec(metadata: TableMetadata, fields: Sequence[PartitionField], *, afresh: bool) -> Sequence[TableUpdate]:
    """A partition spec with these fields as the current one; `afresh`: nothing was written by any other."""
    known = [] if afresh else [each for each in metadata.partition_specs if _meaning(each.fields) == _meaning(fields)]
    if known:
        return [_default_spec(known[0].spec_id)]
    following = max(PARTITION_FIELD_ID_START, (metadata.last_partition_id or 0) + 1)
    if metadata.format_version == 1:
        # It counts the fields of each spec, and fills what went with nothing, which PyIceberg cannot write.
        following = PARTITION_FIELD_ID_START + (0 if afresh else len(metadata.spec().fields))
    # One number means one field for ever: what was there before under another spec is known by its own.
    ids = {} if afresh else {_meaning([field]).pop(): field.field_id for field in _filled(metadata)}
    kept = [] if afresh or metadata.format_version > 1 else list(metadata.spec().fields)
    numbered = [*kept]
    for each in fields:
        if each.model_copy(update={"field_id": 0}) in [old.model_copy(update={"field_id": 0}) for old in kept]:
            continue
        number = ids.get(_meaning([each]).pop()) if metadata.format_version > 1 else None
        numbered.append(each.model_copy(update={"field_id": following if number is None else number}))
        following += number is None
    highest = max(each.spec_id for each in metadata.partition_specs)
    return [
        AddPartitionSpecUpdate(spec=PartitionSpec(*numbered, spec_id=highest + 1)),
        _default_spec(-1),
    ]


def _filled(metadata: TableMetadata) -> list[PartitionField]:
    fields = [field for spec in metadata.partition_specs for field in spec.fields]
    return [field for field in fields if not isinstance(field.transform, VoidTransform)]


def _default_spec(number: int) -> SetDefaultSpecUpdate:
    return SetDefaultSpecUpdate.model_validate({"spec-id": number})


def _default_order(number: int) -> SetDefaultSortOrderUpdate:
    return SetDefaultSortOrderUpdate.model_validate({"sort-order-id": number})


def _without(specs: Sequence[int]) -> RemovePartitionSpecsUpdate:
    return RemovePartitionSpecsUpdate.model_validate({"spec-ids": specs})


def _another_order(metadata: TableMetadata, order: SortOrder) -> Sequence[TableUpdate]:
    for known in metadata.sort_orders:
        if known.fields == order.fields:
            return [_default_order(known.order_id)]
    highest = max((known.order_id for known in metadata.sort_orders), default=0)
    number = 0 if order.is_unsorted else highest + 1
    return [
        AddSortOrderUpdate.model_validate({"sort-order": order.model_copy(update={"order_id": number})}),
        _default_order(-1 if number else 0),
    ]


def _unchanged(metadata: TableMetadata, *, is_new: bool) -> tuple[TableRequirement, ...]:
    """What must be as it was seen. `is_new`: nothing was written yet, although a sink may begin at this very moment."""
    found: tuple[TableRequirement, ...] = (
        AssertTableUUID(uuid=metadata.table_uuid),
        AssertCurrentSchemaId.model_validate({"current-schema-id": metadata.current_schema_id}),
        AssertDefaultSpecId.model_validate({"default-spec-id": metadata.default_spec_id}),
        AssertDefaultSortOrderId.model_validate({"default-sort-order-id": metadata.default_sort_order_id}),
        AssertLastAssignedPartitionId.model_validate({"last-assigned-partition-id": metadata.last_partition_id}),
    )
    if is_new:
        return (*found, AssertRefSnapshotId.model_validate({"ref": "main", "snapshot-id": None}))
    return found
