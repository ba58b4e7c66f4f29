"""Errors as `application/problem+json` (RFC 9457), each with the correlation id and, for the user's, the remedy."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from k2.api.access.limits import OverloadedError, RateLimitedError
from k2.forms.told import told
from k2.lake.reader import TableMissingError
from k2.model.errors import DamagedError, K2Error, UserError, WorldError
from k2.model.prints import UnknownProfileError
from k2.obs import metrics
from k2.obs.logging import correlation_id, get_logger
from k2.obs.traces import trace_ids
from k2.query.rows.errors import (
    AbandonedError,
    AmbiguousSymbolError,
    EngineBusyError,
    ForbiddenError,
    NotAdjustableError,
    NotFoundError,
    QueryTimeoutError,
    SnapshotGoneError,
    TooLargeError,
    UnreadableError,
)

MEDIA_TYPE = "application/problem+json"
_log = get_logger(__name__)

# Most specific first: type of error → (status, name of the problem's type, title).
_PROBLEMS: tuple[tuple[type[K2Error], int, str, str], ...] = (
    (ForbiddenError, 403, "forbidden", "The key's rules do not allow it"),
    (NotFoundError, 404, "not-found", "Nothing matches"),
    (AmbiguousSymbolError, 409, "ambiguous-symbol", "The symbol is traded on several exchanges"),
    (SnapshotGoneError, 410, "snapshot-gone", "The snapshot is not retained"),
    (TooLargeError, 422, "too-large", "The question needs too much memory"),
    (UnreadableError, 501, "delete-files", "The table has delete files"),
    (NotAdjustableError, 400, "not-adjustable", "The prices cannot be adjusted as asked"),
    (UnknownProfileError, 400, "unknown-profile", "The exchange has no such profile"),
    (RateLimitedError, 429, "rate-limited", "The key has asked as much as it may for now"),
    (UserError, 400, "bad-request", "The request cannot be used"),
    (QueryTimeoutError, 504, "timeout", "The query was stopped at its deadline"),
    (OverloadedError, 503, "overloaded", "The service is asked more than it can answer"),
    (EngineBusyError, 503, "busy", "The service is busy"),
    (AbandonedError, 499, "abandoned", "The client went away"),  # nginx's number for it: the log's, nobody reads it
    (TableMissingError, 503, "not-ready", "The table does not exist yet"),
    (DamagedError, 500, "damaged-file", "A file of the table is gone or broken"),
    (WorldError, 503, "unavailable", "Something that the service needs does not answer"),
)
_RETRY_AFTER = {"busy": "1", "not-ready": "5", "unavailable": "5"}


class UnauthorizedError(UserError):
    """No key, or one that opens nothing."""


def problem(
    status: int,
    kind: str,
    title: str,
    detail: str,
    *,
    instance: str,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """An error's answer. `instance` is the request's path; `more` are further members of the object."""
    said = {
        "type": f"urn:k2:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
        "correlation_id": correlation_id.get(),
        **({} if (traced := trace_ids()) is None else {"trace_id": traced[0]}),
        **more,
    }
    # JSON can bring half of a surrogate pair, which is no character: an answer that quotes it could not be sent.
    body = {name: _sayable(value) if isinstance(value, str) else value for name, value in said.items()}
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def _sayable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def of_error(error: K2Error, instance: str) -> JSONResponse:
    """The answer for one of K2's errors."""
    known = next((entry for entry in _PROBLEMS if isinstance(error, entry[0])), None)
    if known is None:
        raise error
    _, status, kind, title = known
    headers = {"Retry-After": _RETRY_AFTER[kind]} if kind in _RETRY_AFTER else None
    if isinstance(error, RateLimitedError | OverloadedError):
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    more: dict[str, Any] = {}
    if isinstance(error, UserError):
        parts = {"found": error.found, "expected": error.expected, "remedy": error.remedy}
        more = {name: str(value) for name, value in parts.items() if value not in (None, "")}
    elif status >= 500:
        _log.warning("request.failed", problem=kind, reason=str(error))
    detail = told(str(error)) if isinstance(error, WorldError) else str(error)
    return problem(status, kind, title, detail, instance=instance, headers=headers, **more)


def install(app: FastAPI) -> None:
    """Make every error of the app a problem. What nobody foresaw is answered by the outer middleware."""

    @app.exception_handler(UnauthorizedError)
    async def _unauthorized(request: Request, error: UnauthorizedError) -> JSONResponse:
        return problem(
            401,
            "unauthorized",
            "An API key is needed",
            str(error),
            instance=request.url.path,
            headers={"WWW-Authenticate": 'ApiKey header="X-API-Key"'},
        )

    @app.exception_handler(K2Error)
    async def _ours(request: Request, error: K2Error) -> JSONResponse:
        return of_error(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        expected = first["msg"][:1].lower() + first["msg"][1:]
        detail = f"{where} cannot be used: {expected}."
        if first["type"] == "missing":
            detail = f"{where} is missing."
        elif first["type"] == "extra_forbidden":
            detail = f"{where} is not a parameter of this route."
        return problem(
            422, "invalid-parameter", "A parameter is wrong", detail, instance=request.url.path, parameter=where
        )

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        kind = {404: "no-such-path", 405: "method-not-allowed", 413: "body"}.get(error.status_code, "http")
        detail = str(error.detail)
        if error.status_code == 413:
            metrics.HTTP_REFUSED.labels(kind).inc()
        return problem(
            error.status_code, kind, detail, f"{detail}: {request.url.path}", instance=request.url.path, headers=headers
        )
