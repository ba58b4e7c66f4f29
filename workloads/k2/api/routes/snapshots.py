"""Time travel: what a table got between two snapshots, and pins that keep snapshots for as long as they are needed."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from k2.api.request.admission import Asked
from k2.api.request.answers import events
from k2.api.request.paged_selection import of_diff
from k2.forms import bodies
from k2.forms.parameters import DiffParams, PinBody

router = APIRouter(prefix="/v1", tags=["time travel"])


@router.get("/snapshots/diff", summary="What a table got between two snapshots")
def diff(request: Request, service: Asked, params: Annotated[DiffParams, Query()]) -> Response:
    """Events that `to` has and `from` has not, in the total order. That compaction wrote files anew makes no difference."""
    return events(request, service, of_diff(params, service), params.format)


@router.post("/pins", status_code=201, summary="Fix the snapshots of several tables")
def make_pin(service: Asked, body: Annotated[PinBody, Body()]) -> Response:
    """One token for the snapshots of several tables: any question takes it as `pin`, and they are kept until it lapses."""
    pin = service.questions.make_pin(body.tables, body.at, timedelta(seconds=body.ttl_seconds))
    return JSONResponse(bodies.pin(pin), 201, {"Location": f"/v1/pins/{pin.id}"})


@router.get("/pins", summary="Pins that have not lapsed, the first to lapse first")
def pins(service: Asked) -> Response:
    """Whoever made them."""
    return JSONResponse(bodies.pins(service.questions.pins()))


@router.delete("/pins/{pin}", status_code=204, summary="Let go of a pin")
def delete_pin(service: Asked, pin: Annotated[str, Path(description="As POST /v1/pins gave it.")]) -> Response:
    """Its snapshots may be expired from now on."""
    service.questions.delete_pin(pin)
    return Response(status_code=204)
