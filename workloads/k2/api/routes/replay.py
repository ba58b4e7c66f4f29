"""Replay by pages: each answer carries the cursor with which the next one goes on."""

from __future__ import annotations

from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Body, Request, Response

from k2.api.request.admission import Asked
from k2.api.request.answers import rows_answer
from k2.forms import bodies
from k2.forms.formats import negotiate
from k2.forms.replay_parameters import ReplayBody
from k2.obs.tally import count_rows

router = APIRouter(prefix="/v1")


@router.post("/replay", tags=["replay"], summary="Quotes and trades in one order of events, page by page")
def replay(request: Request, service: Asked, body: Annotated[ReplayBody, Body()]) -> Response:
    """`type` says what a row is; at one instant, exchange and symbol quotes come before trades.

    All pages are of the same rows: the snapshots of the first page, and what the topics held beyond them. A cursor is good
    after a restart of either side, for as long as those are retained.
    """
    form = negotiate(body.format, request.headers.get("accept"))
    page, done = body.replay(service.questions).page(body.limit)
    count_rows("replay", page.rows.num_rows)
    cursor = page.cursor
    envelope: dict[str, Any] = {
        "count": page.rows.num_rows,
        "done": done,
        "cursor": cursor.encode(),
        **bodies.replay_snapshots(cursor),
    }
    headers = {"K2-Cursor": envelope["cursor"], "K2-Done": "true" if done else "false"}
    return rows_answer(pa.Table.from_batches([page.rows]), form, envelope, headers)
