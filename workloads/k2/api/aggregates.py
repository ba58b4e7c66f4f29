"""Questions about bars and as-of joins from the parameters of a request, and what stands beside their rows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from k2.api import bodies
from k2.api.params_aggregates import AggregationsBody, AsofParams, BarsParams
from k2.model.errors import UserError
from k2.query.asof import Asof
from k2.query.asof_requests import AsofQuery, parse_lookback
from k2.query.bar_requests import BarsQuery, parse_period
from k2.query.bars import Bars
from k2.query.requests import Window, exchange_code, parse_date


def bars_query(symbols: Sequence[str], params: BarsParams | AggregationsBody, max_rows: int) -> BarsQuery:
    """The question, or a `UserError`; without a limit of its own it has the service's, where that is lower."""
    dates = (
        None if text is None else parse_date(text, name)
        for name, text in (("date", params.date), ("last_date", params.last_date))
    )
    return BarsQuery(
        symbols=tuple(dict.fromkeys(symbols)),
        interval=params.interval,
        exchange=exchange_code(params.exchange),
        period=parse_period(_text(params.start), _text(params.end), *dates),
        session=params.session,
        empty=params.empty,
        limit=_limit(params, max_rows),
        at=params.at,
    )


def asof_query(params: AsofParams, max_rows: int) -> AsofQuery:
    """The question, or a `UserError`; see `bars_query`."""
    symbols = (*([] if params.symbol is None else [params.symbol]), *_listed(params.symbols))
    if not symbols:
        raise UserError("No symbol is given", expected="symbol, or symbols")
    return AsofQuery(
        symbols=tuple(dict.fromkeys(symbols)),
        exchange=exchange_code(params.exchange),
        window=Window.parse(params.start, params.end),
        limit=_limit(params, max_rows),
        lookback_us=parse_lookback(params.lookback),
        at=params.at,
        fields=_listed(params.fields),
    )


def bars_envelope(found: Bars, query: BarsQuery) -> dict[str, Any]:
    """What stands beside bars."""
    return {
        "interval": query.interval.value,
        "session": query.session.value,
        "time_zones": dict(found.time_zones),
        "count": found.rows.num_rows,
        "more": found.more,
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


def _listed(texts: list[str] | None) -> tuple[str, ...]:
    """Repeated parameters, each of which may be a list with commas."""
    return tuple(name for text in texts or () for name in text.split(",") if name)


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)
