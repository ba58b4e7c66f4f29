"""/metrics, /health and /ready of a workload that serves nothing else (producer, sink): a small threaded server.

The query service answers the same paths by itself.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from k2.model.errors import WorldError
from k2.model.settings import Settings
from k2.obs.exposed import Exposed
from k2.obs.logging import get_logger

Ready = Callable[[], tuple[bool, str]]
"""Whether the workload can do its work now, and the reason in a person's words."""

Warns = Callable[[], str]
"""What is wrong although the workload does its work, in a person's words; empty when nothing is."""

_log = get_logger(__name__)


class HealthServer:
    """A running server; `port` is the one it listens on. Close it, or use it as a context manager."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="k2-health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening. Answers under way are finished."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_health(
    port: int,
    ready: Ready,
    *,
    families: Iterable[Collector] = (),
    warns: Warns = lambda: "",
    host: str | None = None,
) -> HealthServer:
    """Serve /metrics, /health (200 while the process runs) and /ready (200, or 503 with the reason) in a thread.

    Args:
        port: TCP port; 0 takes any free one.
        ready: asked at each /ready; an exception counts as not ready.
        families: what /metrics shows beside the process itself.
        warns: asked then, too.
        host: address to listen on; default: `K2_HTTP_HOST`, else loopback.

    Raises:
        WorldError: the port cannot be had.
    """
    address = (host or Settings().http_host, port)

    class Handler(_Handler):
        readiness = staticmethod(ready)
        warnings = staticmethod(warns)
        exposed = Exposed(families)

    try:
        server = _Server(address, Handler)
    except OSError as error:
        raise WorldError(f"Cannot listen on {address[0]}:{port} for /metrics and /health: {error.strerror}") from error
    server.daemon_threads = True
    return HealthServer(server)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A line where the base class prints a traceback. A scraper that hangs up before its answer is no error of ours."""
        del request
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError | TimeoutError):
            _log.debug("health.client_left", client=str(client_address), reason=str(error))
        else:
            _log.error("health.failed", client=str(client_address), exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    readiness: Ready
    warnings: Warns
    exposed: Exposed
    timeout = 10  # a client that connects and says nothing must not hold a thread for ever
    server_version = "k2"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, self.exposed.text())
        elif path == "/health":
            self._send_json(200, {"status": "ok"})
        elif path == "/ready":
            is_ready, reason = self._ask()
            body: dict[str, object] = {"ready": is_ready, "reason": reason}
            warning = self.warnings()
            self._send_json(200 if is_ready else 503, body | ({"warning": warning} if warning else {}))
        else:
            self._send_json(404, {"paths": ["/metrics", "/health", "/ready"]})

    def _ask(self) -> tuple[bool, str]:
        try:
            return self.readiness()
        except Exception as error:  # noqa: BLE001 - whatever it is, the workload is not ready and the probe must hear it
            return False, f"{type(error).__name__}: {error}"

    def _send_json(self, status: int, body: dict[str, object]) -> None:
        self._send(status, "application/json", json.dumps(body).encode())

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        _log.debug("health.asked", line=format % args)
