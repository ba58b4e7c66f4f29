"""Proof of completeness over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from k2.api.request.admission import Asked
from k2.forms import audits
from k2.forms.parameters import AuditParams

router = APIRouter(prefix="/v1")


@router.get("/audit", tags=["completeness"], summary="Whether every offset that a table records is in it once")
def audit(service: Asked, params: Annotated[AuditParams, Query()]) -> JSONResponse:
    """Counts the rows of every offset in the files of the current snapshot, and says how far the topics are ahead.

    Reads three columns of the whole table once per snapshot: seconds for millions of rows. One at a time.
    What a source left out (`sequences`) is shown and is no fault of the table: `ok` does not say anything of it.
    """
    return JSONResponse(audits.all_audited(service.questions.audits(params.table, params.sequences)))
