"""Size and reach of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from k2.model.topics import DataType
from k2.query.plan.provenance import Provenance


@dataclass(frozen=True, slots=True)
class TopicProgress:
    """How far a table has taken a topic: partition → next offset to read."""

    topic: str
    next_offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class TableStats:
    """Size and reach of a table at a snapshot; from metadata alone. Times are µs since 1970 UTC.

    For one who may see some of the rows: `rows` and times are of those; `files`, `bytes` and `topics` are None.
    """

    data_type: DataType
    rows: int
    files: int | None
    bytes: int | None
    snapshots: int
    oldest_us: int | None
    newest_us: int | None
    topics: Sequence[TopicProgress] | None
    provenance: Provenance
