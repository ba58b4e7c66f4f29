"""Who asks: the key of a request, and the questions as that key may ask them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader

from k2.api.auth import KeyRing
from k2.api.problems import UnauthorizedError
from k2.obs import metrics
from k2.query.questions import Questions

_key_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="Ask your operator for a key.")


@dataclass(frozen=True, slots=True)
class Service:
    """What the routes work with; kept in the app's state."""

    questions: Questions
    keys: KeyRing
    max_rows: int


async def service_of(request: Request) -> Service:  # async: a plain function would cost a hop to a thread
    """What the app works with."""
    service: Service = request.app.state.service
    return service


async def require_key(
    request: Request,
    key: Annotated[str | None, Depends(_key_header)],
    service: Annotated[Service, Depends(service_of)],
) -> None:
    """Let the request pass, or raise `UnauthorizedError`."""
    name = service.keys.name_of(key) if key else None
    if name is None:
        metrics.HTTP_REFUSED.labels("key").inc()
        if key:
            raise UnauthorizedError("The API key is not known", expected="a key that the service was given")
        raise UnauthorizedError(
            "There is no API key in the request",
            expected="the header X-API-Key",
            remedy="" if service.keys else "The service has no key that opens it: its log says why",
        )
    request.state.key_name = name


Asked = Annotated[Service, Depends(service_of)]
"""What a route works with."""
