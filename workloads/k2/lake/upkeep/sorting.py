"""The rows of many files in one order, with memory for a few of them: by symbol, time, source sequence.

What fits is sorted at once. More is dealt out first, into parts of a scratch directory that follow each other in the order (a part
is some symbols, or some time of one symbol), and each part is sorted by itself. So two passes do, however many files there are.
Memory: two parts of `rows_at_once` rows. Scratch space: about twice the files' own bytes.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from k2.lake.appends.batch import Ints, int64s, ordered, ranked
from k2.lake.upkeep.ahead import ahead
from k2.lake.upkeep.reading import read_pieces
from k2.model.compute import pc
from k2.model.errors import UserError
from k2.model.tables import OFFSET, PARTITION

ROWS_AT_ONCE = 1_000_000
"""Rows that are sorted in memory: some 250 MiB of trades, twice that at the peak."""

MOST_PARTS = 400
"""Files that are open at a time in the scratch directory; parts become larger beyond it."""

_SLOT_US = 60_000_000
"""Rows of one symbol are dealt out by the minute: those of one minute stay together."""

_SYMBOL_FACTOR = 2**40
"""Minutes that a symbol's numbers have room for: from -(2**39) on, beyond any microseconds of 64 bits."""

_DEALT = 500_000
"""Rows that are held before they are written to their parts."""


@dataclass(slots=True)
class SortedRows:
    """The rows of some files in order.

    Args:
        table: whose they are.
        files: data files with the table's columns.
        time: name of the event time column.
        scratch: a directory for what does not fit; what is put there is gone after `pieces`.
        rows_at_once: see `ROWS_AT_ONCE`.
        seen: called with each piece of rows as it is read, once, in the thread that reads: for a digest, for progress.
    """

    table: Table
    files: Sequence[DataFile]
    time: str
    scratch: Path
    rows_at_once: int = ROWS_AT_ONCE
    seen: Callable[[pa.Table], None] = field(default=lambda _: None)

    def pieces(self) -> Iterator[tuple[pa.Table, Ints]]:
        """Rows, and the places by which they are in order; all of one piece come before those of the next.

        Raises:
            UserError: the scratch directory has no room for them.
            StoreError: a file cannot be had, or is damaged.
        """
        if sum(file.record_count for file in self.files) <= self.rows_at_once:
            rows = pa.concat_tables(list(ahead(self._read())))
            yield rows, self._order(rows)
            return
        self._check_space()
        cells = self._cells()
        with ExitStack() as last:
            last.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            for path in self._dealt(cells):
                with pa.memory_map(str(path)) as source:
                    rows = pa.ipc.open_stream(source).read_all()
                path.unlink()
                yield rows, self._order(rows)

    def _read(self) -> Iterator[pa.Table]:
        for file in self.files:
            for piece in read_pieces(self.table, file):
                self.seen(piece)
                yield piece

    def _order(self, rows: pa.Table) -> Ints:
        codes, _ = ranked(rows.column("symbol"))
        times = int64s(rows.column(self.time))
        order = ordered(codes, times, rows.column("source_sequence"))
        # What these leave equal stays as it came from Kafka, whichever file it was in.
        keys = (codes, times, int64s(pc.fill_null(rows.column("source_sequence"), -1)))
        ties = np.flatnonzero(np.logical_and.reduce([key[order[1:]] == key[order[:-1]] for key in keys]))
        if len(ties):
            partitions, offsets = (int64s(pc.fill_null(rows.column(name), -1)) for name in (PARTITION, OFFSET))
            before, after = order[ties], order[ties + 1]
            fell = (partitions[after] < partitions[before]) | (
                (partitions[after] == partitions[before]) & (offsets[after] < offsets[before])
            )
            if fell.any():
                sequences = int64s(pc.fill_null(rows.column("source_sequence"), np.iinfo(np.int64).max))
                return np.lexsort((offsets, partitions, sequences, times, codes))
        return order

    def _check_space(self) -> None:
        wanted = 2 * sum(file.file_size_in_bytes for file in self.files)
        self.scratch.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.scratch).free
        if free < wanted:
            raise UserError(
                f"Too little room to sort in {self.scratch}",
                found=f"{free >> 20:,} MiB free",
                expected=f"{wanted >> 20:,} MiB, twice the files' own size",
                remedy="Give another directory with --scratch, or compact a partition at a time with --partition",
            )

    def _cells(self) -> _Cells:
        """A first look at symbols and times alone: how many rows each symbol has in each minute."""
        found = _Counted()
        names = ("symbol", self.time)
        # Not compared with their digests here: the second look is, and it is the one whose rows are written.
        looks = (piece for file in self.files for piece in read_pieces(self.table, file, names, checked=False))
        with closing(ahead(looks)) as pieces:
            for piece in pieces:
                found.add(piece.column("symbol"), int64s(piece.column(self.time)))
        return found.cells(max(self.rows_at_once, -(-found.rows // MOST_PARTS)))

    def _dealt(self, cells: _Cells) -> list[Path]:
        paths = [self.scratch / f"part-{number}.arrow" for number in range(cells.parts)]
        with ExitStack() as open_files:
            writers: list[pa.ipc.RecordBatchStreamWriter | None] = [None] * cells.parts
            held: list[list[pa.Table]] = [[] for _ in paths]
            rows = 0

            def write() -> None:
                for number, tables in enumerate(held):
                    if not tables:
                        continue
                    writer = writers[number]
                    if writer is None:
                        options = pa.ipc.IpcWriteOptions(compression="lz4")
                        sink = open_files.enter_context(pa.OSFile(str(paths[number]), "wb"))
                        writer = writers[number] = open_files.enter_context(
                            pa.ipc.new_stream(sink, tables[0].schema, options=options)
                        )
                    # One batch of what may be hundreds of slivers.
                    writer.write_table(pa.concat_tables(tables).combine_chunks())
                    tables.clear()

            for piece in open_files.enter_context(closing(ahead(self._read()))):
                for number, part in cells.deal(piece, piece.column("symbol"), int64s(piece.column(self.time))):
                    held[number].append(part)
                rows += len(piece)
                if rows >= _DEALT:
                    write()
                    rows = 0
            write()
        return [path for path in paths if path.exists()]


@dataclass(slots=True)
class _Cells:
    """Which part the rows of a symbol and a minute belong to.

    Attributes:
        numbers: of the symbols, as they were met first.
        keys: symbol and minute as one number, ascending.
        part_of: the part of each key.
        parts: how many there are.
    """

    numbers: dict[str, int]
    keys: Ints
    part_of: Ints
    parts: int

    def deal(self, rows: pa.Table, symbols: pa.ChunkedArray, times: Ints) -> Iterator[tuple[int, pa.Table]]:
        """The rows by their parts."""
        parts = self.part_of[np.searchsorted(self.keys, _keys(self.numbers, symbols, times))]
        if (parts[1:] < parts[:-1]).any():  # of another writer: not in our order
            order = np.argsort(parts, kind="stable")
            rows, parts = rows.take(pa.array(order)), parts[order]
        edges = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(parts)]
        for start, stop in itertools.pairwise(edges):
            if stop > start:
                yield int(parts[start]), rows.slice(start, stop - start)


@dataclass(slots=True)
class _Counted:
    """Rows by symbol and minute."""

    numbers: dict[str, int] = field(default_factory=dict[str, int])
    keys: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    counts: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    rows: int = 0

    def add(self, symbols: pa.ChunkedArray, times: Ints) -> None:
        """Count these."""
        keys, counts = np.unique(_keys(self.numbers, symbols, times), return_counts=True)
        self.keys, places = np.unique(np.concatenate([self.keys, keys]), return_inverse=True)
        self.counts = np.bincount(
            places, weights=np.concatenate([self.counts, counts]), minlength=len(self.keys)
        ).astype(np.int64)
        self.rows += len(times)

    def cells(self, rows_in_part: int) -> _Cells:
        """Parts of about so many rows, in the order of symbols and times; more where one symbol has more in one minute."""
        ranks = np.empty(len(self.numbers), dtype=np.int64)
        # Rows without a symbol come last, as in `ranked`.
        by_name = sorted(self.numbers, key=lambda symbol: (not symbol, symbol))
        ranks[[self.numbers[symbol] for symbol in by_name]] = np.arange(len(by_name))
        symbols = self.keys // _SYMBOL_FACTOR
        order = np.argsort(self.keys + (ranks[symbols] - symbols) * _SYMBOL_FACTOR)
        before: npt.NDArray[np.int64] = np.cumsum(self.counts[order]) - self.counts[order]
        part_of = np.empty(len(order), dtype=np.int64)
        _, part_of[order] = np.unique(before // rows_in_part, return_inverse=True)
        return _Cells(self.numbers, self.keys, part_of, int(part_of.max()) + 1)


def _keys(numbers: dict[str, int], symbols: pa.ChunkedArray, times: Ints) -> Ints:
    codes, names = ranked(symbols)
    known = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return known[codes] * _SYMBOL_FACTOR + times // _SLOT_US + _SYMBOL_FACTOR // 2
