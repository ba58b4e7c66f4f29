"""What the operator writes into `status`, as models: the CRDs' status schemas come from here, and the printer columns read it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Status(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Condition(_Status):
    """One thing that is true, false or not known; `message` says what to do about it."""

    type: str = Field(max_length=64, description="What is said something about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    reason: str = Field(max_length=128, description="One stable CamelCase word.")
    message: str = Field(max_length=4096, description="For a person: what was found, and the remedy.")
    observed_generation: int = Field(description="The generation of the spec that this was found for.")
    last_transition_time: str = Field(
        json_schema_extra={"format": "date-time"}, description="Since when the status is what it is."
    )


class SinkStatus(_Status):
    """What one sink has brought into its table, as it says itself beside its offsets."""

    data_type: str = Field(max_length=32, description="Kind of event.")
    topic: str = Field(max_length=256, description="Topic that it reads.")
    table: str = Field(max_length=256, description="Table that it writes, as the catalog names it.")
    lag: int = Field(description="Messages in the topic that are not in the table yet, rounded.")
    gaps: int | None = Field(
        default=None, description="Times that the source's sequence jumped ahead; left out where no sink counts them."
    )
    dead_letters: int | None = Field(
        default=None, description="Dead letters of the topic, each counted once, that the table has recorded."
    )
    recent_dead_letters: int | None = Field(
        default=None, description="Dead letters among its last 10,000 messages, rounded; left out where there is none."
    )
    dead_letter_reason: str | None = Field(
        default=None, max_length=256, description="What most of those are about, without the values that they have."
    )
    last_snapshot: str | None = Field(
        default=None, max_length=32, description="Id of the snapshot of its last commit; a text, being a 64 bit number."
    )
    last_commit_time: str | None = Field(
        default=None, json_schema_extra={"format": "date-time"}, description="Time of that snapshot."
    )


class CompletenessStatus(_Status):
    """What a live feed's account of gaps comes to, as the feed says itself."""

    open: int = Field(description="Trades that are missing now and are asked for.")
    filled: int = Field(description="Trades that were missing and came.")
    unfillable: int = Field(description="Trades that are missing for good.")
    unknown: int = Field(description="Times, by symbol, in which nothing was heard and nothing tells what was missed.")
    dead_lettered: int = Field(description="Trades that came and were refused.")
    oldest: str | None = Field(
        default=None, json_schema_extra={"format": "date-time"}, description="Since when the oldest of them is missing."
    )
    as_of: str = Field(json_schema_extra={"format": "date-time"}, description="When the feed said it.")


class MarketFeedStatus(_Status):
    """What is true of a feed."""

    observed_generation: int | None = Field(default=None, description="The newest spec that was looked at.")
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, description="What is true, by type.")
    streams: str | None = Field(default=None, description="Data types of the streams, for a table of feeds.")
    topics: tuple[str, ...] = Field(default=(), max_length=8, description="Topics that this feed owns.")
    sink_replicas: int | None = Field(default=None, description="Pods of the sinks that run.")
    completed_source: str | None = Field(
        default=None, description="Hash of the finite source that was read to its end; it is not read again."
    )
    lag: int | None = Field(default=None, description="Messages in the topics that are not in the tables yet, rounded.")
    rate: int | None = Field(default=None, description="Messages a second into the topics, rounded.")
    last_event_time: str | None = Field(
        default=None, json_schema_extra={"format": "date-time"}, description="Time of the newest event in the tables."
    )
    gaps: int | None = Field(
        default=None,
        description="Trades that are missing now, where the feed keeps an account of gaps; else times that a source's sequence jumped "
        "ahead; left out where nobody counts them.",
    )
    completeness: CompletenessStatus | None = Field(
        default=None, description="What the feed's account of gaps comes to; left out where it keeps none."
    )
    dead_letters: int | None = Field(
        default=None, description="Dead letters of the topics, each counted once, that the tables have recorded."
    )
    sinks: tuple[SinkStatus, ...] = Field(default=(), max_length=8, description="What each sink has done, by topic.")


class UpkeepRun(_Status):
    """What the last run of a task of upkeep came to, as the table itself keeps it; what a task does not tell is left out."""

    task: str = Field(max_length=32, description="compact, expire, orphans, metadata, scrub or restore.")
    last_success_time: str = Field(json_schema_extra={"format": "date-time"}, description="When it came to its end.")
    seconds: int = Field(description="How long it took.")
    tries: int | None = Field(default=None, description="Commits that were begun for the slowest of its commits.")
    files_before: int | None = Field(default=None, description="Files (metadata: manifests) that it has replaced.")
    files_after: int | None = Field(default=None, description="Files in their place.")
    bytes_before: int | None = Field(default=None, description="Size of the files that it has replaced, in bytes.")
    bytes_after: int | None = Field(default=None, description="Size of those in their place, in bytes.")
    noted: int | None = Field(default=None, description="Files that a later run deletes.")
    deleted: int | None = Field(default=None, description="Files that it has deleted.")
    files: int | None = Field(default=None, description="Files of the table.")
    checked: int | None = Field(default=None, description="Files that were compared with what was written.")
    unread: int | None = Field(default=None, description="Files that were due and are left for the next run.")
    damaged: int | None = Field(default=None, description="Files that are not what was written.")
    damaged_rows: int | None = Field(default=None, description="Rows that these held.")
    named: tuple[str, ...] = Field(default=(), max_length=8, description="Some of them, each with what is wrong.")


class IcebergTableStatus(_Status):
    """What is true of a table."""

    observed_generation: int | None = Field(default=None, description="The newest spec that was looked at.")
    conditions: tuple[Condition, ...] = Field(default=(), max_length=32, description="What is true, by type.")
    last_snapshot: str | None = Field(
        default=None, max_length=32, description="Id of the newest snapshot; a text, being a 64 bit number."
    )
    last_commit_time: str | None = Field(
        default=None, json_schema_extra={"format": "date-time"}, description="Time of the newest snapshot."
    )
    rows: int | None = Field(default=None, description="Rows of the newest snapshot.")
    bytes: int | None = Field(default=None, description="Size of its data files, in bytes.")
    files: int | None = Field(default=None, description="Number of its data files.")
    upkeep: tuple[UpkeepRun, ...] = Field(
        default=(), max_length=16, description="What the last run of each task of upkeep came to."
    )
