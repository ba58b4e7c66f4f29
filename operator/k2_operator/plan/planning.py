"""Resources and the platform's settings → what should exist, as frozen plans. Pure; every mistake of a user is found here.

Builders and executors take these plans and never see a raw spec. Who owns a topic or an identifier is decided here too:
the oldest resource (creation time, then namespace/name), so that the answer is the same for every reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from k2.model.dead_share import WINDOW
from k2.model.errors import UserError
from k2.model.exchanges import exchange
from k2.model.further import of_table
from k2.model.platform import Platform
from k2.model.tables import TableSpec, event_columns
from k2.model.topics import DataType, TopicName, sink_group_id
from k2.model.workload import SinkConfig, StreamConfig
from k2_operator.plan.columns import column_errors, further_columns
from k2_operator.plan.layout import layout_errors, partition_by, properties_of, sort_by
from k2_operator.plan.plans import AutoscalingPlan, FeedPlan, PlatformPlan, SinkPlan, TablePlan, TopicPlan
from k2_operator.plan.source import keeps_account, producer_plan, source_errors
from k2_operator.plan.upkeep import upkeep_errors, upkeep_plans
from k2_operator.spec.conditions import Reason
from k2_operator.spec.quantities import seconds, share, size_in_bytes
from k2_operator.spec.resources import (
    DeletionPolicy,
    DuplicatePolicy,
    IcebergTable,
    MarketFeed,
    Metadata,
    SequencePolicy,
    Stream,
)
from k2_operator.spec.validate import ResourceError, describe, parse

SINGLE = frozenset({DataType.REFERENCE_DATA, DataType.GAPS})
"""Kinds whose topic has one partition whatever the feed's other topics have: there is little of them, and their order counts."""

ACCOUNT_MS = 7 * 24 * 3600 * 1000

Key = tuple[str, str]
"""(namespace, name) of a resource."""


def plan(documents: Iterable[Mapping[str, Any]], platform: Platform) -> PlatformPlan:
    """Plan a whole set of documents, as `k2 up` reads them. A resource with a problem has no plan."""
    feeds: list[MarketFeed] = []
    tables: list[IcebergTable] = []
    problems: list[ResourceError] = []
    seen: set[str] = set()
    for document in documents:
        resource, errors = parse(document)
        problems += errors
        if (who := describe(document)) in seen:
            remedy = "give one of them another name"
            problems.append(
                ResourceError(who, "metadata.name", "declared twice", remedy=remedy, reason=Reason.DUPLICATE_NAME)
            )
            continue
        seen.add(who)
        if isinstance(resource, MarketFeed):
            feeds.append(resource)
        elif isinstance(resource, IcebergTable):
            tables.append(resource)
    table_plans: dict[Key, TablePlan] = {}
    for table in tables:
        planned, errors = plan_table(table, tables)
        problems += errors
        if planned is not None:
            table_plans[table.metadata.namespace, table.metadata.name] = planned
    feed_plans: list[FeedPlan] = []
    for feed in feeds:
        feed_plan, errors = plan_feed(feed, platform, table_plans, feeds)
        problems += errors
        if feed_plan is not None:
            feed_plans.append(feed_plan)
    return PlatformPlan(tuple(table_plans.values()), tuple(feed_plans), tuple(problems))


def plan_table(table: IcebergTable, tables: Sequence[IcebergTable]) -> tuple[TablePlan | None, list[ResourceError]]:
    """Plan one table. `tables` are all that exist, itself included: two with one identifier have one owner."""
    who, spec = f"IcebergTable {_where(table.metadata)}", table.spec
    errors: list[ResourceError] = []
    errors += layout_errors(who, spec)
    errors += column_errors(who, spec)
    errors += upkeep_errors(who, spec.upkeep)
    owner = _oldest([each for each in tables if each.spec.identifier == spec.identifier])
    if owner is not None and owner.metadata != table.metadata:
        errors.append(
            ResourceError(
                who,
                "spec.identifier",
                f"{spec.identifier} belongs to IcebergTable {_where(owner.metadata)}, which is older",
                remedy="choose another identifier, or delete one of the two",
                reason=Reason.DUPLICATE_IDENTIFIER,
            )
        )
    if errors:
        return None, errors
    described = TableSpec(
        identifier=spec.identifier,
        data_type=spec.table_schema,
        columns=(*event_columns(spec.table_schema, spec.decimals), *further_columns(spec.columns)),
        partition_by=partition_by(spec),
        sort_by=sort_by(spec),
        properties=properties_of(spec),
        decimals=spec.decimals,
    )
    delete = spec.deletion_policy is DeletionPolicy.DELETE
    return TablePlan(
        table.metadata.namespace,
        table.metadata.name,
        described,
        delete_with_resource=delete,
        upkeep=upkeep_plans(spec.upkeep),
    ), []


def plan_feed(
    feed: MarketFeed, platform: Platform, tables: Mapping[Key, TablePlan], feeds: Sequence[MarketFeed]
) -> tuple[FeedPlan | None, list[ResourceError]]:
    """Plan one feed. `tables` are the planned ones by (namespace, name); `feeds` are all that exist, itself included."""
    who, spec = f"MarketFeed {_where(feed.metadata)}", feed.spec
    try:
        market = exchange(spec.exchange)
    except UserError as error:
        return None, [
            ResourceError(
                who,
                "spec.exchange",
                "unknown exchange",
                found=spec.exchange,
                expected=error.expected,
                remedy=error.remedy,
            )
        ]
    errors = source_errors(who, feed)
    streams: list[tuple[TopicName, TablePlan, Stream]] = []
    for index, stream in enumerate(spec.streams):
        found, more = _stream_table(who, feed, index, tables)
        errors += more + _claim_errors(who, feed, index, feeds)
        if found is not None:
            streams.append((_topic(feed, stream), found, stream))
    errors += _sink_errors(who, feed)
    if errors:
        return None, errors
    owned = [each for each in streams if _owner(_topic(feed, each[2]), feeds) == feed.metadata]
    return FeedPlan(
        namespace=feed.metadata.namespace,
        name=feed.metadata.name,
        exchange=market.code,
        topics=tuple(_topic_plan(feed, topic, table, platform) for topic, table, _ in owned),
        sinks=tuple(_sink_plan(feed, topic, table) for topic, table, stream in owned if stream.sink.enabled),
        producer=producer_plan(
            feed,
            market,
            [
                StreamConfig(
                    data_type=topic.data_type,
                    topic=str(topic),
                    table=table.table.identifier,
                    decimals=table.table.decimals,
                )
                for topic, table, _ in streams
            ],
        ),
        suspended=spec.suspend,
        delete_topics=spec.topic.deletion_policy is DeletionPolicy.DELETE,
        drain_seconds=seconds(spec.drain_timeout),
        generation=feed.metadata.generation,
    ), []


def topics_of(feed: MarketFeed) -> list[TopicName]:
    """The topics that a feed's streams name, whoever owns them; none for an exchange that nobody knows."""
    return [_topic(feed, stream) for stream in feed.spec.streams] if _known_exchange(feed) else []


def _where(metadata: Metadata) -> str:
    return f"{metadata.namespace}/{metadata.name}"


_Resource = TypeVar("_Resource", MarketFeed, IcebergTable)


def _oldest(resources: Sequence[_Resource]) -> _Resource | None:
    def age(each: _Resource) -> tuple[str, str, str]:
        # RFC 3339 in UTC sorts as text.
        return (each.metadata.creation_timestamp, each.metadata.namespace, each.metadata.name)

    return min(resources, key=age, default=None)


def _topic(feed: MarketFeed, stream: Stream) -> TopicName:
    asset_class = feed.spec.asset_class or exchange(feed.spec.exchange).asset_class
    return TopicName(asset_class, stream.data_type, feed.spec.exchange.lower())


def _known_exchange(feed: MarketFeed) -> bool:
    try:
        exchange(feed.spec.exchange)
    except UserError:
        return False
    return True


def _owner(topic: TopicName, feeds: Sequence[MarketFeed]) -> Metadata | None:
    """Who decides a topic's settings: the oldest feed that wants its sink, or else the oldest that has the topic."""
    candidates = [
        (feed, stream)
        for feed in feeds
        if _known_exchange(feed)
        for stream in feed.spec.streams
        if _topic(feed, stream) == topic
    ]
    with_sink = [feed for feed, stream in candidates if stream.sink.enabled]
    owner = _oldest(with_sink or [feed for feed, _ in candidates])
    return owner.metadata if owner else None


def _claim_errors(who: str, feed: MarketFeed, index: int, feeds: Sequence[MarketFeed]) -> list[ResourceError]:
    stream = feed.spec.streams[index]
    topic = _topic(feed, stream)
    earlier = [i for i, each in enumerate(feed.spec.streams[:index]) if each.data_type == stream.data_type]
    if earlier:
        what = f"{stream.data_type} is already spec.streams[{earlier[0]}]"
        return [ResourceError(who, f"spec.streams[{index}].dataType", what, remedy="name each data type once")]
    owner = _owner(topic, feeds)
    if not stream.sink.enabled or owner is None or owner == feed.metadata:
        return []
    return [
        ResourceError(
            who,
            f"spec.streams[{index}]",
            f"topic {topic} and its sink belong to MarketFeed {_where(owner)}, which is older",
            remedy="set sink.enabled: false to send to the same topic only",
            reason=Reason.TOPIC_CLAIMED,
        )
    ]


def _stream_table(
    who: str, feed: MarketFeed, index: int, tables: Mapping[Key, TablePlan]
) -> tuple[TablePlan | None, list[ResourceError]]:
    stream = feed.spec.streams[index]
    table = tables.get((feed.metadata.namespace, stream.table_ref.name))
    if table is None:
        known = sorted(name for namespace, name in tables if namespace == feed.metadata.namespace)
        return None, [
            ResourceError(
                who,
                f"spec.streams[{index}].tableRef.name",
                f"no usable IcebergTable of that name in namespace {feed.metadata.namespace}",
                found=stream.table_ref.name,
                expected=f"one of {', '.join(known)}" if known else "",
                remedy="" if known else "apply the table first (manifests/samples/tables.yaml has three)",
                reason=Reason.TABLE_NOT_FOUND,
            )
        ]
    if table.table.data_type != stream.data_type:
        what = f"IcebergTable {table.name} holds {table.table.data_type}, the stream holds {stream.data_type}"
        path = f"spec.streams[{index}].tableRef.name"
        return None, [
            ResourceError(
                who, path, what, remedy="refer to a table of the stream's type", reason=Reason.SCHEMA_MISMATCH
            )
        ]
    return table, []


def _sink_errors(who: str, feed: MarketFeed) -> list[ResourceError]:
    sink, topic = feed.spec.sink, feed.spec.topic
    errors: list[ResourceError] = []
    if sink.replicas > topic.partitions:
        expected = f"at most {topic.partitions}, the number of partitions: one more would have nothing to read"
        errors.append(ResourceError(who, "spec.sink.replicas", "too many", found=sink.replicas, expected=expected))
    errors += _autoscaling_errors(who, feed)
    if not 0.1 <= seconds(sink.commit_interval) <= 3600:
        expected = "100ms to 1h"
        errors.append(
            ResourceError(
                who, "spec.sink.commitInterval", "out of range", found=sink.commit_interval, expected=expected
            )
        )
    tolerance = feed.spec.duplicate_tolerance
    if seconds(tolerance) > 3600:
        errors.append(
            ResourceError(who, "spec.duplicateTolerance", "out of range", found=tolerance, expected="0s to 1h")
        )
    if not 1 << 16 <= size_in_bytes(sink.commit_bytes) <= 1 << 32:
        errors.append(
            ResourceError(who, "spec.sink.commitBytes", "out of range", found=sink.commit_bytes, expected="64Ki to 4Gi")
        )
    return errors


def _autoscaling_errors(who: str, feed: MarketFeed) -> list[ResourceError]:
    asked, partitions = feed.spec.sink.autoscaling, feed.spec.topic.partitions
    if asked is None:
        return []
    path = "spec.sink.autoscaling"
    errors: list[ResourceError] = []
    if asked.max_replicas > partitions:
        expected = f"at most {partitions}, the number of partitions: one more would have nothing to read"
        errors.append(
            ResourceError(who, f"{path}.maxReplicas", "too many", found=asked.max_replicas, expected=expected)
        )
    if asked.min_replicas > asked.max_replicas:
        expected = f"at most maxReplicas, {asked.max_replicas}"
        errors.append(
            ResourceError(who, f"{path}.minReplicas", "too many", found=asked.min_replicas, expected=expected)
        )
    return errors


def _topic_plan(feed: MarketFeed, topic: TopicName, table: TablePlan, platform: Platform) -> TopicPlan:
    settings = feed.spec.topic
    return TopicPlan(
        name=topic,
        partitions=1 if topic.data_type in SINGLE else settings.partitions,
        replication_factor=platform.kafka.replication_factor,
        retention_ms=_retention(topic.data_type, settings.retention),
        dead_letter_retention_ms=_milliseconds(feed.spec.dead_letters.retention or settings.retention),
        allow_reordering=settings.allow_reordering,
        decimals=table.table.decimals,
        further=of_table(table.table),
    )


def _retention(data_type: DataType, duration: str | None) -> int | None:
    """A feed that begins again reads its account from the topic: that is kept longer than trades may be."""
    asked = _milliseconds(duration)
    return asked if asked is None or data_type is not DataType.GAPS else max(asked, ACCOUNT_MS)


def _milliseconds(duration: str | None) -> int | None:
    return None if duration is None else int(seconds(duration) * 1000)


def _sink_plan(feed: MarketFeed, topic: TopicName, table: TablePlan) -> SinkPlan:
    sink, stop_above = feed.spec.sink, feed.spec.dead_letters.stop_above
    source = feed.spec.source.config
    numbered = None if source is None else source.numbers(topic.data_type)
    if topic.data_type in SINGLE or (topic.data_type is DataType.TRADES and keeps_account(feed)):
        # The account says what is missing; a sink would count what is filled later, too.
        numbered = False
    elif numbered is None:
        numbered = feed.spec.sequence_policy is SequencePolicy.PER_SYMBOL
    config = SinkConfig(
        topic=str(topic),
        table=table.table.identifier,
        data_type=topic.data_type,
        group_id=sink_group_id(str(topic), table.table.identifier),
        commit_interval_seconds=seconds(sink.commit_interval),
        commit_bytes=size_in_bytes(sink.commit_bytes),
        duplicates="drop" if feed.spec.duplicate_policy is DuplicatePolicy.DROP else "keep",
        duplicate_tolerance_seconds=seconds(feed.spec.duplicate_tolerance),
        dead_letters_stop_above=None if stop_above is None else int(share(stop_above) * WINDOW),
        prices=feed.spec.prices,
        sequences="per_symbol" if numbered else "ignore",
    )
    is_single = topic.data_type in SINGLE
    asked = None if is_single else sink.autoscaling
    return SinkPlan(
        config,
        min(sink.replicas, 1) if is_single else sink.replicas,
        sink.resources,
        None if asked is None else AutoscalingPlan(asked.min_replicas, asked.max_replicas, asked.target_lag),
    )
