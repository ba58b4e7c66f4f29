"""Running the query service until it is told to stop."""

from __future__ import annotations

import signal
import socket

import pyarrow as pa
import uvicorn

from k2.api.app import create_app
from k2.api.connections import bounded, connection_limits, raise_open_files
from k2.model.errors import WorldError
from k2.model.settings import Settings
from k2.model.workload import QueryConfig
from k2.obs.logging import get_logger

_GRACE_SECONDS = 20
_MOST_MESSAGE = 128 * 1024
_log = get_logger(__name__)


def run_query(settings: Settings, config: QueryConfig) -> None:
    """Serve until SIGTERM or SIGINT; requests under way get 20 seconds to end.

    Raises:
        UserError: no catalog is configured.
        WorldError: the port cannot be had.
    """
    # The answers' memory comes and goes with each request: the system's allocator hands it out warm (measured: half of the page
    # faults of a thousand trades, 3 to 8 % of their time).
    pa.set_memory_pool(pa.system_memory_pool())
    app = create_app(config, settings)
    listener = _listen(config.host, settings.http_port)
    http, websocket = bounded(connection_limits(config, raise_open_files()))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=http,
            ws=websocket,
            # None: of loopback, uvicorn's own.
            forwarded_allow_ips=[*config.trusted_proxies] or None,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            # Frames are many and large: packing them would cost more than it saves on any network that feeds a replay.
            ws_per_message_deflate=False,
            ws_max_size=_MOST_MESSAGE,
        )
    )

    def stop(*_: object) -> None:
        # One that comes before uvicorn has its own handlers must not be lost. uvicorn raises the signal again when it is done:
        # to this process a stop that was asked for is a good end.
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    host, port = listener.getsockname()[:2]
    _log.info("service.started", url=f"http://{host}:{port}", docs=f"http://{host}:{port}/docs")
    try:
        server.run(sockets=[listener])
    finally:
        listener.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named: without it each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise WorldError(
            f"The query service cannot listen on {host}:{port}: {error.strerror}. Choose another port (K2_HTTP_PORT)"
        ) from error
    return listener
