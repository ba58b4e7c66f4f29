"""One question over HTTP with the standard library alone, for a command that asks once and ends.

To load a client library takes longer than most of those commands do. What needs one (TLS, a proxy, an answer of rows) is
another's: see `remote`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies

CORRELATION = "X-Correlation-ID"
"""The header by which the service's log knows a request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A service's answer, whole."""

    status: int
    reason: str
    correlation_id: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class BriefHttp:
    """A service at an address of http, asked over a connection for each question."""

    host: str
    port: int
    prefix: str

    @classmethod
    def to(cls, url: str) -> Self | None:
        """To the service at the address; None where that takes more than is done here."""
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            return None
        plain = parts.scheme == "http" and parts.hostname and parts.username is None and url.isascii()
        if not plain or parts.query or parts.fragment or getproxies():
            return None
        return cls(parts.hostname or "", port, parts.path.rstrip("/"))

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float,
    ) -> Reply:
        """The answer; `OSError` and `HTTPException` where none comes, `IncompleteRead` where it breaks off.

        `seconds`: of silence are too many.
        """
        target = self.prefix + path
        if params:
            target += "?" + urlencode({name: _text(value) for name, value in params.items()}, doseq=True)
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, target, None if body is None else json.dumps(body).encode(), sent)
            with connection.getresponse() as reply:
                return Reply(reply.status, reply.reason, reply.headers.get(CORRELATION), reply.read())
        finally:
            connection.close()


def _text(value: Any) -> Any:
    """As an address says it: a truth in small letters, lists value by value."""
    return str(value).lower() if isinstance(value, bool) else value
