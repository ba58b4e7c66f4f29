"""`k2 load --wait`: with a real sink, without one, and for a load that was there already."""

import json
import os
import subprocess
import sys

import pytest
import typer
from k2_testing.asking import questions_of
from k2_testing.sinks import eventually
from typer.testing import CliRunner

from k2 import cli_load
from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.groups import active_members
from k2.lake.catalog import open_named
from k2.lake.tables import ensure_tables
from k2.model.errors import WorldError
from k2.model.tables import builtin_table
from k2.model.topics import DataType, sink_group_id
from k2.model.workload import SinkConfig
from k2.query.asked.bar_requests import BarsQuery, Interval
from k2.query.asked.requests import EventsQuery

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

TABLE = "market_data.trades"


@pytest.fixture
def variables(kafka, registry, tmp_path, monkeypatch):
    """The environment of a platform with a catalog of its own, for this process and for sinks."""
    catalog = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}
    (tmp_path / "warehouse").mkdir()
    found = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "K2_REGISTRY_URL": registry.url,
        "K2_DATA_DIR": str(tmp_path / "data"),
        "K2_CATALOG_PROPERTIES": json.dumps(catalog),
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    ensure_tables(open_named("k2", catalog), [builtin_table(DataType.TRADES)])
    return found


def _topic(kafka, exchange, asset_class="equities"):
    name = f"market.{asset_class}.trades.{exchange}"  # the command takes known exchanges only: one for each test
    ensure_topics(
        {"bootstrap.servers": kafka.bootstrap_servers},
        [TopicSpec(name, partitions=2), TopicSpec(f"{name}.dlq", partitions=1)],
    )
    return name


def _write(path, first, last):
    rows = [f"S{i % 5},2014-03-10T00:{i // 60 % 60:02}:{i % 60:02}Z,1.5,2" for i in range(first, last)]
    path.write_text("\n".join(["symbol,timestamp,price,quantity", *rows]))
    return path


def _run(*arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_load.register(app)
    result = CliRunner().invoke(app, ["load", "trades", *map(str, arguments), "--output", "json"])
    return result.exit_code, json.loads(result.stdout) if result.stdout else result.exception


def _sink(variables, tmp_path, topic, **more):
    config = SinkConfig(
        topic=topic,
        table=TABLE,
        data_type=DataType.TRADES,
        group_id=sink_group_id(topic, TABLE),
        commit_interval_seconds=1,
        **more,
    )
    (tmp_path / "sink.json").write_text(config.model_dump_json())
    script = (
        "from k2.sink.run import run_sink; from k2.model.settings import settings; "
        "from k2.model.workload import SinkConfig, read_config; env = settings(); "
        "run_sink(env, read_config(env.config_file, SinkConfig))"
    )
    environment = os.environ | variables | {"K2_CONFIG_FILE": str(tmp_path / "sink.json")}
    made = subprocess.Popen([sys.executable, "-c", script], env=environment)
    # A wait takes a group without members for one without a sink after 20 seconds: less than a start may take here.
    address = variables["K2_KAFKA_BOOTSTRAP_SERVERS"]
    eventually(lambda: made.poll() is not None or _members(address, topic) > 0, "a sink in its group")
    return made


def _members(address, topic):
    """Sinks in the topic's group; none while its coordinator does not answer."""
    try:
        return active_members({"bootstrap.servers": address}, sink_group_id(topic, TABLE))
    except WorldError:
        return 0


def test_wait_returns_when_the_rows_are_in_the_table_also_for_a_run_that_sends_nothing(
    variables, kafka, tmp_path, monkeypatch
):
    topic = _topic(kafka, "lse")
    path = _write(tmp_path / "a.csv", 0, 1000)
    sink = _sink(variables, tmp_path, topic)
    try:
        eventually(lambda: _members(kafka.bootstrap_servers, topic) == 1, "the sink has joined")
        code, document = _run(path, "-e", "LSE", "--wait", "--wait-timeout", 300)
        assert (code, document["wait"], document["missing"], document["sent"]) == (0, "in the table", 0, 1000)
        with monkeypatch.context() as patched:  # the first look is enough: another would come after ten minutes
            patched.setattr("k2.feeds.load.waiting.POLL_SECONDS", 600.0)
            code, document = _run(path, "-e", "LSE", "--wait")
        assert (code, document["wait"], document["sent"], document["already_there"]) == (0, "in the table", 0, 1000)
        # Other files with rows that are there already: the sink drops them, and the summary says so.
        code, document = _run(_write(tmp_path / "b.csv", 900, 1100), "-e", "LSE", "--wait", "--wait-timeout", 300)
        assert (code, document["sent"], document["duplicates"], document["dead_letters"]) == (0, 200, 100, 0)
    finally:
        sink.terminate()
        sink.wait(60)


def test_rows_of_one_instant_keep_the_order_in_which_their_files_were_loaded(variables, kafka, tmp_path):
    topic = _topic(kafka, "coinbase", "crypto")
    header, sink = "symbol,timestamp,price,quantity\n", _sink(variables, tmp_path, topic)
    try:
        for name, rows in (("a", (5, 7)), ("b", (7, 10))):
            second = "".join(f"S,2024-01-04T02:00:30Z,{price},1\n" for price in range(*rows))
            path = tmp_path / f"{name}.csv"
            # By their numbers in the files the rows of the second would come first.
            path.write_text(header + ("S,2024-01-04T02:00:29Z,1,1\n" * 3 if name == "a" else "") + second)
            assert _run(path, "-e", "COINBASE", "--wait", "--wait-timeout", 300)[0] == 0
        assert _run(path, "-e", "COINBASE", "--wait", "--restart")[1]["duplicates"] == 3
    finally:
        sink.terminate()
        sink.wait(60)
    with questions_of(tmp_path) as questions:
        prices = questions.events(EventsQuery(DataType.TRADES, ("S",))).rows["price"].to_pylist()
        (bar,) = questions.bars(BarsQuery(("S",), Interval.MINUTE)).rows.to_pylist()
    assert [int(price) for price in prices] == [1, 1, 1, 5, 6, 7, 8, 9]
    assert (bar["open"], bar["close"]) == (1, 9)


def test_two_events_under_one_id_are_told_and_a_scope_makes_them_two(variables, kafka, tmp_path):
    topic = _topic(kafka, "tse")
    path = tmp_path / "numbered.csv"
    path.write_text(
        "symbol,timestamp,price,quantity,trade_id\n"
        "S,2024-01-04T01:00:00Z,10,1,1\nS,2024-01-04T01:00:01Z,11,1,2\nS,2024-01-05T01:00:00Z,12,1,1\n"
    )
    sink = _sink(variables, tmp_path, topic)
    wait = ("-e", "TSE", "--wait", "--wait-timeout", 300)
    try:
        code, document = _run(path, *wait)
        assert (code, document["accepted"], document["dead_letters"], document["duplicates"]) == (4, 3, 1, 0)
        code, document = _run(path, *wait, "--id-scope", "civil_day")
        assert (code, document["sent"], document["dead_letters"], document["duplicates"]) == (0, 3, 0, 0)
        code, document = _run(path, *wait, "--id-scope", "civil_day", "--restart")
        assert (code, document["sent"], document["dead_letters"], document["duplicates"]) == (0, 3, 0, 3)
    finally:
        sink.terminate()
        sink.wait(60)


def test_rows_that_were_rejected_for_their_prices_enter_when_the_same_files_are_loaded_with_any(
    variables, kafka, tmp_path
):
    topic = _topic(kafka, "cme", "futures")
    path = tmp_path / "oil.csv"
    path.write_text(
        "symbol,timestamp,price,quantity\n"
        "CL,2020-04-20T18:29:00Z,12.5,1\nCL,2020-04-20T18:30:00Z,-37.63,5\nCL,2020-04-20T18:31:00Z,0,2\n"
    )
    sink = _sink(variables, tmp_path, topic, prices="any")
    wait = ("-e", "CME", "--wait", "--wait-timeout", 300)
    try:
        code, document = _run(path, *wait)
        assert (code, document["sent"], document["rejected"]) == (4, 1, 2)
        assert all("a feed with prices: any takes it" in reason for reason in document["reasons"])
        code, document = _run(path, *wait, "--prices", "any")
        assert (code, document["sent"], document["rejected"], document["duplicates"]) == (0, 3, 0, 1)
        code, document = _run(path, *wait, "--prices", "any")
        assert (code, document["sent"], document["already_there"]) == (0, 0, 3)
    finally:
        sink.terminate()
        sink.wait(60)


def test_wait_says_early_that_no_sink_runs(variables, kafka, tmp_path, monkeypatch):
    monkeypatch.setattr("k2.feeds.load.waiting.NO_SINK_SECONDS", 2.0)
    topic = _topic(kafka, "nyse")
    code, document = _run(_write(tmp_path / "a.csv", 0, 100), "-e", "NYSE", "--wait", "--wait-timeout", 600)
    assert (code, document["wait"], document["missing"]) == (3, "no sink runs", 100)
    assert _members(kafka.bootstrap_servers, topic) == 0
    assert document["seconds"] < 300
    code, document = _run(tmp_path / "a.csv", "-e", "NYSE", "--wait", "--wait-timeout", 1)
    assert code == 3


def test_a_table_that_is_not_there_is_said_before_anything_is_sent(variables, kafka, tmp_path):
    _topic(kafka, "nasdaq")
    code, error = _run(
        _write(tmp_path / "a.csv", 0, 10), "-e", "NASDAQ", "--wait", "--table", "market_data.nothing"
    )  # fmt: skip
    assert code == 1
    assert "market_data.nothing" in str(error)
    code, document = _run(tmp_path / "a.csv", "-e", "NASDAQ")
    assert document["sent"] == 10
