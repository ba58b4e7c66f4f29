"""Factors of prices and quantities from what happened to shares, exact until they are rounded once. Pure.

The price before an ex-date is divided by the new units for one old unit and multiplied by one less the dividends over the
close of the day before; the quantity is multiplied by the units. docs/queries.md has the rule with an example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from k2.query.adjust.histories import FactorChange, Stretch
from k2.query.rows.adjusted import PLACES, Step
from k2.query.rows.errors import NotAdjustableError

_ONE = Fraction(1)
_LEAST, _MOST = 10 ** (PLACES - 12), 10 ** (2 * PLACES)
"""A factor below 1e-12 would keep too few digits, one of 1e18 or more leaves room for none."""


@dataclass(frozen=True, slots=True)
class Close:
    """The last price before an ex-date, its currency, and when it was made (µs since 1970 UTC)."""

    price: Decimal
    currency: str
    us: int


def relevant(stretches: Sequence[Stretch], first_us: int | None, until_us: int) -> tuple[Stretch, ...]:
    """The changes that came about by `until_us`, after the first row (None: there is none, and nothing to adjust)."""
    return tuple(
        replace(
            each,
            changes=tuple(
                change for change in each.changes if first_us is not None and first_us < change.us <= until_us
            ),
        )
        for each in stretches
    )


def steps(symbol: str, stretches: Sequence[Stretch], closes: Mapping[FactorChange, Close]) -> tuple[Step, ...]:
    """The factors by time, those that hold ever since first; neighbors differ.

    Args:
        symbol: for what is said.
        stretches: what counts.
        closes: the close before each change that has dividends.

    Raises:
        NotAdjustableError: a dividend is in another currency than the close, or not below it; or factors become too large or small.
    """
    found: list[Step] = []
    for number, stretch in enumerate(stretches):
        end_us = stretches[number + 1].from_us if number + 1 < len(stretches) else None
        starts = [stretch.from_us, *(change.us for change in stretch.changes)]
        price = quantity = _ONE
        of_stretch: list[Step] = []
        for change, start_us in zip((*reversed(stretch.changes), None), reversed(starts), strict=True):
            if end_us is None or start_us is None or start_us < end_us:
                of_stretch.append(Step(start_us, _rounded(symbol, price), _rounded(symbol, quantity)))
            if change is not None:
                price *= _price_factor(symbol, change, stretch, closes)
                quantity *= change.ratio
        for step in _from(stretch.from_us, of_stretch[::-1]):
            if not found or (found[-1].price, found[-1].quantity) != (step.price, step.quantity):
                found.append(step)
    return tuple(found)


def _from(start_us: int | None, found: Sequence[Step]) -> list[Step]:
    """The steps from an instant on: of those that begin before it, the last one holds then."""
    if start_us is None:
        return list(found)
    before = [step for step in found if step.from_us is not None and step.from_us <= start_us]
    return [replace(before[-1], from_us=start_us), *found[len(before) :]]


def _price_factor(
    symbol: str, change: FactorChange, stretch: Stretch, closes: Mapping[FactorChange, Close]
) -> Fraction:
    if not change.dividends:
        return 1 / change.ratio
    close = closes[change]
    for dividend in change.dividends:
        if dividend.currency is not None and dividend.currency != close.currency:
            raise NotAdjustableError(
                f"The dividend of {symbol} with ex-date {change.day.isoformat()} is in another currency than its trades",
                found=f"{dividend.amount.normalize():f} {dividend.currency}",
                expected=f"an amount in {close.currency}: K2 knows no rates of exchange",
                remedy="Ask with adjusted=splits, or load the dividend in the currency of the trades",
            )
    # A close of before another split is of other shares than those that the dividend was paid for.
    price = Fraction(close.price)
    for other in stretch.changes:
        if close.us < other.us < change.us:
            price /= other.ratio
    paid = sum((Fraction(dividend.amount) for dividend in change.dividends), Fraction(0))
    if paid >= price:
        raise NotAdjustableError(
            f"The dividend of {symbol} with ex-date {change.day.isoformat()} is not below the close before it",
            found=f"{float(paid):g} with a close of {float(price):g}",
            expected="less than the close",
            remedy="Load a record of it that is right, or ask with adjusted=splits",
        )
    return (1 - paid / price) / change.ratio


def _rounded(symbol: str, factor: Fraction) -> int:
    """In units of 10^-18, half to even."""
    units = round(factor * 10**PLACES)
    if not _LEAST <= units < _MOST:
        raise NotAdjustableError(
            f"The factors of {symbol} multiply to a number that no price can be adjusted by",
            found=f"{float(factor):g}",
            expected="at least 1e-12 and below 1e18",
            remedy="Ask for a later start",
        )
    return units
