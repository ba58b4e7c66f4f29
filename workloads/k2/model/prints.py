"""Which prints count: conditions on a trade's own columns as a frozen value, checked when it is made.

A print is a trade as the venue reported it. All filters of a question hold together; their SQL is made in
`k2/query/rows/print_sql.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any

from k2.model.errors import UserError
from k2.model.topics import DataType

SIDES = ("BUY", "SELL", "SELL_SHORT", "UNKNOWN")
"""Those of `k2.model.events`, which loads Arrow: who asks a service needs none."""

MOST_CODES = 100
"""Condition codes that one filter names: each is a part of its page tokens."""

COLUMN_OF: Mapping[str, str] = {
    "conditions": "trade_conditions",
    "exclude_conditions": "trade_conditions",
    "side": "side",
    "min_quantity": "quantity",
    "max_quantity": "quantity",
    "min_price": "price",
    "max_price": "price",
}
"""What a filter says → the column that it is about."""

_AMOUNTS = ("min_quantity", "max_quantity", "min_price", "max_price")
_NUMBER = re.compile(r"[+-]?([0-9]{1,60}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][+-]?[0-9]{1,2})?")
_LONGEST_CODE = 64


class UnknownProfileError(UserError):
    """The exchange has no profile of that name; the message says which it has."""


@dataclass(frozen=True, slots=True)
class PrintFilter:
    """Trades that have all of this; what is not given is no condition.

    Attributes:
        conditions: a trade has at least one of these condition codes (none: no such condition).
        exclude_conditions: it has none of these.
        side: the side that its source says.
        min_quantity, max_quantity: units traded, both inclusive.
        min_price, max_price: price of a unit, in the trade's currency, both inclusive.
        exchange: only trades of this exchange are asked all that, others pass; None: all are.
        profile: the name under which the exchange's entry has it; None: it is a filter of the question's own.
        is_asked: the question names the profile; else it is the exchange's default.
    """

    conditions: tuple[str, ...] = ()
    exclude_conditions: tuple[str, ...] = ()
    side: str | None = None
    min_quantity: Decimal | None = None
    max_quantity: Decimal | None = None
    min_price: Decimal | None = None
    max_price: Decimal | None = None
    exchange: str | None = None
    profile: str | None = None
    is_asked: bool = False

    def __post_init__(self) -> None:
        for name in ("conditions", "exclude_conditions"):
            _check_codes(name, getattr(self, name))
        both = set(self.conditions) & set(self.exclude_conditions)
        if both:
            raise UserError(
                "conditions and exclude_conditions name the same code",
                found=", ".join(sorted(both)),
                expected="each code in one of them",
            )
        if self.side is not None and self.side not in SIDES:
            raise UserError("Not a side", found=self.side, expected=f"one of {', '.join(SIDES)}")
        for of in ("quantity", "price"):
            least, most = getattr(self, f"min_{of}"), getattr(self, f"max_{of}")
            if least is not None and most is not None and least > most:
                raise UserError(
                    f"The bounds of {of} are reversed",
                    found=f"min_{of} {least:f}, max_{of} {most:f}",
                    expected=f"min_{of} no more than max_{of}",
                )

    def __bool__(self) -> bool:
        return bool(self.said)

    @property
    def said(self) -> tuple[str, ...]:
        """Names of what is given."""
        return tuple(name for name in COLUMN_OF if getattr(self, name) not in (None, ()))

    @property
    def columns(self) -> frozenset[str]:
        """Columns of trades that decide."""
        return frozenset(COLUMN_OF[name] for name in self.said)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for page tokens and cursors."""
        of = {name: value for name in ("exchange", "profile") if (value := getattr(self, name)) is not None}
        return {**self.conditions_said(), **of, **({"is_asked": True} if self.is_asked else {})}

    def conditions_said(self) -> dict[str, Any]:
        """Plain values of what is given, amounts as texts: for answers."""
        values = {name: getattr(self, name) for name in self.said}
        return {
            name: f"{value:f}" if isinstance(value, Decimal) else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> PrintFilter:
        """The inverse of `to_dict`; an error (`UserError`, `ValueError`, `TypeError`) for anything else."""
        if not held.keys() <= {each.name for each in fields(cls)}:
            raise ValueError(held)
        if not all(isinstance(held.get(name, ""), str) for name in ("exchange", "profile")):
            raise ValueError(held)
        values: dict[str, Any] = {
            name: parse_amount(value, name)
            if name in _AMOUNTS
            else tuple(value)
            if name in ("conditions", "exclude_conditions")
            else value
            for name, value in held.items()
        }
        return cls(**values)


Prints = tuple[PrintFilter, ...]
"""Filters that hold together; none: all prints count."""

EVERY_PRINT: Prints = ()


def on_exchange(prints: Prints, code: str) -> Prints:
    """What trades of that exchange are asked, without a look at their exchange."""
    return tuple(replace(each, exchange=None) for each in prints if each.exchange in (None, code))


def check_profile(prints: Prints, code: str, named: Sequence[str]) -> None:
    """An `UnknownProfileError` where the question asks for a profile that the exchange of its answer does not have.

    Args:
        prints: the question's filters.
        code: the exchange.
        named: the profiles that it has.
    """
    asked = [each for each in prints if each.is_asked]
    if asked and all(each.exchange != code for each in asked):
        raise no_profile(str(asked[0].profile), code, named)


def no_profile(name: str, code: str, named: Sequence[str]) -> UnknownProfileError:
    """The error that names the profiles which an exchange has."""
    return UnknownProfileError(
        f"{code} has no profile of that name",
        found=name,
        expected=f"{' or '.join(named)}, or none" if named else "none: it has no profiles",
        remedy="Ask with profile=none, or describe it under `exchanges` in the platform's settings (docs/exchanges.md)",
    )


def described(prints: Prints) -> str:
    """What lets trades through, as a sentence names it; nothing where all pass."""
    names = sorted({each.profile for each in prints if each.profile is not None})
    own = ["the filter"] if any(each.profile is None for each in prints) else []
    return " and ".join([*own, *(f"profile {name}" for name in names)])


def check_prints(prints: Prints, data_types: Sequence[DataType]) -> None:
    """A `UserError` where none of the data types has what a filter is about: quotes have no side.

    In an answer of trades beside quotes a filter is of the trades.
    """
    lacking = [] if DataType.TRADES in data_types else [name for each in prints for name in each.said]
    if lacking:
        raise UserError(
            f"{' and '.join(each.value for each in data_types)} cannot be filtered by {', '.join(lacking)}",
            found=f"no column {' and no column '.join(sorted({COLUMN_OF[name] for name in lacking}))}",
            expected="trades, which have them",
            remedy="Ask for trades, or leave the filter out",
        )


def parse_amount(text: str, name: str) -> Decimal:
    """The exact decimal that a text says; a `UserError` when it is none."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text.strip()):
        shown = f"{text[:40]}…" if isinstance(text, str) and len(text) > 40 else text
        raise UserError(f"{name} is not a number", found=shown, expected="a decimal, such as 36.75")
    return Decimal(text.strip())


def _check_codes(name: str, codes: Sequence[str]) -> None:
    if len(codes) > MOST_CODES:
        raise UserError(f"{name} has too many codes", found=len(codes), expected=f"at most {MOST_CODES}")
    for code in codes:
        if not isinstance(code, str) or not 0 < len(code) <= _LONGEST_CODE or not code.isprintable() or "," in code:
            raise UserError(
                f"Not a condition code in {name}",
                found=code[:80] if isinstance(code, str) else code,
                expected=f"1 to {_LONGEST_CODE} characters without a comma, as the trades have them",
            )
