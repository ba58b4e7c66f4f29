"""The engine's limits: deadlines, connections, and what the database may read."""

import threading
import time
from collections import UserDict
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from k2.model.errors import WorldError
from k2.query.engine.database import Limits
from k2.query.engine.engine import LARGE_BYTES, Engine
from k2.query.rows.errors import EngineBusyError, QueryTimeoutError
from k2.query.rows.statement import FilesRead, Statement

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE (a.range * b.range) % 7 = 3"


def test_a_query_over_its_deadline_is_stopped_and_the_connection_is_well(tmp_path):
    engine = Engine(Limits(connections=1, timeout_seconds=0.5))
    patient = replace(engine.limits, timeout_seconds=60.0)
    with pytest.raises(
        QueryTimeoutError, match=r"The endless query was stopped after 0.5 s. Ask for a shorter time range"
    ):
        engine.fetch("endless", Statement(ENDLESS, {}, (f"{tmp_path}/",)))
    engine.limits = patient
    for _ in range(3):
        assert engine.fetch("one", Statement("SELECT 1 AS x", {}, (f"{tmp_path}/",))).to_pylist() == [{"x": 1}]
    engine.close()


# The first million rows are there at once, the next never.
RARE = "SELECT range FROM range(10000000000000) WHERE range < 1000000 OR range % 9999999999999 = 7"


@pytest.mark.parametrize("way", ["fetch", "stream"])
def test_an_answer_over_its_deadline_is_stopped_after_its_first_rows_too(tmp_path, way):
    engine = Engine(Limits(connections=1, timeout_seconds=0.5))
    statement = Statement(RARE, {}, (f"{tmp_path}/",))
    ways = {
        "fetch": lambda: engine.fetch("rare", statement),
        "stream": lambda: list(engine.stream("rare", statement, batch_rows=1_000)),
    }
    with pytest.raises(QueryTimeoutError, match=r"The rare query was stopped after 0.5 s"):
        ways[way]()
    engine.limits = replace(engine.limits, timeout_seconds=60.0)
    assert engine.fetch("one", Statement("SELECT 1 AS x", {}, (f"{tmp_path}/",))).to_pylist() == [{"x": 1}]
    engine.close()


class Slow(UserDict):
    """A statement's further rows, which take half a second to hand over."""

    def __getitem__(self, name):
        time.sleep(0.5)
        return super().__getitem__(name)


def test_a_deadline_that_is_over_before_the_query_begins_stops_it_all_the_same(tmp_path):
    engine = Engine(Limits(connections=1, timeout_seconds=0.1))
    with pytest.raises(QueryTimeoutError):
        engine.fetch("endless", Statement(ENDLESS, {}, (f"{tmp_path}/",), tails=Slow(k2_more=pa.table({"x": [1]}))))
    engine.close()


def test_large_queries_leave_connections_to_small_ones(tmp_path):
    engine = Engine(Limits(connections=2, timeout_seconds=3.0))
    roots, stopped = (f"{tmp_path}/",), []

    def run_large():
        try:
            engine.fetch("large", Statement(ENDLESS, {}, roots, reads=(FilesRead("t", {"f": LARGE_BYTES + 1}),)))
        except (QueryTimeoutError, EngineBusyError) as error:
            stopped.append(str(error))

    large = [threading.Thread(target=run_large) for _ in range(3)]
    for thread in large:
        thread.start()
    until = time.monotonic() + 2
    answered = 0
    while time.monotonic() < until or answered <= 5:
        assert engine.fetch("one", Statement("SELECT 1 AS x", {}, roots)).to_pylist() == [{"x": 1}]
        answered += 1
    for thread in large:
        thread.join(timeout=30)
    assert len(stopped) == 3
    assert any("Other large queries ran" in error for error in stopped)
    engine.close()


def test_when_all_connections_are_busy_the_next_query_is_turned_away(tmp_path):
    engine = Engine(Limits(connections=1, timeout_seconds=1.0))
    stopped = []

    def run():
        try:
            engine.fetch("endless", Statement(ENDLESS, {}, (f"{tmp_path}/",)))
        except QueryTimeoutError as error:
            stopped.append(error)

    database = engine._open((f"{tmp_path}/",))
    busy = threading.Thread(target=run)
    held = database.idle.get()
    with pytest.raises(EngineBusyError, match="All 1 connections were busy for 1 s"):
        engine.fetch("one", Statement("SELECT 1", {}, (f"{tmp_path}/",)))
    database.idle.put(held)
    busy.start()
    busy.join(timeout=30)
    assert stopped
    engine.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet(str_split($path, chr(10)))",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "COPY (SELECT 1) TO '/tmp/k2-must-not-be-there.csv'",
        "ATTACH '/tmp/k2-must-not-be-there.db'",
        "INSTALL spatial",
        "LOAD '/tmp/x.duckdb_extension'",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SELECT * FROM python_variable",
    ],
)
def test_the_database_reads_nothing_but_the_tables_files(tmp_path, sql):
    python_variable = [1]
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "secret.parquet").write_bytes(b"PAR1")
    engine = Engine(Limits())
    params = {"path": f"{tmp_path}/warehouse/../secret.parquet"} if "$path" in sql else {}
    with pytest.raises(WorldError, match=r"could not read the table's files: (Permission|Invalid Input|Catalog) Error"):
        engine.fetch("attack", Statement(sql, params, (f"{tmp_path}/warehouse/",)))
    engine.close()
    assert python_variable
    assert not Path("/tmp/k2-must-not-be-there.csv").exists()


def test_the_s3_extension_loads_from_its_wheel_without_a_network():
    engine = Engine(Limits(), store={"s3.endpoint": "http://127.0.0.1:9", "s3.access-key-id": "a'b", "s3.region": "x"})
    with pytest.raises(WorldError, match="IO Error") as told:
        engine.fetch("s3", Statement("SELECT * FROM read_parquet('s3://bucket/w/a.parquet')", {}, ("s3://bucket/w/",)))
    assert "127.0.0.1:9" in str(told.value.__cause__), "it tries the endpoint it was given"
    assert "127.0.0.1" not in str(told.value), "and tells no client which that is"
    assert type(told.value) is WorldError, "a store that does not answer is no broken file"
    with pytest.raises(WorldError, match="Permission Error"):
        engine.fetch("s3", Statement("SELECT * FROM read_parquet('s3://other/a.parquet')", {}, ("s3://bucket/w/",)))
    engine.close()
