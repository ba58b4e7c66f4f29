"""What is known of companies over REST: their symbols by date, dividends, splits and mergers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from k2.api.request import caching
from k2.api.request.admission import Asked
from k2.api.request.answers import headers_of, rows_answer
from k2.forms.companies import reference_envelope, reference_query
from k2.forms.formats import negotiate
from k2.forms.parameters import ReferenceParams
from k2.model.topics import DataType

router = APIRouter(prefix="/v1")


@router.get("/reference", tags=["catalog"], summary="Companies, their symbols by date, dividends, splits and mergers")
def reference(request: Request, service: Asked, params: Annotated[ReferenceParams, Query()]) -> Response:
    """Of each thing the record that was taken in last, by exchange, company and the time from which it holds."""
    form = negotiate(params.format, request.headers.get("accept"))
    query = reference_query(params, service.max_rows)
    same = caching.unchanged(request, service.questions, DataType.REFERENCE_DATA, query.at, form)
    if same is not None:
        return same
    found = service.questions.reference(query)
    headers = headers_of(found.provenance, found)
    headers |= caching.headers(request, service.questions, query.at, found.provenance, form)
    return rows_answer(found.rows, form, reference_envelope(found), headers)
