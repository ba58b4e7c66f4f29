"""Prices and quantities as numbers: why one cannot be held, how many units it is, and how it is written. Nothing here rounds.

`decimal`'s own functions round to 28 digits unless told otherwise; amounts of a wide table have up to 38.
"""

from __future__ import annotations

from decimal import Context, Decimal

from k2.model.events import Decimals

_EXACT = Context(prec=Decimals.WIDE.precision)
HELD_BY_WIDE = "; an IcebergTable with spec.decimals: wide holds it"
"""What a reason ends with where there is a setting with which the amount could be held."""


def plain(value: Decimal) -> str:
    """The number with all its digits, without an exponent and without zeros at the end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def units(value: Decimal, scale: int) -> int:
    """How many units of 1e-`scale` a number is that has at most 38 digits, none of them finer."""
    return int(value.scaleb(scale, _EXACT))


def fits(value: Decimal, precision: int, scale: int) -> bool:
    """Whether decimal(precision, scale) holds a number exactly."""
    return _is_small(value, precision - scale) and len(plain(value).partition(".")[2]) <= scale


def unfit(value: Decimal, precision: int, scale: int, shown: str) -> str | None:
    """Why decimal(precision, scale) does not hold a number, `shown` being how it was written; None: it does."""
    if fits(value, precision, scale):
        return None
    whole = precision - scale
    what = f"{scale} decimals" if _is_small(value, whole) else f"{whole} integer digits"
    return f"has more than {what}: {shown}"


def amount_unfit(value: Decimal, decimals: Decimals, shown: str) -> str | None:
    """The same of a price or quantity, with the setting that would hold it where there is one."""
    reason = unfit(value, decimals.precision, decimals.scale, shown)
    if reason is None or decimals is Decimals.WIDE or not fits(value, Decimals.WIDE.precision, Decimals.WIDE.scale):
        return reason
    return reason + HELD_BY_WIDE


def _is_small(value: Decimal, whole: int) -> bool:
    return value.copy_abs() < Decimal(10) ** whole  # compared exactly, whatever the lengths
