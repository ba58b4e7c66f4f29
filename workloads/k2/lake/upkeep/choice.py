"""Which files of a table are worth writing anew: many small ones of one partition, the newest closed partition first. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import DayTransform, HourTransform, MonthTransform, YearTransform
from pyiceberg.typedef import Record

from k2.model.times import DAY_US

SMALL = 0.75
"""A file below this share of the target is small."""

OPEN_LEAST = 16
"""Small files that a partition must have while it still grows: fewer are left until it is closed."""


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Files of one partition that are to become fewer. `name` is the partition's folder, such as `timestamp_day=2026-11-30`."""

    name: str
    partition: Record
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.file_size_in_bytes for file in self.files)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.record_count for file in self.files)

    def outcome(self, target_bytes: int) -> int:
        """How many files they are to become."""
        return max(1, round(self.bytes / target_bytes))


@dataclass(frozen=True, slots=True)
class Choice:
    """What is to be written anew, in that order, and why other files are not: reason → how many."""

    groups: tuple[FileGroup, ...] = ()
    left: Counter[str] = field(default_factory=Counter[str])


def choose(
    files: Iterable[DataFile],
    spec: PartitionSpec,
    name_of: Callable[[Record], str],
    target_bytes: int,
    now_us: int,
) -> Choice:
    """Choose among files of one snapshot, none of which has rows that delete files take out.

    Args:
        files: the data files.
        spec: the table's partition spec; files of an earlier one stay as they are.
        name_of: the folder of a partition.
        target_bytes: about the size of the files to be made.
        now_us: what time it is; microseconds since 1970 UTC.
    """
    left: Counter[str] = Counter()
    partitions: dict[str, list[DataFile]] = defaultdict(list)
    for file in files:
        if file.spec_id != spec.spec_id:
            left["of an earlier partition spec"] += 1
        elif file.file_size_in_bytes >= SMALL * target_bytes:
            left["large enough"] += 1
        else:
            partitions[name_of(file.partition)].append(file)
    found: list[tuple[bool, float, FileGroup]] = []
    for name, small in partitions.items():
        group = FileGroup(name, small[0].partition, tuple(sorted(small, key=lambda file: file.file_path)))
        end_us = partition_end_us(spec, group.partition)
        is_open = end_us is None or end_us > now_us
        if len(small) <= group.outcome(target_bytes):
            left["as few as can be"] += len(small)
        elif is_open and len(small) < OPEN_LEAST:
            left["few, of a partition that still grows"] += len(small)
        else:
            found.append((is_open, -(end_us or 0), group))
    return Choice(tuple(group for _, _, group in sorted(found, key=lambda each: each[:2])), left)


def partition_end_us(spec: PartitionSpec, partition: Record) -> int | None:
    """When a partition of times ends; None where the spec has none, or the time is null. Microseconds since 1970 UTC."""
    ends = [
        end for place, each in enumerate(spec.fields) if (end := _end_us(each.transform, partition[place])) is not None
    ]
    return min(ends, default=None)


def _end_us(transform: object, value: object) -> int | None:
    if isinstance(value, date):
        value = value.toordinal() - date(1970, 1, 1).toordinal()
    if not isinstance(value, int):
        return None
    match transform:
        case HourTransform():
            return (value + 1) * (DAY_US // 24)
        case DayTransform():
            return (value + 1) * DAY_US
        case MonthTransform():
            return _month_start_us(value + 1)
        case YearTransform():
            return _month_start_us((value + 1) * 12)
        case _:
            return None


def _month_start_us(months: int) -> int:
    """The first of a month, by the number of months since January 1970."""
    years, month = divmod(months, 12)
    day = date(1970 + years, month + 1, 1)
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY_US


def by_partition(groups: Sequence[FileGroup], wanted: str) -> tuple[FileGroup, ...]:
    """The groups whose partition has this name, or this value in it."""
    return tuple(group for group in groups if wanted in (group.name, *_values(group.name)))


def _values(name: str) -> list[str]:
    return [part.partition("=")[2] for part in name.split("/")]
