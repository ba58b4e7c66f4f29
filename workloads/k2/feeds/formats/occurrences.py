"""Counting identical rows, exactly, over files of any size in little memory.

A row's n is the number of identical rows before it in its load. Identical rows share symbol and timestamp, so a row that is
later than all earlier ones of its symbol needs no look-up. The others are looked up in sorted runs of 64-bit keys, kept in
memory up to a bound and then in a temporary file. The keys are halves of SHA-1 digests: among 100 million rows the chance of
any collision is below one in 3,000, and one would only give a row an n that is too high, never the same id twice.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

MEMORY_KEYS = 2 * 1024 * 1024  # 16 MiB of keys before they go to the file
_MERGE_RUNS = 8  # runs of about one size that a look-up may touch before they are merged
_MERGE_ROWS = 256  # look-ups smaller than this are cheaper than a merge, whatever the number of runs
_MERGE_PART = 1024 * 1024  # keys merged at a time: 8 MiB


@dataclass(slots=True)
class _Run:
    """Sorted keys (with repeats) of rows whose times lie in [first, last]; in memory, or in a file of its own."""

    first: int
    last: int
    size: int
    keys: Keys | None
    path: Path | None = None

    def count(self, wanted: Keys) -> Ints:
        """How often each of the sorted keys is here."""
        if self.keys is not None:
            return _count(self.keys, wanted)
        with self.open() as (mapped, keys):
            found = _count(keys, wanted)
            del keys
            mapped.madvise(mmap.MADV_DONTNEED)  # pages looked at must not count as this process's memory
        return found

    def open(self) -> _Mapped:
        """Map the run's file."""
        assert self.path is not None
        return _Mapped(self.path)


class _Mapped:
    """A file of keys, mapped for as long as the `with` lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[mmap.mmap, Keys]:
        with self._path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        return self._map, np.frombuffer(self._map, dtype=np.uint64)

    def __exit__(self, *_: object) -> None:
        # Closing is left to the garbage collector: a view may still live in the caller's frame.
        del self._map


class Occurrences:
    """Counts the identical rows before each row of one load. Use as a context manager: it may own temporary files.

    Args:
        memory_keys: keys held in memory before they are written to a temporary file.
        directory: where that file goes; None: the system's folder for temporary files.
    """

    def __init__(self, memory_keys: int = MEMORY_KEYS, directory: Path | None = None) -> None:
        self._bound = memory_keys
        self._parent = directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._memory: list[_Run] = []
        self._spilled: list[_Run] = []
        self._files = 0
        self._codes: dict[str, int] = {}
        self._latest: Ints = np.empty(0, dtype=np.int64)
        self.surplus = 0
        self.out_of_order = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.clear()
        self._spilled.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def count(self, symbols: pa.StringArray | str, timestamps: Ints, keys: Keys) -> Ints:
        """N of each row of the next batch, in the order of the load.

        Args:
            symbols: one for all rows, or one each.
            timestamps: microseconds; identical rows have the same one.
            keys: 64 bits of the row's hash; identical rows have the same one.

        Returns:
            How many identical rows came before, in this batch and in all earlier ones. `surplus` counts the rows with
            n > 0 and `out_of_order` those earlier than a row of their symbol before them.
        """
        if len(keys) == 0:
            return np.empty(0, dtype=np.int64)
        codes = self._coded(symbols, len(keys))
        before = self._latest[codes]
        self._count_disorder(codes, timestamps, before)
        np.maximum.at(self._latest, codes, timestamps)
        found = _repeats(keys)
        known = np.flatnonzero(timestamps <= before)
        if known.size:
            found[known] += self._look_up(keys[known], timestamps[known])
        self._remember(keys, timestamps)
        self.surplus += int(np.count_nonzero(found))
        return found

    def _coded(self, symbols: pa.StringArray | str, rows: int) -> Ints:
        if isinstance(symbols, str):
            codes = np.full(rows, self._code(symbols), dtype=np.int64)
        else:
            encoded = symbols.dictionary_encode()
            ours = np.array([self._code(symbol) for symbol in encoded.dictionary.to_pylist()], dtype=np.int64)
            codes = ours[encoded.indices.to_numpy(zero_copy_only=False)]
        missing = len(self._codes) - self._latest.size
        if missing:
            earliest = np.full(missing, np.iinfo(np.int64).min, dtype=np.int64)
            self._latest = np.concatenate([self._latest, earliest])
        return codes

    def _code(self, symbol: str) -> int:
        return self._codes.setdefault(symbol, len(self._codes))

    def _count_disorder(self, codes: Ints, timestamps: Ints, before: Ints) -> None:
        if (codes == codes[0]).all():
            seen = np.maximum.accumulate(timestamps)
            self.out_of_order += int(np.count_nonzero(timestamps[1:] < np.maximum(seen[:-1], before[0])))
            self.out_of_order += int(timestamps[0] < before[0])
            return
        # A running maximum per symbol: symbols become bands so far apart that one accumulate serves them all.
        order = np.argsort(codes, kind="stable")
        ranks = np.unique(np.concatenate([timestamps, before]), return_inverse=True)[1]
        here, past = ranks[: len(codes)][order], ranks[len(codes) :][order]
        band = codes[order] * (2 * len(codes) + 1)
        seen = np.maximum.accumulate(np.maximum(here, past) + band)
        latest_before = np.concatenate([past[:1] + band[:1], np.maximum(seen[:-1], past[1:] + band[1:])])
        self.out_of_order += int(np.count_nonzero(here + band < latest_before))

    def _look_up(self, keys: Keys, timestamps: Ints) -> Ints:
        first, last = int(timestamps.min()), int(timestamps.max())
        touched = [run for run in (*self._memory, *self._spilled) if run.first <= last and run.last >= first]
        if keys.size >= _MERGE_ROWS and len(touched) > _MERGE_RUNS:
            self._merge_alike()
            touched = [run for run in (*self._memory, *self._spilled) if run.first <= last and run.last >= first]
        order = np.argsort(keys)
        wanted = keys[order]
        counts = np.zeros(keys.size, dtype=np.int64)
        for run in touched:
            counts += run.count(wanted)
        found = np.empty_like(counts)
        found[order] = counts
        return found

    def _remember(self, keys: Keys, timestamps: Ints) -> None:
        self._memory.append(_Run(int(timestamps.min()), int(timestamps.max()), keys.size, np.sort(keys)))
        if sum(run.size for run in self._memory) >= self._bound:
            self._spilled.append(self._written(self._memory))
            self._memory = []

    def _merge_alike(self) -> None:
        """Merge memory's runs into one, and spilled runs of about one size: a look-up then touches O(log n) runs."""
        if len(self._memory) > 1:
            self._memory = [_joined(self._memory)]
        levels: dict[int, list[_Run]] = {}
        for run in self._spilled:
            levels.setdefault((run.size // self._bound).bit_length() // 3, []).append(run)
        self._spilled = []
        for runs in levels.values():
            if len(runs) < _MERGE_RUNS:
                self._spilled += runs
                continue
            self._spilled.append(self._written(runs))
            for run in runs:
                if run.path is not None:
                    run.path.unlink()

    def _written(self, runs: Sequence[_Run]) -> _Run:
        """One spilled run of the given ones, merged part by part of the key space: keys are hashes, so parts are even."""
        size = sum(run.size for run in runs)
        path = self._next_file()
        bounds = np.linspace(0, 2.0**64, max(2, size // _MERGE_PART + 2))[1:-1].astype(np.uint64)
        opened = [run.open().__enter__() if run.keys is None else (None, run.keys) for run in runs]
        cuts = [np.concatenate([[0], np.searchsorted(keys, bounds), [keys.size]]) for _, keys in opened]
        with path.open("wb") as file:
            for part in range(len(bounds) + 1):
                pieces = [keys[cut[part] : cut[part + 1]] for (_, keys), cut in zip(opened, cuts, strict=True)]
                np.sort(np.concatenate(pieces)).tofile(file)
                for mapped, _ in opened:
                    if mapped is not None:
                        mapped.madvise(mmap.MADV_DONTNEED)
        return _Run(min(run.first for run in runs), max(run.last for run in runs), size, None, path)

    def _next_file(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="k2-rows-", dir=self._parent)
        self._files += 1
        return Path(self._folder.name) / f"{self._files}.keys"


def _count(keys: Keys, wanted: Keys) -> Ints:
    left = np.searchsorted(keys, wanted, side="left")
    return np.searchsorted(keys, wanted, side="right") - left


def _joined(runs: Sequence[_Run]) -> _Run:
    keys = np.sort(np.concatenate([run.keys for run in runs if run.keys is not None]))
    return _Run(min(run.first for run in runs), max(run.last for run in runs), keys.size, keys)


def _repeats(keys: Keys) -> Ints:
    """How often each key occurs before its place in the array."""
    counts = np.zeros(keys.size, dtype=np.int64)
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return counts
    inside = np.zeros(keys.size, dtype=bool)
    inside[1:] = same
    inside[:-1] |= same
    # The fast sort is not stable; only the rows that repeat are put into the order of the file.
    rows = np.sort(order[inside])
    rows = rows[np.argsort(keys[rows], kind="stable")]
    repeated = keys[rows]
    starts = np.concatenate([[True], repeated[1:] != repeated[:-1]])
    places = np.arange(rows.size)
    counts[rows] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return counts
