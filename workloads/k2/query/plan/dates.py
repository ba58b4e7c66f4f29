"""When trading dates are: the exchange's, which is asked for or found by what is traded there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from k2.model.errors import UserError
from k2.model.exchanges import Exchange, Session
from k2.model.exchanges import exchange as exchange_of
from k2.model.topics import DataType
from k2.query.asked.bar_requests import Dates
from k2.query.asked.requests import At, Window
from k2.query.plan.directory import SymbolDirectory
from k2.query.plan.planner import Planner
from k2.query.plan.venue import exchanges_of

MOST_SESSIONS = 400
"""Dates whose sessions one question may be about: each is a part of its condition, and of its page tokens."""


def window_of_dates(
    planner: Planner,
    directory: SymbolDirectory,
    tables: Mapping[DataType, At],
    symbols: tuple[str, ...],
    exchange: str | None,
    dates: Dates,
    session: Session,
) -> Window:
    """The instants of trading dates, or of a date's session, on the exchange; None: the one that the symbols are traded on.

    Args:
        planner: chooses the files that may hold the symbols around those dates.
        directory: knows the symbols of files.
        tables: which tables are asked, each at which snapshot.
        symbols: any of these; none: all.
        exchange: its code.
        dates: both inclusive.
        session: the whole dates, or their regular sessions.

    Raises:
        UserError: the exchanges' dates are not the same instants, or the sessions of too many dates are asked for.
        AmbiguousSymbolError: a symbol is traded on several exchanges around those dates, and none was asked for.
    """
    if session is Session.REGULAR and (dates.last - dates.first).days >= MOST_SESSIONS:
        raise UserError(
            "Too many dates for their regular sessions",
            found=f"date {dates.first.isoformat()}, last_date {dates.last.isoformat()}",
            expected=f"at most {MOST_SESSIONS} dates with session=regular",
        )
    around = Window.around(dates.first, dates.last)
    codes = {exchange} if exchange is not None else set[str]()
    if exchange is None:
        for data_type, at in tables.items():
            near = planner.plan(planner.pin(data_type, at), symbols, None, around)
            codes |= exchanges_of(directory, near, symbols, around)
    markets = {exchange_of(code).of(symbol) for code in codes for symbol in symbols or ("",)}
    found = {market: session_window(market, dates, session) for market in markets}
    different = {(window.bounds, window.within) for window in found.values()}
    if len(different) > 1 and len(codes) > 1:
        raise UserError(
            "A date is not the same instants on all exchanges of what is asked for",
            found=", ".join(sorted(codes)),
            expected="one of them",
            remedy=f"Ask with exchange={min(codes)}",
        )
    if len(different) > 1:
        raise UserError(
            "A date is not the same instants for all symbols that are asked for",
            found=", ".join(sorted(market.calendar.title for market in markets)),
            expected="symbols of one calendar",
            remedy="Ask for those of each calendar apart",
        )
    # Where nothing is traded around those dates, nothing is found whichever exchange is meant.
    by = tuple(sorted({each for window in found.values() for each in window.by}))
    return replace(next(iter(found.values())), by=by) if found else around


def session_window(market: Exchange, dates: Dates, session: Session) -> Window:
    """The instants of trading dates of an exchange, or of their regular sessions.

    Raises:
        OutsideCalendarError: the regular session of a date that its calendar does not know.
    """
    by = ((market.code, market.calendar.title),)
    if session is Session.ALL:
        bounds = market.bounds(dates.first, session)[0], market.bounds(dates.last, session)[1]
        return Window(*bounds, by=by)
    days = (dates.first + timedelta(days=number) for number in range((dates.last - dates.first).days + 1))
    found = [each for day in days for each in market.stretches(day, session)]
    # Without a session there is nothing, at the date itself.
    return replace(Window.of(found or [market.bounds(dates.first, session)]), by=by)
