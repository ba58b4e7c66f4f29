"""Where in Kafka a table's rows come from, counted: how often each offset of each partition stands in the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from k2.lake.offsets import PartitionOffsets
from k2.lake.proof.deleted_rows import DeletedRows, Mask
from k2.lake.scan import DataFileRef
from k2.model.errors import StoreError
from k2.model.tables import OFFSET, PARTITION, TOPIC_ID

Progress = Callable[[int, int], None]
"""Told after each file: files read, files in all."""

Counts = npt.NDArray[np.uint8]
Key = tuple[str, int]
"""A topic's id and the partition."""

_BLOCK = 1 << 20


@dataclass(slots=True)
class LineageCounts:
    """The rows of some files. Memory: one byte for each offset.

    Attributes:
        counts: by partition, for each offset from `firsts` on how many rows have it; it stops at 255.
        outside: rows of a partition beyond its offsets.
        strangers: rows by the id of a topic that nobody knows; "" where they have none.
        unreadable: paths of files that are no Parquet files, or no whole ones.
        deleted: rows that delete files take out: they are not counted.
        untold: files whose deleted rows nobody here can tell: all their rows are counted.
    """

    firsts: Mapping[Key, int]
    counts: Mapping[Key, Counts]
    outside: Counter[Key] = field(default_factory=Counter[Key])
    strangers: Counter[str] = field(default_factory=Counter[str])
    unreadable: list[str] = field(default_factory=list[str])
    deleted: int = 0
    untold: int = 0

    def add(self, key: Key, offsets: npt.NDArray[np.int64]) -> None:
        """Count rows of one partition."""
        if key not in self.counts:
            self.strangers[key[0]] += len(offsets)
            return
        counts, places = self.counts[key], offsets - self.firsts[key]
        inside = places[(places >= 0) & (places < len(counts))]
        if len(inside):
            low, high = int(inside.min()), int(inside.max()) + 1
            seen = counts[low:high] + np.bincount(inside - low, minlength=high - low)
            counts[low:high] = np.minimum(seen, 255)
        self.outside[key] += len(places) - len(inside)


def count_rows(
    io: FileIO,
    files: Sequence[DataFileRef],
    expected: Mapping[Key, PartitionOffsets],
    without: Collection[str],
    progress: Progress | None,
) -> LineageCounts:
    """Count the rows of the files.

    Args:
        io: the table's.
        files: of one snapshot.
        expected: the partitions that are known, with their offsets.
        without: paths of files that are not there.
        progress: see `Progress`.

    Raises:
        StoreError: the store did not give a file.
    """
    counted = LineageCounts(
        {key: part.first for key, part in expected.items()},
        {key: np.zeros(part.next - part.first, dtype=np.uint8) for key, part in expected.items()},
    )
    deleted = DeletedRows(io)
    for number, file in enumerate(files, start=1):
        if file.path not in without:
            gone = _deleted_from(file, deleted, counted)
            try:
                for key, offsets in _rows(io, file.path, gone):
                    counted.add(key, offsets)
            except (OSError, pa.ArrowException, ValueError) as error:
                check_readable(io, file.path, error)
                counted.unreadable.append(file.path)
        if progress is not None:
            progress(number, len(files))
    return counted


def _deleted_from(file: DataFileRef, deleted: DeletedRows, counted: LineageCounts) -> Mask | None:
    """Which rows are deleted from a file, and counts them; None: none, or nobody here can tell.

    Raises:
        StoreError: the store did not give a delete file, or one of them is broken.
    """
    if not file.deletes:
        return None
    try:
        gone = deleted.of(file)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise StoreError(f"A delete file of {file.path} could not be read: {error!r}") from error
    if gone is None:
        counted.untold += 1
        return None
    counted.deleted += int(gone.sum())
    return gone


def check_readable(io: FileIO, path: str, error: Exception) -> None:
    """Tell a broken file from a store that did not answer: the bytes of a broken one can be had.

    Arrow raises the same errors for both.

    Raises:
        StoreError: the bytes cannot be had either.
    """
    try:
        with io.new_input(path).open() as stream:
            while stream.read(_BLOCK):
                pass
    except OSError as again:
        raise StoreError(f"A data file could not be read: {again}") from error


def _rows(io: FileIO, path: str, gone: Mask | None = None) -> Iterator[tuple[Key, npt.NDArray[np.int64]]]:
    """(topic id, partition) and offsets of all rows but those that are `gone`, a row group at a time."""
    with io.new_input(path).open() as stream:
        parquet = pq.ParquetFile(stream, read_dictionary=[TOPIC_ID])
        if not {TOPIC_ID, PARTITION, OFFSET} <= set(parquet.schema_arrow.names):  # another engine's own rows
            yield (
                ("", 0),
                np.zeros(parquet.metadata.num_rows - (0 if gone is None else int(gone.sum())), dtype=np.int64),
            )
            return
        start = 0
        for rows in parquet.iter_batches(1_000_000, columns=[TOPIC_ID, PARTITION, OFFSET], use_threads=False):
            here = rows if gone is None else rows.filter(pa.array(~gone[start : start + len(rows)]))
            start += len(rows)
            yield from _by_origin(here)


def _by_origin(rows: pa.RecordBatch) -> Iterator[tuple[Key, npt.NDArray[np.int64]]]:
    kept = rows
    for name in (TOPIC_ID, PARTITION, OFFSET):
        if rows.column(name).null_count:
            kept = kept.filter(kept.column(name).is_valid())
    if len(kept) < len(rows):
        yield ("", 0), np.zeros(len(rows) - len(kept), dtype=np.int64)
    topics = kept.column(TOPIC_ID)
    codes = topics.indices.to_numpy(zero_copy_only=False)
    partitions, offsets = kept.column(PARTITION).to_numpy(), kept.column(OFFSET).to_numpy()
    for code, topic_id in enumerate(topics.dictionary.to_pylist()):
        of_topic = codes == code
        for partition in np.unique(partitions[of_topic]).tolist():
            yield (topic_id, partition), offsets[of_topic & (partitions == partition)]
