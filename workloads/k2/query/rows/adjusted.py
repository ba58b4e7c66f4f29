"""Prices and quantities times a factor that depends on symbol and time, as SQL over the rows of files and tail alike. Pure.

A factor has 18 decimal places. The product is rounded once, half to even, to the places of its column, in 64-bit integers
by halves of nine digits: as fast as the rest of a scan, and exact (a product in 128 bits takes ten times as long).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2.lake.reader import ColumnInfo
from k2.model.further import decimal_digits
from k2.model.times import iso

PLACES = 18
"""Decimal places of a factor."""

TOO_LARGE = "An adjusted amount has more digits than its column"
"""What DuckDB says where a product does not fit; the engine makes an error of the asker's of it."""

KEYS = frozenset({"symbol", "timestamp"})
"""The columns that choose a factor."""

PRICES = frozenset({"price", "bid_price", "ask_price"})
QUANTITIES = frozenset({"quantity", "bid_quantity", "ask_quantity"})
_ONE = 10**PLACES
_HALF = _ONE // 2
_NINE = 10**9


@dataclass(frozen=True, slots=True)
class Step:
    """The factors that hold from an instant on (None: ever since), in units of 10^-18."""

    from_us: int | None
    price: int = _ONE
    quantity: int = _ONE


@dataclass(frozen=True, slots=True)
class SymbolSteps:
    """The factors of a symbol, in the order of time; the first one holds ever since."""

    symbol: str
    steps: tuple[Step, ...]


def adjustable(columns: Sequence[ColumnInfo], series: Sequence[SymbolSteps]) -> list[ColumnInfo]:
    """Those of the columns that a factor changes."""
    changed = set[str]()
    for each in series:
        for step in each.steps:
            changed |= PRICES if step.price != _ONE else frozenset()
            changed |= QUANTITIES if step.quantity != _ONE else frozenset()
    return [column for column in columns if column.name in changed and decimal_digits(column.type)]


def params(series: Sequence[SymbolSteps]) -> dict[str, Any]:
    """The values of the names in `adjusted`."""
    return {f"adjusted_{number}": each.symbol for number, each in enumerate(_sorted(series))}


def adjusted(
    rows: str,
    columns: Mapping[str, str],
    changed: Collection[ColumnInfo],
    series: Sequence[SymbolSteps],
) -> str:
    """The rows with the amounts in the columns `changed` times their factors.

    Args:
        rows: a table in SQL, with the columns of `KEYS` and those that are read.
        columns: name → its quoted form, of all columns that are read, in their order.
        changed: which of them are amounts to adjust.
        series: the factors.
    """
    factors: list[str] = []
    for what, names in (("price", PRICES), ("quantity", QUANTITIES)):
        if any(column.name in names for column in changed):

            def of(step: Step, what: str = what) -> int:
                return step.price if what == "price" else step.quantity

            whole, part = (
                _tree(series, lambda step, of=of: of(step) // _ONE),
                _tree(series, lambda step, of=of: of(step) % _ONE),
            )
            factors += [f"({whole})::BIGINT AS k2_whole_{what}", f"({part})::BIGINT AS k2_part_{what}"]
    products = {column.name: _product(column) for column in changed}
    listed = [f"{products[name]} AS {quoted}" if name in products else quoted for name, quoted in columns.items()]
    return f"(SELECT {', '.join(listed)} FROM (SELECT *, {', '.join(factors)} FROM {rows}))"


def _sorted(series: Sequence[SymbolSteps]) -> list[SymbolSteps]:
    """In the order in which DuckDB compares texts: by their bytes."""
    return sorted(series, key=lambda each: each.symbol.encode())


def _tree(series: Sequence[SymbolSteps], value: Callable[[Step], int]) -> str:
    """The value for a row's symbol and time, as a search by halves; of other symbols that of no change."""
    none = value(Step(None))
    numbered = [(f"$adjusted_{number}", each.steps) for number, each in enumerate(_sorted(series))]

    def by_symbol(some: Sequence[tuple[str, tuple[Step, ...]]]) -> str:
        if len(some) == 1:
            name, steps = some[0]
            return f"CASE WHEN symbol = {name} THEN {by_time(steps)} ELSE {none} END"
        middle = len(some) // 2
        left, right = by_symbol(some[:middle]), by_symbol(some[middle:])
        return f"CASE WHEN symbol < {some[middle][0]} THEN {left} ELSE {right} END"

    def by_time(steps: Sequence[Step]) -> str:
        if len(steps) == 1:
            return str(value(steps[0]))
        middle = len(steps) // 2
        bound = steps[middle].from_us
        assert bound is not None
        left, right = by_time(steps[:middle]), by_time(steps[middle:])
        return (
            left
            if left == right
            else f"CASE WHEN \"timestamp\" < TIMESTAMPTZ '{iso(bound)}' THEN {left} ELSE {right} END"
        )

    return by_symbol(numbered)


def _product(column: ColumnInfo) -> str:
    """The column times its factor."""
    digits = decimal_digits(column.type)
    assert digits is not None
    name = f'"{column.name}"'
    what = "price" if column.name in PRICES else "quantity"
    return (_short if digits[0] <= PLACES else _wide)(name, f"k2_whole_{what}", f"k2_part_{what}", *digits)


def _short(name: str, whole: str, part: str, precision: int, scale: int) -> str:
    """Of a decimal of at most 18 digits: each intermediate result is an integer of 63 bits."""
    most = 10**precision - 1
    value = f"abs(({name}::DECIMAL({min(38, 2 * PLACES)}, {scale}) * {10**scale})::BIGINT)"
    high, low = f"({value} // {_NINE})", f"({value} % {_NINE})"
    more, less = f"({part} // {_NINE})", f"({part} % {_NINE})"
    middle = f"({high} * {less} + {low} * {more} + {low} * {less} // {_NINE})"
    rest = f"({middle} % {_NINE} * {_NINE} + {low} * {less} % {_NINE})"
    units = f"({value} * {whole} + {high} * {more} + {middle} // {_NINE})"
    rounded = f"({units} + {_up(rest, units)})"
    fits = f"({whole} = 0 OR {value} <= {most} // {whole})"
    scaled = f"(sign({name}) * {rounded})::DECIMAL(18, 0)"
    if scale:
        scaled = f"{scaled} * 0.{1:0{scale}}::DECIMAL({scale}, {scale})"
    return f"{_checked(name, fits, f'{rounded} <= {most}', scaled)}::DECIMAL({precision}, {scale})"


def _wide(name: str, whole: str, part: str, precision: int, scale: int) -> str:
    """Of a longer one, in 128 bits: slower, and as exact."""
    most = 10**precision - 1
    value = f"replace(replace({name}::VARCHAR, '.', ''), '-', '')::HUGEINT"
    high, low = f"({value} // {_ONE}::HUGEINT)", f"({value} % {_ONE}::HUGEINT)"
    rest = f"({low} * {part} % {_ONE}::HUGEINT)"
    units = f"({value} * {whole} + {high} * {part} + {low} * {part} // {_ONE}::HUGEINT)"
    rounded = f"({units} + {_up(rest, units)})"
    fits = f"({whole} = 0 OR {value} <= {most}::HUGEINT // {whole})"
    text = f"lpad({rounded}::VARCHAR, greatest({scale + 1}, length({rounded}::VARCHAR))::INTEGER, '0')"
    placed = f"left({text}, -{scale}) || '.' || right({text}, {scale})" if scale else text
    signed = f"CASE WHEN {name} < 0 THEN '-' ELSE '' END || {placed}"
    return f"{_checked(name, fits, f'{rounded} <= {most}::HUGEINT', signed)}::DECIMAL({precision}, {scale})"


def _checked(name: str, first: str, then: str, value: str) -> str:
    """The value where both conditions hold, else an error. The second is asked where the first holds: it would overflow.

    Of no amount (a side of a quote that is not there) it is none.
    """
    failed = f"error('{TOO_LARGE}')"
    checked = f"CASE WHEN {then} THEN {value} ELSE {failed} END"
    return f"CASE WHEN {name} IS NULL THEN NULL WHEN {first} THEN {checked} ELSE {failed} END"


def _up(rest: str, units: str) -> str:
    """One where the rest rounds the units up, half to even; else nothing."""
    return f"(CASE WHEN {rest} > {_HALF} OR ({rest} = {_HALF} AND {units} % 2 = 1) THEN 1 ELSE 0 END)"
