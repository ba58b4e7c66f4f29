"""What is said where there is nothing: no such symbol, no row of it in that window, no trade on that date."""

from __future__ import annotations

from k2.model.times import iso
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.plan.pinned import Pinned
from k2.query.plan.planner import Planner
from k2.query.rows.errors import NotFoundError


def why_nothing(planner: Planner, pinned: Pinned, query: EventsQuery) -> str:
    """Why no row matches; from metadata alone."""
    if not pinned.has_data:
        return f"{pinned.named} {_has(pinned)} no data yet"
    everywhere = planner.plan(pinned, query.symbols, query.exchange, Window())
    if query.symbols and not everywhere:
        return str(unknown_symbol(pinned, ", ".join(query.symbols), query.exchange))
    oldest, newest = pinned.oldest_us, pinned.newest_us
    reaching = "the table reaches" if len(pinned.tables) == 1 else "the tables reach"
    reach = "" if oldest is None or newest is None else f"; {reaching} from {iso(oldest)} to {iso(newest)}"
    what = "match the filter" if query.prints else "match"
    return f"No {query.data_type.value} {what}{reach}"


def unknown_symbol(pinned: Pinned, symbol: str, exchange: str | None) -> NotFoundError:
    """The table has nothing of the symbol."""
    where = "" if exchange is None else f" on {exchange}"
    return NotFoundError(
        f"{pinned.named} {_has(pinned)} nothing of {symbol}{where}", remedy="The list of symbols says what there is"
    )


def no_trades(pinned: Pinned, query: SummaryQuery, where: str) -> NotFoundError:
    """The symbol was not traded on that date; `where` names the exchange, or nothing."""
    which = " that the filter lets through" if query.prints else ""
    return NotFoundError(
        f"{pinned.named} {_has(pinned)} no trades of {query.symbol}{where} on {query.day.isoformat()}{which}",
        remedy="The list of symbols says from when to when each was traded; a date is one of the exchange's time zone",
    )


def _has(pinned: Pinned) -> str:
    return "has" if len(pinned.tables) == 1 else "have"
