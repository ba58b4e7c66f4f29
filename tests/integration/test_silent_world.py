"""What the service says, and when, while its catalog or its store accepts connections and never answers, or a file is locked."""

import hashlib
import json
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import duckdb
import pytest
from fastapi.testclient import TestClient
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties, locked_catalog, make_lake
from k2_testing.service import KEY, problem, serving
from k2_testing.ticks import append_ticks, at
from pyiceberg.io import load_file_io

from k2.api.app import create_app
from k2.lake import time_limits
from k2.lake.catalog import open_named
from k2.model.errors import WorldError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.engine.store import attach_object_store, request_seconds

OPEN = at("2014-03-09T23:00:00")
TRADES = "/v1/trades?symbol=BHP&exchange=ASX"
READY_SECONDS = sized(30, 5)
"""A probe is answered in 5 s; beside a machine's worth of other tests only that it does not wait with the catalog is held."""


@pytest.fixture
def silent():
    """The port of a listener that accepts and says nothing."""
    listener, held = socket.create_server(("127.0.0.1", 0), backlog=128), []

    def accept():
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    for each in held:
        each.close()


def timed(ask):
    begin = time.monotonic()
    return ask(), time.monotonic() - begin


def silent_service(folder, port, **config):
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    (folder / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": digest}]))
    properties = {"type": "rest", "uri": f"http://127.0.0.1:{port}"}
    app = create_app(
        QueryConfig(api_keys_file=folder / "keys.json", **config),
        Settings(catalog_properties=properties, data_dir=folder),
    )
    return TestClient(app, headers={"X-API-Key": KEY})


def test_a_silent_catalog_is_told_of_in_time_by_probe_and_question(tmp_path, silent):
    with silent_service(tmp_path, silent) as client, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(timed, lambda: client.get(TRADES)) for _ in range(10)]
        probed = pool.submit(timed, lambda: client.get("/ready"))
        assert client.get("/health").status_code == 200
        for each in asked:
            reply, seconds = each.result()
            assert problem(reply, 503)["type"] == "urn:k2:problem:unavailable"
            assert seconds < sized(40, 10)
        reply, seconds = probed.result()
        assert reply.status_code == 503
        assert "catalog" in reply.json()["reason"]
        assert seconds < READY_SECONDS
        # And those who come later are not made to find it out again.
        assert all(timed(lambda: client.get("/ready"))[1] < READY_SECONDS for _ in range(3))


def test_the_probe_does_not_wait_for_a_catalog_that_is_given_longer(tmp_path, silent):
    with silent_service(tmp_path, silent, catalog_seconds=8) as client:
        reply, seconds = timed(lambda: client.get("/ready"))
        assert (reply.status_code, reply.json()["reason"]) == (503, "The catalog has not answered for 4 s")
        assert seconds < READY_SECONDS


def test_what_is_known_of_a_table_answers_while_the_catalog_is_locked_and_says_so(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [{"timestamp": OPEN + timedelta(seconds=n)} for n in range(5)])
    with serving(tmp_path, catalog_seconds=2) as client:
        before = client.get(TRADES)
        assert "incomplete" not in before.json()
        snapshot = before.json()["snapshot_id"]
        with locked_catalog(tmp_path):
            with pytest.raises(sqlite3.OperationalError, match="locked"):  # the premise
                sqlite3.connect(tmp_path / "catalog.db", timeout=0).execute("SELECT * FROM iceberg_tables")
            reply, seconds = timed(lambda: client.get("/ready"))
            assert (reply.status_code, seconds < READY_SECONDS) == (503, True)
            assert "locked" in reply.json()["reason"]
            for form in ("json", "csv"):
                reply = client.get(f"{TRADES}&format={form}", headers={"If-None-Match": before.headers["ETag"]})
                assert reply.status_code == 200
                assert "catalog does not answer" in reply.headers["K2-Incomplete"]
                assert reply.headers["K2-Snapshot-Id"] == snapshot
                assert "ETag" not in reply.headers
                assert reply.headers["Cache-Control"] == "no-store"
            known = client.get(TRADES).json()
            assert known["data"] == before.json()["data"]
            assert "catalog does not answer" in known["incomplete"]
            # Of a snapshot that is named there is nothing to confirm; of what was never asked for nothing is known.
            assert "incomplete" not in client.get(f"{TRADES}&snapshot={snapshot}").json()
            for unknown in ("/v1/quotes?symbol=BHP&exchange=ASX", "/v1/snapshots"):
                problem(client.get(unknown), 503)
        append_ticks(lake, [{"timestamp": OPEN + timedelta(seconds=9)}])
        deadline = time.monotonic() + 30
        while "incomplete" in (reply := client.get(TRADES).json()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(reply["data"]) == 6
        assert client.get("/ready").status_code == 200


@pytest.mark.parametrize("scheme", ["http", "postgresql+psycopg2"])
def test_a_catalog_that_never_answers_is_given_up(silent, scheme, monkeypatch):
    monkeypatch.setattr(time_limits, "POSTGRESQL_SECONDS", 1.0)
    kind = {"type": "rest"} if scheme == "http" else {"type": "sql", "warehouse": "/tmp"}
    properties = {"uri": f"{scheme}://k2:secret@127.0.0.1:{silent}/k2", **kind}
    begin = time.monotonic()
    with pytest.raises(WorldError, match="cannot be opened"):
        open_named("k2", properties, answer_seconds=1)
    assert time.monotonic() - begin < sized(60, 20)


def test_the_limits_of_a_person_stay(tmp_path):
    given = {"uri": "sqlite:////tmp/c.db?timeout=7", "s3.request-timeout": "20"}
    found = time_limits.with_limits(given, 3)
    assert given.items() <= found.items()
    assert time_limits.with_limits(catalog_properties(tmp_path), 2.5)["uri"].endswith("?timeout=2.5")


def test_a_store_that_never_answers_is_given_up(silent, monkeypatch):
    monkeypatch.setattr(time_limits, "STORE_ANSWER_SECONDS", 1.0)
    store = {"s3.endpoint": f"http://127.0.0.1:{silent}", "s3.access-key-id": "a", "s3.secret-access-key": "b"}
    store["s3.region"] = "us-east-1"
    files = load_file_io(time_limits.with_limits(store, 60), "s3://bucket/metadata.json")

    def by_pyiceberg():
        with pytest.raises(OSError, match="Timeout was reached"):
            files.new_input("s3://bucket/metadata.json").open().read()

    def by_duckdb():
        connection = duckdb.connect()
        attach_object_store(connection, store, timeout_seconds=5)
        with pytest.raises(duckdb.IOException, match="Timeout was reached"):
            connection.sql("SELECT * FROM read_parquet('s3://bucket/x.parquet')").fetchall()

    with ThreadPoolExecutor(2) as pool:
        for _, seconds in pool.map(timed, (by_pyiceberg, by_duckdb)):
            assert seconds < sized(60, 30)


def test_all_tries_of_a_request_to_the_store_end_before_the_query_that_waits_for_it():
    for seconds in (10.0, 30.0, 600.0):
        assert 4 * request_seconds(seconds) + 0.1 + 0.4 + 1.6 <= seconds + 1
    assert request_seconds(0.1) == 1
