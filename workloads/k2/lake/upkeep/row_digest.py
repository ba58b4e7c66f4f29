"""A digest of rows that does not depend on their order: equal before and after files were written anew, or no row may be lost.

Each row becomes 64 bits made of all its columns; the digest is their sum. Everything is columns: text is hashed as a polynomial
over its bytes with prefix sums, lists by the places of their items. It finds what goes wrong by accident, not what is forged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2.model.compute import pc

Words = npt.NDArray[np.uint64]

_PIECE = 32_768
"""Rows at a time: the powers for the bytes of their texts are kept in memory."""

_BASE, _INVERSE = np.uint64(0x9E3779B97F4A7C15), np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_NULL, _SEED = np.uint64(0xA0761D6478BD642F), np.uint64(0xE7037ED1A0B428DB)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(slots=True)
class RowDigest:
    """How many rows of each symbol there are, and the sum of their hashes. Two are equal when they were made of the same rows."""

    symbols: Counter[str] = field(default_factory=Counter[str])
    total: int = 0

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.symbols.total()

    def add(self, rows: pa.Table) -> None:
        """Count these rows: columns by the table's names, one of which is `symbol`."""
        counted = pc.value_counts(rows.column("symbol"))
        for each in counted.to_pylist():
            self.symbols[each["values"] or ""] += each["counts"]
        for start in range(0, len(rows), _PIECE):
            hashes = row_hashes(rows.slice(start, _PIECE))
            self.total = (self.total + int(hashes.sum(dtype=np.uint64))) % 2**64

    def difference(self, other: RowDigest) -> str:
        """What differs, for a person; empty where nothing does."""
        counts = [
            f"{symbol or 'no symbol'}: {self.symbols[symbol]:,} and {other.symbols[symbol]:,} rows"
            for symbol in sorted(self.symbols.keys() | other.symbols.keys())
            if self.symbols[symbol] != other.symbols[symbol]
        ]
        if counts:
            return "; ".join(counts[:3]) + ("; …" if len(counts) > 3 else "")
        return "" if self.total == other.total else "as many rows of each symbol, but values differ"


def row_hashes(rows: pa.Table) -> Words:
    """64 bits for each row, of all its columns by their order. A dictionary's values count, not its numbers."""
    found = np.full(len(rows), _SEED, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in rows.columns:
            found = _mixed(found * _BASE + _hashes(_one(column)))
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        return whole.chunk(0) if whole.num_chunks else pa.array([], type=column.type)
    return whole


def _hashes(values: pa.Array) -> Words:
    kind = values.type
    if isinstance(values, pa.ExtensionArray):
        return _hashes(values.storage)
    if isinstance(values, pa.DictionaryArray):
        held = np.append(_hashes(values.dictionary), _NULL)
        return held[pc.fill_null(values.indices.cast(pa.int64()), len(held) - 1).to_numpy(zero_copy_only=False)]
    if pa.types.is_null(kind):
        return np.full(len(values), _NULL, dtype=np.uint64)
    if pa.types.is_struct(kind):
        found = np.full(len(values), _SEED, dtype=np.uint64)
        for number in range(kind.num_fields):
            found = _mixed(found * _BASE + _hashes(pc.struct_field(values, [number])))
    elif pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = _of_lists(values)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_bytes(kind):
        found = _of_bytes(values)
    else:
        found = _of_words(values)
    if values.null_count:
        found = np.where(values.is_null().to_numpy(zero_copy_only=False), _NULL, found)
    return found


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _of_words(values: pa.Array) -> Words:
    """Values of one width, 16 bytes at most or a multiple of 8."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values, kind = values.cast(pa.uint8()), pa.uint8()
    width = kind.byte_width
    raw = np.frombuffer(values.buffers()[1], dtype=np.uint8)[
        values.offset * width : (values.offset + len(values)) * width
    ]
    padded = -(-width // 8) * 8
    if padded != width:
        wide = np.zeros((len(values), padded), dtype=np.uint8)
        wide[:, :width] = raw.reshape(-1, width)
        raw = wide.reshape(-1)
    words = np.ascontiguousarray(raw).view(np.uint64).reshape(len(values), padded // 8)
    found = np.full(len(values), _SEED, dtype=np.uint64)
    for place in range(words.shape[1]):
        found = _mixed(found * _BASE + words[:, place])
    return found


def _of_bytes(values: pa.Array) -> Words:
    wide = values.cast(pa.large_binary())
    starts = np.frombuffer(wide.buffers()[1], dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]
    if not len(values) or wide.buffers()[2] is None:
        return _mixed(np.full(len(values), _SEED, dtype=np.uint64))
    data = np.frombuffer(wide.buffers()[2], dtype=np.uint8)[starts[0] : starts[-1]]
    return _of_runs(data.astype(np.uint64) + np.uint64(1), starts - starts[0])


def _of_lists(values: Any) -> Words:
    starts = values.offsets.to_numpy().astype(np.int64)
    if pa.types.is_map(values.type):
        keys, items = (part.slice(starts[0], starts[-1] - starts[0]) for part in (values.keys, values.items))
        inner = _mixed(_hashes(keys) * _BASE + _hashes(items))
    else:
        inner = _hashes(values.values.slice(starts[0], starts[-1] - starts[0]))
    return _of_runs(inner, starts - starts[0])


def _of_runs(parts: Words, starts: npt.NDArray[np.int64]) -> Words:
    """One hash for each run [starts[i], starts[i + 1]) of the parts: a polynomial over them, and their number."""
    powers, inverses = _powers(1 << max(10, len(parts).bit_length()))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(parts * powers[: len(parts)], dtype=np.uint64)])
    here = np.minimum(starts[:-1], len(inverses) - 1)
    polynomial = (sums[starts[1:]] - sums[starts[:-1]]) * inverses[here]
    return _mixed(polynomial + np.diff(starts).astype(np.uint64) * _SECOND + _SEED)


@cache
def _powers(number: int) -> tuple[Words, Words]:
    """The first powers of the base modulo 2^64, and their inverses."""
    with np.errstate(over="ignore"):
        ups = np.full(number, _BASE, dtype=np.uint64)
        downs = np.full(number, _INVERSE, dtype=np.uint64)
        ups[0] = downs[0] = 1
        return np.cumprod(ups, dtype=np.uint64), np.cumprod(downs, dtype=np.uint64)


def _mixed(words: Words) -> Words:
    """Spread each word's bits over the whole of it (the finaliser of SplitMix64, Steele, Lea and Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))
