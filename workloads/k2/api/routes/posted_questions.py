"""Events by POST: several symbols and chosen fields, now, at a snapshot, at a time or at a pin."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Request, Response

from k2.api.request.admission import Asked
from k2.api.request.answers import events
from k2.api.request.paged_selection import of_body
from k2.forms.parameters import QueryBody, SnapshotBody
from k2.model.topics import DataType
from k2.query.asked.requests import At

router = APIRouter(prefix="/v1")


@router.post("/trades/query", tags=["events"], summary="Trades of several symbols, chosen fields")
def trades_query(request: Request, service: Asked, body: Annotated[QueryBody, Body()]) -> Response:
    """Trades of any of the symbols in the total order."""
    return events(request, service, of_body(DataType.TRADES, body, service), body.format)


@router.post("/quotes/query", tags=["events"], summary="Quotes of several symbols, chosen fields")
def quotes_query(request: Request, service: Asked, body: Annotated[QueryBody, Body()]) -> Response:
    """Quotes of any of the symbols in the total order."""
    return events(request, service, of_body(DataType.QUOTES, body, service), body.format)


@router.post("/snapshots/{snapshot}/query", tags=["time travel"], summary="Events as a snapshot holds them")
def snapshot_query(
    request: Request,
    service: Asked,
    snapshot: Annotated[str, Path(description="A snapshot's id.")],
    body: Annotated[SnapshotBody, Body()],
) -> Response:
    """The same question asked of one snapshot gives the same answer for as long as the snapshot is retained."""
    selection = of_body(body.table, body, service, At.parse(snapshot, None))
    return events(request, service, selection, body.format)
