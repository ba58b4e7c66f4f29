"""The routes of /v1. Each is a plain function, so the framework runs it in a thread: DuckDB never blocks the event loop."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from k2.api import bodies
from k2.api.answers import headers_of, listed, rows_answer, single
from k2.api.asking import Asked, Service, require_key
from k2.api.formats import negotiate
from k2.api.params import (
    DateRangeParams,
    EventsParams,
    SnapshotsParams,
    StatsParams,
    SummaryParams,
    SymbolsParams,
)
from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.query.requests import At, EventsQuery, SummaryQuery, Window, check_symbol, exchange_code, parse_date

router = APIRouter(prefix="/v1", dependencies=[Depends(require_key)])


@router.get("/trades", tags=["events"], summary="Trades of a symbol, oldest first")
def trades(request: Request, service: Asked, params: Annotated[EventsParams, Query()]) -> Response:
    """Trades in the total order. `more` tells that the limit cut off others: go on from the last timestamp."""
    return _events(request, service, DataType.TRADES, params)


@router.get("/quotes", tags=["events"], summary="Quotes of a symbol, oldest first")
def quotes(request: Request, service: Asked, params: Annotated[EventsParams, Query()]) -> Response:
    """Quotes in the total order. A side that is not there is null."""
    return _events(request, service, DataType.QUOTES, params)


@router.get("/summary/{symbol}/{date}", tags=["aggregates"], summary="OHLCV and VWAP of a trading date")
def summary(
    request: Request,
    service: Asked,
    params: Annotated[SummaryParams, Query()],
    symbol: Annotated[str, Path(examples=["BHP"])],
    date: Annotated[str, Path(description="A date of the exchange's own calendar.", examples=["2014-03-10"])],
) -> Response:
    """All prints from midnight to midnight in the exchange's time zone; exact, VWAP to 8 places, half to even."""
    found = service.questions.summary(
        SummaryQuery(symbol, parse_date(date, "date"), exchange_code(params.exchange), params.at)
    )
    return single(request, params.format, bodies.summary(found), found.provenance)


@router.get("/symbols", tags=["catalog"], summary="Every symbol with its exchange, count, first and last time")
def symbols(request: Request, service: Asked, params: Annotated[SymbolsParams, Query()]) -> Response:
    """Counts of one table, by symbol and exchange."""
    found = service.questions.symbols(params.table, params.at, exchange_code(params.exchange))
    rows = [bodies.symbol(info) for info in found.symbols]
    return listed(request, params.format, rows, found.provenance)


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


def _events(request: Request, service: Service, data_type: DataType, params: EventsParams) -> Response:
    form = negotiate(params.format, request.headers.get("accept"))
    if params.limit > service.max_rows:
        raise UserError(
            "limit is too large",
            found=params.limit,
            expected=f"at most {service.max_rows}",
            remedy="Ask for a shorter time range, or go on from the last timestamp",
        )
    query = EventsQuery(
        data_type,
        (params.symbol,),
        exchange_code(params.exchange),
        Window.parse(params.start, params.end),
        params.limit,
        params.at,
    )
    found = service.questions.events(query)
    return rows_answer(found.rows, form, bodies.events_envelope(found), headers_of(found.provenance, found))
