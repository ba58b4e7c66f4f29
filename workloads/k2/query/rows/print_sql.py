"""The SQL of which prints count: conditions on columns of trades, in the types that a relation has them in. Pure.

Amounts are written as decimals of the column's own type, so that DuckDB leaves out row groups by their bounds; condition
codes are lists, which no file has bounds of: every row that the other conditions leave is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

from k2.lake.reader import ColumnInfo
from k2.model.further import decimal_digits
from k2.model.prints import PrintFilter, Prints

_EXACT = Context(prec=300)
_WIDEST = (38, 18)
_FEW = 8


def columns_of(prints: Prints) -> frozenset[str]:
    """Columns that are read to tell which prints count."""
    return frozenset(name for each in prints for name in each.columns)


def conditions(prints: Prints, columns: Sequence[ColumnInfo], mark: str = "print") -> tuple[list[str], dict[str, Any]]:
    """Conditions that hold together, and the values of their names.

    Args:
        prints: the filters.
        columns: of the rows; one that is not among them has no value in any row.
        mark: what the names of the values begin with.
    """
    known = {column.name: column for column in columns}
    clauses: list[str] = []
    params: dict[str, Any] = {}
    for number, each in enumerate(prints):
        clauses += _of_one(each, known, f"{mark}{number}", params)
    return clauses, params


def _of_one(which: PrintFilter, known: dict[str, ColumnInfo], mark: str, params: dict[str, Any]) -> list[str]:
    if which.exchange is not None:
        params[f"{mark}_exchange"] = which.exchange
        inner = _of_one(replace(which, exchange=None), known, mark, params)
        return [f"(exchange <> ${mark}_exchange OR ({' AND '.join(inner)}))"] if inner else []
    if not which.columns <= known.keys():
        return ["false"]
    clauses: list[str] = []
    for name, wanted in (("conditions", True), ("exclude_conditions", False)):
        codes: tuple[str, ...] = getattr(which, name)
        if codes:
            has_any = _has_any(codes, f"{mark}_{name}", params)
            clauses.append(has_any if wanted else f"NOT {has_any}")
    if which.side is not None:
        params[f"{mark}_side"] = which.side
        clauses.append(f"side = ${mark}_side")
    for column, least, most in (
        ("quantity", which.min_quantity, which.max_quantity),
        ("price", which.min_price, which.max_price),
    ):
        if least is not None or most is not None:
            clauses += _between(known[column], least, most)
    return clauses


def _has_any(codes: Sequence[str], name: str, params: dict[str, Any]) -> str:
    """Whether a trade has one of the codes. A search for one text is much cheaper than comparing lists (measured: 30 and 160 ns a row)."""
    if len(codes) > _FEW:
        params[name] = "\n".join(codes)  # one text: each bound value costs time
        return f"coalesce(list_has_any(trade_conditions, str_split(${name}, chr(10))), false)"
    names = [f"{name}_{number}" for number in range(len(codes))]
    params.update(zip(names, codes, strict=True))
    found = " OR ".join(f"list_contains(trade_conditions, ${each})" for each in names)
    return f"coalesce({found}, false)"


def _between(column: ColumnInfo, least: Decimal | None, most: Decimal | None) -> list[str]:
    """Bounds as the column has amounts: what lies between two of its values is the next one that is within."""
    precision, scale = decimal_digits(column.type) or _WIDEST
    kind = f"DECIMAL({precision}, {scale})"
    name = column.name if decimal_digits(column.type) else f"{column.name}::{kind}"
    step = Decimal(1).scaleb(-scale, _EXACT)
    largest = Decimal(10**precision - 1).scaleb(-scale, _EXACT)
    lowest = largest.copy_negate()  # a minus would round to the precision of the context
    clauses: list[str] = []
    if least is not None:
        bound = least.quantize(step, ROUND_CEILING, _EXACT)
        clauses.append("false" if bound > largest else f"{name} >= '{max(bound, lowest):f}'::{kind}")
    if most is not None:
        bound = most.quantize(step, ROUND_FLOOR, _EXACT)
        clauses.append("false" if bound < lowest else f"{name} <= '{min(bound, largest):f}'::{kind}")
    return clauses
