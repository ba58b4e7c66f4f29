"""`k2.connect` against a real service process and against its catalog: the same answers, typed, however they are taken."""

import ast
import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from k2_testing.companies import append_reference, company, dividend, split
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.query_process import free_port, query_process, start
from k2_testing.ticks import append_ticks, at

import k2
from k2.client import DaySummary, TruncatedWarning
from k2.model.errors import UserError, WorldError
from k2.model.topics import DataType

KEY = "secret-key"
OPEN = at("2014-03-09T23:00:00")  # 10:00 in Sydney
ROWS = 60_000
DAY = date(2014, 3, 10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trades of two symbols every tenth of a second, a quote of BHP before every hundredth; one more trade, later."""
    made = tmp_path_factory.mktemp("client")
    lake = make_lake(made, *DataType)
    trades = [
        {
            "timestamp": OPEN + timedelta(milliseconds=100 * n),
            "symbol": ("BHP", "CBA")[n % 2],
            "price": Decimal(10 + n % 7),
            "quantity": Decimal(n % 5 + 1),
        }
        for n in range(ROWS)
    ]
    quote = {"bid_price": Decimal(12), "ask_price": Decimal(14), "bid_quantity": Decimal(1), "ask_quantity": Decimal(2)}
    append_ticks(lake, trades)
    append_ticks(
        lake,
        [each | quote | {"timestamp": each["timestamp"] - timedelta(milliseconds=50)} for each in trades[::100]],
        DataType.QUOTES,
    )
    append_reference(
        lake, [company("1", "BHP", "2000-01-03"), dividend("1", "2014-03-10", "0.5"), split("1", "2014-03-11", "2")]
    )
    append_reference(lake, [dividend("1", "2014-03-10", "0.6")], days=1)
    append_ticks(lake, [{"timestamp": OPEN + timedelta(hours=3), "symbol": "RIO", "trade_id": "late"}])
    (made / "keys.json").write_text(json.dumps([{"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]))
    return made


@pytest.fixture(scope="module")
def url(folder):
    with query_process(folder) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def remote(url):
    with k2.connect(url, key=KEY) as db:
        yield db


@pytest.fixture(scope="module")
def local(folder):
    with k2.connect(catalog=catalog_properties(folder)) as db:
        yield db


@pytest.fixture(params=["remote", "local"])
def db(request):
    return request.getfixturevalue(request.param)


def ask_all(db):
    """One of each question that gives rows."""
    first = db.snapshots().arrow()["snapshot_id"].to_pylist()[-1]
    return {
        "trades": db.trades("BHP", start=OPEN, end=OPEN + timedelta(seconds=5)),
        "fields": db.trades(["BHP", "CBA"], fields=["symbol", "price"], limit=7),
        "quotes": db.quotes("BHP", limit=3),
        "bars": db.bars("BHP", date=DAY, interval="15m", session="regular", empty="carry"),
        "two": db.bars(["BHP", "CBA"], start=OPEN, end=OPEN + timedelta(minutes=3)),
        "asof": db.asof("BHP", limit=50, lookback="30s"),
        "adjusted": db.trades("BHP", adjusted="all", limit=7),
        "adjusted bars": db.bars("BHP", date=DAY, interval="15m", adjusted="splits"),
        "adjusted asof": db.asof("BHP", limit=50, adjusted="all"),
        "reference": db.reference("BHP", kind="dividend", history=True),
        "company": db.reference(company_id="1", kind=["company"], date=DAY),
        "diff": db.diff("trades", first, fields=["trade_id"]),
        "symbols": db.symbols(),
        "snapshots": db.snapshots(),
        "all": db.trades(),  # the last: nobody reads it while the others are asked
    }


def test_a_service_and_its_catalog_give_the_same(remote, local):
    there, here = ask_all(remote), ask_all(local)
    for name, answer in there.items():
        assert answer.arrow() == here[name].arrow(), name
        assert answer.arrow().num_rows, name
        assert (answer.more, answer.snapshot_id) == (here[name].more, here[name].snapshot_id), name
        assert answer.complete_until == here[name].complete_until, name
    for name in (
        "trades",
        "all",
        "fields",
        "quotes",
        "bars",
        "two",
        "asof",
        "diff",
        "reference",
        "company",
    ):
        assert there[name].envelope == here[name].envelope, name
    # When each of the two was asked is told with the factors, and differs.
    said, found = (each["adjusted"].envelope["adjusted"] for each in (there, here))
    assert said | {"until": found["until"]} == found
    assert there["bars"].envelope["time_zones"] == {"ASX": "Australia/Sydney"}
    assert there["all"].arrow().num_rows == ROWS + 1
    assert there["fields"].more
    assert there["diff"].arrow().to_pylist() == [{"trade_id": "late"}]
    assert remote.summary("BHP", DAY) == local.summary("BHP", DAY)
    assert remote.summary("BHP", DAY).calendar == there["bars"].envelope["calendars"]["ASX"]
    halved = [db.summary("BHP", DAY, adjusted="splits").close for db in (remote, local)]
    assert halved == [local.summary("BHP", DAY).close / 2] * 2
    assert there["adjusted"].envelope["adjusted"]["events"] == 1
    assert remote.audit("trades")["tables"][0]["ok"] == local.audit("trades")["tables"][0]["ok"]
    sequences = [db.audit("trades", sequences="exchange")["tables"][0]["sequences"] for db in (remote, local)]
    assert sequences[0] == sequences[1]
    assert remote.stats()["tables"][0]["rows"] == ROWS + 1


def test_values_are_pythons_and_exact(db):
    found = db.summary("BHP", "2014-03-10")
    assert isinstance(found, DaySummary)
    assert (found.open, found.high, found.trade_count) == (Decimal(10), Decimal(16), ROWS // 2)
    assert found.first_time == datetime(2014, 3, 9, 23, tzinfo=UTC)
    answer = db.trades("BHP", limit=3)
    frame = answer.pl()
    assert frame["price"].to_list() == [Decimal(10), Decimal(12), Decimal(14)]
    assert str(frame["timestamp"].dtype) == "Datetime(time_unit='us', time_zone='UTC')"
    assert answer.df()["price"].tolist() == [Decimal(10), Decimal(12), Decimal(14)]
    assert [row["symbol"] for row in answer.rows()] == ["BHP"] * 3
    assert "3 rows" in repr(answer)


def test_rows_come_in_batches_once_and_stay_where_they_are_kept(db):
    answer = db.trades(["BHP", "CBA"])
    assert "not read yet" in repr(answer)
    batches = list(answer)
    assert len(batches) > 1
    assert sum(batch.num_rows for batch in batches) == ROWS
    assert (answer.envelope["count"], answer.more) == (ROWS, False)
    with pytest.raises(UserError, match="were read already"):
        list(answer)
    kept = db.trades("BHP", limit=5)
    kept.arrow()
    assert [sum(batch.num_rows for batch in kept) for _ in range(2)] == [5, 5]
    for _ in db.trades():  # left in the middle: the next question is answered all the same
        break
    assert db.trades("BHP", limit=1).arrow().num_rows == 1


def test_an_answer_that_was_cut_unasked_is_told_of(db, monkeypatch):
    monkeypatch.setattr("k2.client.connection._MOST_JOINED", 10)
    with pytest.warns(TruncatedWarning, match="more rows than the 10"):
        assert db.asof("BHP").arrow().num_rows == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert db.asof("BHP", limit=10).more


def test_a_pin_keeps_what_was_seen(db):
    with db.pin(ttl=timedelta(minutes=5), tables=["trades"]) as pin:
        assert [each.id for each in db.pins()] == [pin.id]
        assert pin.snapshots["trades"] == db.trades("RIO", pin=pin).snapshot_id
        assert pin.until > datetime.now(UTC)
        (replayed,) = db.replay("RIO", pin=pin, tables=["trades"])
        assert replayed["trade_id"].to_pylist() == ["late"]
    assert db.pins() == []
    with pytest.raises(UserError):
        db.trades("RIO", pin=pin)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda db: db.trades("BHP", limit=0), "limit cannot be used|limit: "),
        (lambda db: db.trades("BHP", start="never"), "start is not a time"),
        (lambda db: db.trades("BHP", snapshot="17"), "17"),
        (lambda db: db.bars("BHP", interval="2m"), "interval"),
        (lambda db: db.summary("NONE", DAY), "no trades of NONE"),
        (lambda db: db.replay(cursor="x"), "Not a cursor of a replay"),
        (lambda db: db.replay(speed=-1.0), "speed cannot be used"),
        (lambda db: db.trades("\udcff"), "Not a symbol|is no text"),
        (lambda db: db.bars("\udcff"), "Not a symbol"),
        (lambda db: db.quotes(exchange="\udcff"), "Not an exchange's code|is no text"),
        (lambda db: db.replay("\udcff"), "Not a symbol|is no text"),
    ],
)
def test_what_the_asker_can_mend_is_their_error_at_once(db, ask, message):
    with pytest.raises(UserError, match=message):
        ask(db)


def test_a_wrong_key_an_empty_port_and_a_server_of_another_kind_are_told_apart(url):
    with k2.connect(url, key="wrong") as db:
        with pytest.raises(UserError, match="Set K2_API_KEY"):
            db.trades("BHP")
        with pytest.raises(UserError, match="Set K2_API_KEY"):
            db.replay()
    with k2.connect(f"http://127.0.0.1:{free_port()}", key=KEY) as db:
        with pytest.raises(WorldError, match="does not answer"):
            db.trades("BHP")
        with pytest.raises(WorldError, match="does not stream"):
            db.replay()
    with k2.connect(f"{url}/metrics?", key=KEY) as db, pytest.raises((UserError, WorldError)):
        db.stats()
    with pytest.raises(UserError, match="Both a service and a catalog"):
        k2.connect(url, catalog={})


def told(batches):
    return [(kind, number) for batch in batches for kind, number in _of(batch)]


def _of(batch):
    return zip(batch["type"].to_pylist(), batch["timestamp"].cast(pa.int64()).to_pylist(), strict=True)


def test_a_replay_is_the_same_from_both_and_goes_on_from_its_cursor(remote, local):
    whole = told(remote.replay(batch_rows=5_000))
    assert len(whole) == ROWS + 1 + ROWS // 100
    assert whole == sorted(whole, key=lambda each: each[1])
    assert whole == told(local.replay(batch_rows=777))
    for here, there in ((remote, local), (local, remote)):
        begun = here.replay("BHP", batch_rows=1_000)
        first = told([next(begun)])
        begun.close()
        assert list(begun) == []
        rest = told(there.replay(cursor=begun.cursor))
        assert first + rest == told(local.replay("BHP"))


def test_a_replay_keeps_time_and_obeys(db):
    for _ in range(10):  # the machine may stand still in some of them
        began, rows = time.monotonic(), 0
        with db.replay("CBA", tables=["trades"], rate=2_000, batch_rows=100) as played:
            while rows < 1_000:
                rows += next(played).num_rows
            seconds = time.monotonic() - began
        assert seconds >= 899 / 2_000
        if seconds < 1.5:
            break
    else:
        pytest.fail(f"a thousand rows took {seconds:.1f} s")
    with db.replay("CBA", tables=["trades"], rate=2_000, batch_rows=100) as played:
        assert next(played).num_rows
        played.seek("2014-03-10T00:00:00Z")
        assert next(played)["timestamp"][0].as_py() >= datetime(2014, 3, 10, tzinfo=UTC)
        heard = when_it_hears_of_a_pause(played)
        played.pause()
        got = []
        reader = threading.Thread(target=lambda: got.extend(next(played) for _ in range(40)))
        reader.start()
        assert heard.wait(60)
        held = len(got)
        time.sleep(0.7)
        assert len(got) <= held + ON_THE_WAY
        played.resume()
        played.change_pace()
        reader.join(120)
        assert len(got) == 40


ON_THE_WAY = 4
"""Batches that were made or queued when a service heard of a pause."""


def when_it_hears_of_a_pause(played):
    """Set when the service has answered; in this process a pause holds at once."""
    heard = threading.Event()
    answered = getattr(played, "_heard", None)
    if answered is None:
        heard.set()
    else:

        def noted(said):
            answered(said)
            if said.get("command") == "pause":
                heard.set()

        played._heard = noted
    return heard


def test_a_replay_outlives_the_service(folder):
    """Killed twice while it plays, started again on the same port: each event comes once."""
    port = free_port()
    process = start(folder, port)
    found, killed = [], []
    try:
        with k2.connect(f"http://127.0.0.1:{port}", key=KEY) as db, db.replay(batch_rows=500) as played:
            for batch in played:
                found.append(batch)
                time.sleep(0.005)
                if len(found) in (20, 60):
                    process.send_signal(signal.SIGKILL)
                    process.wait(90)
                    killed.append(len(found))
                    process = start(folder, port)
    finally:
        process.terminate()
        process.wait(90)
    assert killed == [20, 60]
    rows = pa.Table.from_batches(found)
    assert rows.num_rows == ROWS + 1 + ROWS // 100
    with k2.connect(catalog=catalog_properties(folder)) as db:
        assert told(found) == told(db.replay())


def test_a_service_that_stays_away_ends_a_replay_with_its_cursor(folder):
    port = free_port()
    process = start(folder, port)
    try:
        with k2.connect(f"http://127.0.0.1:{port}", key=KEY) as db:
            played = db.replay(batch_rows=500, rate=500)
            played._patience = 1.0
            first = [next(played)]
            process.kill()
            with pytest.raises(WorldError, match="could not be resumed") as caught:
                first.extend(played)
    finally:
        process.kill()
        process.wait(90)
    assert played.cursor in str(caught.value)
    with k2.connect(catalog=catalog_properties(folder)) as db:
        assert told(first) + told(db.replay(cursor=played.cursor)) == told(db.replay())


@pytest.mark.parametrize("kind", ["remote", "local"])
def test_asyncio_has_all_of_it(kind, url, folder):
    async def ask():
        given = {"url": url, "key": KEY} if kind == "remote" else {"catalog": catalog_properties(folder)}
        async with k2.connect_async(**given) as db:
            answers = await asyncio.gather(*(db.trades(symbol, limit=10) for symbol in ("BHP", "CBA")))
            tables = [await each.arrow() for each in answers]
            rows = 0
            async for batch in await db.trades():
                rows += batch.num_rows
            summary = await db.summary("BHP", DAY)
            async with await db.replay("RIO") as played:
                replayed = [batch.num_rows async for batch in played]
            pin = await db.pin(ttl=timedelta(minutes=2))
            await db.release(pin)
            return tables, rows, summary.trade_count, replayed, (await (await db.quotes(limit=2)).pl()).height

    tables, rows, count, replayed, quotes = asyncio.run(ask())
    assert [table["symbol"].to_pylist() for table in tables] == [["BHP"] * 10, ["CBA"] * 10]
    assert (rows, count, replayed, quotes) == (ROWS + 1, ROWS // 2, [1], 2)


def test_the_examples_of_the_manual_run(db):
    text = (Path(__file__).parents[2] / "docs/python.md").read_text()
    asked = []
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        if "…" in block:  # what is left out is for the reader to say
            asked += [line for line in block.splitlines() if "…" not in line]
        else:
            asked += [
                ast.get_source_segment(block, each) for each in ast.parse(block).body if isinstance(each, ast.Expr)
            ]
    examples = [example for example in asked if example.startswith("db.")]
    assert len(examples) >= 7
    for example in examples:
        told = refusal(example, {"db": db, "Decimal": Decimal})
        # A summary of what was not traded here: the manual's prices are those of real markets.
        assert not told or (example.startswith("db.summary(") and "has no trades of BHP on ASX" in told), (
            example,
            told,
        )


def refusal(example, names):
    """What is wrong with the question; empty where it is answered."""
    try:
        eval(example, names)
    except UserError as error:
        return str(error)
    return ""


def test_what_a_remote_client_needs_is_little(url):
    """No engine, no catalog, no service and no Kafka is loaded by one who only asks a URL."""
    code = (
        "import sys, k2\n"
        f"db = k2.connect({url!r}, key={KEY!r})\n"
        "assert db.trades('BHP', limit=2).pl().height == 2\n"
        "assert next(db.replay('RIO')).num_rows == 1\n"
        "print(sorted(set(sys.modules) & {'duckdb', 'fastapi', 'starlette', 'pyiceberg', 'confluent_kafka', 'kopf'}))\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, timeout=120, check=False
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
