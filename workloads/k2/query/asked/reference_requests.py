"""The question about reference data as a frozen value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from k2.model.errors import UserError
from k2.model.events import KINDS
from k2.model.rules import SYMBOL_SHAPE, is_symbol
from k2.query.asked.requests import CURRENT, MOST_SYMBOLS, At, check_limit, check_symbols

MOST_RECORDS = 10_000
"""Records of an answer, unless another limit is asked for."""


@dataclass(frozen=True, slots=True)
class ReferenceQuery:
    """Records of companies, at most `limit` of them; without symbols and company ids those of all.

    Attributes:
        symbols: of the companies that have or had one of them.
        companies: of the companies with one of these ids, too.
        kinds: `company`, `dividend`, `split`, `merger`; none: all.
        exchange: None: of any.
        day: a symbol means the company that it belonged to on this date, and records of companies are those that hold on it.
        history: also records that newer ones took the place of.
        limit: most records.
        at: the snapshot that answers.
    """

    symbols: tuple[str, ...] = ()
    companies: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    exchange: str | None = None
    day: date | None = None
    history: bool = False
    limit: int = MOST_RECORDS
    at: At = CURRENT

    def __post_init__(self) -> None:
        check_symbols(self.symbols)
        check_limit(self.limit)
        if len(self.companies) > MOST_SYMBOLS:
            raise UserError("Too many company ids", found=len(self.companies), expected=f"at most {MOST_SYMBOLS}")
        for company in self.companies:
            if not is_symbol(company):
                raise UserError("Not a company id", found=company, expected=SYMBOL_SHAPE)
        for kind in self.kinds:
            if kind not in KINDS:
                raise UserError("Unknown kind of reference data", found=kind, expected=f"one of {', '.join(KINDS)}")
