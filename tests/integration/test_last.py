"""The newest trade and quote of each symbol: the last of each in the total order, wherever it lies."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from k2_testing.asking import crowded_lake, questions_of
from k2_testing.extent import sized
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import OPEN, append_ticks, trade

import k2
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.obs.tally import begin
from k2.query.aggregates.last_in_files import LastInFiles, SnapshotRows
from k2.query.aggregates.lasts import newest
from k2.query.asked.last_requests import LastQuery
from k2.query.asked.requests import CURRENT, At, Window
from k2.query.opening import open_questions
from k2.query.rows import sql
from k2.query.rows.schema import arrow_schema

NAMES = ("symbol", "exchange", "currency", "timestamp", "price")


def quote(seconds, bid, ask, **more):
    """A quote, so many seconds after the opening; None: that side is not there."""
    amounts = {"bid_price": bid, "ask_price": ask, "bid_quantity": bid and "100", "ask_quantity": ask and "200"}
    return {
        "timestamp": OPEN + timedelta(seconds=seconds),
        **{name: None if value is None else Decimal(value) for name, value in amounts.items()},
        **more,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six files of trades: the newest of each symbol in another one, with ties that their numbers or offsets decide."""
    made = tmp_path_factory.mktemp("lake")
    catalog = make_lake(made, DataType.TRADES, DataType.QUOTES)
    append_ticks(catalog, [quote(1, "1", "2"), quote(11, "3", None), quote(3, "5", "6", symbol="BID")], DataType.QUOTES)
    append_ticks(catalog, [trade(9_000, "7", symbol="OLD"), trade(0, "1"), trade(5, "2")])
    append_ticks(catalog, [trade(10, "3", source_sequence=2), trade(10, "4", source_sequence=1)])
    append_ticks(catalog, [trade(7, "5"), trade(8, "6", symbol="CBA"), trade(8, "6.5", symbol="CBA")])
    append_ticks(catalog, [trade(n, "1", symbol="XYZ") for n in range(20, 23)])
    append_ticks(catalog, [trade(n, "1", symbol="XYZ") for n in range(30, 33)])
    append_ticks(catalog, [trade(40, "8", symbol="DUAL", exchange="NYSE"), trade(41, "9", symbol="DUAL")])
    return made


@pytest.fixture(scope="module")
def db(folder):
    with k2.connect(catalog=catalog_properties(folder)) as opened:
        yield opened


def test_the_newest_trade_and_quote_of_each_symbol_are_in_its_row(db):
    found = db.last(["CBA", "BHP", "OLD", "BID", "NONE"])
    rows = {row["symbol"]: row for row in found.arrow().to_pylist()}
    assert list(rows) == ["CBA", "BHP", "OLD", "BID"], "as asked for; without what there is nothing of"
    assert found.note == "There is nothing of NONE"
    assert rows["BHP"] == {
        "symbol": "BHP",
        "exchange": "ASX",
        "currency": "AUD",
        "timestamp": OPEN + timedelta(seconds=10),
        "price": 3,
        "quantity": 1,
        "side": "UNKNOWN",
        "quote_timestamp": OPEN + timedelta(seconds=11),
        "bid_price": 3,
        "bid_quantity": 100,
        "ask_price": None,
        "ask_quantity": None,
    }
    assert rows["CBA"]["price"] == Decimal("6.5"), "of two at one instant that which came later"
    assert rows["OLD"]["price"] == 7
    assert rows["OLD"]["quote_timestamp"] is None
    assert rows["BID"]["timestamp"] is None
    assert (rows["BID"]["exchange"], rows["BID"]["bid_price"]) == ("ASX", 5)


@pytest.mark.parametrize("symbol", ["BHP", "CBA", "OLD", "XYZ"])
def test_it_is_the_last_row_of_all(db, symbol):
    last = db.trades(symbol).arrow().to_pylist()[-1]
    assert {name: last[name] for name in NAMES} == db.last(symbol).arrow().select(NAMES).to_pylist()[0]


def test_an_exchange_is_needed_where_a_symbol_is_traded_on_several(db):
    with pytest.raises(UserError, match="DUAL is traded on several exchanges"):
        db.last("DUAL")
    assert db.last("DUAL", exchange="NYSE").arrow()["price"].to_pylist() == [8]


def test_at_an_earlier_snapshot_it_is_what_was_newest_then(db):
    first = db.snapshots().arrow()["snapshot_id"].to_pylist()[-1]
    assert db.last("BHP", snapshot=first).arrow()["price"].to_pylist() == [2]


def test_no_symbol_is_refused(db):
    with pytest.raises(UserError, match="No symbol is given"):
        db.last([])


def test_without_a_table_of_quotes_there_are_trades(tmp_path):
    append_ticks(make_lake(tmp_path), [trade(0, "1")])
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        found = db.last("BHP", price_type="float")
        assert found.arrow().to_pylist()[0]["price"] == 1.0
        assert found.arrow()["bid_price"].to_pylist() == [None]
        assert found.envelope["quotes"] is None


def test_files_that_end_before_the_tails_rows_are_not_read(folder):
    settings = Settings(catalog_properties=catalog_properties(folder))
    questions, engine = open_questions(QueryConfig(), settings)
    try:
        planner = questions._planner
        relation = planner.plan(planner.pin(DataType.TRADES, At()), ("BHP", "CBA"), None, Window())
        assert relation.files, "the control: there are files"
        gone = replace(relation, files=tuple(replace(f, path=f.path + ".gone") for f in relation.files))
        which = sql.Filter(("BHP", "CBA"), None)

        def last(rows, names):
            return newest(LastInFiles(engine), SnapshotRows((), rows), which, names)

        def with_tail(*seconds_of_symbols):
            rows = [
                {"symbol": name, "exchange": "ASX", "timestamp": OPEN + timedelta(seconds=at)}
                for name, at in seconds_of_symbols
            ]
            return pa.Table.from_pylist(rows, arrow_schema(relation.columns, lineage=True))

        both = with_tail(("BHP", 20_000), ("BHP", 20_001), ("CBA", 20_000))
        found = last(replace(gone, tail=both), ("symbol", "timestamp"))
        assert found.to_pylist() == [
            {"symbol": "BHP", "timestamp": OPEN + timedelta(seconds=20_001)},
            {"symbol": "CBA", "timestamp": OPEN + timedelta(seconds=20_000)},
        ]
        one = last(replace(relation, tail=with_tail(("BHP", 20_000))), ("symbol", "price"))
        assert one.to_pylist() == [{"symbol": "BHP", "price": None}, {"symbol": "CBA", "price": Decimal("6.5")}]
        late = last(replace(relation, tail=with_tail(("BHP", 1))), ("symbol", "price"))
        assert late["price"].to_pylist() == [3, Decimal("6.5")], "what comes late is no newer"
        assert not Path(gone.files[0].path).exists()
    finally:
        questions.close()
        engine.close()


def test_what_a_snapshots_files_have_is_read_once_and_another_snapshot_is_another(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    append_ticks(lake, [trade(0, "1"), trade(1, "2", symbol="CBA"), trade(9, "3", symbol="CBA")])
    append_ticks(lake, [quote(1, "1", "2")], DataType.QUOTES)
    with questions_of(tmp_path) as questions:

        def asked(*symbols):
            """The prices, and how many files were read for them."""
            counted = begin()
            rows = questions.last(LastQuery(symbols)).rows
            return rows["price"].to_pylist(), counted.files_scanned

        assert asked("BHP") == ([1], 2)
        assert asked("BHP") == ([1], 0)
        assert asked("CBA", "BHP") == ([3, 1], 1), "of trades for one of them: no file of quotes may have it"
        assert asked("BHP", "CBA", "NONE") == ([1, 3], 0), "no file may have it"
        append_ticks(lake, [trade(5, "4")])
        assert asked("BHP", "CBA") == ([4, 3], 2), "trades have another snapshot, quotes do not"
        assert asked("CBA") == ([3], 0)


TICK = st.builds(
    lambda at, price, sequence: (at, {"price": Decimal(price), "source_sequence": sequence}),
    st.integers(0, 3),  # few instants: ties are the rule
    st.integers(1, 99),
    st.sampled_from([None, 1, 2]),
)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    with crowded_lake(tmp_path_factory.mktemp("crowded")) as lake:
        yield lake


@settings(max_examples=sized(20, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(TICK, min_size=1, max_size=4), min_size=1, max_size=4), tail=st.lists(TICK, max_size=4))
def test_it_is_the_last_of_all_rows_of_files_and_tail_however_they_tie(crowded, files, tail):
    questions, append = crowded
    engine, planner = questions._engine, questions._planner
    in_files = [
        [
            {"timestamp": OPEN + timedelta(seconds=at), "kafka_offset": 10 * n + m, **more}
            for m, (at, more) in enumerate(each)
        ]
        for n, each in enumerate(files)
    ]
    symbol, _ = append(in_files)
    pinned = planner.pin(DataType.TRADES, CURRENT)
    relation = planner.plan(pinned, (symbol,), None, Window())
    row = {"symbol": symbol, "exchange": "ASX", "currency": "AUD", "kafka_topic_id": "topic-1", "kafka_partition": 0}
    beyond = [
        row | {"timestamp": OPEN + timedelta(seconds=at), "kafka_offset": 1_000 + n, **more}
        for n, (at, more) in enumerate(tail)
    ]
    if beyond:
        schema = arrow_schema(relation.columns, lineage=True)
        relation = replace(relation, tail=pa.Table.from_pylist(beyond, schema))
    whole = engine.fetch("trades", sql.events(relation, sql.Filter((symbol,)), lineage=True))
    columns = ("timestamp", "price", "source_sequence", "kafka_topic_id", "kafka_offset")
    for _ in range(2):  # read, and remembered
        rows = SnapshotRows(pinned.snapshots, relation)
        found = newest(questions._remembered.lasts, rows, sql.Filter((symbol,)), columns)
        assert found.to_pylist() == whole.select(columns).to_pylist()[-1:]
