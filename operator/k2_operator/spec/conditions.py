"""The words of a status: the types of conditions, their reasons, and the reasons of Events.

Each stands here once and is used by its name everywhere, so that a misspelt one is a type error. They are part of what
people and their scripts rely on: `kubectl wait --for=condition=Ready`, alerts, `docs/operator.md`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class ConditionType(StrEnum):
    """What a condition is about.

    `means` is what its True says, as the end of a sentence that begins with "whether" or "True means". `gate` tells whether a
    feed's `Ready` needs it; the gates stand in the order in which a person should mend them.
    """

    _value_: str
    means: str
    gate: bool

    def __new__(cls, value: str, means: str, gate: bool = False) -> Self:
        """A member: its value is the type's name as it stands in a status."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.means, member.gate = means, gate
        return member

    READY = "Ready", "everything that it asks for is there"
    TOPICS_READY = "TopicsReady", "topics and dead-letter topics are there", True
    SCHEMAS_READY = "SchemasReady", "the registry has the schemas", True
    TABLES_READY = "TablesReady", "the streams' IcebergTables are ready", True
    SINK_AVAILABLE = "SinkAvailable", "every sink has its pods, and commits what there is", True
    PRODUCER_AVAILABLE = "ProducerAvailable", "the producer runs, or has read its source to the end", True
    FRESH = "Fresh", "events reach the tables as they happen"
    COMPLETE = "Complete", "no trade is missing that the exchange has numbered, as far as the account of gaps goes back"
    DEGRADED = "Degraded", "something is wrong that does not stop it"
    UP_TO_DATE = "UpToDate", "all of its pods were built from its spec and the platform's present settings"
    COMPACTED = "Compacted", "the newest partitions lie in about as few files as their size takes"
    FILES_PRESENT = "FilesPresent", "every file of the newest snapshot is there with the size that its manifest says"
    FILES_INTACT = "FilesIntact", "no file that the scrub has compared is other than what was written"
    SNAPSHOTS_EXPIRED = "SnapshotsExpired", "the last run of snapshot expiry ended well"
    ORPHANS_REMOVED = "OrphansRemoved", "the last run of orphan removal ended well"
    METADATA_TIDY = "MetadataTidy", "the last run of metadata upkeep ended well"
    UPKEEP_ON_TIME = "UpkeepOnTime", "every scheduled task of upkeep has ended well within two of its periods"


class Reason(StrEnum):
    """Why a condition is what it is: stable words, which `docs/operator.md` lists by type."""

    # A resource that cannot be planned.
    INVALID_SPEC = "InvalidSpec"
    DUPLICATE_NAME = "DuplicateName"
    DUPLICATE_IDENTIFIER = "DuplicateIdentifier"
    TOPIC_CLAIMED = "TopicClaimed"
    TABLE_NOT_FOUND = "TableNotFound"
    SCHEMA_MISMATCH = "SchemaMismatch"

    # Ready, where no gate says it better.
    AS_ASKED = "AsAsked"
    RECONCILING = "Reconciling"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a word for a person, no password
    APPLY_FAILED = "ApplyFailed"
    NAME_TAKEN = "NameTaken"
    DRAINING = "Draining"
    RELEASING_TOPICS = "ReleasingTopics"
    IN_USE = "InUse"

    # Topics, schemas and tables: made, refused, or not to be asked.
    TOPICS_EXIST = "TopicsExist"
    TOPIC_REFUSED = "TopicRefused"
    TOPIC_REPLACED = "TopicReplaced"
    KAFKA_UNREACHABLE = "KafkaUnreachable"
    SUBJECTS_REGISTERED = "SubjectsRegistered"
    SCHEMA_REFUSED = "SchemaRefused"
    REGISTRY_UNREACHABLE = "RegistryUnreachable"
    TABLE_EXISTS = "TableExists"
    TABLE_REFUSED = "TableRefused"
    CATALOG_UNREACHABLE = "CatalogUnreachable"
    STORE_UNREACHABLE = "StoreUnreachable"
    TABLES_EXIST = "TablesExist"
    TABLE_NOT_READY = "TableNotReady"

    # What runs.
    SUSPENDED = "Suspended"
    SINK_AVAILABLE = "SinkAvailable"
    NO_SINK = "NoSink"
    SCALED_TO_ZERO = "ScaledToZero"
    SINK_NOT_AVAILABLE = "SinkNotAvailable"
    PRODUCER_AVAILABLE = "ProducerAvailable"
    PRODUCER_NOT_AVAILABLE = "ProducerNotAvailable"
    EXTERNAL_SOURCE = "ExternalSource"
    LOAD_STARTING = "LoadStarting"
    LOAD_RUNNING = "LoadRunning"
    LOAD_COMPLETED = "LoadCompleted"
    LOAD_FAILING = "LoadFailing"
    LOAD_FAILED = "LoadFailed"
    AS_CONFIGURED = "AsConfigured"
    ROLLOUT_WAITING = "RolloutWaiting"
    ROLLING_OUT = "RollingOut"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"

    # Why pods do not come up.
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    OUT_OF_MEMORY = "OutOfMemory"
    CRASH_LOOPING = "CrashLooping"
    PODS_REFUSED = "PodsRefused"
    UNSCHEDULABLE = "Unschedulable"

    # What was measured.
    NOT_MEASURED = "NotMeasured"
    FRESH = "Fresh"
    STALE = "Stale"
    ALL_TRADES_HERE = "AllTradesHere"
    GAPS_OPEN = "GapsOpen"
    TRADES_MISSING = "TradesMissing"
    TIMES_UNKNOWN = "TimesUnknown"
    NO_ACCOUNT = "NoAccount"
    FINITE_SOURCE = "FiniteSource"
    MARKET_CLOSED = "MarketClosed"
    AS_EXPECTED = "AsExpected"
    SINK_STALLED = "SinkStalled"
    DECISION_NEEDED = "DecisionNeeded"
    COMMIT_CONTENTION = "CommitContention"
    FALLING_BEHIND = "FallingBehind"
    MANY_DEAD_LETTERS = "ManyDeadLetters"
    FIELDS_ADDED = "FieldsAdded"

    # A table's files and its upkeep.
    FEW_FILES = "FewFiles"
    MANY_SMALL_FILES = "ManySmallFiles"
    NOT_PARTITIONED_BY_TIME = "NotPartitionedByTime"
    NO_DATA = "NoData"
    ALL_FILES_PRESENT = "AllFilesPresent"
    FILES_MISSING = "FilesMissing"
    ALL_FILES_INTACT = "AllFilesIntact"
    FILES_DAMAGED = "FilesDamaged"
    NOT_YET_RUN = "NotYetRun"
    RUNNING = "Running"
    RUN_SUCCEEDED = "RunSucceeded"
    RUN_FAILED = "RunFailed"
    RUNS_ON_TIME = "RunsOnTime"
    RUNS_MISSED = "RunsMissed"


UNREACHABLE = frozenset(
    (Reason.KAFKA_UNREACHABLE, Reason.REGISTRY_UNREACHABLE, Reason.CATALOG_UNREACHABLE, Reason.STORE_UNREACHABLE)
)
"""A part of the world outside is away: nobody's mistake, and over by itself when it is back."""


class EventReason(StrEnum):
    """What an Event tells of; those about a change of `Ready` have its `Reason`."""

    CREATED = "Created"
    UPDATED = "Updated"
    REPAIRED = "Repaired"
    REMOVED = "Removed"
    DELETED = "Deleted"
    CHANGED = "Changed"
    DRAINED = "Drained"
    DRAIN_TIMED_OUT = "DrainTimedOut"
    DRAIN_SKIPPED = "DrainSkipped"
    TOPICS_DELETED = "TopicsDeleted"
    TOPICS_RELEASED = "TopicsReleased"
    TOPICS_NOT_RELEASED = "TopicsNotReleased"
    TABLE_DROPPED = "TableDropped"
