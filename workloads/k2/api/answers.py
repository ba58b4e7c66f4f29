"""Answers in the form that was asked for, with headers that say what they were read from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pyarrow as pa
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from k2.api import bodies
from k2.api.formats import MEDIA_TYPES, Format, encode, negotiate
from k2.query.results import Events, Provenance

_STREAM_FROM_ROWS = 20_000


def listed(request: Request, asked: Format | None, rows: list[dict[str, Any]], provenance: Provenance) -> Response:
    """Objects of one kind: as `data` of a JSON object, or as rows in the other forms."""
    form = negotiate(asked, request.headers.get("accept"))
    if form is Format.JSON:
        return JSONResponse({"data": rows, **bodies.provenance(provenance)}, headers=headers_of(provenance))
    return rows_answer(pa.Table.from_pylist(rows), form, {}, headers_of(provenance))


def single(request: Request, asked: Format | None, body: dict[str, Any], provenance: Provenance | None) -> Response:
    """One object: as it is in JSON, or as one row."""
    form = negotiate(asked, request.headers.get("accept"))
    headers = {} if provenance is None else headers_of(provenance)
    if form is Format.JSON:
        return JSONResponse(body, headers=headers)
    return rows_answer(pa.Table.from_pylist([body]), form, {}, headers)


def rows_answer(rows: pa.Table, form: Format, envelope: dict[str, Any], headers: dict[str, str]) -> Response:
    """Rows in any form; many of them are sent while they are encoded."""
    pieces: Iterator[bytes] = encode(rows, form, envelope)
    if rows.num_rows < _STREAM_FROM_ROWS:
        return Response(b"".join(pieces), headers=headers, media_type=MEDIA_TYPES[form])
    # The first piece is made here, so that what cannot be encoded is still an error with a status.
    first = next(pieces, b"")
    return StreamingResponse(chain((first,), pieces), headers=headers, media_type=MEDIA_TYPES[form])


def headers_of(provenance: Provenance, found: Events | None = None) -> dict[str, str]:
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
