"""Every symbol that can be loaded can be asked for in every way: over REST, the WebSocket, from Python and on the command line."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal

import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.query_process import query_process
from k2_testing.service import KEY, problem, serving
from k2_testing.ticks import OPEN, append_ticks

import k2
from k2.model.topics import DataType

NAMES = (
    "ETH/USD",
    "X/Y/Z",
    "C.D",
    ".",
    "..",
    "P,Q",
    "株式",
    "T U",
    "A%2FB",
    "1+1",
    "M&N=O",
    "#1?",
    '"it\'s"',
    "é" * 64,
)
DAY = "2014-03-10"
PRICES = {name: Decimal(number + 1) for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("symbols")
    lake = make_lake(made, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [{"timestamp": OPEN, "symbol": name, "price": price} for name, price in PRICES.items()])
    sides = {"bid_quantity": Decimal(1), "ask_quantity": Decimal(1)}
    before = OPEN - timedelta(seconds=1)
    quotes = [
        {"timestamp": before, "symbol": name, "bid_price": price, "ask_price": price} | sides
        for name, price in PRICES.items()
    ]
    append_ticks(lake, quotes, DataType.QUOTES)
    return made


@pytest.fixture(scope="module")
def client(folder):
    with serving(folder) as found:
        yield found


@pytest.fixture(scope="module")
def dbs(folder):
    (folder / "keys.json").write_text(
        json.dumps([{"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}])
    )
    with (
        query_process(folder) as port,
        k2.connect(f"http://127.0.0.1:{port}", key=KEY) as remote,
        k2.connect(catalog=catalog_properties(folder)) as local,
    ):
        yield remote, local


@pytest.mark.parametrize("name", NAMES)
def test_rest_answers_for_it_by_query_and_by_body(client, name):
    def prices(reply):
        assert reply.status_code == 200, reply.text
        rows = reply.json()["data"]
        assert {row["symbol"] for row in rows} <= {name}
        return [Decimal(row.get("price", row.get("bid_price", row.get("close", 0)))) for row in rows]

    expected = [PRICES[name]]
    for path in ("trades", "quotes", "asof", "bars"):
        assert prices(client.get(f"/v1/{path}", params={"symbol": name})) == expected, path
    for path in ("trades/query", "quotes/query", "aggregations"):
        assert prices(client.post(f"/v1/{path}", json={"symbols": [name]})) == expected, path
    replayed = client.post("/v1/replay", json={"symbols": [name], "tables": ["trades"]})
    assert prices(replayed) == expected
    summary = client.get("/v1/summary", params={"symbol": name, "date": DAY}).json()
    assert (summary["symbol"], Decimal(summary["close"])) == (name, PRICES[name])
    assert client.get("/v1/date-range", params={"symbol": name}).json()["symbol"] == name


def test_several_are_repeated_and_those_without_a_comma_may_be_listed(client):
    both = client.get("/v1/trades", params={"symbol": ["P,Q", "ETH/USD"], "symbols": ".,.."}).json()["data"]
    assert {row["symbol"] for row in both} == {"P,Q", "ETH/USD", ".", ".."}
    bars = client.get("/v1/bars", params={"symbol": ["P,Q", "."]}).json()["data"]
    assert [bar["symbol"] for bar in bars] == [".", "P,Q"]
    problem(client.get("/v1/bars"), 400)
    problem(client.get("/v1/summary", params={"symbol": "."}), 422)
    whole = client.get("/v1/trades", params={"symbol": NAMES, "limit": 3}).json()
    after = client.get("/v1/trades", params={"symbol": NAMES, "page_token": whole["next_page"]}).json()
    assert len(whole["data"]) + len(after["data"]) == len(NAMES)


@pytest.mark.parametrize("side", [0, 1], ids=["a service", "a catalog"])
def test_python_answers_for_it(dbs, side):
    db = dbs[side]
    assert {row["symbol"] for row in db.symbols().rows()} == set(NAMES)
    since = next(iter(db.snapshots().rows()))["snapshot_id"]
    for name in NAMES:
        assert db.diff("trades", since, symbols=name).arrow().num_rows == 0
        assert db.asof([name]).arrow()["bid_price"].to_pylist() == [PRICES[name]]
        assert db.trades(name).arrow()["price"].to_pylist() == [PRICES[name]]
        assert db.quotes(name).arrow()["bid_price"].to_pylist() == [PRICES[name]]
        assert db.bars(name, date=DAY).arrow()["close"].to_pylist() == [PRICES[name]]
        assert db.summary(name, DAY).close == PRICES[name]
        with db.replay(name) as playback:
            assert sum(batch.num_rows for batch in playback) == 2
    assert db.trades(list(NAMES)).arrow().num_rows == len(NAMES)


def test_the_command_line_answers_for_it(folder):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    env = clean | {"K2_CATALOG_PROPERTIES": json.dumps(catalog_properties(folder)), "K2_DATA_DIR": str(folder)}

    def run(*arguments):
        command = [sys.executable, "-c", "from k2.cli_query import main; main()", *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)

    assert [row["symbol"] for row in run("trades", "P,Q", "ETH/USD", "-o", "json")["data"]] == ["ETH/USD", "P,Q"]
    assert run("summary", "..", DAY, "-o", "json")["symbol"] == ".."
