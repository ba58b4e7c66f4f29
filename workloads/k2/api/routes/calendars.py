"""When exchanges trade."""

from __future__ import annotations

import time
from typing import Annotated

import pyarrow as pa
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from k2.api.request.admission import Asked
from k2.api.request.answers import rows_answer
from k2.forms.calendars import ROWS, CalendarParams, calendar_body
from k2.forms.formats import Format, negotiate

router = APIRouter(prefix="/v1")


@router.get("/calendar/{exchange}", tags=["catalog"], summary="Trading dates of an exchange, with their sessions")
def calendar(
    request: Request,
    _service: Asked,
    params: Annotated[CalendarParams, Query()],
    exchange: Annotated[str, Path(description="Code of the exchange.", examples=["NYSE"])],
) -> Response:
    """Of each date when it begins and ends, when its regular session opens, pauses and closes; and which dates are known.

    `status` is `regular`, `special` (a half day, say), `closed` or `unknown` (beyond `known_from` and `known_until`).
    """
    form = negotiate(params.format, request.headers.get("accept"))
    found = calendar_body(exchange, params, time.time_ns() // 1000)
    if form is Format.JSON:
        return JSONResponse(found)
    return rows_answer(pa.Table.from_pylist(found["data"], ROWS), form, {}, {})
