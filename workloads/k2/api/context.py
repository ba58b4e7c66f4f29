"""Around every request: the correlation id for the logs, the metrics, the access line, and an answer when all else fails."""

from __future__ import annotations

import time

from asgi_correlation_id import correlation_id as incoming_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.api.problems import problem
from k2.obs import metrics
from k2.obs.logging import correlation_id, get_logger

_log = get_logger(__name__)
_QUIET = ("/health", "/ready", "/metrics")


class RequestContext:
    """ASGI middleware. Stands inside the one that takes the correlation id from the request's header or makes one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token = correlation_id.set(incoming_id.get())
        started = time.perf_counter()
        status, sent = 0, 0

        async def counting(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        metrics.HTTP_IN_PROGRESS.inc()
        try:
            await self._app(scope, receive, counting)
        except Exception:
            _log.exception("request failed unforeseen", method=scope["method"], path=scope["path"])
            if status:
                raise  # the answer has begun: all that is left is to break the connection
            detail = "The service made a mistake. The correlation id finds it in the log"
            answer = problem(500, "internal", "Internal error", detail, instance=scope["path"])
            await answer(scope, receive, counting)
        finally:
            metrics.HTTP_IN_PROGRESS.dec()
            self._record(scope, status, sent, time.perf_counter() - started)
            correlation_id.reset(token)

    @staticmethod
    def _record(scope: Scope, status: int, sent: int, seconds: float) -> None:
        # The template, never the path: paths hold symbols and dates without end.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        metrics.HTTP_REQUESTS.labels(method, route, str(status)).inc()
        metrics.HTTP_DURATION.labels(method, route).observe(seconds)
        metrics.HTTP_RESPONSE_BYTES.labels(route).inc(sent)
        if route not in _QUIET:
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                bytes=sent,
                milliseconds=round(seconds * 1000, 1),
                key=scope.get("state", {}).get("key_name"),
            )
