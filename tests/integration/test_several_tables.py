"""A data type in several tables: which of them answer, in what types, at which snapshots, and what is said of each."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.deleting import data_files, delete_equal, delete_positions
from k2_testing.events import START_US
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.service import problem, serving
from k2_testing.ticks import OPEN, append_ticks, trade
from pyiceberg.types import LongType, StringType

from k2.client.connecting import connect
from k2.lake.appends.commit import Committer
from k2.lake.catalog import open_named
from k2.lake.reader import TableMissingError, TableReader
from k2.lake.scan import DataFileRef, SnapshotFiles
from k2.lake.snapshots import trim_snapshots
from k2.lake.tables import ensure_tables
from k2.model.errors import UserError
from k2.model.events import Decimals
from k2.model.tables import builtin_table
from k2.model.times import to_datetime
from k2.model.topics import DataType
from k2.query.asked.cursor import ReplayQuery
from k2.query.asked.requests import At, EventsQuery, SummaryQuery, Window
from k2.query.engine.database import Limits
from k2.query.engine.engine import Engine
from k2.query.plan.pinned import Pinned, TableAt, each_topic_once
from k2.query.plan.planner import Planner
from k2.query.questions import Questions
from k2.query.rows.errors import SnapshotGoneError
from k2.query.rows.relation import Relation, TableRows
from k2.query.rows.tail_blocks import Reach
from k2.query.rows.tail_view import Tail, TailView, TopicTail
from k2.query.rows.visibility import Sight

MAIN, WIDE = "market_data.trades", "market_data.trades_wide"
NAMES = {DataType.TRADES: (MAIN, WIDE), DataType.QUOTES: "market_data.quotes"}
FINE = Decimal("0.000000000000000001")
PEPE = {"symbol": "PEPEUSDT", "exchange": "BINANCE", "kafka_topic_id": "topic-2"}


@pytest.fixture
def lake(tmp_path):
    catalog = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    ensure_tables(catalog, [builtin_table(DataType.TRADES, WIDE, Decimals.WIDE)])
    return catalog


@pytest.fixture
def ask(tmp_path):
    engine = Engine(Limits())
    yield Questions(Planner(TableReader(lambda: open_named("k2", catalog_properties(tmp_path))), NAMES), engine)
    engine.close()


@pytest.fixture
def service(lake, tmp_path):
    with serving(tmp_path, trades=[MAIN, WIDE]) as client:
        yield client


def wide(seconds, price="1", **more):
    return trade(seconds, price, **PEPE | more)


def events(questions, *symbols, **more):
    return questions.events(EventsQuery(DataType.TRADES, symbols, **more))


def tables(answer):
    return [each.table for each in answer.provenance.sources]


def told(body):
    return {each["table"]: each["snapshot_id"] for each in body["sources"] if each["kind"] == "iceberg"}


def got(client, path, **params):
    reply = client.get(path, params=params)
    assert reply.status_code == 200, reply.text
    return reply.json()


# --- which tables answer, in which types -------------------------------------------------------------------------------


def test_a_symbol_is_answered_from_its_own_table_in_that_tables_types(lake, ask):
    append_ticks(lake, [trade(1, "2.5")])
    append_ticks(lake, [wide(2, str(FINE))], identifier=WIDE)
    standard, fine = events(ask, "BHP"), events(ask, "PEPEUSDT")
    assert (tables(standard), tables(fine)) == ([MAIN], [WIDE])
    assert standard.rows.schema.field("price").type == pa.decimal128(18, 8)
    assert fine.rows.schema.field("price").type == pa.decimal128(38, 18)
    assert fine.rows["price"].to_pylist() == [FINE]
    assert [(each.files_scanned, each.files_skipped) for each in standard.provenance.sources] == [(1, 0)]


def test_of_several_tables_all_rows_come_in_one_order_in_the_widest_type(lake, ask):
    append_ticks(lake, [trade(second, "2.5") for second in (1, 3, 5)])
    append_ticks(lake, [wide(second, str(FINE)) for second in (2, 4)], identifier=WIDE)
    found = events(ask)
    assert tables(found) == [MAIN, WIDE]
    assert found.rows.schema.field("price").type == pa.decimal128(38, 18)
    assert found.rows["price"].to_pylist() == [Decimal("2.5"), FINE, Decimal("2.5"), FINE, Decimal("2.5")]
    assert found.provenance.snapshot is None, "there is no one snapshot of two tables"


def test_the_types_of_an_answer_do_not_depend_on_its_window(lake, ask):
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(86_400 * 3, symbol="BHP", exchange="ASX")], identifier=WIDE)
    start = round(OPEN.timestamp() * 1e6)
    for window in (Window(), Window(start, start + 10_000_000), Window(start - 10, start), Window(start + 10**12)):
        assert events(ask, "BHP", window=window).rows.schema.field("price").type == pa.decimal128(38, 18)
    assert tables(events(ask, "BHP", window=Window(start, start + 10_000_000))) == [MAIN]


def test_a_symbol_between_those_of_another_exchanges_table_is_not_typed_by_it(lake, ask):
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(1, symbol="AAVE"), wide(1, symbol="ZEC")], identifier=WIDE)
    found = events(ask, "BHP")  # the bounds of the wide file may hold it, its exchange is another
    assert tables(found) == [MAIN]
    assert found.rows.schema.field("price").type == pa.decimal128(18, 8)


def test_where_no_table_has_anything_the_main_ones_types_hold(lake, ask):
    found = events(ask, "BHP")
    assert found.rows.schema.field("price").type == pa.decimal128(18, 8)
    assert found.note == f"{MAIN} and {WIDE} have no data yet"
    append_ticks(lake, [wide(1)], identifier=WIDE)
    assert events(ask, "BHP").note == f"{MAIN} and {WIDE} have nothing of BHP. The list of symbols says what there is."


def test_a_column_that_one_table_lacks_is_null_there(lake, ask):
    with lake.load_table(WIDE).update_schema() as change:
        change.add_column("venue_flag", LongType())
    with lake.load_table(MAIN).update_schema() as change:
        change.add_column("note", StringType())
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    rows = events(ask).rows
    assert rows.column_names[-2:] == ["note", "venue_flag"]
    assert rows["venue_flag"].to_pylist() == [None, None]
    alone = events(ask, "BHP", fields=("symbol", "venue_flag")).rows
    assert alone.to_pylist() == [{"symbol": "BHP", "venue_flag": None}]
    assert "venue_flag" not in events(ask, "BHP").rows.column_names
    with pytest.raises(UserError, match="Unknown field"):
        events(ask, "BHP", fields=("nothing",))


def test_columns_whose_types_have_nothing_in_common_are_text(lake, ask):
    for identifier, kind in ((MAIN, LongType()), (WIDE, StringType())):
        with lake.load_table(identifier).update_schema() as change:
            change.add_column("flag", kind)
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    assert events(ask).rows.schema.field("flag").type == pa.string()


def test_rows_deleted_from_one_table_leave_the_others_alone(lake, ask):
    append_ticks(lake, [trade(second, trade_id=f"M{second}") for second in range(4)])
    append_ticks(lake, [wide(second, trade_id=f"W{second}") for second in range(4)], identifier=WIDE)
    for identifier, gone in ((MAIN, "M1"), (WIDE, "W2")):
        table = lake.load_table(identifier)
        (file,) = data_files(table)
        delete_positions(table, [(file.file_path, 0)], beside=file)
        delete_equal(lake.load_table(identifier), {"trade_id": [gone]}, beside=file)
    assert events(ask).rows["trade_id"].to_pylist() == ["W1", "M2", "M3", "W3"]
    assert [(info.symbol, info.rows) for info in ask.symbols(DataType.TRADES).symbols] == [("BHP", 2), ("PEPEUSDT", 2)]


def test_a_table_that_is_not_there_is_awaited(lake, tmp_path):
    names = {DataType.TRADES: (MAIN, "market_data.more"), DataType.QUOTES: "market_data.quotes"}
    engine = Engine(Limits())
    reader = TableReader(lambda: open_named("k2", catalog_properties(tmp_path)))
    questions = Questions(Planner(reader, names), engine)
    append_ticks(lake, [trade(1)])
    for question in (questions.ready, lambda: events(questions, "BHP")):
        with pytest.raises(TableMissingError, match=r"There is no table market_data\.more yet"):
            question()
    ensure_tables(lake, [builtin_table(DataType.TRADES, "market_data.more")])
    assert questions.ready()[0]
    assert events(questions, "BHP").rows.num_rows == 1
    engine.close()


def test_one_who_sees_a_part_sees_that_part_of_all_tables(lake, ask):
    append_ticks(lake, [trade(1), trade(2, symbol="CBA")])
    append_ticks(lake, [wide(1), wide(3, symbol="BHP", exchange="ASX"), wide(9)], identifier=WIDE)
    seen = ask.seen_by(Sight(exchanges=frozenset({"ASX"}), symbols=frozenset({"BHP"})))
    assert events(seen).rows["symbol"].to_pylist() == ["BHP", "BHP"]
    assert [(info.symbol, info.rows) for info in seen.symbols(DataType.TRADES).symbols] == [("BHP", 2)]
    stats = seen.stats(DataType.TRADES)
    assert [(each.provenance.table, each.rows) for each in stats] == [(MAIN, 1), (WIDE, 1)]
    assert stats[1].newest_us == round((OPEN + timedelta(seconds=3)).timestamp() * 1e6)


@pytest.mark.parametrize(("old", "new"), [(MAIN, WIDE), (WIDE, MAIN), (MAIN, "market_data.more")])
def test_of_a_topic_that_moved_to_another_table_each_offset_counts_once(lake, tmp_path, old, new):
    ensure_tables(lake, [builtin_table(DataType.TRADES, "market_data.more")])
    first = None
    for table, stretches in ((old, [(0, 6), (6, 8)]), (new, [(4, 6), (6, 8), (8, 12)])):  # what the topic keeps
        for start, stop in stretches:
            # A standard table puts aside what a wide one holds.
            dead = 1 if start == 6 and table == MAIN and WIDE in (old, new) else 0
            made = Committer(lake, table, ORIGIN, DataType.TRADES).commit(batch(start, stop, dead=dead))
            first = first or made.snapshot_id
    names = {DataType.TRADES: (old, new), DataType.QUOTES: "market_data.quotes"}
    engine = Engine(Limits())
    ask = Questions(Planner(TableReader(lambda: open_named("k2", catalog_properties(tmp_path))), names), engine)
    found = events(ask, "BHP")
    assert found.rows["trade_id"].to_pylist() == [f"T{number}" for number in range(12)]
    assert [info.rows for info in ask.symbols(DataType.TRADES).symbols] == [12]
    assert ask.replay_merged(ReplayQuery((DataType.TRADES,))).page(100)[0].rows.num_rows == 12
    day = to_datetime(START_US).date() + timedelta(days=1)
    assert ask.summary(SummaryQuery("BHP", day, "ASX")).trade_count == 12
    assert events(ask, "BHP", at=At(snapshot=first)).rows.num_rows == 6
    seen = ask.seen_by(Sight(symbols=frozenset({"BHP"})))
    assert [info.rows for info in seen.symbols(DataType.TRADES).symbols] == [12]
    engine.close()


def test_the_tail_of_a_topic_is_that_of_the_table_that_read_further_also_where_that_is_not_at_hand(lake, ask):
    for table, stop in ((MAIN, 4), (WIDE, 6)):
        Committer(lake, table, ORIGIN, DataType.TRADES).commit(batch(0, stop))
    beyond = TopicTail(ORIGIN.topic, ORIGIN.topic_id, {0: (4, 9)}, 0, {0: 0})
    tails = (
        Tail(TailView((), Reach({0: 4}, {0: 9})), (beyond,)),
        Tail(TailView((), Reach({}, {})), (), "Kafka is away"),
    )
    states = ask.snapshots(DataType.TRADES)
    pinned = tuple(
        TableAt(state, state.current, SnapshotFiles(()), tail) for state, tail in zip(states, tails, strict=True)
    )
    main, wide = each_topic_once(pinned)
    # What the main table's tail begins with is in the files of the other one.
    assert (main.tail.topics, main.tail.ends) == ((), ())
    assert wide.tail.problem == "Kafka is away"


def test_an_answer_says_that_it_may_lack_what_an_unread_topic_of_another_of_its_tables_holds(lake, ask):
    Committer(lake, MAIN, ORIGIN, DataType.TRADES).commit(batch(0, 4))
    Committer(lake, WIDE, replace(ORIGIN, topic_id="topic-2"), DataType.TRADES).commit(batch(0, 4, symbol="CBA"))
    states = ask.snapshots(DataType.TRADES)
    nothing = TailView((), Reach({}, {}))
    away = Tail(nothing, (), "Kafka is away")
    for exchange, expected in ((None, (MAIN, WIDE)), ("ASX", (MAIN, WIDE)), ("NYSE", (MAIN,))):
        files = Relation((TableRows(MAIN, (), (), 1),), (), () if exchange is None else (file_of(exchange),))
        pinned = Pinned(
            (
                TableAt(states[0], states[0].current, SnapshotFiles(files.files), Tail(nothing, ())),
                TableAt(states[1], states[1].current, SnapshotFiles(()), away),
            )
        )
        said = pinned.provenance((files,))
        assert tuple(each.table for each in said.sources) == expected, exchange
        assert [each.problem for each in said.tails if each.problem] == ["Kafka is away"] * (len(expected) - 1)


def file_of(exchange):
    return DataFileRef("f", 1, 1, 0, 1, ("A", "Z"), (exchange, exchange))


# --- at which snapshots --------------------------------------------------------------------------------------------------


def test_a_snapshots_id_names_its_table_which_answers_alone(lake, ask):
    first = append_ticks(lake, [trade(1)])
    append_ticks(lake, [trade(2)])
    other = append_ticks(lake, [wide(1)], identifier=WIDE)
    append_ticks(lake, [wide(2)], identifier=WIDE)
    assert events(ask, at=At(snapshot=first)).rows["symbol"].to_pylist() == ["BHP"]
    found = events(ask, at=At(snapshot=other))
    assert (found.rows["symbol"].to_pylist(), found.provenance.snapshot.id) == (["PEPEUSDT"], other)
    with pytest.raises(SnapshotGoneError, match=f"Neither {MAIN} nor {WIDE} has that snapshot"):
        events(ask, at=At(snapshot=1))


def test_a_time_means_each_tables_snapshot_of_then_and_none_of_a_later_table(lake, ask):
    first = append_ticks(lake, [trade(1)])
    made = ask.snapshots(DataType.TRADES)[0].by_id[first].time_us
    second = append_ticks(lake, [wide(1)], identifier=WIDE)
    then = ask.snapshots(DataType.TRADES)[1].by_id[second].time_us
    append_ticks(lake, [trade(2)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    assert events(ask, at=At(as_of_us=made)).rows["symbol"].to_pylist() == ["BHP"]
    assert events(ask, at=At(as_of_us=then)).rows["symbol"].to_pylist() == ["BHP", "PEPEUSDT"]
    with pytest.raises(SnapshotGoneError, match=f"What {MAIN} held then is not retained"):
        events(ask, at=At(as_of_us=made - 1))
    lake.load_table(WIDE).maintenance.expire_snapshots().by_id(second).commit()
    with pytest.raises(SnapshotGoneError, match=f"What {WIDE} held then is not retained"):
        events(ask, at=At(as_of_us=then))


def test_a_time_before_a_table_began_is_answered_also_once_its_first_snapshots_were_expired(lake, ask):
    first = append_ticks(lake, [trade(1)])
    made = ask.snapshots(DataType.TRADES)[0].by_id[first].time_us
    later = [append_ticks(lake, [wide(second)], identifier=WIDE) for second in range(2, 8)]
    began = ask.snapshots(DataType.TRADES)[1].by_id[later[0]].time_us
    trim_snapshots(lake.load_table(WIDE), 2, to_datetime(began))
    assert later[0] not in ask.snapshots(DataType.TRADES)[1].by_id, "the premise"
    assert events(ask, at=At(as_of_us=made)).rows["symbol"].to_pylist() == ["BHP"]
    with pytest.raises(SnapshotGoneError, match=f"What {WIDE} held then is not retained"):
        events(ask, at=At(as_of_us=began))


def test_a_pin_holds_all_tables_and_those_that_it_does_not_hold_have_no_part(lake, service):
    append_ticks(lake, [trade(1)])
    early = service.post("/v1/pins", json={"tables": ["trades"]}).json()
    append_ticks(lake, [wide(1)], identifier=WIDE)
    both = service.post("/v1/pins", json={"tables": ["trades"]}).json()
    append_ticks(lake, [trade(2)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    assert [each["table"] for each in early["snapshots"]] == [MAIN]
    assert [each["table"] for each in both["snapshots"]] == [MAIN, WIDE]
    assert both["tables"]["trades"]["table"] == MAIN

    def symbols(pin):
        found = got(service, "/v1/symbols", pin=pin["pin"])
        return [(each["symbol"], each["rows"]) for each in found["data"]]

    assert (symbols(early), symbols(both)) == ([("BHP", 1)], [("BHP", 1), ("PEPEUSDT", 1)])
    assert {each["pin"] for each in got(service, "/v1/pins")["data"]} == {early["pin"], both["pin"]}
    assert service.delete(f"/v1/pins/{both['pin']}").status_code == 204
    assert problem(service.get("/v1/symbols", params={"pin": both["pin"]}), 410)


def test_pages_are_of_the_tables_and_snapshots_of_the_first_one(lake, service):
    append_ticks(lake, [trade(second, trade_id=f"A{second}") for second in (1, 3, 5)])
    both = {"symbol": "BHP", "exchange": "ASX"}
    append_ticks(lake, [wide(second, trade_id=f"B{second}", **both) for second in (2, 4)], identifier=WIDE)
    page = got(service, "/v1/trades", symbol="BHP", limit=2)
    found = page["data"]
    assert page["snapshot_id"] is None
    assert list(told(page)) == [MAIN, WIDE]
    append_ticks(lake, [trade(6)])
    append_ticks(lake, [wide(2.5, **both)], identifier=WIDE)
    while page["next_page"]:
        page = got(service, "/v1/trades", page_token=page["next_page"], limit=2)
        found += page["data"]
    assert [row["trade_id"] for row in found] == ["A1", "B2", "A3", "B4", "A5"]
    assert len({len(row["price"]) for row in found}) == 1, "all pages are of one type"


def test_a_difference_is_of_the_one_table_that_its_snapshots_are_of(lake, service):
    one = append_ticks(lake, [trade(1)])
    other = append_ticks(lake, [wide(1)], identifier=WIDE)
    append_ticks(lake, [trade(2, trade_id="new")])
    last = append_ticks(lake, [wide(2, trade_id="fine")], identifier=WIDE)

    def added(**params):
        return [row["trade_id"] for row in got(service, "/v1/snapshots/diff", **params)["data"]]

    assert added(**{"from": one}) == ["new"]
    assert added(**{"from": other}) == ["fine"]
    assert added(**{"from": other, "to": last}) == ["fine"]
    crossed = problem(service.get("/v1/snapshots/diff", params={"from": one, "to": last}), 400)
    assert crossed["detail"].startswith("The snapshots are of different tables")


def test_a_replay_goes_on_in_the_snapshots_of_all_its_tables(lake, ask):
    append_ticks(lake, [trade(second, trade_id=f"A{second}") for second in (1, 3)])
    append_ticks(lake, [wide(second, trade_id=f"B{second}") for second in (2, 4)], identifier=WIDE)
    query = ReplayQuery((DataType.TRADES,))
    replay, ids, done = ask.replay_merged(query), [], False
    while not done:
        page, done = replay.page(1)
        ids += page.rows["trade_id"].to_pylist()
        append_ticks(lake, [trade(9), trade(3.5)])
        append_ticks(lake, [wide(9)], identifier=WIDE)
        cursor = type(page.cursor).decode(page.cursor.encode())
        assert [table for table, _ in cursor.snapshots[DataType.TRADES]] == [MAIN, WIDE]
        replay = ask.replay_from(cursor)
    assert ids == ["A1", "B2", "A3", "B4"]


def test_a_cursor_names_no_table_but_those_of_its_data_type(lake, ask):
    append_ticks(lake, [trade(1)])
    cursor = ask.replay_merged(ReplayQuery((DataType.TRADES,))).start
    made_up = type(cursor)(cursor.query, {DataType.TRADES: (("market_data.quotes", None),)}, {})
    with pytest.raises(SnapshotGoneError, match=r"market_data\.quotes is no table of trades here"):
        ask.replay_from(made_up).page(1)


# --- what is said of each ------------------------------------------------------------------------------------------------


def test_an_answer_says_the_snapshot_of_each_of_its_tables(lake, service):
    one = append_ticks(lake, [trade(1)])
    other = append_ticks(lake, [wide(2)], identifier=WIDE)
    both = service.post("/v1/trades/query", json={})
    assert told(both.json()) == {MAIN: str(one), WIDE: str(other)}
    assert "K2-Snapshot-Id" not in both.headers
    alone = service.get("/v1/trades", params={"symbol": "PEPEUSDT"})
    assert told(alone.json()) == {WIDE: str(other)}
    assert alone.headers["K2-Snapshot-Id"] == str(other)
    assert alone.json()["complete_until"].startswith((OPEN + timedelta(seconds=2)).isoformat()[:19])


def test_an_answer_is_unchanged_until_one_of_the_tables_changes(lake, service):
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    for identifier, more in ((MAIN, trade(3)), (WIDE, wide(3))):
        tag = service.get("/v1/symbols").headers["ETag"]
        assert service.get("/v1/symbols", headers={"If-None-Match": tag}).status_code == 304
        append_ticks(lake, [more], identifier=identifier)
        assert service.get("/v1/symbols", headers={"If-None-Match": tag}).status_code == 200


def test_stats_snapshots_and_audits_are_of_each_table(lake, service):
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(2), wide(3)], identifier=WIDE)
    append_ticks(lake, [trade(4)])
    stats = {each["table"]: each["rows"] for each in got(service, "/v1/stats")["tables"]}
    assert stats == {MAIN: 2, WIDE: 2, "market_data.quotes": 0}
    listed = got(service, "/v1/snapshots")
    assert [each["table"] for each in listed["data"]] == [MAIN, WIDE, MAIN]
    assert [(each["table"], each["retained"]) for each in listed["tables"]] == [(MAIN, 2), (WIDE, 1)]
    assert listed["table"] == MAIN
    assert [each["table"] for each in got(service, "/v1/audit", table="trades")["tables"]] == [MAIN, WIDE]


def test_a_client_of_a_catalog_answers_from_the_tables_that_it_is_told(lake, tmp_path, monkeypatch):
    append_ticks(lake, [trade(1)])
    append_ticks(lake, [wide(2)], identifier=WIDE)
    catalog = catalog_properties(tmp_path)

    def symbols(**options):
        with connect(**options) as db:
            return [each["symbol"] for each in db.symbols("trades").rows()]

    assert symbols(catalog=catalog) == ["BHP"]
    assert symbols(catalog=catalog, tables={"trades": [MAIN, WIDE]}) == ["BHP", "PEPEUSDT"]
    monkeypatch.setenv("K2_CATALOG_PROPERTIES", json.dumps(catalog))
    monkeypatch.setenv("K2_TABLES", json.dumps({"trades": WIDE}))
    assert symbols(local=True) == ["PEPEUSDT"]
    with pytest.raises(UserError, match="The tables of candles cannot be used"):
        connect(catalog=catalog, tables={"candles": "a.b"})
