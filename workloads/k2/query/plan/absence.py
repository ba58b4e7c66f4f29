"""What is said where there is nothing: no such symbol, no row of it in that window, no trade on that date."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from k2.model.errors import K2Error
from k2.model.prints import described
from k2.model.times import iso
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.nearest import nearest
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows.errors import NotFoundError

_FILES_LOOKED_AT = 64
"""Of so many of the newest files the symbols are read, and remembered, for the one that was perhaps meant."""


def why_nothing(
    planner: Planner, directory: SymbolDirectory, pinned: Pinned, query: EventsQuery, *, at_any_time: bool = False
) -> str:
    """Why no row matches; from metadata, and where there is nothing of the symbols from those that there are.

    `at_any_time`: the question had no other condition, so that there is nothing of its symbols.
    """
    if not pinned.has_data:
        return f"{pinned.named} {_has(pinned)} no data yet"
    everywhere = planner.plan(pinned, query.symbols, query.exchange, Window())
    if query.symbols and (at_any_time or not everywhere):
        known = known_symbols(planner, directory, pinned, query.exchange)
        return str(unknown_symbol(pinned, query.symbols, query.exchange, known))
    oldest, newest = pinned.oldest_us, pinned.newest_us
    reaching = "the table reaches" if len(pinned.tables) == 1 else "the tables reach"
    reach = "" if oldest is None or newest is None else f"; {reaching} from {iso(oldest)} to {iso(newest)}"
    what = f"match {described(query.prints)}".rstrip()
    return f"No {query.data_type.value} {what}{reach}"


def unknown_symbol(
    pinned: Pinned, symbols: Sequence[str], exchange: str | None, known: Collection[str]
) -> NotFoundError:
    """The table has nothing of the symbols; of the `known` ones the nearest is named."""
    where = "" if exchange is None else f" on {exchange}"
    near = [name for symbol in symbols if (name := nearest(symbol, known)) is not None]
    return NotFoundError(
        f"{pinned.named} {_has(pinned)} nothing of {', '.join(symbols)}{where}",
        remedy=f"Did you mean {', '.join(near)}?" if near else "The list of symbols says what there is",
    )


def known_symbols(planner: Planner, directory: SymbolDirectory, pinned: Pinned, exchange: str | None) -> frozenset[str]:
    """Symbols that may be seen at this snapshot: of the tails, and of the newest files unless these cannot be read."""
    of_tails = {
        symbol
        for table in pinned.tables
        if table.tail is not None
        for symbol in table.tail.symbols(exchange, pinned.sight)
    }
    in_files = replace(pinned, tables=tuple(replace(each, tail=None) for each in pinned.tables))
    try:
        relation = planner.plan(in_files, (), exchange, Window())
        found = directory.symbols(relation.of(relation.files[-_FILES_LOOKED_AT:]))
    except K2Error:
        # It is about what there is not: that something else is broken is told by those who ask for it.
        return frozenset(of_tails)
    return frozenset(of_tails.union(info.symbol for info in found if exchange in (None, info.exchange)))


def no_trades(
    planner: Planner, directory: SymbolDirectory, pinned: Pinned, query: SummaryQuery, where: str
) -> NotFoundError:
    """The symbol was not traded on that date, or ever; `where` names the exchange, or nothing."""
    if pinned.has_data and not planner.plan(pinned, (query.symbol,), None, Window()):
        known = known_symbols(planner, directory, pinned, None)
        if nearest(query.symbol, known) is not None:
            return unknown_symbol(pinned, (query.symbol,), query.exchange, known)
    which = f" that {described(query.prints)} lets through" if query.prints else ""
    return NotFoundError(
        f"{pinned.named} {_has(pinned)} no trades of {query.symbol}{where} on {query.day.isoformat()}{which}",
        remedy="The list of symbols says from when to when each was traded; a date is one of the exchange's time zone",
    )


def _has(pinned: Pinned) -> str:
    return "has" if len(pinned.tables) == 1 else "have"
