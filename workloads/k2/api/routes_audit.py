"""Proof of completeness over REST."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import Field

from k2.api import audits
from k2.api.asking import Asked
from k2.api.params import Params
from k2.model.sequences import SequenceScope
from k2.model.topics import DataType

router = APIRouter(prefix="/v1")


class AuditParams(Params):
    """Parameters of /v1/audit."""

    table: DataType | None = Field(
        default=None, description="trades, quotes or reference_data; default: all that are there."
    )
    sequences: SequenceScope | None = Field(
        default=None,
        description="Also which numbers of the source's own sequence are missing or there twice, by trading day: "
        "`symbol`, where each symbol's events are numbered for themselves, `exchange`, where those of all symbols are "
        "numbered together. Reads all rows' numbers once per snapshot.",
    )


@router.get("/audit", tags=["completeness"], summary="Whether every offset that a table records is in it once")
def audit(service: Asked, params: Annotated[AuditParams, Query()]) -> JSONResponse:
    """Counts the rows of every offset in the files of the current snapshot, and says how far the topics are ahead.

    Reads three columns of the whole table once per snapshot: seconds for millions of rows. One at a time.
    What a source left out (`sequences`) is shown and is no fault of the table: `ok` does not say anything of it.
    """
    return JSONResponse(audits.all_audited(service.questions.audits(params.table, params.sequences)))
