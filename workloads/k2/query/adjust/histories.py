"""What happened to the shares behind a symbol, from records of reference data. Pure.

A symbol means one company after another, and what happens to a company holds for its shares under whichever symbol: so an
event counts for the stretch of time in which the symbol was the company's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from k2.model.exchanges import Exchange
from k2.model.times import micros
from k2.query.rows.errors import NotAdjustableError

Record = Mapping[str, Any]
"""A record of reference data, by column (`query/reference/records.py`)."""

RATIOS = frozenset({"split", "merger"})


@dataclass(frozen=True, slots=True)
class Dividend:
    """What is paid for a share of those that there were the day before."""

    amount: Decimal
    currency: str | None


@dataclass(frozen=True, slots=True)
class FactorChange:
    """What happened to a company's shares on an ex-date: its midnight in the exchange's time zone (µs since 1970 UTC).

    Attributes:
        us: when the ex-date begins.
        day: the ex-date.
        ratio: new units for one old unit.
        dividends: what was paid.
    """

    us: int
    day: date
    ratio: Fraction = Fraction(1)
    dividends: tuple[Dividend, ...] = ()

    @property
    def events(self) -> int:
        """How many records it is of."""
        return len(self.dividends) + (self.ratio != 1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The changes, by time, of the company that a symbol was of from an instant on (None: ever since) until the next stretch."""

    from_us: int | None
    changes: tuple[FactorChange, ...]


def history(symbol: str, market: Exchange, records: Sequence[Record], *, dividends: bool) -> tuple[Stretch, ...] | None:
    """What is known of a symbol on an exchange; None: nothing.

    Args:
        symbol: as it is traded.
        market: where.
        records: the newest of each thing, of this symbol's companies among others.
        dividends: whether these count too.

    Raises:
        NotAdjustableError: a record does not say what it should.
    """
    own = [record for record in records if record["exchange"] == market.code]
    changes = _changes(market, own, dividends=dividends)
    begun = {
        _starts(market, record): record["company_id"]
        for record in own
        if record["kind"] == "company" and record["symbol"] == symbol
    }
    if not begun:  # no record describes the company: its events say which symbol they are of
        companies = dict.fromkeys(record["company_id"] for record in own if record["symbol"] == symbol)
        if not companies:
            return None
        return (Stretch(None, tuple(sorted((e for each in companies for e in changes.get(each, ())), key=_when))),)
    starts = sorted(begun)
    return tuple(
        Stretch(None if number == 0 else start, tuple(changes.get(begun[start], ())))
        for number, start in enumerate(starts)
    )


def _when(change: FactorChange) -> int:
    return change.us


def _changes(market: Exchange, records: Sequence[Record], *, dividends: bool) -> dict[str, list[FactorChange]]:
    """By company, one for each ex-date, in their order."""
    found: dict[str, dict[date, FactorChange]] = {}
    for record in records:
        kind = record["kind"]
        if kind not in RATIOS and not (dividends and kind == "dividend"):
            continue
        day = _ex_date(market, record)
        by_day = found.setdefault(record["company_id"], {})
        known = by_day.get(day) or FactorChange(micros(market.trading_day(day)[0]), day)
        if kind in RATIOS:
            by_day[day] = FactorChange(known.us, day, known.ratio * _ratio(record, day), known.dividends)
        elif paid := _dividend(record, day):
            by_day[day] = FactorChange(known.us, day, known.ratio, (*known.dividends, paid))
    return {company: [by_day[day] for day in sorted(by_day) if by_day[day].events] for company, by_day in found.items()}


def ex_dates(market: Exchange, records: Sequence[Record], *, dividends: bool) -> list[int]:
    """When each change on an exchange came about or will (µs since 1970 UTC), whatever it changes."""
    kinds = RATIOS | {"dividend"} if dividends else RATIOS
    own = (record for record in records if record["exchange"] == market.code and record["kind"] in kinds)
    return sorted({micros(market.trading_day(_ex_date(market, record))[0]) for record in own})


def _ex_date(market: Exchange, record: Record) -> date:
    return record["ex_date"] or record["effective_timestamp"].astimezone(market.zone).date()


def _ratio(record: Record, day: date) -> Fraction:
    if record["ratio"] is None:
        raise _says_nothing(record, day, "ratio")
    return Fraction(record["ratio"])


def _dividend(record: Record, day: date) -> Dividend | None:
    """What was paid, before what the taxman gives back; None: it was taken back."""
    amount = record["net_amount"] if record["net_amount"] is not None else record["gross_amount"]
    if amount is None:
        raise _says_nothing(record, day, "net_amount")
    return Dividend(amount, record["currency"]) if amount else None


def _says_nothing(record: Record, day: date, column: str) -> NotAdjustableError:
    return NotAdjustableError(
        f"The {record['kind']} of {record['symbol'] or record['company_id']} on {day.isoformat()} has no {column}",
        expected="a number",
        remedy="Load a record of it that has one",
    )


def _starts(market: Exchange, record: Record) -> int:
    listed = record["listing_date"]
    return micros(record["effective_timestamp"] if listed is None else market.trading_day(listed)[0])
