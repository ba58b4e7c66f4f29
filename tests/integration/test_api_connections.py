"""Connections of the query service: half-open, slow and too many ones, with real sockets to a process of its own."""

import http.client
import json
import selectors
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
import websockets.sync.client
from k2_testing.extent import sized
from k2_testing.lake import make_lake
from k2_testing.query_process import RUN, query_process
from k2_testing.ticks import append_ticks, at
from pydantic import ValidationError

from k2.api.access.keys import new_key, write_keys
from k2.api.connections import ConnectionLimits, connection_limits
from k2.model.topics import DataType
from k2.model.workload import QueryConfig

ANSWER_SECONDS = sized(30.0, 5.0)
HALF = b"GET /v1/trades?symbol=BHP HTTP/1.1\r\nHost: k2\r\nX-Sl"
WITHIN_1024 = ("bash", "-c", 'ulimit -n 1024; exec "$@"', "bash")
# What the service would be with uvicorn's own protocols: the control.
PLAIN = """
import sys
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
import k2.api.serve
from k2.__main__ import main
k2.api.serve.bounded = lambda _: (HttpToolsProtocol, WebSocketsSansIOProtocol)
sys.argv = ["k2", "run", "query"]
main()
"""


@pytest.fixture
def folder(tmp_path):
    """A lake with trades, more of them than a socket buffers, and a key."""
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    begin = at("2014-03-09T23:00:00")
    append_ticks(lake, [{"timestamp": begin + timedelta(milliseconds=n)} for n in range(60_000)])
    key, entry = new_key("desk", now=datetime.now(UTC))
    write_keys(tmp_path / "keys.json", [entry])
    (tmp_path / "key").write_text(key)
    return tmp_path


def connected(port, said=b"", receive_buffer=None):
    made = socket.socket()
    if receive_buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    made.settimeout(30)
    made.connect(("127.0.0.1", port))
    made.sendall(said)
    return made


@contextmanager
def held(port, number, said=HALF):
    """So many sockets that have said this and say nothing more."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(port, said)) for _ in range(number)]


def get(port, path, timeout=ANSWER_SECONDS, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def is_well(port, timeout=ANSWER_SECONDS):
    try:
        return get(port, "/health", timeout)[0] == 200
    except OSError:
        return False


def closed(sockets):
    """Which of them the service has closed by now."""
    found = set()
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        for key, _ in selector.select(0):
            try:
                gone = key.fileobj.recv(4096) == b""
            except ConnectionResetError:
                gone = True
            if gone:
                found.add(key.fileobj)
    return found


def all_closed(sockets, within, meanwhile=lambda: None):
    """Seconds until the service has closed all of them."""
    begin, left = time.monotonic(), set(sockets)
    while left:
        left -= closed(left)
        meanwhile()
        assert time.monotonic() - begin < within, f"{len(left)} are open"
        time.sleep(0.02)
    return time.monotonic() - begin


@pytest.mark.parametrize("trusted", [(), ("127.0.0.0/8",)], ids=["by one peer", "through a proxy"])
def test_eleven_hundred_half_heads_keep_nobody_out_and_are_closed(folder, trusted):
    with (
        query_process(folder, (*WITHIN_1024, *RUN), head_seconds=4, trusted_proxies=trusted) as port,
        held(port, 1_100) as sockets,
    ):
        asked = []

        def ask():
            assert is_well(port)
            asked.append(get(port, "/v1/trades?symbol=BHP&limit=1", **{"X-API-Key": (folder / "key").read_text()}))

        ask()
        all_closed(sockets, 60, ask)
        assert {status for status, _ in asked} == {200}
        text = get(port, "/metrics")[1].decode()
        closings = {
            reason: figure(text, f'k2_http_connections_closed_total{{reason="{reason}"}}') for reason in REASONS
        }
        # 1,100 and the questions' own, which are over before they are closed; 512 is half of 1,024.
        assert closings["head"] + closings["room"] >= 1_100
        assert closings["room"] >= 1_100 - (512 if trusted else 250)
        assert closings["head"] > 0
        assert figure(text, "k2_http_connections") <= 2


REASONS = ("head", "room")


def figure(text, name):
    return float(next((line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")), 0))


def test_without_places_the_same_sockets_keep_everybody_out(folder):
    """The control: what the test above sends is enough to stop a server that has no bounds."""
    command = (*WITHIN_1024, sys.executable, "-c", PLAIN)
    with query_process(folder, command, head_seconds=2) as port, held(port, 1_100):
        assert not is_well(port, timeout=2)


def test_a_head_that_drips_in_is_given_as_long_as_one_that_does_not_come(folder):
    with query_process(folder, head_seconds=2) as port:
        silent, empty_lines, dripping = connected(port), connected(port), connected(port, b"GET /health HTTP/1.1\r\n")
        kept = connected(port, b"GET /health HTTP/1.1\r\nHost: k2\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET /hea")  # the next head of one that was a good client

        def drip():
            for each, said in ((dripping, b"X-A: b\r\n"), (empty_lines, b"\r\n"), (kept, b"l")):
                with suppress(OSError):
                    each.sendall(said)

        seconds = all_closed({silent, empty_lines, dripping, kept}, 30, drip)
        assert seconds > 1  # and not at once
        for each in (silent, empty_lines, dripping, kept):
            each.close()


def test_one_peer_takes_the_places_of_its_own_idle_connections(folder):
    with query_process(folder, max_connections_per_peer=3, head_seconds=60) as port:
        sockets = [connected(port, HALF) for _ in range(3)]
        assert is_well(port)  # took the first one's place
        all_closed(sockets[:1], 10)
        assert not closed(sockets[1:])
        for each in sockets:
            each.close()


def test_where_all_are_at_work_probes_are_answered_and_others_are_told_so(folder):
    key = (folder / "key").read_text()
    with query_process(folder, max_connections=2, head_seconds=60) as port, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(
                websockets.sync.client.connect(
                    f"ws://127.0.0.1:{port}/v1/stream", additional_headers={"X-API-Key": key}
                )
            )
        for path in ("/health", "/ready", "/metrics"):
            assert get(port, path)[0] == 200
        status, body = get(port, "/v1/trades?symbol=BHP", **{"X-API-Key": key})
        assert (status, json.loads(body)["type"]) == (503, "urn:k2:problem:overloaded")
        with pytest.raises(websockets.exceptions.InvalidStatus, match="503"):
            websockets.sync.client.connect(f"ws://127.0.0.1:{port}/v1/stream")
        # And such half-open ones as fit beyond the bounds keep no probe out.
        with held(port, 100):
            assert is_well(port)
        stack.close()
        deadline = time.monotonic() + 30
        while get(port, "/v1/trades?symbol=BHP", 30, **{"X-API-Key": key})[0] != 200:  # their places came back
            assert time.monotonic() < deadline


def test_a_client_that_never_takes_its_answer_loses_its_connection(folder):
    key = (folder / "key").read_text()
    asked = (
        f"GET /v1/trades?symbol=BHP&limit=60000&format=csv HTTP/1.1\r\nHost: k2\r\nX-API-Key: {key}\r\n\r\n".encode()
    )
    with query_process(folder, stall_seconds=1, head_seconds=1) as port, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(connected(port, asked, receive_buffer=4096))
        deadline = time.monotonic() + 60
        name = 'k2_http_connections_closed_total{reason="untaken"}'
        while figure(get(port, "/metrics")[1].decode(), name) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_peers_are_addresses_and_of_ipv6_networks_and_proxies_are_none():
    limits = ConnectionLimits(trusted=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    assert limits.peer("10.2.3.4") == "10.2.3.4" == limits.peer("::ffff:10.2.3.4")
    assert limits.peer("2001:db8::1") == limits.peer("2001:db8::ffff:1") != limits.peer("2001:db8:0:1::1")
    assert limits.peer("10.1.2.3") is limits.peer("fd12::1") is limits.peer(None) is limits.peer("/run/k2.sock") is None


def test_connections_leave_files_to_data_and_what_is_no_network_is_refused():
    config = QueryConfig(trusted_proxies=["10.0.0.1", "fd00::/8"])
    assert connection_limits(config, 1_024).total == 512
    assert connection_limits(config, 1_000_000).total == config.max_connections
    assert config.trusted_proxies == ("10.0.0.1/32", "fd00::/8")
    with pytest.raises(ValidationError, match="trusted_proxies"):
        QueryConfig(trusted_proxies=["ingress"])
