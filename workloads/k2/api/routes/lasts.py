"""The newest trade and quote of symbols over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from k2.api.request import caching
from k2.api.request.admission import Asked
from k2.api.request.answers import headers_of, rows_answer
from k2.forms.formats import negotiate
from k2.forms.lasts import LastParams, last_envelope, last_query

router = APIRouter(prefix="/v1")


@router.get("/last", tags=["events"], summary="The newest trade and quote of each symbol")
def last(request: Request, service: Asked, params: Annotated[LastParams, Query()]) -> Response:
    """The last of each in the total order, a row a symbol; from the topics' tail where it is newer than the tables.

    `timestamp` is the trade's and `quote_timestamp` the quote's; null where there is none. `note` names symbols that there is
    nothing of.
    """
    form = negotiate(params.format, request.headers.get("accept"))
    found = service.questions.last(last_query(params))
    headers = headers_of(found.provenance) | {"K2-More": "false"}
    if found.note is not None:
        headers["K2-Note"] = found.note.encode("ascii", "replace").decode()
    # Of two tables: no one snapshot validates it.
    headers |= {"Vary": caching.VARY, "Cache-Control": "private, no-store"}
    return rows_answer(found.rows, form, last_envelope(found), headers)
