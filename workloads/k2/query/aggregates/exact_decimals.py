"""Exact arithmetic on columns of decimals: sums and sums of products in limbs, quotients in Python's integers. Pure.

What may not fit into 64 bits (sums and products) comes as an array of Python integers: one for each group, never one for
each row. A product of two decimals(38, 18) fits no decimal at all: it stays an integer until it is divided.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from k2.query.aggregates.digits import Digits, Ints, Wide

# Short values lie within 60 bits: three limbs; 128 bits are seven. A sum of BLOCK products of limbs, seven times over, fits.
_LIMB = 20
_LOW = (1 << _LIMB) - 1
_BLOCK = 1 << 20
_ONE = Digits(np.ones(1, np.int64))


def sums(values: Digits, starts: NDArray[np.intp]) -> Wide:
    """The sum of each run of values; `starts` are the places where runs begin, the first of them 0."""
    return product_sums(values, _ONE, starts)


def product_sums(left: Digits, right: Digits, starts: NDArray[np.intp]) -> Wide:
    """The sum of left times right over each run (see `sums`), in the product of their last places."""
    if len(left) > _BLOCK:
        edges = np.union1d(starts, np.arange(0, len(left), _BLOCK))
        found = np.add.reduceat(_block_sums(left, right, edges), np.searchsorted(edges, starts))
    else:
        found = _block_sums(left, right, starts)
    zeros = left.zeros + right.zeros
    return found * 10**zeros if zeros else found


def quotients(numerators: Wide, denominators: Wide) -> Wide:
    """Quotients by positive denominators, rounded to an integer, half to even."""
    whole = numerators // denominators
    twice = 2 * (numerators - whole * denominators)
    up = (twice > denominators) | ((twice == denominators) & (whole % 2 == 1))
    return whole + up


def _block_sums(left: Digits, right: Digits, starts: NDArray[np.intp]) -> Wide:
    diagonals: dict[int, Ints] = {}
    others = _limbs(right)
    for i, a in enumerate(_limbs(left)):
        for j, b in enumerate(others):
            products = np.add.reduceat(a * b, starts)
            diagonals[i + j] = diagonals[i + j] + products if i + j in diagonals else products
    total = np.zeros(len(starts), object)
    for place, part in diagonals.items():
        total += part.astype(object) * (1 << (place * _LIMB))
    return total


def _limbs(digits: Digits) -> list[Ints]:
    """Lowest first; the highest carries the sign. As few as the values need."""
    if digits.high is None:
        return _limbs_of(digits.low)
    low, high = digits.low, digits.high
    limbs = [low & _LOW, (low >> _LIMB) & _LOW, (low >> 2 * _LIMB) & _LOW]
    limbs.append((low >> 60 & 15) | (high << 4 & _LOW))
    rest = high >> 16
    return [*limbs, *_limbs_of(rest)] if rest.any() else limbs


def _limbs_of(values: Ints) -> list[Ints]:
    limbs: list[Ints] = []
    largest = max(int(values.max()), -int(values.min()))
    while largest > _LOW:
        limbs.append(values & _LOW)
        values = values >> _LIMB
        largest >>= _LIMB
    return [*limbs, values]
