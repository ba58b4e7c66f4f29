"""Logs, metrics and the health server of a workload."""

import http.client
import json
import logging
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from k2.model.errors import UserError, WorldError
from k2.model.settings import Settings
from k2.obs import metrics
from k2.obs.http import serve_health
from k2.obs.logging import configure_logging, correlation_id, get_logger


@pytest.fixture(autouse=True)
def _root_logger_restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def fetch(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_logs_go_to_stderr_as_json_with_the_correlation_id(capsys):
    configure_logging(Settings(log_format="json"))
    token = correlation_id.set("abc-1")
    get_logger("k2.test").info("sink.committed", table="market_data.trades", rows=3)
    correlation_id.reset(token)
    captured = capsys.readouterr()
    assert captured.out == ""
    line = json.loads(captured.err)
    assert line["event"] == "sink.committed"
    assert line["correlation_id"] == "abc-1"
    assert (line["level"], line["logger"], line["rows"]) == ("info", "k2.test", 3)
    assert line["timestamp"].endswith("Z")


def test_what_the_registrys_client_asks_with_says_nothing_of_each_request():
    configure_logging(Settings(log_format="json"))
    with SchemaRegistryClient({"url": "http://127.0.0.1:9"}) as client:
        library = type(client._rest_client.session).__module__.partition(".")[0]
    assert library.startswith("http")
    assert not logging.getLogger(library).isEnabledFor(logging.INFO)


def test_a_library_that_logs_by_the_standard_module_comes_out_in_the_same_form(capsys):
    configure_logging(Settings(log_format="json"))
    try:
        int("broken")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("it %s", "failed")
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "it failed"
    assert "ValueError: invalid literal" in line["exception"]


def test_the_console_format_has_no_colour_codes_off_a_terminal(capsys):
    configure_logging(Settings(log_format="console"))
    get_logger("k2.test").warning("lag.grown", topic="t")
    text = capsys.readouterr().err
    assert "lag.grown" in text
    assert "\x1b[" not in text


def test_where_nobody_configured_logging_a_warning_is_a_line_on_stderr_and_stdout_stays_the_commands(
    capsys, monkeypatch
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log = get_logger("k2.test")
    log.info("sink.committed", rows=3)
    log.warning("sink.fenced", table="market_data.trades", reason="100 %s")
    assert capsys.readouterr() == ("", "sink.fenced table='market_data.trades' reason='100 %s'\n")


def test_the_level_is_honoured(capsys):
    configure_logging(Settings(log_format="json", log_level="warning"))
    get_logger("k2.test").info("lag.measured")
    assert capsys.readouterr().err == ""


def test_an_unknown_format_or_level_is_a_user_error_that_lists_the_known_ones():
    with pytest.raises(UserError) as raised:
        configure_logging(Settings(log_format="xml"))
    assert str(raised.value) == "K2_LOG_FORMAT cannot be used: found 'xml', expected one of auto, json, console."
    with pytest.raises(UserError, match="K2_LOG_LEVEL cannot be used: found 'LOUD'"):
        configure_logging(Settings(log_level="loud"))


def test_health_metrics_and_readiness_are_served():
    state = (False, "topic market.equities.trades.asx does not exist yet")
    metrics.COMMITS.labels("market_data.trades", "fenced").inc()
    with serve_health(0, lambda: state, families=metrics.OF_SINKS) as server:
        assert fetch(server.port, "/health") == (200, '{"status": "ok"}')
        status, body = fetch(server.port, "/ready")
        assert status == 503
        assert json.loads(body)["reason"] == "topic market.equities.trades.asx does not exist yet"
        state = (True, "3 partitions owned")
        assert fetch(server.port, "/ready")[0] == 200
        shown = fetch(server.port, "/metrics")[1]
        assert 'k2_iceberg_commits_total{outcome="fenced",table="market_data.trades"}' in shown
        assert "k2_query" not in shown
        assert fetch(server.port, "/other")[0] == 404


def test_a_workload_that_is_ready_may_warn_all_the_same():
    warning = "12 % of the last 10,000 messages are dead letters"
    with serve_health(0, lambda: (True, "running"), warns=lambda: warning) as server:
        status, body = fetch(server.port, "/ready")
        assert (status, json.loads(body)) == (200, {"ready": True, "reason": "running", "warning": warning})
        warning = ""
        assert json.loads(fetch(server.port, "/ready")[1]) == {"ready": True, "reason": "running"}


def test_a_readiness_check_that_fails_is_not_ready():
    def broken():
        raise OSError("catalog is locked")

    with serve_health(0, broken) as server:
        status, body = fetch(server.port, "/ready")
    assert status == 503
    assert json.loads(body)["reason"] == "OSError: catalog is locked"


def test_a_port_in_use_is_said_so():
    with serve_health(0, lambda: (True, "")) as server, pytest.raises(WorldError, match=f"127.0.0.1:{server.port}"):
        serve_health(server.port, lambda: (True, ""))


def test_every_metric_is_shown_by_some_process():
    defined = {each for each in vars(metrics).values() if hasattr(each, "collect") and not isinstance(each, type)}
    shown = {*metrics.OF_PRODUCERS, *metrics.OF_LOADS, *metrics.OF_SINKS, *metrics.OF_QUERIES}
    assert defined == shown


def test_every_metric_is_named_k2_and_has_a_base_unit_and_no_unbounded_label():
    units = (
        "_total",
        "_seconds",
        "_bytes",
        "_rows",
        "_messages",
        "_trades",
        "_snapshots",
        "_files",
        "_connections",
        "_resources",
        "_busy",
        "_held_up",
        "_in_progress",
        "_tries",
        "_reachable",
    )
    for family in REGISTRY.collect():
        if family.name.startswith(("python_", "process_", "stamina_")):  # the libraries' own
            continue
        assert family.name.startswith("k2_")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name.endswith(units), name
        labels = {label for sample in family.samples for label in sample.labels}
        assert not labels & {"symbol", "message_id", "key", "path", "snapshot"}


class Held(Collector):
    """A family whose figures are asked for, and wait until the scraper has gone."""

    def __init__(self):
        self.asked, self.gone = threading.Event(), threading.Event()

    def collect(self):
        self.asked.set()
        assert self.gone.wait(120)
        return []


def test_a_scraper_that_hangs_up_is_a_line_for_who_looks_closely_and_no_traceback(caplog, capsys):
    caplog.set_level(logging.DEBUG, "k2.obs.http")
    held = Held()
    with serve_health(0, lambda: (True, "running"), families=[held]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as scraper:
            scraper.sendall(b"GET /metrics HTTP/1.1\r\nHost: k2\r\n\r\n")
            assert held.asked.wait(120)
            # A connection that is reset at once, not closed after what is under way.
            scraper.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        held.gone.set()
        deadline = time.monotonic() + 120
        while not (said := [line for line in caplog.messages if line.startswith("health.client_left")]):
            assert time.monotonic() < deadline, caplog.messages
            time.sleep(0.02)
        assert len(said) == 1
        assert fetch(server.port, "/ready")[0] == 200
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_its_own_is_told_with_its_traceback(caplog):
    class Broken(Collector):
        def collect(self):
            raise ValueError("no figure")

    with serve_health(0, lambda: (True, ""), families=[Broken()]) as server:
        with pytest.raises(http.client.RemoteDisconnected):
            fetch(server.port, "/metrics")
        deadline = time.monotonic() + 120
        while not [each for each in caplog.records if each.exc_info]:
            assert time.monotonic() < deadline, caplog.messages
            time.sleep(0.02)
    (told,) = [each for each in caplog.records if each.exc_info]
    assert (told.levelname, told.getMessage().partition(" ")[0]) == ("ERROR", "health.failed")
