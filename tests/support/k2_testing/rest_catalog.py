"""A real Iceberg REST catalog (Apache Iceberg's own, on the JVM), and a proxy before it that loses and repeats replies."""

from __future__ import annotations

import http.client
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo
from jgo.maven import MavenContext

from k2_local.services import artifacts

ICEBERG, JETTY = "1.11.0", "12.1.5"
SOURCE = Path(__file__).parents[1] / "java" / "RestCatalog.java"


def _class_path() -> str:
    environment = jgo.build(
        "+".join(
            [
                f"org.apache.iceberg:iceberg-core:{ICEBERG}",
                f"org.apache.iceberg:iceberg-parquet:{ICEBERG}",
                f"org.eclipse.jetty.ee10:jetty-ee10-servlet:{JETTY}",
                "org.xerial:sqlite-jdbc:3.50.3.0",
                "org.apache.hadoop:hadoop-client-api:3.4.3",
                "org.apache.hadoop:hadoop-client-runtime:3.4.3",
                "org.slf4j:slf4j-simple:2.0.17",
            ]
        )
    )
    maven = MavenContext()
    tests = [
        maven.project("org.apache.iceberg", name).at_version(ICEBERG).artifact(classifier="tests").resolve()
        for name in ("iceberg-core", "iceberg-api")
    ]
    return ":".join([f"{environment.path}/jars/*", f"{environment.path}/modules/*", *map(str, tests)])


class RestCatalog:
    """The server as a process; `uri` is where it listens."""

    def __init__(self, folder: Path) -> None:
        java, class_path = str(artifacts.java()), _class_path()
        compiler = MavenContext().project("org.eclipse.jdt", "ecj").at_version("3.43.0").artifact().resolve()
        # A runtime has no compiler: Eclipse's runs on any.
        libraries = ":".join(
            str(jar)
            for part in class_path.split(":")
            for jar in (Path(part).parent.glob("*.jar") if part.endswith("*") else [Path(part)])
        )
        subprocess.run(
            [java, "-jar", str(compiler), "-17", "-cp", libraries, "-d", str(folder / "classes"), str(SOURCE)],
            check=True,
            capture_output=True,
            timeout=120,
        )
        self._process = subprocess.Popen(
            [java, "-Xmx256m", "-cp", f"{folder / 'classes'}:{class_path}", "RestCatalog", str(folder)],
            stdout=subprocess.PIPE,
            stderr=(folder / "rest.log").open("wb"),
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("port="), (folder / "rest.log").read_text()[-2000:]
        self.port = int(line.removeprefix("port="))
        self.uri = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Proxy:
    """Forwards to the catalog, or to any server. `faults` is what becomes of the next commits, one each: lost, again, or None.

    Only requests with this `authorization` are let through; None: all are. `asked` counts those that were, and those that were not.
    """

    def __init__(self, port: int) -> None:
        self.faults: list[str | None] = []
        self.met: list[str] = []
        self.authorization: str | None = None
        self.asked: Counter[str] = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if proxy.authorization not in {None, self.headers.get("Authorization")}:
                    proxy.asked["refused"] += 1
                    said = b"" if self.command == "HEAD" else b'{"error_code": 40101, "message": "Unauthorized"}'
                    self.answer(401, said, [("Content-Type", "application/json")])
                    return
                proxy.asked["let through"] += 1
                commit = self.command == "POST" and "/tables/" in self.path
                fault = proxy.faults.pop(0) if commit and proxy.faults else None
                status, headers, answer = self.send_on(body)
                if fault is not None:
                    proxy.met.append(fault)
                if fault == "lost":
                    self.close_connection = True
                    return
                if fault == "again":
                    status, headers, answer = self.send_on(body)
                self.answer(status, answer, headers)

            def answer(self, status: int, answer: bytes, headers: Sequence[tuple[str, str]]) -> None:
                self.send_response(status)
                for key, value in headers:
                    if key.lower() == "content-type":
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def send_on(self, body: bytes):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                kept = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "accept-encoding"}}
                connection.request(self.command, self.path, body or None, kept)
                response = connection.getresponse()
                answer = response.read()
                connection.close()
                return response.status, response.getheaders(), answer

            do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = forward  # noqa: N815 - http.server names them so

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
