"""Answers in the form that was asked for, with headers that say what they were read from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import Any

import pyarrow as pa
from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from k2.api.request import caching
from k2.api.request.admission import Service
from k2.api.request.paged_selection import Selection
from k2.forms import bodies, sources
from k2.forms.encoding import encode_batches
from k2.forms.formats import MEDIA_TYPES, Format, encode, negotiate
from k2.forms.parameters import PinnedParams
from k2.model.errors import UserError
from k2.model.events import SortKey
from k2.model.topics import DataType
from k2.query.aggregates.asof import Asof
from k2.query.aggregates.bars import Bars
from k2.query.asked.requests import At
from k2.query.engine.background import Background
from k2.query.events.paging import HEAD_ROWS, Events, EventStream
from k2.query.plan.provenance import Provenance
from k2.query.reference.records import Reference

NOT_KEPT = {"Vary": caching.VARY, "Cache-Control": "private, no-store"}
"""Headers of an answer of several tables: no one snapshot validates it."""

_STREAM_FROM_ROWS = 20_000
_BATCH_ROWS = 65_536


def events(request: Request, service: Service, selection: Selection, asked: Format | None) -> Response:
    """The events that a request asks for: whole when they are few, else sent while they are read."""
    form = negotiate(asked, request.headers.get("accept"))
    query = selection.query
    if form is Format.JSON and query.limit > service.max_rows:
        raise UserError(
            "limit is too large",
            found=query.limit,
            expected=f"at most {service.max_rows}",
            remedy="Take it page by page (next_page), or as NDJSON, CSV, Parquet or an Arrow stream",
        )
    if request.method == "GET" and query.adjusted is None:
        same = unchanged(request, service, query.data_type, query.at, asked)
        if same is not None:
            return same
    if query.limit > HEAD_ROWS:
        return _streamed(request, service, selection, form)
    found = service.questions.events(query)
    envelope = bodies.events_envelope(found) | _next_page(service, selection, found.provenance, found.last)
    headers = headers_of(found.provenance, found) | _validators(request, service, selection, found.provenance, form)
    return rows_answer(found.rows, form, envelope, headers | _link(envelope))


def _streamed(request: Request, service: Service, selection: Selection, form: Format) -> Response:
    stream = service.questions.stream(selection.query, batch_rows=_BATCH_ROWS)
    batches = stream.batches()
    headers = _validators(request, service, selection, stream.provenance, form)
    if stream.rest is None:
        rows = pa.Table.from_batches(batches, stream.schema)
        found = Events(rows, bool(stream.last), stream.provenance, stream.note, stream.last)
        envelope = bodies.events_envelope(found) | _next_page(service, selection, stream.provenance, stream.last)
        return rows_answer(rows, form, envelope, headers_of(found.provenance, found) | headers | _link(envelope))
    pieces = encode_batches(stream.schema, batches, form, lambda: _ending(service, selection, stream))
    return StreamingResponse(
        _closing(service.questions.background, pieces, batches),
        headers=headers_of(stream.provenance) | headers,
        media_type=MEDIA_TYPES[form],
    )


async def _closing(
    background: Background, pieces: Iterator[bytes | memoryview], batches: Iterator[Any]
) -> AsyncIterator[bytes | memoryview]:
    """The pieces, made in the background; the query is stopped when nobody takes them any more."""
    try:
        async for piece in background.iterate(pieces):
            yield piece
    finally:
        await background.finish(pieces, batches)


def _ending(service: Service, selection: Selection, stream: EventStream) -> dict[str, Any]:
    return {
        "count": stream.rows,
        "more": bool(stream.last),
        **bodies.provenance(stream.provenance),
        **_next_page(service, selection, stream.provenance, stream.last),
    }


def _next_page(service: Service, selection: Selection, provenance: Provenance, last: SortKey) -> dict[str, Any]:
    # All pages are of the same tables, and reach as far as the first one did.
    factors = provenance.factors
    at = At(ends=selection.query.at.ends or provenance.ends, tables=provenance.pinned)
    page = {"next_page": service.tokens.seal(selection.first, at, last, factors and factors.how) if last else None}
    since = selection.query.since
    return page if since is None else {"from_snapshot_id": str(since), **page}


def _link(envelope: dict[str, Any]) -> dict[str, str]:
    return {"K2-Next-Page": envelope["next_page"]} if envelope["next_page"] else {}


def _validators(
    request: Request, service: Service, selection: Selection, provenance: Provenance, form: Format
) -> dict[str, str]:
    if request.method != "GET" or provenance.is_hybrid or provenance.factors is not None:
        return NOT_KEPT
    return caching.headers(request, service.questions, selection.query.at, provenance, form)


def unchanged(request: Request, service: Service, data_type: DataType, at: At, asked: Format | None) -> Response | None:
    """304, where the client has the answer already."""
    if "if-none-match" not in request.headers:
        return None
    form = negotiate(asked, request.headers.get("accept"))
    return caching.unchanged(request, service.questions, data_type, at, form)


def validators(request: Request, service: Service, params: PinnedParams, provenance: Provenance) -> dict[str, str]:
    """Headers by which the client may ask whether the answer still holds."""
    form = negotiate(params.format, request.headers.get("accept"))
    return caching.headers(request, service.questions, params.at, provenance, form)


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
    # What is nested tells where the answer came from: the headers say it.
    flat = {name: value for name, value in body.items() if not isinstance(value, (list, dict))}
    return rows_answer(pa.Table.from_pylist([flat]), form, {}, headers)


def rows_answer(rows: pa.Table, form: Format, envelope: dict[str, Any], headers: dict[str, str]) -> Response:
    """Rows in any form; many of them are sent while they are encoded."""
    pieces = encode(rows, form, envelope)
    if rows.num_rows < _STREAM_FROM_ROWS:
        return Response(b"".join(pieces), headers=headers, media_type=MEDIA_TYPES[form])
    # The first piece is made here, so that what cannot be encoded is still an error with a status.
    first = next(pieces, b"")
    return StreamingResponse(chain((first,), pieces), headers=headers, media_type=MEDIA_TYPES[form])


def headers_of(provenance: Provenance, found: Events | Bars | Asof | Reference | None = None) -> dict[str, str]:
    """What the answer was read from and up to when it is complete, for the forms that are rows alone."""
    names = {
        "snapshot_id": "K2-Snapshot-Id",
        "snapshot_time": "K2-Snapshot-Time",
        "complete_until": "K2-Complete-Until",
    }
    described = bodies.provenance(provenance)
    headers = {header: value for name, header in names.items() if (value := described[name]) is not None}
    headers |= sources.headers(provenance)
    if provenance.followed:
        said = "; ".join(f"{code} {title}" for code, title in bodies.calendars(provenance.followed).items())
        headers["K2-Calendars"] = said.encode("ascii", "replace").decode()
    if found is not None:
        headers["K2-More"] = "true" if found.more else "false"
        if found.note is not None:
            headers["K2-Note"] = found.note.encode("ascii", "replace").decode()
    return headers
