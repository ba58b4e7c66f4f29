"""`k2-query` as a person types it: a real process, data on stdout, messages on stderr, exit codes."""

import csv
import hashlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.sinks import eventually, ready
from k2_testing.ticks import append_ticks, at

from k2.model.topics import DataType

OPEN = at("2014-03-09T23:00:00")
QUERY = [sys.executable, "-c", "from k2.cli_query import main; main()"]


@pytest.fixture
def env(tmp_path):
    catalog = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    ticks = [
        {"timestamp": OPEN + timedelta(seconds=n), "price": Decimal("1234.5") + n, "quantity": Decimal(20_000)}
        for n in range(3)
    ]
    append_ticks(catalog, ticks)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    return clean | {"K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(tmp_path)), "K2_DATA_DIR": str(tmp_path)}


def run(env, *arguments):
    return subprocess.run([*QUERY, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_tables_align_numbers_and_fit_them_without_colour(env):
    done = run(env, "trades", "BHP", "--local", "-n", "2")
    assert done.stdout.splitlines() == [
        "timestamp                    symbol  exchange    price  quantity  currency  side     trade_conditions",
        "2014-03-09T23:00:00.000000Z  BHP     ASX       1,234.5    20,000  AUD       UNKNOWN                  ",
        "2014-03-09T23:00:01.000000Z  BHP     ASX       1,235.5    20,000  AUD       UNKNOWN                  ",
    ]
    assert done.stderr == "the first 2 only: there are more (--limit)\n"
    assert done.returncode == 0


def test_what_a_venue_says_moves_no_terminals_cursor(env, tmp_path):
    catalog = make_lake(tmp_path, DataType.TRADES)
    append_ticks(catalog, [{"timestamp": OPEN, "symbol": "ODD", "trade_conditions": ["\x1b[2J", "two\nlines"]}])
    done = run(env, "trades", "ODD", "--local")
    assert len(done.stdout.splitlines()) == 2
    assert "·[2J;two·lines" in done.stdout
    assert run(env, "trades", "ODD", "--local", "-o", "json").stdout.count("\\u001b[2J") == 1, "data is as it is"


def test_csv_and_json_are_data_alone(env):
    rows = list(csv.DictReader(io.StringIO(run(env, "trades", "BHP", "--local", "-o", "csv").stdout)))
    assert [row["price"] for row in rows] == ["1234.50000000", "1235.50000000", "1236.50000000"]
    body = json.loads(run(env, "summary", "BHP", "2014-03-10", "--local", "-o", "json").stdout)
    assert (body["vwap"], body["volume"]) == ("1235.50000000", "60000.00000000")
    assert json.loads(run(env, "stats", "--local", "-o", "json").stdout)["tables"][0]["rows"] == 3
    assert "BHP" in run(env, "symbols", "--local").stdout
    assert json.loads(run(env, "snapshots", "--local", "-o", "json").stdout)["data"][0]["rows_added"] == 3


def test_the_catalog_answers_where_no_service_is_known(env):
    here = run(env, "trades", "BHP", "-o", "json")
    assert (here.returncode, here.stdout) == (0, run(env, "trades", "BHP", "-o", "json", "--local").stdout)
    assert json.loads(here.stdout)["count"] == 3


def test_a_replay_streams_lines_and_reports_on_stderr(env):
    done = run(env, "replay", "trades", "--symbol", "BHP", "-o", "json")
    assert [json.loads(line)["trade_id"] for line in done.stdout.splitlines()] == ["T0", "T1", "T2"]
    assert done.stderr.startswith("3 events in ")
    assert run(env, "replay", "trades").stdout.splitlines()[0].startswith("type,message_id,trade_id,")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["summary", "BHP", "2014-02-30", "--local"],
            2,
            "error: date is not a date: found '2014-02-30', expected a calendar date, YYYY-MM-DD.",
        ),
        (
            ["trades", "BHP"],
            2,
            ("error: The query service's address is not known, expected --url, K2_API_URL, or platform.yaml. Start a platform "
            "with `k2 up`, or ask the catalog itself with --local."),
        ),
        (["trades", "B\udcff", "--url", "http://127.0.0.1:9"], 2, "error: A parameter is no text: found '\\udcff', expected characters."),
        (["trades", "BHP", "--local", "--url", "http://x"], 2, "error: Both --local and --url are given, expected one of them."),
        (
            ["stats", "--url", "http://127.0.0.1:9"],
            1,
            ("error: The query service at http://127.0.0.1:9 does not answer: [Errno 111] Connection refused. Start it with "
            "`k2 up`, or ask the catalog itself with --local"),
        ),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_an_exit_code(env, arguments, code, message):
    if "--local" not in arguments:  # else the catalog answers where no service is known
        env = {name: value for name, value in env.items() if name != "K2_CATALOG_PROPERTIES"}
    done = run(env, *arguments)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", message)


def test_help_has_examples(env):
    assert "k2-query summary BHP 2014-03-10" in run(env, "--help").stdout
    assert "k2-query trades BHP --start" in run(env, "trades", "--help").stdout


@pytest.fixture
def service(env, tmp_path):
    """The service as its pod runs it; gives its URL and process."""
    (tmp_path / "keys.json").write_text(json.dumps([{"name": "t", "sha256": hashlib.sha256(b"key").hexdigest()}]))
    (tmp_path / "query.json").write_text(json.dumps({"api_keys_file": str(tmp_path / "keys.json")}))
    log = tmp_path / "query.log"
    code = (
        "from k2.api.serve import run_query; from k2.model.settings import settings; from k2.obs.logging import configure_logging;"
        "from k2.model.workload import QueryConfig, read_config; s = settings(); configure_logging(s);"
        "run_query(s, read_config(s.config_file, QueryConfig))"
    )
    given = env | {"K2_CONFIG_FILE": str(tmp_path / "query.json"), "K2_HTTP_PORT": "0"}
    with log.open("wb") as sink:
        process = subprocess.Popen([sys.executable, "-c", code], env=given, stderr=sink)
    deadline = time.monotonic() + 60
    url = None
    while url is None and time.monotonic() < deadline and process.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        url = next((line["url"] for line in lines if "url" in line), None)
        time.sleep(0.05)
    assert url, log.read_text()
    # The line is written when the port is known, a moment before it is listened on.
    eventually(lambda: ready(int(url.rpartition(":")[2])), "the service is ready")
    yield url, process, log
    process.kill()
    process.wait()


def test_the_service_answers_the_same_as_the_catalog_and_stops_well(env, service):
    url, process, log = service
    given = env | {"K2_API_URL": url, "K2_API_KEY": "key"}
    for arguments in (
        ["trades", "BHP", "-n", "2", "-o", "csv"],
        ["trades", "BHP", "-n", "2"],
        ["trades", "BHP", "-o", "json"],
        ["quotes", "BHP", "-o", "json"],
        ["summary", "BHP", "2014-03-10", "-o", "json"],
        ["symbols", "-o", "csv"],
        ["stats", "-o", "json"],
        ["snapshots"],
    ):
        remote, local = run(given, *arguments), run(env, *arguments, "--local")
        assert (remote.stdout, remote.returncode) == (local.stdout, 0), arguments
        assert remote.stderr == local.stderr
    refused = run(given | {"K2_API_KEY": "wrong"}, "stats")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: The API key is not known, expected a key that the service was given. Set K2_API_KEY; `k2 up` leaves one in "
        "the data directory.\n"
    )
    gone = run(given, "trades", "BHP", "--snapshot", "1")
    assert (gone.returncode, "does not have that snapshot" in gone.stderr) == (2, True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    answered = next(line for line in logged if line.get("path") == "/v1/trades")
    assert (answered["key"], len(answered["correlation_id"])) == ("t", 32)


def test_small_answers_are_not_delayed_by_the_network_stack(service):
    host = service[0].removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    took = []
    for _ in range(20):
        started = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        took.append(time.perf_counter() - started)
    connection.close()
    assert sorted(took)[5] < 0.035  # with Nagle's algorithm on, every one takes 40 ms
