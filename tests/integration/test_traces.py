"""Traces as a collector gets them, over OTLP: what belongs to a request, to a commit, and nothing where nothing is traced."""

import gzip
import hashlib
import json
import logging
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fastapi.testclient import TestClient
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, make_lake
from k2_testing.ticks import append_ticks
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from k2.api.app import create_app
from k2.lake.appends.commit import Committer
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.obs.logging import configure_logging, get_logger
from k2.obs.traces import NO_SPAN, span, trace_ids, traced

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
ABOVE = "00f067aa0ba902b7"
KEY = "secret-key"
NOON = datetime(2014, 3, 10, 12, tzinfo=UTC)


class Collector:
    """What takes spans by OTLP over HTTP, and keeps them: trace, name, what each is below, and what it says."""

    def __init__(self, port):
        self.endpoint = f"http://127.0.0.1:{port}"
        self.spans = []
        self.services = set()

    def take(self, body):
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            self.services.add(about["service.name"])
            self.spans += [each for scope in of_resource.scope_spans for each in scope.spans]

    def named(self, name):
        return [each for each in self.spans if each.name == name]


@pytest.fixture
def collector():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taking.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            assert self.path == "/v1/traces"
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        taking = Collector(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield taking
        server.shutdown()


@pytest.fixture(autouse=True)
def _root_logger_restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@contextmanager
def asked(folder, **settings):
    """A client of the service over the folder's lake."""
    told = Settings(catalog_properties=catalog_properties(folder), data_dir=folder, **settings)
    config = QueryConfig(api_keys_file=folder / "keys.json")
    with traced(told, "k2-query"), TestClient(create_app(config, told), headers={"X-API-Key": KEY}) as client:
        yield client


def said(found):
    return {each.key: each.value.string_value or each.value.int_value for each in found.attributes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("traced")
    append_ticks(make_lake(made), [{"symbol": "BHP", "timestamp": NOON}] * 3)
    keys = [{"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]
    (made / "keys.json").write_text(json.dumps(keys))
    return made


def test_a_request_its_plan_and_its_scan_are_one_trace_below_the_callers(folder, collector):
    with asked(folder, traces_endpoint=collector.endpoint) as client:
        answer = client.get("/v1/trades?symbol=BHP", headers={"traceparent": f"00-{CALLER}-{ABOVE}-01"})
        assert answer.json()["count"] == 3
        assert client.get("/health").status_code == 200
    (request,) = collector.named("GET /v1/trades")
    assert request.trace_id.hex() == CALLER
    assert request.parent_span_id.hex() == ABOVE
    expected = {"http.route": "/v1/trades", "http.response.status_code": 200, "k2.rows": 3, "k2.files": 1}
    assert said(request).items() >= expected.items()
    assert {each.parent_span_id for name in ("plan", "scan") for each in collector.named(name)} == {request.span_id}
    assert all(said(each)["k2.files"] == 1 for each in collector.named("scan"))
    assert "k2.snapshot.market_data.trades" in said(collector.named("plan")[0])
    assert {each.trace_id for each in collector.spans} == {request.trace_id}, "nobody traces what machines ask"
    assert collector.services == {"k2-query"}


def test_a_streamed_answer_has_a_scan_too(folder, collector):
    with asked(folder, traces_endpoint=collector.endpoint) as client:
        assert client.post("/v1/replay", json={"tables": ["trades"], "limit": 10}).json()["count"] == 3
    (request,) = collector.named("POST /v1/replay")
    scans = collector.named("scan")
    assert scans
    assert {each.trace_id for each in scans} == {request.trace_id}


def test_a_problem_and_the_lines_of_the_log_name_the_trace(folder, collector, capsys):
    configure_logging(Settings(log_format="json"))
    with asked(folder, traces_endpoint=collector.endpoint) as client:
        problem = client.get("/v1/trades?symbol=BHP&limit=0").json()
    (request,) = collector.named("GET /v1/trades")
    assert problem["status"] == 422
    assert problem["trace_id"] == request.trace_id.hex()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (access,) = [line for line in lines if line["event"] == "request.answered"]
    assert access["trace_id"] == problem["trace_id"]


def test_a_commit_and_its_tries_are_a_trace(tmp_path, collector):
    lake = make_lake(tmp_path)
    with traced(Settings(traces_endpoint=collector.endpoint), "k2-sink"):
        Committer(lake, TRADES, ORIGIN, DataType.TRADES).commit(batch(0, 2))
    (commit,), (attempt,) = collector.named("commit"), collector.named("commit.try")
    assert attempt.parent_span_id == commit.span_id
    assert said(commit)["k2.rows"] == 2
    assert said(commit)["k2.table"] == TRADES


def test_an_error_is_noted_in_the_span_that_it_left(collector):
    with traced(Settings(traces_endpoint=collector.endpoint), "k2-sink"):  # noqa: SIM117 - one ends in an error
        with pytest.raises(ValueError, match="no such thing"), span("commit"):
            raise ValueError("no such thing")
    (commit,) = collector.spans
    assert commit.status.message == "no such thing"


def test_of_a_share_none_the_callers_are_traced_all_the_same(folder, collector):
    with asked(folder, traces_endpoint=collector.endpoint, traces_ratio=0) as client:
        client.get("/v1/trades?symbol=BHP")
        client.get("/v1/trades?symbol=BHP", headers={"traceparent": f"00-{CALLER}-{ABOVE}-01"})
    assert {each.trace_id.hex() for each in collector.spans} == {CALLER}


def test_a_collector_that_is_away_costs_no_answer_and_is_told_of_once(folder, capsys):
    configure_logging(Settings(log_format="json"))
    with asked(folder, traces_endpoint="http://127.0.0.1:9") as client:
        assert client.get("/v1/trades?symbol=BHP").json()["count"] == 3
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events.count("spans.not_taken") == 1
    assert not [event for event in events if "Transient" in event]


def test_an_address_that_is_none_is_refused_at_the_start():
    with (
        pytest.raises(UserError, match="K2_TRACES_ENDPOINT cannot be used: found 'collector:4318'"),
        traced(Settings(traces_endpoint="collector:4318"), "k2-sink"),
    ):
        pass


def test_off_nothing_of_opentelemetry_is_loaded(folder):
    with asked(folder) as client:
        assert span("plan") is NO_SPAN
        assert "trace_id" not in client.get("/v1/trades?symbol=NONE").json()
    get_logger("k2.test").info("nothing.traced")
    assert trace_ids() is None
    loaded = "import sys, k2.api.app, k2.sink.run; print([each for each in sys.modules if 'opentelemetry.sdk' in each])"
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).strip() == "[]"
