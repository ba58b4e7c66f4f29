"""Proof of completeness over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import Field

from k2.api import audits
from k2.api.asking import Asked
from k2.api.params import Params
from k2.model.topics import DataType

router = APIRouter(prefix="/v1")


class AuditParams(Params):
    """Parameters of /v1/audit."""

    table: DataType | None = Field(
        default=None, description="trades, quotes or reference_data; default: all that are there."
    )


@router.get("/audit", tags=["completeness"], summary="Whether every offset that a table records is in it once")
def audit(service: Asked, params: Annotated[AuditParams, Query()]) -> JSONResponse:
    """Counts the rows of every offset in the files of the current snapshot, and says how far the topics are ahead.

    Reads three columns of the whole table once per snapshot: seconds for millions of rows. One at a time.
    """
    return JSONResponse(audits.all_audited(service.questions.audits(params.table)))
