"""The OpenAPI document, made whole: every status that a route may answer, and the forms that its rows come in.

FastAPI knows of parameters and bodies; errors are raised far below the routes and are the same for all, so they are
written into the document here, once for every operation of /v1. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from k2.api.request.problems import MEDIA_TYPE
from k2.forms.formats import MEDIA_TYPES, Format

_ALWAYS = {
    401: "There is no API key, or it opens nothing.",
    403: "The key's rules do not allow it.",
    422: "A parameter is wrong, unknown or missing; or the question needs too much memory.",
    429: "The key has asked as much as it may for now: see Retry-After.",
    500: "The service made a mistake; the correlation id finds it in the log.",
    503: "Busy, or something that the service needs does not answer: see Retry-After.",
    504: "The query ran over its deadline and was stopped.",
}
_ASKED = {
    400: "The request cannot be used; the detail says what was found and what was expected.",
    404: "Nothing matches.",
    409: "The symbol is traded on several exchanges: ask for one.",
    410: "The snapshot, time or pin is not retained.",
    501: "Rows were deleted in a way that the service does not read.",
}
_WITH_BODY = {413: "The body is too large.", 415: "The body is encoded."}
_UNCHANGED = "The answer is the one that the client has (If-None-Match)."

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance", "correlation_id"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:k2:problem:bad-request"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was found, what was expected, what to do."},
        "instance": {"type": "string", "description": "The request's path."},
        "correlation_id": {"type": ["string", "null"]},
        "found": {"type": "string"},
        "expected": {"type": "string"},
        "remedy": {"type": "string"},
        "parameter": {"type": "string"},
    },
}
_ONE_SNAPSHOT: dict[str, Any] = {
    "type": ["string", "null"],
    "description": "Of the one table that answered; null where there were several: `sources` has that of each.",
}
_EVENTS: dict[str, Any] = {
    "type": "object",
    "required": ["data", "count", "more", "snapshot_id", "next_page"],
    "properties": {
        "data": {"type": "array", "items": {"type": "object"}, "description": "Rows; decimals are strings."},
        "count": {"type": "integer"},
        "more": {"type": "boolean", "description": "The limit cut off others."},
        "snapshot_id": _ONE_SNAPSHOT,
        "snapshot_time": _ONE_SNAPSHOT,
        "complete_until": {"type": ["string", "null"], "description": "Time of the newest event there is."},
        "next_page": {"type": ["string", "null"], "description": "page_token of the next page."},
        "note": {"type": "string", "description": "Why there are no rows."},
        "filter": {"type": "object", "description": "Which trades count, where not all do."},
    },
}

_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_DAY: dict[str, Any] = {"type": "string", "format": "date"}
_COUNT: dict[str, Any] = {"type": "integer"}
_DECIMAL: dict[str, Any] = {
    "type": "string",
    "description": "A decimal, with all its places: 8, or 18 where the table is wide.",
}
_DECIMAL_OR_NULL: dict[str, Any] = _DECIMAL | {"type": ["string", "null"]}
_TEXT_OR_NULL: dict[str, Any] = {"type": ["string", "null"]}
_FROM: dict[str, Any] = {
    "snapshot_id": _ONE_SNAPSHOT,
    "snapshot_time": _ONE_SNAPSHOT,
    "complete_until": _TEXT_OR_NULL | {"description": "Time of the newest event there is of these exchanges."},
    "hybrid": {"type": "boolean", "description": "With what the topics hold beyond the snapshot."},
    "sources": {"type": "array", "items": {"type": "object"}},
}

_CALENDARS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": _TEXT,
    "description": "Calendar of each exchange that the answer went by, with its version.",
}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": sorted(properties), "properties": properties}


_PRICES = ("open", "high", "low", "close")
_BAR = _object(
    {
        **dict.fromkeys(("symbol", "exchange"), _TEXT),
        "date": _DAY | {"description": "The trading date, the exchange's own."},
        **dict.fromkeys(("start", "end"), _TIME),
        **dict.fromkeys((*_PRICES, "vwap", "twap"), _DECIMAL_OR_NULL),
        "volume": _DECIMAL,
        "trade_count": _COUNT,
    }
)
_BARS = _object(
    {
        "data": {"type": "array", "items": _BAR},
        **dict.fromkeys(("interval", "session"), _TEXT),
        "time_zones": {"type": "object", "additionalProperties": _TEXT, "description": "Time zone of each exchange."},
        "calendars": _CALENDARS,
        "count": _COUNT,
        "more": {"type": "boolean", "description": "The limit cut off others."},
        **_FROM,
    }
)
_SUMMARY = _object(
    {
        **dict.fromkeys(("symbol", "exchange", "time_zone", "currency", "session"), _TEXT),
        "date": _DAY,
        **dict.fromkeys((*_PRICES, "volume"), _DECIMAL),
        "vwap": _DECIMAL_OR_NULL,
        "trade_count": _COUNT,
        **dict.fromkeys(("first_time", "last_time"), _TIME),
        "calendars": _CALENDARS,
        **_FROM,
    }
)
_SYMBOL = _object(
    {
        **dict.fromkeys(("symbol", "exchange"), _TEXT),
        "rows": _COUNT,
        **dict.fromkeys(("first_time", "last_time"), _TIME),
    }
)
_SYMBOLS = _object({"data": {"type": "array", "items": _SYMBOL}, **_FROM})
_ANSWERS = {
    "/v1/bars": "Bars",
    "/v1/bars/{symbol}": "Bars",
    "/v1/aggregations": "Bars",
    "/v1/summary": "Summary",
    "/v1/summary/{symbol}/{date}": "Summary",
    "/v1/symbols": "Symbols",
    "/v1/date-range": "SymbolRange",
}


def install(app: FastAPI) -> None:
    """Let the app serve the whole document."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = completed(made())
        return app.openapi_schema

    app.openapi = openapi


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every answer of every operation of /v1. Changes and returns it."""
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas |= {"Problem": _PROBLEM, "Events": _EVENTS, "Bars": _BARS, "Summary": _SUMMARY}
    schemas |= {"Symbols": _SYMBOLS, "SymbolRange": _SYMBOL}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    texts = _ALWAYS | _ASKED | _WITH_BODY
    answer = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    components["responses"] = {_name(status): {"description": text, **answer} for status, text in texts.items()}
    for path, item in document["paths"].items():
        if not path.startswith("/v1/"):
            continue
        for method, operation in item.items():
            _complete(method, operation, schemas, _ANSWERS.get(path))
    return document


def _complete(method: str, operation: dict[str, Any], schemas: Mapping[str, Any], answer: str | None) -> None:
    given = _given(operation, schemas)
    statuses = _ALWAYS | (_ASKED if given else {}) | (_WITH_BODY if "requestBody" in operation else {})
    responses = operation["responses"]
    for status in statuses:
        responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
    good = responses.get("200")
    if good is not None and "format" in given:
        name = answer or ("Events" if "page_token" in given else None)
        rows = {"type": "object"} if name is None else {"$ref": f"#/components/schemas/{name}"}
        good["content"] = {
            media: {"schema": rows if form is Format.JSON else {}} for form, media in MEDIA_TYPES.items()
        }
    if method == "get" and {"snapshot", "format"} <= given:
        responses["304"] = {"description": _UNCHANGED}


def _given(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> set[str]:
    """Names of the operation's parameters and of its body's members."""
    names = {each["name"] for each in operation.get("parameters", ())}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content["schema"]
        schema = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        names |= set(schema.get("properties", ()))
    return names


def _name(status: int) -> str:
    return f"Problem{status}"
