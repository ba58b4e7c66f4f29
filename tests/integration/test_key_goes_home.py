"""A data directory's key is shown to the service of that directory, and to nothing else that answers at its address."""

import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.query_process import free_port, query_process
from k2_testing.ticks import append_ticks, trade

import k2
from k2.model.errors import UserError, WorldError
from k2.model.platform import ApiPlatform, CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.topics import DataType
from k2_local.services.parts import ensure_api_key

QUERY = [sys.executable, "-c", "from k2.cli_query import main; main()"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data directory as `k2 up` leaves it, in which this process and its children look."""
    append_ticks(make_lake(tmp_path, DataType.TRADES, DataType.QUOTES), [trade(0, "1"), trade(1, "2")])
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    ensure_api_key(tmp_path)
    return tmp_path


@pytest.fixture
def key(home):
    return (home / "api-key").read_text().strip()


def lives_at(home, port):
    """Let platform.yaml say where the service is."""
    Platform(
        kafka=KafkaPlatform(bootstrap_servers="127.0.0.1:1"),
        registry=RegistryPlatform(url="http://127.0.0.1:1"),
        catalog=CatalogPlatform(properties=catalog_properties(home)),
        api=ApiPlatform(url=f"http://127.0.0.1:{port}"),
    ).write(home / "platform.yaml")


@contextmanager
def service(home):
    with query_process(home, api_keys_file=str(ensure_api_key(home))) as port:
        yield port


@contextmanager
def impostor(answer, port=0):
    """Another program: gives its port and all that it was sent. `answer`: from a request's path to status and body."""
    seen = bytearray()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            seen.extend(self.raw_requestline + bytes(self.headers))
            seen.extend(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            status, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer  # noqa: N815 - the names that the server looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        server.server_close()


def refuses(path):
    return 404, b"{}"


def makes_one_up(path):
    return 200, b'{"proof": "%s"}' % (b"0" * 64)


def ask():
    with k2.connect() as db:
        return db.trades("BHP").arrow().num_rows


def play():
    with k2.connect() as db, db.replay("BHP") as playback:
        return sum(batch.num_rows for batch in playback)


def test_the_key_opens_the_service_of_its_directory(home):
    with service(home) as port:
        lives_at(home, port)
        assert (ask(), play()) == (2, 2)


@pytest.mark.parametrize("question", [ask, play])
@pytest.mark.parametrize("answer", [refuses, makes_one_up])
def test_another_program_at_the_address_never_sees_the_key(home, key, answer, question):
    with impostor(answer) as (port, seen):
        lives_at(home, port)
        with pytest.raises(UserError, match="was not sent: what answers at http") as raised:
            question()
    assert key not in str(raised.value)
    assert b"/identity?nonce=" in seen
    assert key.encode() not in seen


def test_one_that_passes_the_question_on_to_the_service_is_found_out(home, key):
    with service(home) as real:

        def passes_on(path):
            with urllib.request.urlopen(f"http://127.0.0.1:{real}{path}") as reply:
                return 200, reply.read()

        with impostor(passes_on) as (port, seen):
            lives_at(home, port)
            with pytest.raises(UserError, match="a wrong proof"):
                ask()
    assert b"/identity?nonce=" in seen
    assert key.encode() not in seen


def test_a_port_that_is_taken_while_a_connection_is_held_does_not_get_the_key(home, key):
    with service(home) as port:
        lives_at(home, port)
        db = k2.connect()
        assert db.trades("BHP").arrow().num_rows == 2
    with impostor(refuses, port) as (_, seen), db, pytest.raises(UserError, match="was not sent"):
        db.trades("BHP")
    assert b"/identity?nonce=" in seen
    assert key.encode() not in seen


def test_a_key_that_a_person_gives_goes_where_they_say(home, key, monkeypatch):
    """The control: the impostor does see what is sent."""
    monkeypatch.setenv("K2_API_KEY", key)
    with impostor(refuses) as (port, seen):
        lives_at(home, port)
        with pytest.raises(UserError):
            ask()
    assert b"/identity" not in seen
    assert key.encode() in seen


def test_the_command_says_it_in_one_line(home, key):
    with impostor(makes_one_up) as (port, seen):
        lives_at(home, port)
        done = subprocess.run([*QUERY, "trades", "BHP"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr == (
        f"error: The key in {home} was not sent: what answers at http://127.0.0.1:{port} is not known to be the service of that "
        "directory: found 'a wrong proof', expected the service that `k2 up` starts there. Start it again with `k2 up`, or say "
        "with K2_API_KEY that this service may have the key.\n"
    )
    assert key.encode() not in seen


def test_a_directory_without_the_secret_keeps_its_key(home, key):
    (home / "secrets" / "k2-api-keys" / "identity").unlink()
    with impostor(makes_one_up) as (port, seen):
        lives_at(home, port)
        with pytest.raises(UserError, match="no secret in the directory"):
            ask()
    assert not seen


def test_nothing_at_the_address_is_told_as_ever(home):
    lives_at(home, free_port())
    with pytest.raises(WorldError, match="does not answer"):
        ask()
