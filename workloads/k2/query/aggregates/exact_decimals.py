"""Exact arithmetic on columns of decimals: their digits as integers in numpy, sums in limbs, quotients in Python's integers. Pure.

A DECIMAL(18, 8) is an int64 of its digits ("unscaled"). What may not fit into 64 bits (sums and products) comes as an array
of Python integers: one for each group, never one for each row.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Wide: TypeAlias = NDArray[np.object_]
"""Python integers."""

# Values of at most 18 digits lie within 60 bits: three limbs. A sum of BLOCK products of limbs, three times over, fits.
_LIMB = 20
_LOW = (1 << _LIMB) - 1
_BLOCK = 1 << 20


def unscaled(column: pa.ChunkedArray) -> Ints:
    """The digits of decimals of at most 18 digits that are never null."""
    array = column.combine_chunks()
    if not len(array):
        return np.zeros(0, np.int64)
    words = np.frombuffer(array.buffers()[1], dtype=np.int64)
    return np.ascontiguousarray(words[2 * array.offset : 2 * (array.offset + len(array)) : 2])


def decimals(
    digits: Ints | Wide, precision: int, scale: int = 8, *, valid: NDArray[np.bool_] | None = None
) -> pa.Array:
    """Decimals of these digits, which must fit the precision; null where not `valid`."""
    if digits.dtype != np.int64:
        with suppress(OverflowError):  # most often they are not that large
            digits = digits.astype(np.int64)
    words = np.empty((len(digits), 2), np.uint64)
    if digits.dtype == np.int64:
        words[:, 0] = digits.view(np.uint64)
        words[:, 1] = (digits >> 63).view(np.uint64)
    else:
        words[:, 0] = digits & (2**64 - 1)
        words[:, 1] = (digits >> 64) & (2**64 - 1)
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(digits), [bits, pa.py_buffer(words)])


def sums(values: Ints, starts: Ints) -> Wide:
    """The sum of each run of values; `starts` are the places where runs begin, the first of them 0."""
    return product_sums(values, np.ones(1, np.int64), starts)


def product_sums(left: Ints, right: Ints, starts: Ints) -> Wide:
    """The sum of left times right over each run (see `sums`), of values of at most 18 digits."""
    if len(left) > _BLOCK:
        edges = np.union1d(starts, np.arange(0, len(left), _BLOCK))
        return np.add.reduceat(_block_sums(left, right, edges), np.searchsorted(edges, starts))
    return _block_sums(left, right, starts)


def quotients(numerators: Wide, denominators: Wide) -> Wide:
    """Quotients by positive denominators, rounded to an integer, half to even."""
    whole = numerators // denominators
    twice = 2 * (numerators - whole * denominators)
    up = (twice > denominators) | ((twice == denominators) & (whole % 2 == 1))
    return whole + up


def wide(values: Any) -> Wide:
    """As Python integers."""
    return np.asarray(values, dtype=object)  # without the type, integers beyond 63 bits among others become doubles


def _block_sums(left: Ints, right: Ints, starts: Ints) -> Wide:
    diagonals: dict[int, Ints] = {}
    for i, a in enumerate(_limbs(left)):
        for j, b in enumerate(_limbs(right)):
            products = np.add.reduceat(a * b, starts)
            diagonals[i + j] = diagonals[i + j] + products if i + j in diagonals else products
    total = np.zeros(len(starts), object)
    for place, part in diagonals.items():
        total += part.astype(object) * (1 << (place * _LIMB))
    return total


def _limbs(values: Ints) -> list[Ints]:
    """Lowest first; the highest carries the sign. As few as the values need."""
    limbs: list[Ints] = []
    largest = max(int(values.max()), -int(values.min()))
    while largest > _LOW:
        limbs.append(values & _LOW)
        values = values >> _LIMB
        largest >>= _LIMB
    return [*limbs, values]
