"""Table properties that a writer reads, each with what its value may be; of all others anything goes.

K2's own writer, PyIceberg's commits and the other engines of a table read them as numbers, switches or words, and fail at the
first commit where they cannot. A kind is one regular expression, so that plan, lake and CEL rules hold a value to the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from k2.model.tables import RESERVED_PROPERTIES


@dataclass(frozen=True, slots=True)
class PropertyKind:
    """What values a property may have: `pattern` is met by the whole of one (Python and RE2 alike); `expected` is for people."""

    pattern: str
    expected: str

    def takes(self, value: str) -> bool:
        """Whether a value is one of this kind."""
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True, slots=True)
class PropertyMistake:
    """One property that no writer can honour, or that nobody may set."""

    name: str
    what: str
    found: str | None = None
    expected: str = ""
    remedy: str = ""


def _one_of(*words: str) -> PropertyKind:
    return PropertyKind("|".join(words), f"one of {', '.join(words)}" if len(words) > 1 else "".join(words))


LEVELLED = ("zstd", "gzip", "brotli")
CODECS = (*LEVELLED, "snappy", "lz4", "uncompressed", "none")
"""Of Parquet files; those that have levels first."""
_HIGHEST = {"zstd": 22, "gzip": 9, "brotli": 11}
_CODEC, _LEVEL = "write.parquet.compression-codec", "write.parquet.compression-level"

NUMBER = PropertyKind("[1-9][0-9]{0,8}", "a whole number from 1 to 999999999")
LONG = PropertyKind("[1-9][0-9]{0,17}", "a whole number above 0 of at most 18 digits")
FROM_ZERO = PropertyKind("0|[1-9][0-9]{0,8}", "a whole number from 0 to 999999999")
SWITCH = PropertyKind("true|false", "true or false")
# PyIceberg takes yes and on as well, and Java takes them for false.
METRICS = PropertyKind(r"none|counts|full|truncate\([1-9][0-9]{0,8}\)", "none, counts, full or truncate(N)")
PLACE = PropertyKind(
    r"(file|s3|s3a|s3n|oss|gs|hdfs|viewfs|abfs|abfss|wasb|wasbs)://.+|file:/.+|/.+",
    "a place such as s3://bucket/folder",
)
LEVEL = PropertyKind("[1-9]|1[0-9]|2[0-2]", "a level from 1 to 22")
_CHANGE = _one_of("copy-on-write", "merge-on-read")
_ISOLATION = _one_of("serializable", "snapshot")

_KINDS: Mapping[PropertyKind, tuple[str, ...]] = {
    NUMBER: (
        "write.parquet.row-group-limit",
        "write.parquet.row-group-size-bytes",
        "write.parquet.page-size-bytes",
        "write.parquet.page-row-limit",
        "write.parquet.dict-size-bytes",
        "write.parquet.bloom-filter-max-bytes",
        "write.metadata.previous-versions-max",
        "write.metadata.metrics.max-inferred-column-defaults",
        "commit.manifest.min-count-to-merge",
        "history.expire.min-snapshots-to-keep",
        "read.split.planning-lookback",
    ),
    LONG: (
        "write.target-file-size-bytes",
        "write.delete.target-file-size-bytes",
        "commit.manifest.target-size-bytes",
        "history.expire.max-snapshot-age-ms",
        "history.expire.max-ref-age-ms",
        "read.split.target-size",
        "read.split.metadata-target-size",
        "read.split.open-file-cost",
    ),
    FROM_ZERO: (
        "write.summary.partition-limit",
        "commit.retry.num-retries",
        "commit.retry.min-wait-ms",
        "commit.retry.max-wait-ms",
        "commit.retry.total-timeout-ms",
        "commit.status-check.num-retries",
        "commit.status-check.min-wait-ms",
        "commit.status-check.max-wait-ms",
        "commit.status-check.total-timeout-ms",
    ),
    SWITCH: (
        "write.metadata.delete-after-commit.enabled",
        "write.object-storage.enabled",
        "write.object-storage.partitioned-paths",
        "write.spark.fanout.enabled",
        "write.upsert.enabled",
        "write.wap.enabled",
        "commit.manifest-merge.enabled",
        "compatibility.snapshot-id-inheritance.enabled",
        "gc.enabled",
    ),
    METRICS: ("write.metadata.metrics.default",),
    PLACE: ("write.data.path", "write.metadata.path"),
    LEVEL: (_LEVEL,),
    _one_of(*CODECS): (_CODEC,),
    # Of manifests; snappy and bzip2 need libraries that K2's processes have not.
    _one_of("gzip", "zstd"): ("write.avro.compression-codec",),
    _one_of("none", "gzip"): ("write.metadata.compression-codec",),
    _one_of("none", "hash", "range"): ("write.distribution-mode",),
    _one_of("parquet"): ("write.format.default",),
    _one_of("1", "2"): ("format-version",),
    _one_of("file", "partition"): ("write.delete.granularity",),
    _CHANGE: ("write.delete.mode", "write.update.mode", "write.merge.mode"),
    _ISOLATION: ("write.delete.isolation-level", "write.update.isolation-level", "write.merge.isolation-level"),
}
KNOWN: Mapping[str, PropertyKind] = MappingProxyType({name: kind for kind, names in _KINDS.items() for name in names})
"""Properties by name."""

BY_COLUMN: Mapping[str, PropertyKind] = MappingProxyType(
    {"write.metadata.metrics.column.": METRICS, "write.parquet.bloom-filter-enabled.column.": SWITCH}
)
"""Properties that end in a column's name, by what stands before it."""

_ICEBERGS = "is kept by Iceberg itself"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "write.py-location-provider.impl": "would have K2's processes load code by its name",
        **dict.fromkeys(
            (
                "uuid",
                "snapshot-count",
                "current-snapshot-id",
                "current-snapshot-summary",
                "current-snapshot-timestamp-ms",
                "current-schema",
                "default-partition-spec",
                "default-sort-order",
            ),
            _ICEBERGS,
        ),
    }
)
"""Properties that nobody may set, with why."""


def property_mistakes(properties: Mapping[str, str], columns: Collection[str]) -> list[PropertyMistake]:
    """What is wrong with a table's properties.

    Args:
        properties: as they are asked for, defaults included.
        columns: names of the table's columns.
    """
    found = [mistake for name, value in properties.items() if (mistake := _mistake(name, value, columns)) is not None]
    level, codec = properties.get(_LEVEL, ""), properties.get(_CODEC, "zstd")
    highest = _HIGHEST.get(codec)
    if highest is not None and LEVEL.takes(level) and int(level) > highest:
        found.append(PropertyMistake(_LEVEL, f"{codec} has none of that", level, f"a level from 1 to {highest}"))
    return found


def unusable(name: str, value: str) -> bool:
    """Whether no writer can honour the value of a property, whoever has set it."""
    kind = kind_of(name)
    return name == "write.py-location-provider.impl" or (kind is not None and not kind.takes(value))


def kind_of(name: str) -> PropertyKind | None:
    """What values a property may have; None: nobody reads it, or only as text."""
    if (kind := KNOWN.get(name)) is not None:
        return kind
    return next((kind for prefix, kind in BY_COLUMN.items() if name.startswith(prefix)), None)


def _mistake(name: str, value: str, columns: Collection[str]) -> PropertyMistake | None:
    if name.startswith(RESERVED_PROPERTIES):
        return PropertyMistake(name, "reserved for K2's own bookkeeping", remedy="leave it out")
    if (why := REFUSED.get(name)) is not None:
        return PropertyMistake(name, why, value, remedy="leave it out")
    kind = kind_of(name)
    if kind is not None and not kind.takes(value):
        near = [word for word in kind.pattern.split("|") if word == value.strip().lower()]
        remedy = f'did you mean "{near[0]}"?' if near else ""
        return PropertyMistake(name, "not usable", value, kind.expected, remedy)
    for prefix in BY_COLUMN:
        column = name.removeprefix(prefix)
        # Of a list or a map, its elements have names of their own.
        if name.startswith(prefix) and column.partition(".")[0] not in columns:
            close = difflib.get_close_matches(column, sorted(columns), n=1)
            remedy = f'did you mean "{close[0]}"?' if close else ""
            return PropertyMistake(name, "no such column", column, "a column of the table", remedy)
    return None
