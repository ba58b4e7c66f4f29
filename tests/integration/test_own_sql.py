"""Somebody's own SQL over a lake: every table at one moment, DuckDB's whole language, and errors that say what there is."""

import asyncio
import json
import re
import shlex
import signal
import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2_testing.deleting import data_files, delete_equal, delete_positions
from k2_testing.lake import TRADES, catalog_properties, list_columns, make_lake
from k2_testing.ticks import OPEN, append_ticks, trade
from typer.testing import CliRunner

import k2
from k2.cli import app
from k2.cli_query.own_sql import EXAMPLES
from k2.client.asynchronous import AsyncConnection
from k2.client.protocol import SqlAsking
from k2.client.remote import Remote
from k2.lake.catalog import open_named
from k2.lake.reader import TableReader
from k2.lake.tables import ensure_table
from k2.model.errors import DamagedError, UserError
from k2.model.settings import Settings
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType
from k2.query.asked.requests import CURRENT
from k2.query.plan.planner import Planner
from k2.query.plan.views import all_named, mentioned, views_at
from k2.query.rows.errors import SnapshotGoneError, SqlError, TooLargeError

QUOTES = "market_data.quotes"
PAGE = Path(__file__).parents[2] / "docs" / "sql.md"
COUNT = "SELECT count(*) AS n FROM trades"


def lake_in(folder):
    """Trades of two symbols every tenth of a second, a quote of BHP before every tenth of them."""
    lake = make_lake(folder, *DataType)
    trades = [trade(n / 10, str(10 + n % 7), str(n % 5 + 1), symbol=("BHP", "CBA")[n % 2]) for n in range(2_000)]
    append_ticks(lake, trades)
    sides = {"bid_price": Decimal(12), "ask_price": Decimal(14), "bid_quantity": Decimal(1), "ask_quantity": Decimal(2)}
    moments = [each["timestamp"] - timedelta(milliseconds=50) for each in trades[::10]]
    append_ticks(lake, [sides | {"timestamp": each} for each in moments], DataType.QUOTES)
    return lake


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sql")
    lake_in(made)
    return made


@pytest.fixture(scope="module")
def db(folder):
    with k2.connect(catalog=catalog_properties(folder)) as opened:
        yield opened


@pytest.fixture
def catalog(folder, monkeypatch, tmp_path):
    """The environment of one who has the catalog."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog_properties(folder)))


def value(db, query, *values, **options):
    """The one value of an answer."""
    ((found,),) = (row.values() for row in db.sql(query, *values, **options).arrow().to_pylist())
    return found


def test_a_view_has_the_rows_and_types_of_the_question(db):
    ours = db.trades("BHP").arrow()
    names = ", ".join(f'"{name}"' for name in ours.schema.names)
    theirs = db.sql(f"SELECT {names} FROM trades WHERE symbol = 'BHP' ORDER BY timestamp, kafka_offset")
    assert theirs.snapshot_id == db.trades("BHP", limit=1).snapshot_id
    assert theirs.arrow().cast(ours.schema) == ours
    assert theirs.complete_until == "2014-03-09T23:03:19.900000Z"


def test_an_asof_join_of_ones_own_gives_the_quotes_that_prevailed(db):
    ours = db.asof("BHP", limit=1_000, fields=["timestamp", "trade_id", "bid_price", "ask_price"]).arrow()
    theirs = db.sql(
        """WITH bhp AS (FROM trades WHERE symbol = 'BHP')
        SELECT t.timestamp, t.trade_id, q.bid_price, q.ask_price
        FROM bhp t ASOF LEFT JOIN quotes q ON t.symbol = q.symbol AND t.timestamp > q.timestamp
        ORDER BY t.timestamp, t.kafka_offset"""
    )
    assert theirs.arrow().cast(ours.schema) == ours
    assert set(theirs.envelope["views"]) == {"trades", "quotes"}
    assert theirs.snapshot_id is None


def test_every_table_of_the_namespace_has_a_view_and_several_of_a_kind_are_one(tmp_path):
    lake = lake_in(tmp_path)
    kind = builtin_table(DataType.TRADES)
    for name in ("trades_old", "strange name"):
        ensure_table(lake, kind.__class__(**{**_fields(kind), "identifier": f"market_data.{name}"}))
    append_ticks(lake, [trade(9_000, symbol="OLD")], identifier="market_data.trades_old")
    tables = {"trades": [TRADES, "market_data.trades_old"]}
    with k2.connect(catalog=catalog_properties(tmp_path), tables=tables) as db:
        shown = db.sql("SHOW TABLES").arrow()["name"].to_pylist()
        assert shown == sorted([*DataType, "strange name", "trades_old"])
        assert value(db, COUNT) == 2_001
        assert value(db, "SELECT count(*) FROM trades_old") == 1
        assert value(db, 'SELECT count(*) FROM "strange name"') == 0
        assert value(db, "SELECT max(symbol) FROM TRADES") == "OLD"


def _fields(spec):
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}


def test_rows_that_another_engine_deleted_are_not_there_and_old_files_have_new_columns(tmp_path):
    lake = make_lake(tmp_path)
    append_ticks(lake, [trade(n, str(n + 1)) for n in range(6)])
    table = lake.load_table(TRADES)
    (file,) = data_files(table)
    delete_positions(table, [(file.file_path, 1)], file)
    delete_equal(lake.load_table(TRADES), {"trade_id": ["T3", "T4"]}, file)
    list_columns(lake, TableColumn("venue_id", "long"))
    append_ticks(lake, [trade(10, "9", venue_id=7)])
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        found = db.sql("SELECT price::INT AS price, venue_id FROM trades ORDER BY timestamp").arrow().to_pydict()
    assert found == {"price": [1, 3, 6, 9], "venue_id": [None, None, None, 7]}


def test_a_time_a_snapshot_and_a_pin_choose_what_is_read_and_the_others_are_as_they_were_then(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [trade()], DataType.QUOTES)
    first = append_ticks(lake, [trade()])
    committed = lake.load_table(TRADES).metadata.snapshots[-1].timestamp_ms
    both = "SELECT (SELECT count(*) FROM trades) * 10 + (SELECT count(*) FROM quotes)"
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        pin = db.pin()
        append_ticks(lake, [trade(1)])
        append_ticks(lake, [trade(1)], DataType.QUOTES)
        assert value(db, both) == 22
        assert (
            value(db, both, snapshot=first) == value(db, both, as_of=f"{committed}ms") == value(db, both, pin=pin) == 11
        )
        with pytest.raises(SnapshotGoneError, match="No table here has that snapshot"):
            db.sql(both, snapshot=12345)
        with pytest.raises(SnapshotGoneError, match="is not retained"):
            db.sql(both, as_of="2001-01-01")
        with pytest.raises(SnapshotGoneError, match="The pin does not hold"):
            db.sql(both, pin="0123456789abcdef")


class CommittedBetween(TableReader):
    """A reader after whose looks at the trades both tables get another row, a few times: never both in one look."""

    def __init__(self, folder, times):
        super().__init__(lambda: open_named("k2", catalog_properties(folder)))
        self.folder, self.times = folder, times

    def state(self, identifier):
        found = super().state(identifier)
        if identifier == TRADES and self.times:
            self.times -= 1
            lake = open_named("k2", catalog_properties(self.folder))
            append_ticks(lake, [trade()])
            append_ticks(lake, [trade()], DataType.QUOTES)
        return found


def test_tables_that_change_while_one_looks_are_read_at_a_moment_at_which_all_were_so(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [trade()])
    append_ticks(lake, [trade()], DataType.QUOTES)
    reader = CommittedBetween(tmp_path, 3)
    planner = Planner(reader, {DataType.TRADES: TRADES, DataType.QUOTES: QUOTES})
    named = list(all_named(planner).values())
    # One look alone would have the trades of before and the quotes of after.
    assert reader.state(TRADES).current_id != lake.load_table(TRADES).current_snapshot().snapshot_id
    views, problems = views_at(planner, named, CURRENT)
    rows = {view.name: view.relation.most_rows for view in views}
    assert (rows["trades"], problems) == (rows["quotes"], {})
    assert rows["trades"] == 4


def test_only_what_a_text_names_is_planned_unless_it_lists_tables(folder):
    reader = TableReader(lambda: open_named("k2", catalog_properties(folder)))
    known = all_named(Planner(reader, {DataType.TRADES: TRADES, DataType.QUOTES: QUOTES}))
    named = lambda text: {each.name for each in mentioned(text, known)}  # noqa: E731
    assert named("from Trades t") == {"trades"}
    assert named("select * from trades_x, quotes") == {"quotes"}
    assert named("show tables") == named("select 1") == named("select 'trades' from duckdb_tables()") == set(known)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT * FROM trdes", ["trdes does not exist", "LINE 1", "Did you mean", "Tables here: trades, quotes, "]),
        (
            "SELECT * FROM trades JOIN nothing USING (symbol)",
            ["nothing does not exist", "Tables here: trades, quotes, "],
        ),
        ("SELECT prce FROM trades", ['"prce" not found', '"price"', "Columns of trades: message_id, trade_id, symbol"]),
        ("SELECT t.prce FROM trades t", ["prce", "Columns of trades: message_id"]),
        ("SELEC 1", ['syntax error at or near "SELEC"', "LINE 1: SELEC 1\n        ^"]),
        ("SELECT 'x'::INT", ["Could not convert string 'x'"]),
        ("SELECT * FROM 'nowhere.csv'", ['No files found that match the pattern "nowhere.csv"']),
        ("-- nothing", ["only comments"]),
        ("SELECT price FROM trades WHERE error(symbol)::BOOL", ["BHP"]),
        (
            "SELECT (price + 9999999900)::DECIMAL(18, 8) * quantity FROM trades",
            ["Overflow in multiplication", "price::DECIMAL(28, 8)"],
        ),
    ],
)
def test_sql_that_is_wrong_is_told_in_duckdbs_words_with_what_there_is(db, query, told):
    with pytest.raises(SqlError) as refused:
        db.sql(query).arrow()
    said = str(refused.value)
    assert [each for each in told if each not in said] == []
    assert "pg_" not in said
    assert value(db, COUNT) == 2_000  # the database is none the worse


def test_no_text_and_a_frame_with_a_tables_name_are_refused(db):
    with pytest.raises(UserError, match="There is no SQL"):
        db.sql(" \n")
    with pytest.raises(UserError, match="frames has the name of a table"):
        db.sql(COUNT, frames={"trades": pl.DataFrame({"x": [1]})})
    with pytest.raises(UserError, match="limit cannot be used"):
        db.sql(COUNT, limit=0)


def test_a_file_that_is_gone_is_named_and_is_no_fault_of_the_sql(tmp_path):
    lake = lake_in(tmp_path)
    (file,) = data_files(lake.load_table(TRADES))
    Path(file.file_path.removeprefix("file://")).unlink()
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        with pytest.raises(DamagedError, match=r"file data/.*parquet of the table, which is missing"):
            db.sql("SELECT sum(price) FROM trades").arrow()
        assert value(db, "SELECT count(*) FROM quotes") == 200


def test_more_memory_than_the_limit_is_refused_and_a_statement_may_raise_it(folder):
    with k2.connect(catalog=catalog_properties(folder)) as db:
        with pytest.raises(TooLargeError, match="SET memory_limit"):
            db.sql("SET memory_limit = '30MB'; SELECT len(list(hash(i))) FROM range(20_000_000) t(i)").arrow()
        assert value(db, "SELECT current_setting('memory_limit')") == "28.6 MiB"


def test_frames_values_files_and_what_a_statement_made_are_there_beside_the_tables(db, tmp_path):
    weights = {"symbol": ["BHP", "CBA"], "weight": [1, 3]}
    joined = "SELECT sum(weight)::INT FROM trades JOIN mine USING (symbol)"
    for frame in (pl.DataFrame(weights), pd.DataFrame(weights), pa.table(weights)):
        assert value(db, joined, frames={"mine": frame}) == 4_000
    assert value(db, f"{COUNT} WHERE symbol = ? AND price > ?", ["BHP", 15]) == 143
    assert value(db, f"{COUNT} WHERE symbol = $s", {"s": "CBA"}) == 1_000
    pq.write_table(pa.table(weights), tmp_path / "w.parquet")
    assert value(db, f"SELECT sum(weight)::INT FROM trades JOIN '{tmp_path}/w.parquet' USING (symbol)") == 4_000
    db.sql(f"COPY (FROM trades LIMIT 3) TO '{tmp_path}/out.csv'").close()
    assert (tmp_path / "out.csv").read_text().count("\n") == 4
    assert value(db, "CREATE TABLE few AS FROM trades LIMIT 5; SELECT count(*) FROM few") == 5
    assert value(db, "SELECT count(*) FROM few") == 5
    with pytest.raises(SqlError, match="mine does not exist"):
        db.sql("FROM mine")


def test_frames_are_joined_by_their_times_whatever_zone_they_have(db):
    moments = db.sql("SELECT timestamp AS moment, price FROM trades ORDER BY timestamp LIMIT 3")
    rows = moments.arrow()
    query = "SELECT count(*) FROM trades JOIN mine ON trades.timestamp = mine.moment WHERE mine.moment > TIMESTAMPTZ '2001-01-01'"
    sydney = rows.set_column(0, "moment", rows["moment"].cast(pa.timestamp("ns", "Australia/Sydney")))
    for frame in (rows, sydney, pl.from_arrow(rows), rows.to_pandas().set_index("price")):
        assert value(db, query, frames={"mine": frame}) == 3
    assert db.sql("FROM mine", frames={"mine": sydney}).arrow()["moment"] == rows["moment"]
    with pytest.raises(UserError, match="The frame mine cannot be read"):
        db.sql("FROM mine", frames={"mine": 7})


def test_times_are_utc_and_columns_of_one_name_are_told_apart(db):
    found = db.sql("SELECT min(timestamp) AS a, 1 AS a, date_trunc('day', min(timestamp)) AS a FROM trades").arrow()
    assert found.schema.names == ["a", "a_1", "a_2"]
    assert found["a"].type == pa.timestamp("us", "UTC")
    assert found["a_2"][0].as_py().isoformat() == "2014-03-09T00:00:00+00:00"


def test_a_limit_says_whether_there_is_more_and_floats_are_floats(db):
    few = db.sql("FROM trades", limit=10, price_type="float")
    assert (few.arrow().num_rows, few.more, few.arrow()["price"].type) == (10, True, pa.float64())
    every = db.sql("FROM trades", limit=2_000)
    assert (every.arrow().num_rows, every.more) == (2_000, False)


def test_rows_come_in_batches_and_one_who_stops_reading_stops_the_query(db):
    answer = db.sql("SELECT t.price FROM trades t, trades u, trades v")  # 8e9 rows
    first = next(iter(answer))
    answer.close()
    assert 0 < first.num_rows <= 65_536
    assert not [each for each in threading.enumerate() if each.name.startswith("k2-sql")]


def test_one_who_waits_is_told_and_ctrl_c_stops_the_query(folder):
    told = []

    def interrupt(percent):
        told.append(percent)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with k2.connect(catalog=catalog_properties(folder)) as db:
            endless = "SELECT count(*) FROM trades a, trades b, trades c, trades d WHERE hash(a, b, c, d) = 0"
            with pytest.raises(KeyboardInterrupt):
                db._client.sql(endless, {}, SqlAsking(told=interrupt))
            assert len(told) == 1
            assert 0 <= told[0] <= 100
            assert value(db, COUNT) == 2_000
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [each for each in threading.enumerate() if each.name.startswith("k2-sql")]


def test_it_is_awaited_too(db):
    async def ask():
        answer = await AsyncConnection(db).sql(COUNT)
        return (await answer.arrow()).to_pylist()

    assert asyncio.run(ask()) == [{"n": 2_000}]


def test_a_service_refuses_and_says_why_and_what_to_do():
    with Remote(Settings(api_url="http://127.0.0.1:9")) as service, pytest.raises(UserError) as refused:
        service.sql(COUNT, {}, SqlAsking())
    assert "no walls inside" in str(refused.value)
    assert "k2.connect(local=True)" in str(refused.value)


def invoke(*words, given=None):
    return CliRunner().invoke(app, ["sql", *words], input=given)


def test_the_command_prints_in_every_form_and_says_from_where(catalog, tmp_path):
    query = "SELECT symbol, count(*) AS n, [1, 2] AS l, {'a': 1} AS s, INTERVAL 90 MINUTE AS i, NULL::VARCHAR AS x, "
    query += "TIMESTAMP_NS '2020-01-01 00:00:00.000000001' AS t FROM trades GROUP BY symbol ORDER BY symbol"
    shown = invoke(query)
    assert shown.exit_code == 0, shown.output
    assert "BHP     1000  [1,2]" in shown.stdout
    assert re.search(
        r"trades: market_data.trades at \d+ \(.*Z\), complete until 2014-03-09T23:03:19.900000Z", shown.stderr
    )
    (tmp_path / "q.sql").write_text(query)
    csv = invoke("--file", "q.sql", "-o", "csv").stdout.splitlines()
    assert csv[1] == 'BHP,1000,"[1,2]","{""a"": 1}",P0M0DT5400S,,2020-01-01 00:00:00.000000001'
    said = json.loads(invoke("-", "-o", "json", given=query).stdout)
    assert said["data"][0] | {"i": 0, "t": 0} == {
        "symbol": "BHP",
        "n": 1000,
        "l": [1, 2],
        "s": {"a": 1},
        "i": 0,
        "x": None,
        "t": 0,
    }
    assert (said["count"], said["more"], list(said["views"])) == (2, False, ["trades"])
    assert len(invoke(query, "-o", "ndjson").stdout.splitlines()) == 2
    made = pq.read_table(pa.BufferReader(invoke("FROM trades", "-o", "parquet").stdout_bytes))
    assert made.num_rows == 2_000
    assert pa.ipc.open_stream(invoke("FROM trades", "-o", "arrow").stdout_bytes).read_all().num_rows == 2_000


def test_a_table_has_a_thousand_rows_and_says_that_there_are_more(catalog):
    shown = invoke("SELECT trade_id FROM trades")
    assert len(shown.stdout.splitlines()) == 1_001
    assert "the first 1,000 only: there are more (--limit)" in shown.stderr
    assert len(invoke("SELECT trade_id FROM trades", "-o", "csv").stdout.splitlines()) == 2_001
    assert len(invoke("SELECT trade_id FROM trades", "-o", "csv", "-n", "5").stdout.splitlines()) == 6


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "There is no SQL"),
        (["FROM trades", "--file", "x.sql"], "Both SQL and --file are given"),
        (["--file", "missing.sql"], "The file of SQL cannot be read"),
        (["SELECT INTERVAL 1 DAY AS i", "-o", "parquet"], "Parquet has no intervals"),
        (["FROM trades", "--as-of", "yesterday"], "as_of"),
    ],
)
def test_a_command_that_cannot_be_run_says_so(catalog, words, told):
    failed = invoke(*words)
    assert isinstance(failed.exception, UserError)
    assert told in str(failed.exception)


def test_every_example_of_the_help_and_of_the_page_runs(catalog, db, monkeypatch):
    page = PAGE.read_text()
    lines = [
        line.strip() for line in (EXAMPLES + "\n" + page).splitlines() if re.match(r"    (\$ )?(echo .*)?k2 sql ", line)
    ]
    assert len(lines) >= 9
    Path("report.sql").write_text(COUNT)
    for line in dict.fromkeys(lines):  # each once: a file that is there is not written again
        given, words = _words(line.removeprefix("$ "))
        done = invoke(*words, given=given)
        refused = isinstance(done.exception, SqlError) and "simbol" in line
        assert done.exit_code == 0 or refused, (line, done.output, done.exception)
    names = {"db": db, "pl": pl, "k2": k2}
    monkeypatch.setattr(k2, "connect", lambda **_: db, raising=False)
    for code in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        exec(compile(code, PAGE.name, "exec"), names)


def _words(line):
    """What a shell would make of it: stdin, and the words behind `k2 sql`."""
    before, _, after = line.partition("k2 sql ")
    words = shlex.split(after)
    words = words[: words.index(">")] if ">" in words else words
    return (shlex.split(before)[1] if before else None), words


def test_open_is_the_first_trade(db):
    assert value(db, "SELECT min(timestamp) FROM trades") == OPEN
