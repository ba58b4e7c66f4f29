"""The routes of /v1. Each is a plain function, so the framework runs it in a thread: DuckDB never blocks the event loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field

from k2.api import bodies
from k2.api.auth import KeyRing
from k2.api.formats import MEDIA_TYPES, Format, encode, negotiate
from k2.api.problems import UnauthorizedError
from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.obs import metrics
from k2.query.questions import Questions
from k2.query.requests import (
    DEFAULT_LIMIT,
    At,
    EventsQuery,
    SummaryQuery,
    Window,
    check_symbol,
    exchange_code,
    parse_date,
)
from k2.query.results import Events, Provenance

_STREAM_FROM_ROWS = 20_000
_TIME = "ISO 8601 (UTC when it has no offset) or nanoseconds since 1970."
_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="Ask your operator for a key.")


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with; kept in the app's state."""

    questions: Questions
    keys: KeyRing
    max_rows: int


class _Params(BaseModel):
    # A misspelt parameter must not be taken for an absent one: it would answer another question.
    model_config = ConfigDict(extra="forbid")


class _Pinned(_Params):
    snapshot: str | None = Field(default=None, description="Answer from this snapshot (an id from /v1/snapshots).")
    as_of: str | None = Field(default=None, description=f"Answer as was known at this time. {_TIME}")
    format: Format | None = Field(default=None, description="Instead of the Accept header.")

    @property
    def at(self) -> At:
        """The snapshot that answers."""
        return At.parse(self.snapshot, self.as_of)


class EventsParams(_Pinned):
    """Parameters of /v1/trades and /v1/quotes."""

    symbol: str = Field(description="Symbol on its exchange.", examples=["BHP"])
    exchange: str | None = Field(
        default=None, description="Needed where the symbol is traded on several.", examples=["ASX"]
    )
    start: str | None = Field(default=None, description=f"First instant. {_TIME}", examples=["2014-03-09T23:00:00Z"])
    end: str | None = Field(
        default=None, description=f"First instant no more. {_TIME}", examples=["2014-03-10T06:00:00Z"]
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, description="Most rows.")


class SummaryParams(_Pinned):
    """Parameters of /v1/summary."""

    exchange: str | None = Field(default=None, description="Needed where the symbol is traded on several.")


class SymbolsParams(_Pinned):
    """Parameters of /v1/symbols."""

    table: DataType = Field(default=DataType.TRADES, description="trades or quotes.")
    exchange: str | None = Field(default=None, description="Only symbols of this exchange.")


class DateRangeParams(SymbolsParams):
    """Parameters of /v1/date-range."""

    symbol: str = Field(description="Symbol on its exchange.", examples=["BHP"])


class StatsParams(_Params):
    """Parameters of /v1/stats."""

    as_of: str | None = Field(default=None, description=f"As was known at this time. {_TIME}")


class SnapshotsParams(_Params):
    """Parameters of /v1/snapshots."""

    table: DataType = Field(default=DataType.TRADES, description="trades, quotes or reference_data.")
    limit: int = Field(default=100, ge=1, le=10_000, description="Most snapshots, newest first.")


async def service_of(request: Request) -> Service:  # async: a plain function would cost a hop to a thread
    """What the app works with."""
    service: Service = request.app.state.service
    return service


async def require_key(
    request: Request,
    key: Annotated[str | None, Depends(_key_header)],
    service: Annotated[Service, Depends(service_of)],
) -> None:
    """Let the request pass, or raise `UnauthorizedError`."""
    name = service.keys.name_of(key) if key else None
    if name is None:
        metrics.HTTP_REFUSED.labels("key").inc()
        if key:
            raise UnauthorizedError("The API key is not known", expected="a key that the service was given")
        raise UnauthorizedError(
            "There is no API key in the request",
            expected="the header X-API-Key",
            remedy="" if service.keys else "The service has no key that opens it: its log says why",
        )
    request.state.key_name = name


Asked = Annotated[Service, Depends(service_of)]
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
    return _object(request, params.format, bodies.summary(found), found.provenance)


@router.get("/symbols", tags=["catalog"], summary="Every symbol with its exchange, count, first and last time")
def symbols(request: Request, service: Asked, params: Annotated[SymbolsParams, Query()]) -> Response:
    """Counts of one table, by symbol and exchange."""
    found = service.questions.symbols(params.table, params.at, exchange_code(params.exchange))
    rows = [bodies.symbol(info) for info in found.symbols]
    return _list(request, params.format, rows, found.provenance)


@router.get("/date-range", tags=["catalog"], summary="First and last event of a symbol")
def date_range(request: Request, service: Asked, params: Annotated[DateRangeParams, Query()]) -> Response:
    """From the data itself, not from what was asked for."""
    found = service.questions.date_range(
        params.table, check_symbol(params.symbol), exchange_code(params.exchange), params.at
    )
    return _object(request, params.format, bodies.symbol(found), None)


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
    return _rows(found.rows, form, bodies.events_envelope(found), _headers(found.provenance, found))


def _list(request: Request, asked: Format | None, rows: list[dict[str, Any]], provenance: Provenance) -> Response:
    form = negotiate(asked, request.headers.get("accept"))
    if form is Format.JSON:
        return JSONResponse({"data": rows, **bodies.provenance(provenance)}, headers=_headers(provenance))
    return _rows(pa.Table.from_pylist(rows), form, {}, _headers(provenance))


def _object(request: Request, asked: Format | None, body: dict[str, Any], provenance: Provenance | None) -> Response:
    form = negotiate(asked, request.headers.get("accept"))
    headers = {} if provenance is None else _headers(provenance)
    if form is Format.JSON:
        return JSONResponse(body, headers=headers)
    return _rows(pa.Table.from_pylist([body]), form, {}, headers)


def _rows(rows: pa.Table, form: Format, envelope: dict[str, Any], headers: dict[str, str]) -> Response:
    pieces: Iterator[bytes] = encode(rows, form, envelope)
    if rows.num_rows < _STREAM_FROM_ROWS:
        return Response(b"".join(pieces), headers=headers, media_type=MEDIA_TYPES[form])
    # The first piece is made here, so that what cannot be encoded is still an error with a status.
    first = next(pieces, b"")
    return StreamingResponse(chain((first,), pieces), headers=headers, media_type=MEDIA_TYPES[form])


def _headers(provenance: Provenance, found: Events | None = None) -> dict[str, str]:
    """What the answer was read from and up to when it is complete, for the forms that are rows alone."""
    names = {
        "snapshot_id": "K2-Snapshot-Id",
        "snapshot_time": "K2-Snapshot-Time",
        "complete_until": "K2-Complete-Until",
    }
    described = bodies.provenance(provenance)
    headers = {header: value for name, header in names.items() if (value := described[name]) is not None}
    if found is not None:
        headers["K2-More"] = "true" if found.more else "false"
        if found.note is not None:
            headers["K2-Note"] = found.note.encode("ascii", "replace").decode()
    return headers
