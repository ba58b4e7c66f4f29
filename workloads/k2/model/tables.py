"""What an Iceberg table should be, without a word of any Iceberg library: what the operator plans and the lake makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from k2.model.events import COLUMNS, EVENT_TIME, Decimals, Kind
from k2.model.topics import DataType

NAMESPACE = "market_data"
RESERVED_PROPERTIES = "k2."
"""Prefix of the properties in which the sink keeps its offsets; users and operator never set or remove them."""

TOPIC_ID, PARTITION, OFFSET = "kafka_topic_id", "kafka_partition", "kafka_offset"
LINEAGE = (TOPIC_ID, PARTITION, OFFSET)

_ICEBERG: dict[Kind, str] = {
    Kind.UUID: "uuid",
    Kind.STRING: "string",
    Kind.SIDE: "string",
    Kind.REFERENCE_KIND: "string",
    Kind.TIMESTAMP: "timestamptz",
    Kind.DATE: "date",
    Kind.LONG: "long",
    Kind.STRINGS: "list<string>",
    Kind.STRING_MAP: "map<string, string>",
}


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column: its name, Iceberg type as text, whether it is required, what it means, and what it was called before."""

    name: str
    type: str
    required: bool = False
    doc: str = ""
    was: str = ""


@dataclass(frozen=True, slots=True)
class PartitionBy:
    """One field of the partition spec: `transform(source)`, e.g. `day(timestamp)`, `bucket[16](symbol)`, `identity(x)`."""

    source: str
    transform: str
    name: str


@dataclass(frozen=True, slots=True)
class SortBy:
    """One field of the sort order."""

    source: str
    descending: bool = False
    nulls_last: bool = True


DEFAULT_PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "format-version": "2",
        "write.parquet.compression-codec": "zstd",
        "write.parquet.compression-level": "1",
        # Small groups: one symbol's rows of a day are a few of them (measured: 5.8 ms against 7.9 with 131,072).
        "write.parquet.row-group-limit": "32768",
        # What one batch of a sink comes to (128 MiB of payloads); upkeep makes larger ones of them.
        "write.target-file-size-bytes": str(32 * 1024 * 1024),
        "commit.manifest-merge.enabled": "true",
        # Without these, every commit leaves a metadata file for ever.
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "100",
    }
)


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as it should be.

    Args:
        identifier: `namespace.name`.
        data_type: the built-in schema whose events a sink may write here, or None for a table of the user's own columns.
        decimals: of the built-in schema's prices and quantities; `columns` have them.
    """

    identifier: str
    data_type: DataType | None
    columns: tuple[TableColumn, ...]
    partition_by: tuple[PartitionBy, ...] = ()
    sort_by: tuple[SortBy, ...] = ()
    properties: Mapping[str, str] = field(default_factory=lambda: DEFAULT_PROPERTIES)
    decimals: Decimals = Decimals.STANDARD


def event_columns(data_type: DataType, decimals: Decimals = Decimals.STANDARD) -> tuple[TableColumn, ...]:
    """Columns of a table of those events: the event's own, then where in Kafka each row came from."""
    number = f"decimal({decimals.precision}, {decimals.scale})"
    own = tuple(TableColumn(c.name, _ICEBERG.get(c.kind, number), not c.nullable, c.doc) for c in COLUMNS[data_type])
    return (
        *own,
        TableColumn(
            TOPIC_ID, "string", required=True, doc="Id of the Kafka topic the row came from (a name can be reused)."
        ),
        TableColumn(PARTITION, "int", required=True, doc="Its partition."),
        TableColumn(OFFSET, "long", required=True, doc="Its offset there."),
    )


def default_sort(data_type: DataType) -> tuple[SortBy, ...]:
    """Sort order of a built-in table: what queries filter by first."""
    return SortBy("symbol"), SortBy(EVENT_TIME[data_type]), SortBy("source_sequence")


def default_partition(data_type: DataType) -> tuple[PartitionBy, ...]:
    """Hidden daily partition (UTC) by event time."""
    return (PartitionBy(EVENT_TIME[data_type], "day", f"{EVENT_TIME[data_type]}_day"),)


def builtin_table(
    data_type: DataType, identifier: str | None = None, decimals: Decimals = Decimals.STANDARD
) -> TableSpec:
    """The table of a built-in data type, with the defaults of the platform."""
    return TableSpec(
        identifier=identifier or f"{NAMESPACE}.{data_type}",
        data_type=data_type,
        columns=event_columns(data_type, decimals),
        partition_by=default_partition(data_type),
        sort_by=default_sort(data_type),
        decimals=decimals,
    )
