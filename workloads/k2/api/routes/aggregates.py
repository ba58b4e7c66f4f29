"""Bars of trades, and trades with the quotes that prevailed."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response

from k2.api.request import caching
from k2.api.request.admission import Asked, Service
from k2.api.request.answers import NOT_KEPT, headers_of, rows_answer
from k2.forms.aggregate_parameters import AggregationsBody, AsofParams, BarsParams, NamedBarsParams
from k2.forms.aggregates import asof_envelope, asof_query, bars_envelope, bars_query
from k2.forms.formats import Format, negotiate
from k2.forms.selection import symbols_of
from k2.model.topics import DataType
from k2.query.asked.bar_requests import BarsQuery

router = APIRouter(prefix="/v1")


@router.post("/aggregations", tags=["aggregates"], summary="Bars of several symbols: OHLCV, VWAP, TWAP")
def aggregations(request: Request, service: Asked, body: Annotated[AggregationsBody, Body()]) -> Response:
    """Bars by start, exchange and symbol, of buckets in each exchange's own session and time zone; exact."""
    form = negotiate(body.format, request.headers.get("accept"))
    return _bars(request, service, bars_query(body.symbols, body, service.max_rows), form)


@router.get("/bars", tags=["aggregates"], summary="Bars of symbols of any characters: OHLCV, VWAP, TWAP")
def named_bars(request: Request, service: Asked, params: Annotated[NamedBarsParams, Query()]) -> Response:
    """The same as /v1/aggregations. `more` tells that the limit cut off others."""
    return _got_bars(request, service, symbols_of(params), params)


@router.get("/bars/{symbol}", tags=["aggregates"], summary="Bars of a symbol: OHLCV, VWAP, TWAP")
def bars(
    request: Request,
    service: Asked,
    params: Annotated[BarsParams, Query()],
    symbol: Annotated[str, Path(examples=["BHP"])],
) -> Response:
    """The same as /v1/bars?symbol=…, for a symbol that a path can hold: without a slash, and neither `.` nor `..`."""
    return _got_bars(request, service, (symbol,), params)


@router.get("/asof", tags=["events"], summary="Trades with the quotes that prevailed, oldest first")
def asof(request: Request, service: Asked, params: Annotated[AsofParams, Query()]) -> Response:
    """Each trade with the last quote strictly before it, the spreads, and the side that began it (Lee and Ready, 1991).

    Under a one-sided or crossed quote, or none, `inferred_side` is UNKNOWN.
    """
    form = negotiate(params.format, request.headers.get("accept"))
    found = service.questions.asof(asof_query(params, service.max_rows, service.questions))
    headers = headers_of(found.provenance, found) | NOT_KEPT  # of two tables: no one snapshot validates it
    return rows_answer(found.rows, form, asof_envelope(found), headers)


def _now_us() -> int:
    return time.time_ns() // 1000


def _got_bars(request: Request, service: Service, symbols: tuple[str, ...], params: BarsParams) -> Response:
    form = negotiate(params.format, request.headers.get("accept"))
    query = bars_query(symbols, params, service.max_rows)
    same = None
    if query.adjusted is None and not query.grows(_now_us()):
        same = caching.unchanged(request, service.questions, DataType.TRADES, query.at, form)
    return same or _bars(request, service, query, form)


def _bars(request: Request, service: Service, query: BarsQuery, form: Format) -> Response:
    found = service.questions.bars(query)
    headers = NOT_KEPT
    if request.method == "GET" and query.adjusted is None and not query.grows(_now_us()):
        headers = caching.headers(request, service.questions, query.at, found.provenance, form)
    return rows_answer(found.rows, form, bars_envelope(found, query), headers_of(found.provenance, found) | headers)
