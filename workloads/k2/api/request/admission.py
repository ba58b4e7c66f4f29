"""Who asks: the key of a request, its turn, and the questions as that key may ask them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection

from k2.api.access.auth import KeyRing, KnownKey
from k2.api.access.limits import Gate, Meter
from k2.api.request.page_tokens import PageTokens
from k2.api.request.problems import UnauthorizedError
from k2.api.request.request_scope import visit_of
from k2.obs import metrics
from k2.query.questions import Questions

_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="Ask your operator for a key.")


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with; kept in the app's state."""

    questions: Questions
    keys: KeyRing
    max_rows: int
    tokens: PageTokens
    meter: Meter
    gate: Gate


def service_of(connection: HTTPConnection) -> Service:
    """What the app works with, as one who may see everything: routes take `Asked`."""
    service: Service = connection.app.state.service
    return service


def known_key(keys: KeyRing, key: str | None) -> KnownKey:
    """The entry of a key that opens now, or an `UnauthorizedError`."""
    known = keys.find(key) if key else None
    if known is None:
        metrics.HTTP_REFUSED.labels("key").inc()
        if key:
            raise UnauthorizedError("The API key is not known", expected="a key that the service was given")
        raise UnauthorizedError(
            "There is no API key in the request",
            expected="the header X-API-Key",
            remedy="" if keys else "The service has no key that opens it: its log says why",
        )
    state = keys.state(known)
    if state != "active":
        metrics.HTTP_REFUSED.labels("key").inc()
        # To one who has the key itself, its times are no secret.
        when = known.entry.expires if state == "expired" else known.entry.not_before
        said = "expired at" if state == "expired" else "opens from"
        raise UnauthorizedError(f"The API key {said} {when:%Y-%m-%dT%H:%M:%SZ}", remedy="Ask your operator for a key")
    return known


async def take_turn(connection: HTTPConnection, service: Service, known: KnownKey) -> None:
    """Count the request against the key's limits and wait until it may run; a WebSocket is counted and does not wait."""
    visit = visit_of(connection.scope)
    visit.key_name = known.entry.name
    limits = known.entry.limits
    if limits is not None:
        try:
            ended = service.meter.admit(known.id, limits)
        finally:
            visit.headers += service.meter.allowance(known.id, limits).headers()
        visit.at_end.append(ended)
        visit.at_end.append(lambda: service.meter.count_rows(known.id, limits, visit.tally.rows))
    if connection.scope["type"] == "http":
        turn = await service.gate.enter(known.id)
        visit.at_answer.append(turn.answer_begins)
        visit.at_end.append(turn.end)


async def asked(connection: HTTPConnection, key: Annotated[str | None, Depends(_key_header)]) -> Service:
    """The service as the key of the request may ask it, once it has its turn.

    One function for all of it: each dependency more costs a small answer some 30 µs.

    Raises:
        UnauthorizedError: there is no key, or it opens nothing now.
        RateLimitedError: the key has asked as much as it may.
        OverloadedError: so much is asked that the request was not begun.
    """
    service = service_of(connection)
    known = known_key(service.keys, key)
    await take_turn(connection, service, known)
    return replace(service, questions=service.questions.seen_by(known.sight))


Asked = Annotated[Service, Depends(asked)]
"""What every route of /v1 works with: its questions are asked by the key of the request."""
