"""Columns of decimals as whole numbers in numpy, and whole numbers as columns of decimals. Pure, exact, without floats.

A column of at most 18 digits is an int64 array of them. So is a wider one whose numbers have no more than that once the
zeros that all of them end with are left out, as nearly all of a market's have; else it is the two words of each value.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import gcd
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Wide: TypeAlias = NDArray[np.object_]
"""Python integers: one for each group, never one for each row, unless rows have more than 18 digits."""

SHORT = 10**18
"""Numbers below it, either way, are short: twice the sum of two of them is an int64 still."""

_WORD = 1 << 64
_HALF = 30
_LOW = (1 << _HALF) - 1
_BLOCK = 1 << 15  # rows whose intermediate results stay in the processor's cache
_SAMPLE = 200


@dataclass(frozen=True, slots=True, eq=False)
class Digits:
    """A column: its values, counted in the last place of its scale, are these numbers with `zeros` zeros behind each.

    Attributes:
        low: the numbers, all of them short; where `high` is given, their lower 64 bits.
        high: their upper 64 bits; None: all are short.
        zeros: how many zeros at the end of each are left out.
    """

    low: Ints
    high: Ints | None = None
    zeros: int = 0

    def __len__(self) -> int:
        return len(self.low)

    def chosen(self, which: NDArray[Any]) -> Digits:
        """Some of the rows: by a mask, or by their places."""
        return Digits(self.low[which], None if self.high is None else self.high[which], self.zeros)

    def values(self) -> Ints | Wide:
        """The values with all their zeros: as Python integers, unless none were left out and all are short."""
        if self.high is None and not self.zeros:
            return self.low
        numbers = self.low.astype(object) if self.high is None else _whole(self.low, self.high)
        return numbers * 10**self.zeros


def digits_of(column: pa.ChunkedArray | pa.Array, scale: int) -> Digits:
    """The digits of decimals that are never null, in a scale that is theirs or a finer one."""
    kind, array = column.type, column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    finer = scale - kind.scale
    if not len(array):
        return Digits(np.zeros(0, np.int64), zeros=finer)
    words = np.frombuffer(array.buffers()[1], np.int64)
    low, high = words[2 * array.offset : 2 * (array.offset + len(array))].reshape(-1, 2).T
    if kind.precision <= 18:
        return Digits(np.ascontiguousarray(low), zeros=finer)
    zeros = _zeros_of_some(low, high, min(kind.scale, 18))
    while True:
        numbers, wrong = _without(low, high, zeros)
        if wrong is None:
            return Digits(numbers, zeros=finer + zeros)
        fewer = _zeros_of(int(_whole(low[wrong : wrong + 1], high[wrong : wrong + 1])[0]), zeros)
        if fewer == zeros:  # too long although there are as many zeros: with fewer left out it is longer still
            return Digits(np.ascontiguousarray(low), np.ascontiguousarray(high), finer)
        zeros = fewer


def extremes(digits: Digits, starts: NDArray[Any], which: np.ufunc) -> Digits:
    """The largest (`np.maximum`) or smallest (`np.minimum`) value of each run; `starts` are where runs begin, the first 0."""
    if digits.high is None:
        return Digits(which.reduceat(digits.low, starts), zeros=digits.zeros)
    high = which.reduceat(digits.high, starts)
    decides = digits.high == np.repeat(high, np.diff(np.append(starts, len(digits))))
    never = 0 if which is np.maximum else _WORD - 1
    low = which.reduceat(np.where(decides, digits.low.view(np.uint64), np.uint64(never)), starts)
    return Digits(low.view(np.int64), high, digits.zeros)


def aligned(columns: Sequence[Digits]) -> tuple[list[Ints] | list[Wide], int]:
    """Columns as numbers that can be compared and added, and how many zeros at the end of all of them are left out."""
    zeros = min(column.zeros for column in columns)
    if all(_stays_short(column, column.zeros - zeros) for column in columns):
        return [
            column.low if column.zeros == zeros else column.low * 10 ** (column.zeros - zeros) for column in columns
        ], zeros
    return [wide(column.values()) for column in columns], 0


def decimals(
    numbers: Ints | Wide, kind: pa.Decimal128Type, *, factor: int = 1, valid: NDArray[np.bool_] | None = None
) -> pa.Array:
    """Decimals whose digits are the numbers times the factor; null where not `valid`.

    Args:
        numbers: 64-bit ones must lie within 62 bits where there is a factor, and fit the precision.
        kind: the type.
        factor: of all.
        valid: by row; None: all.

    Raises:
        OverflowError: a number has more digits than the precision.
    """
    if numbers.dtype != np.int64 and factor == 1:
        with suppress(OverflowError):  # most often they are not that large
            numbers = numbers.astype(np.int64)
    elif factor > SHORT:
        numbers = wide(numbers)
    words = np.empty((len(numbers), 2), np.uint64)
    if numbers.dtype == np.int64:
        short = cast("Ints", numbers)
        words[:, 0] = (short * factor).view(np.uint64)
        words[:, 1] = (short >> 63 if factor == 1 else _upper(short, factor)).view(np.uint64)
    else:
        whole = (numbers if valid is None else np.where(valid, numbers, 0)) * factor
        if len(whole) and max(whole.max(), -whole.min()) >= 10**kind.precision:
            raise OverflowError(f"{whole[np.argmax(np.abs(whole))]} has more than {kind.precision} digits")
        words[:, 0] = whole & (_WORD - 1)
        words[:, 1] = (whole >> 64) & (_WORD - 1)
    bits = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(numbers), [bits, pa.py_buffer(words)])


def widest(*kinds: pa.Decimal128Type) -> pa.Decimal128Type:
    """The type that holds the values of all of them, as far as 38 digits go."""
    scale = max(kind.scale for kind in kinds)
    return pa.decimal128(min(38, scale + max(kind.precision - kind.scale for kind in kinds)), scale)


def wide(values: Any) -> Wide:
    """As Python integers."""
    return np.asarray(values, dtype=object)  # without the type, integers beyond 63 bits among others become doubles


def _whole(low: Ints, high: Ints) -> Wide:
    """Python integers of two words each."""
    return wide((high.astype(object) << 64) | low.view(np.uint64).astype(object))


def _zeros_of(number: int, most: int) -> int:
    """How many zeros the number ends with, at most."""
    return next((zeros for zeros in range(most) if number % 10 ** (zeros + 1)), most)


def _zeros_of_some(low: Ints, high: Ints, most: int) -> int:
    """How many zeros some of the numbers end with, spread over all of them: most often that is how many all do."""
    every = slice(None, None, max(1, len(low) // _SAMPLE))
    zeros = _zeros_of(gcd(*_whole(low[every], high[every])), most)
    # Ten to a power ends with as many zeros in binary.
    bits = int(np.bitwise_or.reduce(low)) | 1 << most
    return min(zeros, (bits & -bits).bit_length() - 1)


def _without(low: Ints, high: Ints, zeros: int) -> tuple[Ints, int | None]:
    """The numbers without so many zeros at their end, and the place of one that has fewer of them or is not short then.

    The lowest bits of each, as many as the zeros, must be zero. Then what remains to be divided by is a power of five, which
    is odd: modulo 2^64 the quotient is a product with its inverse. It is right where, multiplied, it gives both words.
    """
    numbers = np.empty(len(low), np.int64)
    power = 10**zeros
    inverse = np.uint64(pow(5**zeros, -1, _WORD))
    for start in range(0, len(low), _BLOCK):
        part = slice(start, start + _BLOCK)
        found = numbers[part]
        if zeros:
            bits = low[part].view(np.uint64) >> np.uint64(zeros)
            bits |= high[part].view(np.uint64) << np.uint64(64 - zeros)
            np.multiply(bits, inverse, out=found.view(np.uint64))
        else:
            found[:] = low[part]
        right = (found < SHORT) & (found > -SHORT)
        right &= _upper(found, power) == high[part]
        if not right.all():
            return numbers, start + int(np.argmin(right))
    return numbers, None


def _upper(numbers: Ints, factor: int) -> Ints:
    """The upper word of the numbers (of 62 bits and a sign) times a factor (of 60 bits). By halves of 30 bits."""
    high, low = numbers >> _HALF, numbers & _LOW
    more, less = factor >> _HALF, factor & _LOW
    found = low * less
    found >>= _HALF
    found += high * less
    if more:
        found += low * more
    found >>= _HALF
    if more:
        found += high * more
    found >>= 64 - 2 * _HALF
    return found


def _stays_short(column: Digits, zeros: int) -> bool:
    """Whether the numbers are short with so many zeros behind them."""
    if column.high is not None:
        return False
    return not zeros or not len(column) or int(np.abs(column.low).max()) * 10**zeros < SHORT
