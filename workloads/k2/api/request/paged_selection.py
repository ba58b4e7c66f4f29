"""Which events a request asks for, from its parameters or its body, and from the token of the page before."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError

from k2.api.request.admission import Service
from k2.api.request.page_tokens import PageTokens
from k2.forms.parameters import DiffParams, EventsParams, QueryBody, SnapshotBody
from k2.forms.print_parameters import PRINT_PARAMETERS
from k2.forms.selection import Asking, asked_for, query_of
from k2.model.errors import UserError
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery

# Parts of a question → parameters that say them.
_PARTS = {
    "symbols": ("symbol", "symbols"),
    "exchange": ("exchange",),
    "window": ("start", "end", "date", "last_date", "session"),
    "fields": ("fields",),
    "at": ("snapshot", "as_of", "pin", "hybrid", "to"),
    "since": ("from_",),
    "prints": PRINT_PARAMETERS,
    "adjusted": ("adjusted",),
}


@dataclass(frozen=True, slots=True)
class Selection:
    """A question, and what was asked for on its first page (the same where this is the first)."""

    query: EventsQuery
    first: EventsQuery


def of_params(data_type: DataType, params: EventsParams, service: Service) -> Selection:
    """From the parameters of a GET.

    Raises:
        UserError: one of them cannot be used, or the token is of another question.
        RequestValidationError: no symbol is named.
    """
    asked = asked_for(data_type, params, service.questions)
    if not asked.symbols and params.page_token is None:
        raise _missing("symbol")
    return _resumed(asked, params, params.model_fields_set | {"from_"}, service.tokens)


def of_diff(params: DiffParams, service: Service) -> Selection:
    """What a table got between two snapshots. Raises as `of_params` does."""
    if params.from_ is None and params.page_token is None:
        raise _missing("from")
    asked = asked_for(params.table, params, service.questions)
    found = _resumed(asked, params, params.model_fields_set, service.tokens)
    if found.query.since is None:
        raise UserError("page_token is of another question", expected="one of /v1/snapshots/diff")
    return found


def of_body(data_type: DataType, body: QueryBody | SnapshotBody, service: Service, at: At | None = None) -> Selection:
    """From the body of a POST; `at` is from the path. Raises as `of_params` does."""
    given = body.model_fields_set | {"from_"} | (set() if at is None else {"snapshot"})
    asked = query_of(data_type, body, body.at if at is None else at, service.questions)
    return _resumed(asked, body, given, service.tokens)


def _resumed(asked: EventsQuery, params: Asking, given: set[str], tokens: PageTokens) -> Selection:
    """The question, or the page of it that the token names; `given`: the parameters that the request has."""
    if params.page_token is None:
        return Selection(asked, asked)
    parts = {part for part, names in _PARTS.items() if not given.isdisjoint(names)}
    return Selection(*tokens.resume(params.page_token, asked, parts))


def _missing(name: str) -> RequestValidationError:
    return RequestValidationError([{"type": "missing", "loc": ("query", name), "msg": "Field required"}])
