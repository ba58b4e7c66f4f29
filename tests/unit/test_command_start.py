"""What a command loads before it answers: that is most of what its start takes, and modules can be counted on any machine."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.main import get_group

from k2.cli_query import app, commands, completing
from k2.client.brief_http import BriefHttp

SYMBOL = {
    "symbol": "BHP",
    "exchange": "ASX",
    "rows": 3,
    "first_time": "2014-03-09T23:00:00.000000Z",
    "last_time": "2014-03-09T23:00:02.000000Z",
}
ANSWERS = {"/v1/symbols": {"data": [SYMBOL]}, "/v1/stats": {"tables": []}, "/v1/pins": {"data": []}}
# Packages that are installed; pydantic is typer's own, and its settings are where a command finds the service.
PACKAGES = {
    "annotated_doc",
    "annotated_types",
    "dotenv",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "rich",
    "shellingham",
    "typer",
    "typing_extensions",
    "typing_inspection",
}
ROOMS = {"k2.cli_query", "k2.client", "k2.forms", "k2.model", "k2.obs", "k2.query"}
RUN = """
import sys
from k2.cli_query import main

sys.argv = ["k2-query", *sys.argv[1:]]
try:
    main()
finally:
    installed = {
        name.partition(".")[0]
        for name, module in list(sys.modules.items())
        if "site-packages" in (getattr(module, "__file__", None) or "") and not name.startswith(("_", "k2"))
    }
    own = {".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("k2.")}
    print(*sorted(installed), file=sys.stderr)
    print(*sorted(own), file=sys.stderr)
    print(sum(name.startswith("k2.") for name in sys.modules), file=sys.stderr)
"""


class Service(BaseHTTPRequestHandler):
    seen: list[str]

    def do_GET(self):
        self.seen.append(self.path)
        body = json.dumps(ANSWERS[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def service():
    """A service that knows its answers, and what it was asked."""
    seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Told", (Service,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_command_that_asks_for_an_object_loads_neither_columns_nor_an_http_library(tmp_path):
    clean = {n: v for n, v in os.environ.items() if not n.startswith("K2_") and not n.lower().endswith("_proxy")}
    with service() as (url, seen):
        done = subprocess.run(
            [sys.executable, "-c", RUN, "symbols", "--exchange", "ASX", "--url", url],
            env=clean | {"K2_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    assert seen == ["/v1/symbols?table=trades&exchange=ASX"]
    assert done.stdout.splitlines()[1].split()[:3] == ["BHP", "ASX", "3"]
    installed, own, number = done.stderr.splitlines()[-3:]
    assert "typer" in installed, "the control: what is loaded is seen"
    assert set(installed.split()) <= PACKAGES
    assert set(own.split()) <= ROOMS
    assert int(number) <= 52


def test_a_command_that_is_asked_for_alone_is_the_same_command():
    for word, command in get_group(app).commands.items():
        alone = commands._asked_for([word, "--help"]).commands
        assert list(alone) == [word]
        assert shown(alone[word]) == shown(command)


def shown(command):
    """What a person may type."""
    return [(each.name, each.opts, each.nargs) for each in command.params], command.help, command.epilog


def test_a_tab_gives_the_symbols_that_begin_so_in_any_case(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    with service() as (url, seen):
        monkeypatch.setenv("K2_API_URL", url)
        assert completing.symbols("bh") == ["BHP"]
        assert completing.symbols("C") == []
    assert len(seen) == 2


@pytest.mark.parametrize("words", [[], ["--help"], ["symbls"], ["-h", "symbols"]])
def test_without_a_commands_name_there_are_all(words):
    assert commands._asked_for(words) is app


def test_a_shell_that_completes_sees_all_commands(monkeypatch):
    monkeypatch.setenv("_K2_QUERY_COMPLETE", "complete_bash")
    assert commands._asked_for(["symbols"]) is app


@pytest.mark.parametrize(
    "url",
    [
        "https://k2.example.com",
        "http://name:secret@127.0.0.1:8000",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://",
        "http://bücher.example",
        "127.0.0.1:8000",
    ],
)
def test_an_address_that_takes_more_is_left_to_the_http_library(url, monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)
    assert BriefHttp.to(url) is None


def test_where_there_is_a_proxy_it_is_asked(monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    assert BriefHttp.to("http://10.0.0.1:8000/k2/") == BriefHttp("10.0.0.1", 8000, "/k2")
    monkeypatch.setenv("http_proxy", "http://10.0.0.2:3128")
    assert BriefHttp.to("http://10.0.0.1:8000/k2/") is None
