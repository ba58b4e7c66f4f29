"""Questions about bars and as-of joins from the parameters of a request, and what stands beside their rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.forms import bodies
from k2.forms.aggregate_parameters import AggregationsBody, AsofParams, BarsParams
from k2.forms.parameters import as_text
from k2.forms.selection import listed, symbols_of
from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.query.aggregates.asof import Asof
from k2.query.aggregates.bars import Bars
from k2.query.asked.asof_requests import AsofQuery, parse_lookback
from k2.query.asked.bar_requests import BarsQuery, parse_period
from k2.query.asked.requests import check_symbols, exchange_code
from k2.query.questions import Questions


def bars_query(symbols: Sequence[str], params: BarsParams | AggregationsBody, max_rows: int) -> BarsQuery:
    """The question, or a `UserError`; without a limit of its own it has the service's, where that is lower."""
    exchange = exchange_code(params.exchange)
    return BarsQuery(
        symbols=tuple(dict.fromkeys(symbols)),
        interval=params.interval,
        exchange=exchange,
        period=parse_period(as_text(params.start), as_text(params.end), params.date, params.last_date, params.zone),
        session=params.session,
        empty=params.empty,
        limit=_limit(params, max_rows),
        at=params.at,
        prints=params.prints_of(params.session, exchange),
        adjusted=params.adjusting,
    )


def asof_query(params: AsofParams, max_rows: int, questions: Questions) -> AsofQuery:
    """The question, or a `UserError`; see `bars_query`. `questions` say when trading dates are."""
    symbols = symbols_of(params)
    if not symbols:
        raise UserError("No symbol is given", expected="symbol, or symbols")
    at, exchange = params.at, exchange_code(params.exchange)
    check_symbols(symbols)
    period = parse_period(params.start, params.end, params.date, params.last_date, params.zone)
    return AsofQuery(
        symbols=tuple(dict.fromkeys(symbols)),
        exchange=exchange,
        window=questions.window_of({DataType.TRADES: at}, symbols, exchange, period, params.session),
        limit=_limit(params, max_rows),
        lookback_us=parse_lookback(params.lookback),
        at=at,
        fields=listed(params.fields),
        prints=params.prints_of(params.session, exchange),
        adjusted=params.adjusting,
    )


def bars_envelope(found: Bars, query: BarsQuery) -> dict[str, Any]:
    """What stands beside bars."""
    return {
        "interval": query.interval.value,
        "session": query.session.value,
        "time_zones": dict(found.time_zones),
        "count": found.rows.num_rows,
        "more": found.more,
        "calendars": bodies.calendars(found.provenance.followed),
        **bodies.provenance(found.provenance),
        **({} if found.note is None else {"note": found.note}),
    }


def asof_envelope(found: Asof) -> dict[str, Any]:
    """What stands beside trades and their quotes; `quotes` says from where the quotes are."""
    return {
        "count": found.rows.num_rows,
        "more": found.more,
        **bodies.provenance(found.provenance),
        "quotes": bodies.provenance(found.quotes),
        **({} if found.note is None else {"note": found.note}),
    }


def _limit(params: BarsParams | AggregationsBody | AsofParams, max_rows: int) -> int:
    if "limit" not in params.model_fields_set:
        return min(params.limit, max_rows)
    if params.limit > max_rows:
        raise UserError(
            "limit is too large",
            found=params.limit,
            expected=f"at most {max_rows}",
            remedy="Ask for a shorter time range, or go on from the last row",
        )
    return params.limit
