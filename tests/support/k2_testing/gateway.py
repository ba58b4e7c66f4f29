"""A gateway before the real registry, which asks for a password. What it takes can be changed, as when a password is rotated."""

from __future__ import annotations

import base64
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

USER = "k2"


class Gateway:
    """Forwards to `url` who comes with the password that it `takes`; 401 for others, 502 while there is nobody behind it."""

    def __init__(self, url: str, takes: str) -> None:
        self.takes = takes
        behind, gateway = urlsplit(url), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                wanted = "Basic " + base64.b64encode(f"{USER}:{gateway.takes}".encode()).decode()
                if self.headers.get("Authorization") != wanted:
                    self.answer(401, b'{"error_code": 401, "message": "Unauthorized"}')
                    return
                try:
                    self.answer(*self.ask(body))
                except OSError:
                    self.answer(502, b'{"error_code": 502, "message": "Bad gateway"}')

            def ask(self, body: bytes) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=30)
                dropped = {"host", "accept-encoding", "authorization", "connection"}
                kept = {key: value for key, value in self.headers.items() if key.lower() not in dropped}
                try:
                    connection.request(self.command, self.path, body or None, kept)
                    response = connection.getresponse()
                    return response.status, response.read()
                finally:
                    connection.close()

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 - http.server names them so

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{behind.path}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
