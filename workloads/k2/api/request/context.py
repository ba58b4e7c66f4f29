"""Around every request: the correlation id for the logs, the metrics, the access line, and an answer when all else fails.

Here too: a client that leaves has its queries stopped, one that takes nothing of its answer is given up.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from asgi_correlation_id import correlation_id as incoming_id
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.api.request.access_log import AccessLog
from k2.api.request.inbox import Inbox, refusal
from k2.api.request.problems import problem
from k2.api.request.request_scope import Visit, open_visit
from k2.obs import metrics
from k2.obs.logging import correlation_id, get_logger
from k2.obs.tally import begin
from k2.obs.traces import NO_SPAN, Attributes, Span, incoming
from k2.query.engine.caller import CALLER, Caller

_log = get_logger(__name__)
_QUIET = ("/", "/page/{path:path}", "/health", "/ready", "/metrics")
# Most answers are there sooner: to listen for the client's leaving would only cost them.
_LISTEN_AFTER_SECONDS = 0.1
_STOP_AGAIN_SECONDS = 0.1


class _StalledError(Exception):
    """The client took nothing of its answer for too long."""


class RequestContext:
    """ASGI middleware. Stands inside the one that takes the correlation id from the request's header or makes one."""

    def __init__(self, app: ASGIApp, access_log: AccessLog, stall_seconds: float = 30.0) -> None:
        self._app = app
        self._access_log = access_log
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or serve one WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        token = correlation_id.set(incoming_id.get())
        visit = Visit(begin(), Caller())
        open_visit(scope, visit)
        CALLER.set(visit.caller)
        exchange = _Exchange(scope, receive, send, visit, self._stall_seconds)
        metrics.HTTP_IN_PROGRESS.inc()
        with self._traced(scope) as traced:
            try:
                await (self._answer(exchange) if scope["type"] == "http" else self._converse(exchange))
            finally:
                metrics.HTTP_IN_PROGRESS.dec()
                exchange.close()
                visit.end()
                self._record(exchange)
                traced.named(f"{exchange.method} {exchange.route}")
                traced.set(_attributes(exchange))
                correlation_id.reset(token)

    @staticmethod
    def _traced(scope: Scope) -> Span:
        """A span for what is answered at once. What lasts as long as its client likes, or is asked by machines all the time, has none."""
        if scope["type"] != "http" or scope["path"] in _QUIET:
            return NO_SPAN
        return incoming("request", scope["headers"])

    async def _answer(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        refused = refusal(scope)
        if refused is not None:
            status, reason, detail = refused
            metrics.HTTP_REFUSED.labels(reason).inc()
            title = "The body cannot be taken"
            close = {"Connection": "close"}  # what is left of the body must not be taken for the next request
            answer = problem(status, reason, title, detail, instance=scope["path"], headers=close)
            await answer(scope, exchange.inbox.receive, exchange.send)
            return
        exchange.listen_soon()
        try:
            await self._app(scope, exchange.inbox.receive, exchange.send)
        except _StalledError:
            # uvicorn closes a connection whose answer was left unfinished.
            metrics.HTTP_STALLED.labels(exchange.route).inc()
            _log.warning("answer.not_taken", path=scope["path"], seconds=self._stall_seconds)
        except Exception:
            _log.exception("request.failed_unforeseen", method=scope["method"], path=scope["path"])
            if exchange.status:
                raise  # the answer has begun: all that is left is to break the connection
            detail = "The service made a mistake. The correlation id finds it in the log"
            answer = problem(500, "internal", "Internal error", detail, instance=scope["path"])
            await answer(scope, exchange.inbox.receive, exchange.send)

    async def _converse(self, exchange: _Exchange) -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            # What still runs for it is for nobody.
            exchange.visit.caller.leave()

    def _record(self, exchange: _Exchange) -> None:
        # The template, never the path: paths hold symbols and dates without end.
        route, method, seconds = exchange.route, exchange.method, exchange.seconds
        metrics.HTTP_REQUESTS.labels(method, route, str(exchange.status)).inc()
        if exchange.scope["type"] == "http":
            metrics.HTTP_DURATION.labels(method, route).observe(seconds)
        metrics.HTTP_RESPONSE_BYTES.labels(route).inc(exchange.sent)
        if route not in _QUIET:
            self._access_log.write(
                exchange.scope,
                exchange.visit,
                route=route,
                body=exchange.inbox.beginning,
                status=exchange.status,
                sent=exchange.sent,
                seconds=seconds,
            )


def _attributes(exchange: _Exchange) -> Attributes:
    """What a request's span says of it, in OpenTelemetry's names where it has them."""
    tally = exchange.visit.tally
    return {
        "http.request.method": exchange.method,
        "http.route": exchange.route,
        "http.response.status_code": exchange.status,
        "http.response.body.size": exchange.sent,
        "k2.correlation_id": correlation_id.get() or "",
        "k2.rows": tally.rows,
        "k2.files": tally.files_scanned,
        "k2.wait_seconds": tally.wait_seconds,
    }


class _Exchange:
    """A request and its answer, counted as they pass."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, visit: Visit, stall_seconds: float) -> None:
        self.scope = scope
        self.visit = visit
        self.inbox = Inbox(scope, receive)
        self.receive = receive
        self.status = 0
        self.sent = 0
        self._send = send
        self._stall_seconds = stall_seconds
        self._started = time.perf_counter()
        self._timer: asyncio.TimerHandle | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def route(self) -> str:
        """The route's template."""
        return getattr(self.scope.get("route"), "path", "unmatched")

    @property
    def method(self) -> str:
        """The method, of those that metrics know."""
        if self.scope["type"] == "websocket":
            return "WEBSOCKET"
        return self.scope["method"] if self.scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return time.perf_counter() - self._started

    async def send(self, message: Message) -> None:
        """The app's `send`."""
        kind = message["type"]
        if kind == "http.response.body":
            self.sent += len(message.get("body", b""))
            if message.get("more_body", False):
                await self._send_in_time(message)
                return
        elif kind == "http.response.start":
            self.status = message["status"]
            if self.visit.headers:
                message = {**message, "headers": [*message.get("headers", ()), *self.visit.headers]}
            self.visit.answer_begins()
        elif kind == "websocket.send":
            self.sent += len(message.get("bytes") or message.get("text") or b"")
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and not self.status:
            self.status = 403  # what a client sees of a WebSocket that was closed before it was accepted
        await self._send(message)

    async def _send_in_time(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                await self._send(message)
        except TimeoutError:
            raise _StalledError from None

    def listen_soon(self) -> None:
        """Stop what runs for the client once it has left, unless the answer is there soon."""
        self._timer = asyncio.get_running_loop().call_later(_LISTEN_AFTER_SECONDS, self._listen)

    def _listen(self) -> None:
        self._listener = asyncio.create_task(self._stop_when_gone())

    async def _stop_when_gone(self) -> None:
        await self.inbox.gone()
        while True:
            self.visit.caller.leave()
            await asyncio.sleep(_STOP_AGAIN_SECONDS)

    def close(self) -> None:
        """The request is over: nobody needs to listen."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            with suppress(RuntimeError):  # the loop is closing
                self._listener.cancel()
