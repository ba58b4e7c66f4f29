"""The routes of /v1. Each is a plain function, so the framework runs it in a thread: DuckDB never blocks the event loop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from k2.api.request.admission import Asked, Service
from k2.api.request.answers import NOT_KEPT, events, listed, single, unchanged, validators
from k2.api.request.paged_selection import of_params
from k2.forms import bodies
from k2.forms.parameters import (
    DateRangeParams,
    EventsParams,
    NamedSummaryParams,
    SnapshotsParams,
    StatsParams,
    SummaryParams,
    SymbolsParams,
)
from k2.model.times import parse_date
from k2.model.topics import DataType
from k2.query.asked.requests import At, SummaryQuery, check_symbol, exchange_code

router = APIRouter(prefix="/v1")


@router.get("/trades", tags=["events"], summary="Trades of a symbol, oldest first")
def trades(request: Request, service: Asked, params: Annotated[EventsParams, Query()]) -> Response:
    """Trades in the total order. `more` tells that the limit cut off others: `next_page` goes on after the last."""
    return events(request, service, of_params(DataType.TRADES, params, service), params.format)


@router.get("/quotes", tags=["events"], summary="Quotes of a symbol, oldest first")
def quotes(request: Request, service: Asked, params: Annotated[EventsParams, Query()]) -> Response:
    """Quotes in the total order. A side that is not there is null."""
    return events(request, service, of_params(DataType.QUOTES, params, service), params.format)


@router.get("/summary", tags=["aggregates"], summary="OHLCV and VWAP of a trading date, of a symbol of any characters")
def named_summary(request: Request, service: Asked, params: Annotated[NamedSummaryParams, Query()]) -> Response:
    """All prints of a trading date of the exchange, or (`session=regular`) those of its regular session.

    Exact; VWAP has the places of the prices (8; of a wide table 18), rounded half to even.
    """
    return _summary(request, service, params.symbol, params.date, params)


@router.get("/summary/{symbol}/{date}", tags=["aggregates"], summary="OHLCV and VWAP of a trading date")
def summary(
    request: Request,
    service: Asked,
    params: Annotated[SummaryParams, Query()],
    symbol: Annotated[str, Path(examples=["BHP"])],
    date: Annotated[str, Path(description="A date of the exchange's own calendar.", examples=["2014-03-10"])],
) -> Response:
    """The same as /v1/summary?symbol=…&date=…, for a symbol that a path can hold: without a slash, and neither `.` nor `..`."""
    return _summary(request, service, symbol, date, params)


def _summary(request: Request, service: Service, symbol: str, date: str, params: SummaryParams) -> Response:
    exchange = exchange_code(params.exchange)
    prints = params.prints_of(params.session, exchange)
    query = SummaryQuery(
        symbol, parse_date(date, "date"), exchange, params.at, params.session, prints, params.adjusting
    )
    if (
        query.adjusted is None
        and (same := unchanged(request, service, DataType.TRADES, params.at, params.format)) is not None
    ):
        return same
    found = service.questions.summary(query)
    reply = single(request, params.format, bodies.summary(found), found.provenance)
    reply.headers.update(NOT_KEPT if query.adjusted else validators(request, service, params, found.provenance))
    return reply


@router.get("/symbols", tags=["catalog"], summary="Every symbol with its exchange, count, first and last time")
def symbols(request: Request, service: Asked, params: Annotated[SymbolsParams, Query()]) -> Response:
    """Counts of one table, by symbol and exchange."""
    exchange = exchange_code(params.exchange)
    if (same := unchanged(request, service, params.table, params.at, params.format)) is not None:
        return same
    found = service.questions.symbols(params.table, params.at, exchange)
    reply = listed(request, params.format, [bodies.symbol(info) for info in found.symbols], found.provenance)
    reply.headers.update(validators(request, service, params, found.provenance))
    return reply


@router.get("/date-range", tags=["catalog"], summary="First and last event of a symbol")
def date_range(request: Request, service: Asked, params: Annotated[DateRangeParams, Query()]) -> Response:
    """From the data itself, not from what was asked for."""
    found = service.questions.date_range(
        params.table, check_symbol(params.symbol), exchange_code(params.exchange), params.at
    )
    return single(request, params.format, bodies.symbol(found), None)


@router.get("/stats", tags=["catalog"], summary="Size, reach, snapshot and offsets of each table")
def stats(service: Asked, params: Annotated[StatsParams, Query()]) -> Response:
    """From the tables' metadata alone."""
    at = At.parse(None, params.as_of)
    return JSONResponse({"tables": [bodies.stats(table) for table in service.questions.all_stats(at)]})


@router.get("/snapshots", tags=["catalog"], summary="Retained snapshots of a table, newest first")
def snapshots(service: Asked, params: Annotated[SnapshotsParams, Query()]) -> Response:
    """What each added, the totals after it, and what K2 wrote in its summary."""
    return JSONResponse(bodies.snapshots(service.questions.snapshots(params.table), params.limit))
