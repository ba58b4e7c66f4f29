"""Replay over REST and over the WebSocket, on a real catalog; the slow client and the rate on a real server."""

import hashlib
import io
import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pyarrow as pa
import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.query_process import query_process
from k2_testing.sinks import eventually
from k2_testing.ticks import append_ticks, at
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from k2.api.app import create_app
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig

START = at("2014-03-09T23:00:00")
KEY = "secret-key"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three hundred trades, one a second, and a quote half a second before each; two symbols."""
    made = tmp_path_factory.mktemp("stream")
    lake = make_lake(made, DataType.TRADES, DataType.QUOTES)
    symbols = ["BHP", "CBA"]
    trades = [{"timestamp": START + timedelta(seconds=n), "symbol": symbols[n % 2]} for n in range(300)]
    quotes = [tick | {"timestamp": tick["timestamp"] - timedelta(milliseconds=500)} for tick in trades]
    append_ticks(lake, trades)
    append_ticks(lake, quotes, DataType.QUOTES)
    rules = {"symbols": ["CBA"]}
    keys = [{"name": "desk", "sha256": digest(KEY)}, {"name": "cba", "sha256": digest("cba-key"), "rules": rules}]
    (made / "keys.json").write_text(json.dumps(keys))
    return made


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(scope="module")
def client(folder):
    settings = Settings(catalog_properties=catalog_properties(folder), data_dir=folder)
    config = QueryConfig(api_keys_file=folder / "keys.json", max_streams=2)
    with pytest.MonkeyPatch.context() as patched:
        # A machine that stands still for ten seconds would hear a heartbeat between two answers.
        patched.setattr("k2.api.websocket._HEARTBEAT_SECONDS", 600)
        patched.setattr("k2.api.websocket._HELLO_SECONDS", 600)
        with TestClient(create_app(config, settings), raise_server_exceptions=False) as made:
            yield made


def expected(symbol=None):
    names = ["BHP", "CBA"]
    pairs = [(kind, n) for n in range(300) if symbol in (None, names[n % 2]) for kind in ("quote", "trade")]
    return [(kind, f"T{n}") for kind, n in pairs]


def told(rows):
    return [(row["type"], row["trade_id"] or row["quote_id"]) for row in rows]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_by_their_cursors(client):
    rows, done, body = [], False, {"limit": 77}
    while not done:
        answer = client.post("/v1/replay", json=body, headers={"X-API-Key": KEY}).json()
        assert answer["count"] == len(answer["data"]) <= 77
        rows += answer["data"]
        done, body = answer["done"], {"limit": 77, "cursor": answer["cursor"]}
    assert told(rows) == expected()


def test_a_page_of_arrow_says_its_cursor_in_a_header(client):
    reply = client.post("/v1/replay", json={"limit": 10, "format": "arrow"}, headers={"X-API-Key": KEY})
    rows = pa.ipc.open_stream(reply.content).read_all()
    assert told(rows.to_pylist()) == expected()[:10]
    assert reply.headers["K2-Done"] == "false"
    rest = client.post("/v1/replay", json={"cursor": reply.headers["K2-Cursor"]}, headers={"X-API-Key": KEY})
    assert told(rest.json()["data"]) == expected()[10:]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"cursor": "nonsense"}, 400, "Not a cursor"),
        ({"cursor": "x", "symbols": ["BHP"]}, 400, "A cursor is given with what it says itself"),
        ({"tables": ["reference_data"]}, 400, "cannot be replayed"),
        ({"tables": []}, 422, "tables"),
        ({"limit": 0}, 422, "limit"),
        ({"speed": 2}, 422, "speed"),
        ({"start": "2014-03-10", "end": "2014-03-09"}, 400, "reversed"),
    ],
)
def test_what_cannot_be_replayed_is_said(client, body, status, said):
    reply = client.post("/v1/replay", json=body, headers={"X-API-Key": KEY})
    assert reply.status_code == status, reply.text
    assert said in reply.json()["detail"]


# --- the WebSocket ---------------------------------------------------------------------------------------------------


@contextmanager
def talking(client, key=KEY, **start):
    with client.websocket_connect("/v1/stream", headers={} if key is None else {"X-API-Key": key}) as talk:
        if start:
            talk.send_json({"type": "start"} | start)
        yield talk


def until_end(talk):
    """All rows up to the end, and what was said beside them."""
    rows, said = [], []
    while True:
        message = talk.receive_json()
        if message["type"] == "batch":
            assert message["count"] == len(message["rows"])
            rows += message["rows"]
        else:
            said.append(message)
        if message["type"] in ("end", "error"):
            return rows, said


def closed(talk):
    with pytest.raises(WebSocketDisconnect) as found:
        talk.receive_json()
    return found.value.code


def test_a_replay_streams_to_its_end(client):
    with talking(client, batch_rows=50) as talk:
        rows, said = until_end(talk)
        assert told(rows) == expected()
        assert [each["type"] for each in said] == ["started", "end"]
        assert said[-1]["rows"] == 600
        assert closed(talk) == 1000


def test_frames_of_arrow_carry_their_cursor(client):
    with talking(client, format="arrow", batch_rows=100, symbols=["BHP"]) as talk:
        assert talk.receive_json()["type"] == "started"
        frame = pa.ipc.open_stream(io.BytesIO(talk.receive_bytes()))
        rows = frame.read_all()
        assert told(rows.to_pylist()) == expected("BHP")[:100]
        cursor = frame.schema.metadata[b"k2.cursor"].decode()
    with talking(client, cursor=cursor) as talk:
        rows, _ = until_end(talk)
        assert told(rows) == expected("BHP")[100:]


def test_a_browser_sends_its_key_first(client):
    with client.websocket_connect("/v1/stream", subprotocols=["k2.v1"]) as talk:
        assert talk.accepted_subprotocol == "k2.v1"
        talk.send_json({"type": "auth", "key": KEY})
        talk.send_json({"type": "start", "symbols": ["CBA"]})
        rows, _ = until_end(talk)
        assert told(rows) == expected("CBA")


@pytest.mark.parametrize("first", [{"type": "auth", "key": "wrong"}, {"type": "start"}, {"type": "auth"}])
def test_without_a_key_that_opens_there_is_nothing(client, first):
    with talking(client, None) as talk:
        talk.send_json(first)
        said = talk.receive_json()
        assert (said["type"], said["status"]) == ("error", 401)
        assert closed(talk) == 4401


def test_a_key_sees_what_its_rules_say(client):
    with talking(client, "cba-key", batch_rows=1000) as talk:
        rows, _ = until_end(talk)
        assert told(rows) == expected("CBA")


def test_pause_seek_speed_and_stop(client):
    with talking(client, speed=0.001, batch_rows=10) as talk:
        assert talk.receive_json()["type"] == "started"
        assert told(talk.receive_json()["rows"]) == expected()[:1]
        talk.send_json({"type": "pause"})
        assert talk.receive_json() == {"type": "done", "command": "pause"}
        talk.send_json({"type": "seek", "time": "2014-03-09T23:04:00Z"})
        assert talk.receive_json()["command"] == "seek"
        talk.send_json({"type": "speed"})
        assert talk.receive_json()["command"] == "speed"
        talk.send_json({"type": "resume"})
        rows, said = until_end(talk)
        assert told(rows) == expected()[2 * 240 + 1 :]
        assert said[0]["command"] == "resume"
    with talking(client, speed=0.001) as talk:
        talk.receive_json()
        talk.receive_json()
        talk.send_json({"type": "stop"})
        cursor = talk.receive_json()["cursor"]
        assert closed(talk) == 1000
    with talking(client, cursor=cursor) as talk:
        assert told(until_end(talk)[0]) == expected()[1:]


def test_a_paced_stream_keeps_time(client):
    for _ in range(10):  # the machine may stand still in some of them
        asked, came = time.monotonic(), []
        with talking(client, speed=20, end=(START + timedelta(seconds=20)).isoformat()) as talk:
            assert talk.receive_json()["type"] == "started"
            while (message := talk.receive_json())["type"] == "batch":
                now = time.monotonic()
                for row in message["rows"]:
                    since = (at(row["timestamp"].removesuffix("Z")) - START).total_seconds() + 0.5
                    came.append((now, since / 20))
        assert len(came) == 41
        assert all(moment - asked >= due for moment, due in came), "never early"
        late = sorted(moment - came[0][0] - due for moment, due in came)
        if late[20] < 0.01:
            return
    pytest.fail(f"half of the rows are late by more than {late[20]:.3f} s")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"type": "fly"}, "type cannot be used"),
        ({"type": "seek"}, "seek has no time"),
        ({"type": "seek", "time": "never"}, "time is not a time"),
        ({"type": "speed", "speed": -1}, "speed cannot be used"),
        ({"type": "speed", "speed": 1, "rate": 1}, "Both speed and rate"),
    ],
)
def test_a_command_that_is_none_ends_the_stream_with_a_reason(client, message, said):
    with talking(client, speed=0.001) as talk:
        talk.receive_json()
        talk.receive_json()
        talk.send_json(message)
        answer = talk.receive_json()
        assert answer["type"] == "error"
        assert said in answer["detail"]
        assert closed(talk) == 4400


@pytest.mark.parametrize(
    "text", ['{"type": "auth", "key": "\\ud800"}', '{"\\ud800": 1}', '{"type": "auth", "key": "k", "x": ["\\udfff"]}']
)
def test_a_message_with_half_of_a_surrogate_pair_is_none(client, text):
    with client.websocket_connect("/v1/stream") as talk:
        talk.send_text(text)
        assert closed(talk) == 4400


def test_no_more_streams_than_the_service_serves(client):
    with talking(client, speed=0.001) as one, talking(client, speed=0.001) as two:
        for talk in (one, two):
            assert talk.receive_json()["type"] == "started"
        with talking(client) as third:
            assert closed(third) == 4429
    with talking(client) as talk:
        talk.send_json({"type": "start"})
        assert until_end(talk)[1][-1]["rows"] == 600


# --- a real server ---------------------------------------------------------------------------------------------------


PATIENT = {"max_size": None, "compression": None, "open_timeout": 60, "ping_interval": None}


def connect_narrowly(port):
    """A WebSocket whose kernel keeps little of what it does not take: left alone, a host may keep tens of megabytes."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    narrow.connect(("127.0.0.1", port))
    headers = {"X-API-Key": KEY}
    url = f"ws://127.0.0.1:{port}/v1/stream"
    return connect(url, sock=narrow, additional_headers=headers, max_queue=1, **PATIENT)


def rows_until_closed(talk):
    rows = 0
    try:
        while True:
            rows += json.loads(talk.recv()).get("count", 0)
    except ConnectionClosed:
        return rows


@pytest.mark.real
def test_a_client_that_takes_nothing_is_dropped_and_the_service_is_well(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    conditions = ["X" * 1_000]
    ticks = [{"timestamp": START + timedelta(seconds=n), "trade_conditions": conditions} for n in range(30_000)]
    append_ticks(lake, ticks)
    (tmp_path / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": digest(KEY)}]))
    with query_process(tmp_path, stall_seconds=1.0) as port:
        url = f"ws://127.0.0.1:{port}/v1/stream"
        headers = {"X-API-Key": KEY}
        with connect_narrowly(port) as slow:
            slow.send(json.dumps({"type": "start"}))
            log = tmp_path / "query.log"
            eventually(lambda: "Nothing was taken for 1 s" in log.read_text(), "it is dropped", 120)
            assert rows_until_closed(slow) < 30_000
        rows = 0
        for first in range(0, 30_000, 1_000):  # each fits a connection: that this process stands still is no stall
            start, end = (START + timedelta(seconds=n) for n in (first, first + 1_000))
            with connect(url, additional_headers=headers, **PATIENT) as talk:
                talk.send(json.dumps({"type": "start", "start": start.isoformat(), "end": end.isoformat()}))
                while (message := json.loads(talk.recv()))["type"] != "end":
                    rows += message.get("count", 0)
        assert rows == 30_000


@pytest.mark.real
def test_what_was_read_ahead_when_a_client_stops_is_in_its_next_replay(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    conditions = ["X" * 1_000]
    append_ticks(
        lake, [{"timestamp": START + timedelta(seconds=n), "trade_conditions": conditions} for n in range(30_000)]
    )
    (tmp_path / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": digest(KEY)}]))
    with query_process(tmp_path) as port:
        found = []

        def take(first, stop_after):
            with connect_narrowly(port) as talk:
                talk.send(json.dumps({"type": "start", **first}))
                while True:
                    message = json.loads(talk.recv())
                    if message["type"] == "batch":
                        found.extend(row["trade_id"] for row in message["rows"])
                        if len(found) == stop_after:
                            time.sleep(1)  # frames are made ahead, and the connection is full
                            talk.send(json.dumps({"type": "stop"}))
                            time.sleep(1)  # the service hears it before anything more is taken
                    elif message["type"] in ("done", "end"):
                        return message["cursor"]

        cursor = take({}, 1_000)
        assert len(found) < 30_000
        take({"cursor": cursor}, None)
    assert found == [f"T{n}" for n in range(30_000)]


@pytest.mark.real
def test_a_client_that_leaves_ends_its_replay(folder):
    with query_process(folder, max_streams=1) as port:
        for _ in range(3):
            url = f"ws://127.0.0.1:{port}/v1/stream"
            done = threading.Event()

            def try_it(url=url, done=done):
                with connect(url, additional_headers={"X-API-Key": KEY}, **PATIENT) as talk:
                    talk.send(json.dumps({"type": "start", "speed": 0.001}))
                    if json.loads(talk.recv())["type"] == "started":
                        done.set()

            def works(try_it=try_it, done=done):
                try:
                    try_it()
                except ConnectionClosed:
                    return False  # the one before has not ended yet
                return done.is_set()

            eventually(works, "the one before ended", 120)
