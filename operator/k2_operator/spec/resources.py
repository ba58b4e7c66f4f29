"""The two kinds of `k2.dev/v1alpha1`, MarketFeed and IcebergTable, as a person writes them.

One description of every field: the CRDs' structural schemas, the reference page and the checks of `k2 up` come from here.
Only what one field can say about itself stands here (type, range, pattern, default); what several fields or resources say
together is found in `plan/planning.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from k2.model import further, table_layout
from k2.model.events import Decimals
from k2.model.feed_rules import Prices
from k2.model.id_scopes import ID_SPACE_PATTERN, TIME_OF_DAY_PATTERN
from k2.model.sources import NAME_PATTERN, OBJECT_NAME_PATTERN, SOURCES, SYMBOL_PATTERN, Name, SourceConfig
from k2.model.topics import AssetClass, DataType

GROUP = "k2.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_FEED_NAME = 40
_DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
_BYTES_PATTERN = r"^[0-9]+(Ki|Mi|Gi)?$"
_QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi)?$"
_SHARE_PATTERN = r"^[0-9]{1,2}(\.[0-9]{1,2})?%$"
_CURRENCY_PATTERN = r"^[A-Z]{3,8}$"
_IDENTIFIER_PATTERN = r"^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$"
_ZONE_PATTERN = r"^[A-Za-z]+([_+/-][A-Za-z0-9]+)*$"

PATTERN_HELP = {
    NAME_PATTERN: "a name of a-z, 0-9 and '-', beginning with a letter",
    OBJECT_NAME_PATTERN: "a name of a-z, 0-9, '-' and '.', as Kubernetes has them",
    _DURATION_PATTERN: "a duration such as 500ms, 30s, 5m, 12h or 7d",
    _BYTES_PATTERN: "a size such as 128Mi",
    _QUANTITY_PATTERN: "a quantity such as 500m or 1Gi",
    _SHARE_PATTERN: "a share below 100%, such as 5% or 0.5%",
    _CURRENCY_PATTERN: "a currency's code in capitals, such as AUD or USDT",
    _IDENTIFIER_PATTERN: "an identifier namespace.name of a-z, 0-9 and '_'",
    _ZONE_PATTERN: "a time zone such as Etc/UTC or Australia/Sydney",
    TIME_OF_DAY_PATTERN: "a time of day such as 17:00",
    ID_SPACE_PATTERN: "a short name of a-z, 0-9, '_' and '-', such as aggregate",
    SYMBOL_PATTERN: "a symbol in capitals, such as BHP or BTC-USDT",
    further.NAME_PATTERN: "a name of a-z, 0-9 and '_', beginning with a letter, at most 63 characters",
    further.FORMER_NAME_PATTERN: "a column's name of letters, digits and '_', at most 63 characters",
    further.TYPE_PATTERN: further.TYPES,
    table_layout.TRANSFORM_PATTERN: table_layout.TRANSFORMS,
}
"""What each pattern means, for error texts."""

Duration = Annotated[str, Field(pattern=_DURATION_PATTERN)]
ByteSize = Annotated[str, Field(pattern=_BYTES_PATTERN)]
Quantity = Annotated[str, Field(pattern=_QUANTITY_PATTERN)]
Share = Annotated[str, Field(pattern=_SHARE_PATTERN)]
Schedule = Annotated[str, Field(max_length=64)]


class _Model(BaseModel):
    """camelCase on the wire; an unknown field is an error, as the API server's strict validation has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Resources(_Model):
    """Compute resources of a workload's container, as Kubernetes has them."""

    requests: dict[Literal["cpu", "memory"], Quantity] = Field(default={}, description="What is set aside.")
    limits: dict[Literal["cpu", "memory"], Quantity] = Field(default={}, description="What may be used at most.")


class External(_Model):
    """Events come from outside, by `k2 load` or another producer: the feed makes topics, schemas and sinks only."""


class _SourceBase(_Model):
    """Where the events come from. Exactly one."""

    @property
    def chosen(self) -> list[str]:
        """Names of what is given; one, when it is right."""
        return [kind for kind in type(self).model_fields if getattr(self, kind) is not None]

    @property
    def config(self) -> SourceConfig | None:
        """The source; None where somebody else sends."""
        found = getattr(self, self.chosen[0])
        return found if isinstance(found, SourceConfig) else None


if TYPE_CHECKING:
    Source = _SourceBase
else:
    _KINDS = {kind: (each | None, Field(default=None, description=each.says)) for kind, each in SOURCES.items()}
    _EXTERNAL = Field(default=None, description="Somebody else sends, for instance `k2 load`.")
    Source = create_model(
        "Source", __base__=_SourceBase, __doc__=_SourceBase.__doc__, **_KINDS, external=(External | None, _EXTERNAL)
    )


class TableRef(_Model):
    """An IcebergTable of the same namespace."""

    name: Name = Field(description="Its name.")


class StreamSink(_Model):
    """The sink of one stream."""

    enabled: bool = Field(default=True, description="False: this feed only produces; another one owns topic and sink.")


class Stream(_Model):
    """One kind of event, with the table it goes to."""

    data_type: DataType = Field(description="What the events are.")
    table_ref: TableRef = Field(description="The table that the events end in.")
    sink: StreamSink = Field(default=StreamSink(), description="The sink of this stream.")


class DeletionPolicy(StrEnum):
    """What becomes of data when the resource that asked for it is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class Topic(_Model):
    """Settings of the feed's topics."""

    partitions: int = Field(default=6, ge=1, le=1000, description="Partitions of each topic (1 for reference data).")
    retention: Duration | None = Field(
        default=None, description="How long events stay in the topic. Left out: as Kafka is set up."
    )
    allow_reordering: bool = Field(
        default=False, description="Partitions may be added later, although keys then move and order is lost once."
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN,
        description="Whether the topics go with the feed. Delete: only after everything in them is in the tables.",
    )


class DeadLetters(_Model):
    """Settings of the dead-letter topics, which keep messages that could not be used, as they came."""

    retention: Duration | None = Field(
        default=None, description="How long dead letters stay. Left out: as long as the events of the topic."
    )
    stop_above: Share | None = Field(
        default=None,
        description="A sink whose last 10,000 messages have a larger share of dead letters, such as 5%, reads no more until it is "
        "restarted or this is changed; nothing is lost. Left out: it goes on, and the feed is Degraded above 1%.",
    )


class Autoscaling(_Model):
    """As many pods as it takes to keep up."""

    min_replicas: int = Field(default=1, ge=1, le=1000, description="Pods that there are at least.")
    max_replicas: int = Field(ge=1, le=1000, description="Pods that there may be; at most one per partition.")
    target_lag: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000_000_000,
        description="Messages that a pod should be behind at most, on average; more of them call for another pod.",
    )


class Sink(_Model):
    """Settings of the feed's sinks."""

    replicas: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="Pods of each sink; at most one per partition. Not looked at where there is autoscaling.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None, description="Pods by lag instead of `replicas`. Reference data has one partition and one pod."
    )
    commit_interval: Duration = Field(default="30s", description="A commit at least this often, when there are events.")
    commit_bytes: ByteSize = Field(default="128Mi", description="A commit after this much payload.")
    resources: Resources = Field(default=Resources(), description="Of each sink's container.")


class Producer(_Model):
    """Settings of the feed's producer."""

    replicas: int = Field(
        default=1,
        ge=1,
        le=2,
        description="Pods. With a live source two hear the same market, and each event is in the table once: the death of one loses "
        "nothing. Other sources have one.",
    )
    resources: Resources = Field(default=Resources(), description="Of the producer's container.")


class DuplicatePolicy(StrEnum):
    """What a sink does with an event whose id the table has."""

    DROP = "Drop"
    KEEP = "Keep"


class SequencePolicy(StrEnum):
    """What a source's own numbers are taken for."""

    IGNORE = "Ignore"
    PER_SYMBOL = "PerSymbol"


class MarketFeedSpec(_Model):
    """What a market's feed should be."""

    source: Source = Field(description="Where the events come from. Exactly one of its fields.")
    exchange: str = Field(min_length=1, max_length=32, description="The exchange's code, such as ASX.")
    asset_class: AssetClass | None = Field(default=None, description="Left out: that of the exchange.")
    currency: Annotated[str, Field(pattern=_CURRENCY_PATTERN)] | None = Field(
        default=None, description="Currency of the prices. Left out: that of the exchange."
    )
    streams: tuple[Stream, ...] = Field(min_length=1, max_length=4, description="Kinds of event, each at most once.")
    topic: Topic = Field(default=Topic(), description="Settings of the topics.")
    sink: Sink = Field(default=Sink(), description="Settings of the sinks.")
    dead_letters: DeadLetters = Field(default=DeadLetters(), description="Settings of the dead-letter topics.")
    producer: Producer = Field(default=Producer(), description="Settings of the producer.")
    schema_version: Literal[2] = Field(default=2, description="Version of the Avro schemas.")
    duplicate_policy: DuplicatePolicy = Field(
        default=DuplicatePolicy.DROP, description="What happens to an event whose id the table already has."
    )
    duplicate_tolerance: Duration = Field(
        default="1s",
        description="How far apart in time the same id of a symbol is one event: one source tells a time in microseconds, "
        "another in milliseconds. Further apart, or with another price, it is a conflict and a dead letter.",
    )
    prices: Prices = Field(
        default=Prices.POSITIVE,
        description="positive: a price of zero or less is rejected, or a dead letter. any: it is a price, as of a spread, or of "
        "oil in April 2020; sizes are above zero all the same.",
    )
    sequence_policy: SequencePolicy = Field(
        default=SequencePolicy.IGNORE,
        description="PerSymbol: the source numbers each symbol's trades and quotes without holes; sinks count what is missing. "
        "Ignore: its numbers are an order and no more, as lines of files are, or a count of all symbols together.",
    )
    drain_timeout: Duration = Field(
        default="5m",
        description="How long a deleted feed waits until its topics' events are in the tables. 0s: not at all.",
    )
    suspend: bool = Field(default=False, description="Stop producer and sinks; topics, tables and offsets stay.")


class FurtherColumn(_Model):
    """A column beside those of the built-in schema: what a writer's own field of that name ends in. Always optional."""

    name: Annotated[str, Field(pattern=further.NAME_PATTERN, max_length=63)] = Field(
        description="Its name, and the name of the field in a writer's Avro schema; none that a built-in column has."
    )
    type: Annotated[str, Field(pattern=further.TYPE_PATTERN)] = Field(
        description="string, int, long, float, double, boolean, date, timestamptz, decimal(p, s), list<string> or "
        "map<string, string>. It may be widened later: int to long, float to double, a decimal to more digits."
    )
    doc: str = Field(
        default="", max_length=500, description="What it means; stands in the table and in the Avro schema."
    )
    was: Annotated[str, Field(pattern=further.FORMER_NAME_PATTERN, max_length=63)] | None = Field(
        default=None, description="The name that it had before. Writers may go on with it. May stay when that is done."
    )
    required: bool = Field(
        default=False,
        description="Whether every row must have a value; only false is taken, and makes a column optional that was not.",
    )


class PartitionField(_Model):
    """One field of a table's partition spec."""

    source: str = Field(min_length=1, max_length=255, description="Column.")
    transform: Annotated[str, Field(pattern=table_layout.TRANSFORM_PATTERN)] = Field(
        description="identity, hour, day, month, year, bucket[N] or truncate[N]; one that the column's type takes."
    )


class SortField(_Model):
    """One field of a table's sort order."""

    column: str = Field(min_length=1, max_length=255, description="Column.")
    direction: Literal["asc", "desc"] = Field(default="asc", description="asc or desc; nulls last.")


class Compaction(_Model):
    """Few large files instead of many small ones, partition by partition."""

    schedule: Schedule = Field(description="When: a cron line of five fields, such as `15 3 * * *`.")
    target_file_size: ByteSize = Field(default="512Mi", description="Size of the files that it makes.")


class SnapshotExpiry(_Model):
    """Drops old snapshots, and the files that only they refer to. Tagged ones stay."""

    schedule: Schedule = Field(description="When: a cron line of five fields, such as `15 3 * * *`.")
    retain_last: int = Field(default=100, ge=1, le=100_000, description="Snapshots that stay, however old they are.")
    older_than: Duration = Field(default="7d", description="Younger snapshots stay.")


class OrphanRemoval(_Model):
    """Deletes files in the table's folder that no snapshot refers to."""

    schedule: Schedule = Field(description="When: a cron line of five fields, such as `15 3 * * *`.")
    older_than: Duration = Field(
        default="3d", description="Younger files stay: a commit that is under way may be about to refer to them."
    )


class MetadataUpkeep(_Model):
    """Writes small manifests anew by partition, and deletes metadata files that the table's log does not name any more."""

    schedule: Schedule = Field(description="When: a cron line of five fields, such as `15 3 * * *`.")
    older_than: Duration = Field(
        default="1d",
        description="Younger metadata files stay: a commit that is under way may be about to refer to them.",
    )


class Scrub(_Model):
    """Compares all bytes of the table's files with what was written, those that were checked longest ago first."""

    schedule: Schedule = Field(description="When: a cron line of five fields, such as `15 3 * * *`.")
    rate: ByteSize = Field(default="50Mi", description="Bytes that are read a second at most.")
    older_than: Duration = Field(default="7d", description="Files that were checked within it are left.")


class Upkeep(_Model):
    """What is done for a table now and then, by CronJobs. Nothing is done that has no schedule."""

    compaction: Compaction | None = Field(default=None, description="Makes few large files of many small ones.")
    snapshot_expiry: SnapshotExpiry | None = Field(default=None, description="Drops old snapshots and their files.")
    orphan_removal: OrphanRemoval | None = Field(default=None, description="Deletes files that nothing refers to.")
    metadata: MetadataUpkeep | None = Field(
        default=None, description="Makes few manifests of many, and deletes old metadata files."
    )
    scrub: Scrub | None = Field(default=None, description="Looks whether files are what was written.")
    time_zone: Annotated[str, Field(pattern=_ZONE_PATTERN)] = Field(
        default="Etc/UTC", description="Time zone of the schedules (IANA), such as Australia/Sydney."
    )
    deadline: Duration = Field(default="2h", description="A run that takes longer is stopped.")
    suspend: bool = Field(default=False, description="Begin no run; one that is under way goes on.")
    resources: Resources = Field(
        default=Resources(), description="Of each run's container. Left out: requests of 100m CPU and 256Mi."
    )


class IcebergTableSpec(_Model):
    """What a table should be. Nothing but `deletionPolicy: Delete` is ever a reason to delete its rows."""

    identifier: Annotated[str, Field(pattern=_IDENTIFIER_PATTERN, max_length=128)] = Field(
        description="namespace.name in the catalog, such as market_data.trades."
    )
    table_schema: DataType = Field(
        alias="schema", description="The built-in schema: trades, quotes, reference_data or gaps."
    )
    decimals: Decimals = Field(
        default=Decimals.STANDARD,
        description="How large and fine prices and quantities are: standard, decimal(18, 8), or wide, decimal(38, 18), which "
        "takes more bytes, and more time for bars. Cannot be changed.",
    )
    columns: tuple[FurtherColumn, ...] = Field(
        default=(),
        max_length=further.MOST,
        description="Columns beside those of the built-in schema. One that was listed once stays: its rows hold it.",
    )
    partition_spec: tuple[PartitionField, ...] | None = Field(
        default=None, max_length=8, description="Left out: by day of the event's time."
    )
    sort_order: tuple[SortField, ...] | None = Field(
        default=None, max_length=8, description="Left out: symbol, time, the source's order."
    )
    properties: dict[str, str] = Field(
        default={},
        max_length=100,
        description="Iceberg table properties. Those that a writer reads have to be what it reads; `k2.*` is reserved.",
    )
    upkeep: Upkeep | None = Field(
        default=None, description="Compaction, expiry, removal of orphans, metadata and scrub, by schedule."
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.RETAIN,
        description="Whether the table is dropped, with its rows, when this resource is deleted. It waits for feeds.",
    )


KINDS: dict[str, type[_Model]] = {"MarketFeed": MarketFeedSpec, "IcebergTable": IcebergTableSpec}


class Metadata(BaseModel):
    """The part of an object's metadata that K2 looks at."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    name: str
    namespace: str = "default"
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    generation: int = 0
    uid: str = ""


class MarketFeed(BaseModel):
    """A MarketFeed that has passed the checks of its fields."""

    model_config = ConfigDict(frozen=True)

    metadata: Metadata
    spec: MarketFeedSpec


class IcebergTable(BaseModel):
    """An IcebergTable that has passed the checks of its fields."""

    model_config = ConfigDict(frozen=True)

    metadata: Metadata
    spec: IcebergTableSpec
