"""What should exist, decided: the frozen plans between `planning`, the builders and the executors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from k2.model.events import Decimals
from k2.model.tables import TableColumn, TableSpec
from k2.model.topics import TopicName
from k2.model.workload import ProducerConfig, QueryConfig, SinkConfig
from k2_operator.spec.resources import Resources
from k2_operator.spec.validate import ResourceError


@dataclass(frozen=True, slots=True)
class UpkeepPlan:
    """One kind of a table's upkeep: `k2 upkeep <task>`, when, and with which limits (options by name, without dashes)."""

    task: Literal["compact", "expire", "orphans", "metadata", "scrub"]
    schedule: str
    time_zone: str
    suspended: bool
    deadline_seconds: int
    limits: tuple[tuple[str, int], ...]
    resources: Resources


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One IcebergTable resource and the table that it declares."""

    namespace: str
    name: str
    table: TableSpec
    delete_with_resource: bool = False
    upkeep: tuple[UpkeepPlan, ...] = ()


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic, its dead-letter topic and its subject, whose schema follows the table that the topic ends in.

    Attributes:
        decimals: of that table.
        further: its columns beside the built-in ones.
    """

    name: TopicName
    partitions: int
    replication_factor: int
    retention_ms: int | None
    dead_letter_retention_ms: int | None
    allow_reordering: bool
    decimals: Decimals = Decimals.STANDARD
    further: tuple[TableColumn, ...] = ()


@dataclass(frozen=True, slots=True)
class AutoscalingPlan:
    """Bounds of a sink's pods; `target_lag` is how many messages behind one pod should be at most."""

    least: int
    most: int
    target_lag: int


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """The sink of one (topic, table) pair. With autoscaling `replicas` is not looked at."""

    config: SinkConfig
    replicas: int
    resources: Resources
    autoscaling: AutoscalingPlan | None = None

    @property
    def least(self) -> int:
        """Pods that there should be at least."""
        return self.autoscaling.least if self.autoscaling else self.replicas

    @property
    def most(self) -> int:
        """Pods that there may be."""
        return self.autoscaling.most if self.autoscaling else self.replicas


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """Where a producer's files come from: a claim or a ConfigMap, by name."""

    kind: Literal["claim", "configMap"]
    name: str


@dataclass(frozen=True, slots=True)
class ProducerPlan:
    """What sends the feed's events: a live source runs for ever, a finite one is a Job named after its source's hash.

    A `hot` one may be heard by several pods at once, so a new pod comes before the old one goes.
    """

    config: ProducerConfig
    finite: bool
    source_hash: str
    volume: VolumePlan | None
    resources: Resources
    replicas: int = 1
    hot: bool = False


@dataclass(frozen=True, slots=True)
class FeedPlan:
    """Everything that one MarketFeed asks for: topics and sinks that it owns, its producer, and how it ends.

    `drain_seconds` bounds the wait before a deleted feed lets go. `generation` is that of the spec it was planned from.
    """

    namespace: str
    name: str
    exchange: str
    topics: tuple[TopicPlan, ...]
    sinks: tuple[SinkPlan, ...]
    producer: ProducerPlan | None
    suspended: bool
    delete_topics: bool = False
    drain_seconds: float = 300.0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class PlatformPlan:
    """All plans of a set of resources, and what is wrong with the others."""

    tables: tuple[TablePlan, ...]
    feeds: tuple[FeedPlan, ...]
    problems: tuple[ResourceError, ...]


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """The query service of the platform; `api_keys_secret` holds `keys.json`."""

    namespace: str
    name: str
    config: QueryConfig
    replicas: int
    api_keys_secret: str
    resources: Resources
