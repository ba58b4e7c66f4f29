"""The service on a real socket when it is asked too much, by clients that leave, stall, or send what they should not."""

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
import uvicorn
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import append_ticks, at
from prometheus_client import REGISTRY

from k2.api.access.keys import KeyLimits, new_key, write_keys
from k2.api.app import create_app
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.engine.engine import Engine
from k2.query.rows import sql
from k2.query.rows.errors import AbandonedError
from k2.query.rows.statement import Statement

OPEN = at("2014-03-09T23:00:00")
ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE (a.range * b.range) % 7 = 3"
TRADES = "/v1/trades?symbol=BHP&exchange=ASX"


class Service:
    """A running service: where it listens, its key, its access log."""

    def __init__(self, port, key, log):
        self.port, self.key, self.log = port, key, log

    def get(self, path, *, key=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"X-API-Key": key or self.key, "X-Correlation-ID": "trace-1"})
            reply = connection.getresponse()
            return reply.status, reply.read(), reply.headers
        finally:
            connection.close()

    def open(self, path, *, receive_buffer=None):
        """A socket on which the request was sent, and nothing is read."""
        made = socket.socket()
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.settimeout(120)
        made.connect(("127.0.0.1", self.port))
        made.sendall(f"GET {path} HTTP/1.1\r\nHost: k2\r\nX-API-Key: {self.key}\r\n\r\n".encode())
        return made

    def lines(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def serve(tmp_path):
    """Starts the app on a port of its own."""
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(
        lake, [{"timestamp": OPEN + timedelta(milliseconds=n), "price": Decimal(n % 7 + 1)} for n in range(60_000)]
    )
    key, entry = new_key("desk", now=datetime.now(UTC))

    @contextmanager
    def start(*, limits=None, **config):
        write_keys(tmp_path / "keys.json", [entry.model_copy(update={"limits": limits})])
        log = tmp_path / "access.log"
        given = QueryConfig(api_keys_file=tmp_path / "keys.json", access_log_file=log, **config)
        app = create_app(given, Settings(catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path))
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        service = Service(listener.getsockname()[1], key, log)
        until(lambda: server.started)
        try:
            assert service.get(TRADES)[0] == 200  # warm
            until(lambda: not any(figure(f"k2_http_{state}_in_progress") for state in ("running", "sending")))
            yield service
        finally:
            server.should_exit = True
            thread.join(120)
            listener.close()
        assert not thread.is_alive()

    return start


@pytest.fixture
def endless(monkeypatch):
    """Every question for trades takes DuckDB for ever."""

    @contextmanager
    def slow():
        with monkeypatch.context() as patched:
            patched.setattr(sql, "events", lambda *_, **__: Statement(ENDLESS, {}))
            yield

    return slow


def until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def figure(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0


def busy():
    return figure("k2_query_connections_busy")


def test_a_client_that_leaves_in_the_middle_of_a_stream_has_its_query_ended(serve, monkeypatch):
    ended = []
    honest = Engine.stream

    def noted(self, *args, **kwargs):
        try:
            yield from honest(self, *args, **kwargs)
        except (GeneratorExit, AbandonedError):
            ended.append("by the client")
            raise
        ended.append("by itself")

    monkeypatch.setattr(Engine, "stream", noted)
    with serve() as service:
        whole = service.open(f"{TRADES}&limit=1000000&format=arrow")
        while whole.recv(1 << 16):
            if ended:
                break
        whole.close()
        assert ended == ["by itself"]
        monkeypatch.setattr("k2.api.request.answers._BATCH_ROWS", 1_000)
        leaving = service.open(f"{TRADES}&limit=1000000&format=ndjson", receive_buffer=65_536)
        taken = 0
        while taken < 12_000_000:  # past the head, of 26 MB
            taken += len(leaving.recv(1 << 20))
        leaving.close()
        until(lambda: len(ended) == 2)
        assert ended[1] == "by the client"
        assert service.get(TRADES)[0] == 200


def test_a_client_that_leaves_has_its_query_stopped(serve, endless):
    with serve(timeout_seconds=600, max_running=2) as service:
        before = figure("k2_query_abandoned_total", query="trades")
        with endless():
            clients = [service.open(TRADES) for _ in range(2)]
            until(lambda: busy() == 2)
            for client in clients:
                client.close()
            until(lambda: busy() == 0)  # the deadline is ten minutes off
        until(lambda: len(service.lines()) == 3)
        assert figure("k2_query_abandoned_total", query="trades") == before + 2
        assert service.get(TRADES)[0] == 200
        until(lambda: len(service.lines()) == 4)
        assert [line["status"] for line in service.lines()] == [200, 499, 499, 200]


def test_more_than_can_run_and_wait_is_refused_at_once_while_the_probes_answer(serve, endless):
    with serve(timeout_seconds=600, max_running=3, max_waiting=2, max_wait_seconds=300, connections=3) as service:
        with endless():
            clients = [service.open(TRADES) for _ in range(3)]
            until(lambda: busy() == 3)
            clients += [service.open(TRADES) for _ in range(2)]
            until(lambda: figure("k2_http_waiting_in_progress") == 2)
            status, body, headers = service.get("/v1/symbols")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert json.loads(body)["type"] == "urn:k2:problem:overloaded"
            for path in ("/health", "/ready", "/metrics"):
                assert (path, service.get(path)[0]) == (path, 200)
            # All of that while those who were there before were at work, or waited.
            assert (busy(), figure("k2_http_waiting_in_progress")) == (3, 2)
            for client in clients:
                client.close()
            until(lambda: busy() == 0)
        assert service.get(TRADES)[0] == 200


def test_those_who_wait_are_told_when_they_have_waited_long_enough(serve, endless):
    with serve(timeout_seconds=600, max_running=1, max_waiting=2, max_wait_seconds=1, connections=1) as service:
        with endless():
            client = service.open(TRADES)
            until(lambda: busy() == 1)
            waiting = [service.open(TRADES) for _ in range(2)]
            assert [each.recv(4096).split()[1] for each in waiting] == [b"503", b"503"]
            for each in (client, *waiting):
                each.close()
            until(lambda: busy() == 0)
        assert service.get(TRADES)[0] == 200


def test_probes_have_threads_of_their_own_when_all_others_are_taken(serve, endless):
    """More requests run than the framework has threads (40), with one connection for all of them."""
    with serve(timeout_seconds=600, max_running=60, connections=1) as service:
        with endless():
            clients = [service.open(TRADES) for _ in range(50)]
            until(lambda: figure("k2_http_running_in_progress") == 50)
            for path in ("/health", "/ready", "/metrics"):
                assert (path, service.get(path)[0]) == (path, 200)
            assert figure("k2_http_running_in_progress") == 50  # no thread has come free for them
            for client in clients:
                client.close()
            until(lambda: busy() == 0)
        until(lambda: figure("k2_http_running_in_progress") == 0)


def test_a_slow_client_holds_neither_turn_nor_connection_and_is_given_up(serve):
    large = f"{TRADES}&limit=60000&format=csv"
    route = "/v1/trades"
    with serve(max_running=1, max_waiting=0, stall_seconds=600) as service:
        stalled = service.open(large, receive_buffer=4096)
        until(lambda: figure("k2_http_sending_in_progress") == 1 and busy() == 0)
        assert service.get(TRADES)[0] == 200  # the only turn is free
        until(lambda: figure("k2_http_sending_in_progress") == 1)
        stalled.close()
        until(lambda: figure("k2_http_sending_in_progress") == 0)
    with serve(max_running=1, max_waiting=0, stall_seconds=1) as service:
        before = figure("k2_http_stalled_total", route=route)
        stalled = service.open(large, receive_buffer=4096)
        until(lambda: figure("k2_http_stalled_total", route=route) == before + 1)
        until(lambda: figure("k2_http_sending_in_progress") == 0)
        stalled.close()


def test_a_key_has_its_rate_its_concurrency_and_its_rows(serve, endless, monkeypatch):
    now = [0.0]  # the machine's own clock would give requests back while it is slow, and rows at midnight
    monkeypatch.setattr("k2.api.app.time", SimpleNamespace(time=lambda: 1e9, monotonic=lambda: now[0]))
    with serve(limits=KeyLimits(requests_per_second=0.5, burst=3)) as service:
        headers = service.get(TRADES)[2]
        assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("3", "1")
        assert headers["RateLimit-Policy"] == '"requests";q=3;w=6'
        assert service.get(TRADES)[0] == 200
        status, body, headers = service.get(TRADES)
        assert (status, headers["Retry-After"], headers["RateLimit-Remaining"]) == (429, "2", "0")
        assert headers["Content-Type"] == "application/problem+json"
        assert json.loads(body)["type"] == "urn:k2:problem:rate-limited"
        assert service.get("/health")[0] == 200
        now[0] += 2  # what it was told of Retry-After is true
        assert service.get(TRADES)[0] == 200
    with serve(limits=KeyLimits(rows_per_day=1500)) as service:
        assert service.get(TRADES)[0] == 200  # 1,000 rows before it, when the service was warmed
        status, body, _ = service.get(TRADES)
        assert (status, "had its rows of the day" in json.loads(body)["detail"]) == (429, True)
    with serve(limits=KeyLimits(concurrent=1), timeout_seconds=600) as service, endless():
        client = service.open(TRADES)
        until(lambda: busy() == 1)
        assert service.get(TRADES)[0] == 429
        client.close()
        until(lambda: busy() == 0)
        until(lambda: service.get("/v1/stats")[0] == 200)


def test_each_request_leaves_a_line_that_says_who_asked_what_and_got_what_without_the_key(serve):
    with serve() as service:
        snapshot = json.loads(service.get(f"{TRADES}&limit=7&note={service.key}")[1] or b"{}")
        assert snapshot["status"] == 422  # no such parameter; and a key in it must not stand in the log
        body = json.loads(service.get(f"{TRADES}&limit=7")[1])
        service.get(TRADES, key="k2_aaaaaaaa_" + "b" * 43)
        service.get("/health")
        until(lambda: len(service.lines()) == 4)
        _, strange, line, unknown = service.lines()
    assert (line["key"], line["client"], line["method"], line["route"]) == ("desk", "127.0.0.1", "GET", "/v1/trades")
    assert line["parameters"] == {"symbol": "BHP", "exchange": "ASX", "limit": "7"}
    assert (line["status"], line["rows"], line["correlation_id"]) == (200, 7, "trace-1")
    assert line["snapshots"] == {"market_data.trades": body["snapshot_id"]}
    assert line["bytes"] > 1000
    assert 0 < line["scan_milliseconds"] <= line["milliseconds"]
    assert line["files"] == 1
    assert (unknown["key"], unknown["status"], unknown["rows"]) == (None, 401, 0)
    assert strange["parameters"]["note"] == "…"
    assert service.key not in service.log.read_text()
    assert "bbbbb" not in service.log.read_text()


# --- bodies ------------------------------------------------------------------------------------------------------------


def post(service, headers, pieces):
    """Send a body piece by piece until the service answers; its status, its problem, and the bytes it let pass."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=120) as client:
        head = {"Host": "k2", "X-API-Key": service.key, "Content-Type": "application/json"} | headers
        client.sendall(
            "\r\n".join(["POST /v1/trades/query HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "", ""]).encode()
        )
        sent, answer = 0, b""
        client.setblocking(False)
        for piece in pieces:
            view = memoryview(piece)
            while view and not answer:
                try:
                    done = client.send(view)
                    sent, view = sent + done, view[done:]
                except BlockingIOError:
                    time.sleep(0.001)
                except OSError:  # it closed the connection: what it said before can still be read
                    view = memoryview(b"")
                with suppress(BlockingIOError):
                    answer = client.recv(65_536)
            if answer:
                break
        client.settimeout(60)
        while b"\r\n\r\n" not in answer:
            answer += client.recv(65_536)
        reply, _, rest = answer.partition(b"\r\n\r\n")
        length = int(
            next(line.split(b":")[1] for line in reply.split(b"\r\n") if line.lower().startswith(b"content-length"))
        )
        while len(rest) < length:
            rest += client.recv(65_536)
        return int(reply.split()[1]), json.loads(rest), sent


def chunks(megabytes):
    for _ in range(megabytes * 16):
        yield b"10000\r\n" + b" " * 65_536 + b"\r\n"


def test_a_body_that_is_too_large_is_refused_while_it_streams_in(serve):
    with serve() as service:
        status, problem, sent = post(service, {"Transfer-Encoding": "chunked"}, chunks(500))
        assert (status, problem["type"], problem["status"]) == (413, "urn:k2:problem:body", 413)
        assert sent < 100_000_000  # not the 500 MB that there were
        status, problem, sent = post(service, {"Content-Length": 10_000_001}, [b" " * 1000])
        assert (status, problem["type"]) == (413, "urn:k2:problem:body")
        status, problem, _ = post(service, {"Content-Length": 1000, "Content-Encoding": "gzip"}, [b"\x1f\x8b" * 500])
        assert (status, problem["type"]) == (415, "urn:k2:problem:encoding")
        assert service.get(TRADES)[0] == 200


def test_many_at_once_get_an_answer_or_a_refusal_and_nothing_else(serve):
    with serve(max_running=4, max_waiting=8, max_wait_seconds=0.2) as service, ThreadPoolExecutor(32) as pool:
        statuses = set(pool.map(lambda _: service.get(TRADES)[0], range(400)))
        assert statuses <= {200, 503}
        assert 200 in statuses
        assert figure("k2_http_running_in_progress") == 0
        assert figure("k2_http_waiting_in_progress") == 0
