"""The engine against a real catalog and real files, beside an independent calculation in Python."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.asking import questions_of
from k2_testing.lake import make_lake
from k2_testing.ticks import OPEN, append_ticks, at, trade
from pyiceberg.types import StringType

from k2.lake.reader import TableMissingError
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery, SummaryQuery, Window
from k2.query.events import paging
from k2.query.rows.errors import AmbiguousSymbolError, NotFoundError, SnapshotGoneError

DAY = date(2014, 3, 10)


def ids(events):
    return events.rows["trade_id"].to_pylist()


# --- summary ---------------------------------------------------------------------------------------------------------


def independent_summary(ticks, day, zone):
    """Of all prints of the date, in the total order; Python's fractions."""
    chosen = [tick for tick in ticks if tick["timestamp"].astimezone(ZoneInfo(zone)).date() == day]
    # sorted() is stable, and the ticks are in the order of their offsets
    order = sorted(
        chosen, key=lambda t: (t["timestamp"], 2**70 if t["source_sequence"] is None else t["source_sequence"])
    )
    volume = sum(Fraction(tick["quantity"]) for tick in chosen)
    notional = sum(Fraction(tick["quantity"]) * Fraction(tick["price"]) for tick in chosen)
    return {
        "open": order[0]["price"],
        "close": order[-1]["price"],
        "high": max(tick["price"] for tick in chosen),
        "low": min(tick["price"] for tick in chosen),
        "volume": volume,
        "vwap": None if not volume else Fraction(round(notional / volume * 10**8), 10**8),
        "trade_count": len(chosen),
    }


AMOUNT = st.decimals(Decimal("0.00000001"), Decimal("9999999999.99999999"), places=8)
TICK = st.fixed_dictionaries(
    {
        "timestamp": st.integers(-30 * 3600, 40 * 3600).map(lambda s: OPEN + timedelta(seconds=s // 7)),
        "price": AMOUNT,
        "quantity": AMOUNT | st.just(Decimal(0)),
        "source_sequence": st.none() | st.integers(0, 3),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(TICK, min_size=1, max_size=12), min_size=1, max_size=4))
def test_a_summary_is_what_an_independent_calculation_gives_to_the_last_place(appends):
    with TemporaryDirectory() as name:
        folder = Path(name)
        catalog = make_lake(folder)
        for ticks in appends:
            append_ticks(catalog, ticks)
        ticks = [tick for appended in appends for tick in appended]
        with questions_of(folder) as questions:
            for day in {tick["timestamp"].astimezone(ZoneInfo("Australia/Sydney")).date() for tick in ticks}:
                found = questions.summary(SummaryQuery("BHP", day))
                expected = independent_summary(ticks, day, "Australia/Sydney")
                assert {figure: getattr(found, figure) for figure in expected} == expected


def test_values_that_break_a_double_are_exact(lake, questions):
    append_ticks(lake, [trade(0, "0.1", "3"), trade(1, "0.2", "3"), trade(2, "9999999999.99999999", "0.00000001")])
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert found.volume == Decimal("6.00000001")
    assert found.vwap == Decimal(str(round(Fraction("100.8999999999999999") / Fraction("6.00000001") * 10**8))) / 10**8


def test_a_notional_beyond_a_decimals_range_is_still_exact(lake, questions):
    most = "9999999999.99999999"
    append_ticks(lake, [trade(number, most, most) for number in range(150)])
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert found.vwap == Decimal(most)
    assert found.volume == 150 * Decimal(most)


def test_a_trading_date_spans_two_utc_days_in_the_exchanges_zone(lake, questions):
    append_ticks(
        lake,
        [
            {"timestamp": at("2014-03-09T12:59:59.999999"), "price": Decimal(1)},  # 23:59:59.999999 of the 9th
            {"timestamp": at("2014-03-09T13:00:00"), "price": Decimal(2)},  # midnight
            {"timestamp": at("2014-03-10T12:59:59.999999"), "price": Decimal(3)},
            {"timestamp": at("2014-03-10T13:00:00"), "price": Decimal(4)},  # midnight of the 11th
        ],
    )
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert (found.trade_count, found.open, found.close) == (2, 2, 3)
    assert found.time_zone == "Australia/Sydney"


@pytest.mark.parametrize(("day", "hours"), [(date(2014, 4, 6), 25), (date(2014, 10, 5), 23)])
def test_dates_on_which_clocks_change_have_their_own_length(lake, questions, day, hours):
    start = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Australia/Sydney")).astimezone(UTC)
    append_ticks(lake, [{"timestamp": start + timedelta(minutes=30 * half)} for half in range(-2, 54)])
    assert questions.summary(SummaryQuery("BHP", day)).trade_count == 2 * hours


def test_where_times_are_equal_the_files_order_decides(lake, questions):
    append_ticks(lake, [trade(0, str(price), source_sequence=price) for price in (10, 11, 12)])
    append_ticks(lake, [trade(0, "9", source_sequence=9), trade(0, "13", source_sequence=13)])
    append_ticks(lake, [trade(0, "99", source_sequence=None)])  # without a sequence: after those that have one
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert (found.open, found.close) == (9, 99)
    listed = questions.events(EventsQuery(DataType.TRADES, ("BHP",)))
    assert [int(price) for price in listed.rows["price"].to_pylist()] == [9, 10, 11, 12, 13, 99]


def test_where_even_the_sequence_is_equal_the_offset_decides(lake, questions):
    append_ticks(lake, [trade(0, "2"), trade(0, "3"), trade(0, "1")])
    append_ticks(lake, [trade(0, "7"), trade(0, "5")])
    found = questions.summary(SummaryQuery("BHP", DAY))
    assert (found.open, found.close) == (2, 5)
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",)))) == ["T0", "T1", "T2", "T3", "T4"]


def test_a_date_without_trades_and_an_unknown_symbol_are_not_found(lake, questions):
    with pytest.raises(NotFoundError, match="has no trades of BHP on 2014-03-10"):
        questions.summary(SummaryQuery("BHP", DAY))
    append_ticks(lake, [trade()])
    with pytest.raises(NotFoundError) as raised:
        questions.summary(SummaryQuery("BHP", date(2014, 3, 11), "ASX"))
    assert str(raised.value) == (
        "market_data.trades has no trades of BHP on ASX on 2014-03-11. The list of symbols says from when to when each was "
        "traded; a date is one of the exchange's time zone."
    )


# --- events ----------------------------------------------------------------------------------------------------------


def test_a_window_includes_its_start_and_excludes_its_end(lake, questions):
    append_ticks(lake, [trade(second) for second in range(5)])
    window = Window.parse("2014-03-09T23:00:01Z", "2014-03-09T23:00:03Z")
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=window))) == ["T1", "T2"]


def test_a_limit_says_whether_there_was_more(lake, questions):
    append_ticks(lake, [trade(second) for second in range(5)])
    found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=3))
    assert (ids(found), found.more) == (["T0", "T1", "T2"], True)
    found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=5))
    assert (len(ids(found)), found.more) == (5, False)


def test_the_first_rows_come_from_the_oldest_files_however_many_there_are(lake, questions):
    for day in range(30):  # more files than the first stretch
        append_ticks(lake, [trade(86_400 * (29 - day) + second) for second in range(2)])
    found = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=45))
    times = found.rows["timestamp"].to_pylist()
    assert times == sorted(times)
    assert times[0] == OPEN
    assert (len(times), found.more) == (45, True)


def test_quotes_with_a_missing_side_have_null_there(lake, questions):
    append_ticks(lake, [{"timestamp": OPEN, "bid_price": Decimal("1.1"), "bid_quantity": Decimal(5)}], DataType.QUOTES)
    row = questions.events(EventsQuery(DataType.QUOTES, ("BHP",))).rows.to_pylist()[0]
    assert (row["bid_price"], row["ask_price"], row["ask_quantity"]) == (Decimal("1.1"), None, None)


def test_an_empty_answer_says_why(lake, questions):
    query = EventsQuery(DataType.TRADES, ("BHP",))
    assert questions.events(query).note == "market_data.trades has no data yet"
    append_ticks(lake, [trade()])
    unknown = questions.events(EventsQuery(DataType.TRADES, ("XYZ",)))
    assert unknown.note == "market_data.trades has nothing of XYZ. The list of symbols says what there is."
    assert unknown.rows.schema == questions.events(query).rows.schema
    late = questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=Window.parse("2015-01-01", None)))
    assert late.note == (
        "No trades match; the table reaches from 2014-03-09T23:00:00.000000Z to 2014-03-09T23:00:00.000000Z"
    )


def test_a_symbol_of_several_exchanges_asks_for_one(lake, questions):
    append_ticks(lake, [trade(1), trade(2, symbol="CBA")])
    append_ticks(lake, [trade(3, exchange="NYSE", currency="USD", price="5"), trade(3, symbol="AAA", exchange="NYSE")])
    for ask in (
        lambda: questions.events(EventsQuery(DataType.TRADES, ("BHP",))),
        lambda: questions.summary(SummaryQuery("BHP", DAY)),
        lambda: questions.date_range(DataType.TRADES, "BHP"),
    ):
        with pytest.raises(AmbiguousSymbolError) as raised:
            ask()
        assert str(raised.value) == (
            "BHP is traded on several exchanges: found 'ASX, NYSE', expected one of them. Ask with exchange=ASX."
        )
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",), "NYSE"))) == ["T2"]
    assert questions.summary(SummaryQuery("BHP", date(2014, 3, 9), "NYSE")).close == 5
    # CBA's file overlaps BHP's of the other exchange, but CBA is on one only
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("CBA",)))) == ["T1"]


# --- catalogue -------------------------------------------------------------------------------------------------------


def test_symbols_stats_and_date_range(lake, questions):
    append_ticks(lake, [trade(1), trade(5), trade(2, symbol="CBA")])
    append_ticks(lake, [trade(9)])
    found = questions.symbols(DataType.TRADES).symbols
    assert [(s.symbol, s.exchange, s.rows) for s in found] == [("BHP", "ASX", 3), ("CBA", "ASX", 1)]
    reach = questions.date_range(DataType.TRADES, "BHP")
    assert reach.last_us - reach.first_us == 8_000_000
    with pytest.raises(NotFoundError, match="has nothing of XYZ"):
        questions.date_range(DataType.TRADES, "XYZ")
    [stats] = questions.stats(DataType.TRADES)
    assert (stats.rows, stats.files, stats.snapshots) == (4, 2, 2)
    assert stats.newest_us - stats.oldest_us == 8_000_000
    assert [each.rows for each in questions.stats(DataType.QUOTES)] == [0]
    assert {each.data_type: each.rows for each in questions.all_stats()} == {DataType.TRADES: 4, DataType.QUOTES: 0}


def test_what_is_committed_is_in_the_next_answer(lake, questions):
    for count in range(1, 4):
        append_ticks(lake, [trade(count)])
        assert len(ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",))))) == count


def test_a_table_that_does_not_exist_yet_is_awaited(tmp_path):
    make_lake(tmp_path, DataType.QUOTES)
    with questions_of(tmp_path) as questions:
        with pytest.raises(TableMissingError, match=r"There is no table market_data.trades yet"):
            questions.ready()
        assert [table.provenance.table for table in questions.all_stats()] == ["market_data.quotes"]
        catalog = make_lake(tmp_path, DataType.TRADES)
        append_ticks(catalog, [trade()])
        assert questions.ready()[0]
        assert questions.summary(SummaryQuery("BHP", DAY)).trade_count == 1


# --- time travel -----------------------------------------------------------------------------------------------------


def test_any_question_can_be_asked_of_an_earlier_snapshot(lake, questions):
    first = append_ticks(lake, [trade(0, "1")])
    append_ticks(lake, [trade(1, "2")])
    then = At(snapshot=first)
    assert questions.summary(SummaryQuery("BHP", DAY)).close == 2
    assert questions.summary(SummaryQuery("BHP", DAY, at=then)).close == 1
    assert ids(questions.events(EventsQuery(DataType.TRADES, ("BHP",), at=then))) == ["T0"]
    assert [each.rows for each in questions.stats(DataType.TRADES, then)] == [1]
    made = questions.snapshots(DataType.TRADES)[0].by_id[first].time_us
    assert questions.summary(SummaryQuery("BHP", DAY, at=At(as_of_us=made))).close == 1
    with pytest.raises(SnapshotGoneError, match="does not have that snapshot"):
        questions.stats(DataType.TRADES, At(snapshot=1))


def test_columns_are_found_by_their_ids_through_additions_and_renames(lake, questions):
    first = append_ticks(lake, [trade(0)])
    table = lake.load_table("market_data.trades")
    with table.update_schema() as update:
        update.add_column("venue", StringType())
        update.rename_column("trade_id", "ticket")
    with table.transaction() as transaction, transaction.update_snapshot().fast_append():
        pass  # a snapshot under the new schema over the old file
    row = questions.events(EventsQuery(DataType.TRADES, ("BHP",))).rows.to_pylist()[0]
    assert (row["ticket"], row["venue"]) == ("T0", None)
    assert questions.summary(SummaryQuery("BHP", DAY)).trade_count == 1
    old = questions.events(EventsQuery(DataType.TRADES, ("BHP",), at=At(snapshot=first)))
    assert old.rows["trade_id"].to_pylist() == ["T0"]


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_gives_every_event_once_in_the_total_order(lake, questions, monkeypatch):
    monkeypatch.setattr(paging, "_WINDOW_ROWS", 10)  # so that clusters are cut
    monkeypatch.setattr(paging, "HEAD_ROWS", 20)
    expected = []
    for part in range(6):
        ticks = [
            trade((part % 3) * 50 + (number * 37 % 60), symbol=("BHP", "CBA")[number % 2], source_sequence=number)
            for number in range(25)
        ]
        append_ticks(lake, ticks)
        expected += [(t["timestamp"], t["symbol"], t["source_sequence"], part) for t in ticks]
    found = [
        (row["timestamp"], row["symbol"], row["source_sequence"], int(row["trade_id"].removeprefix("T")) // 25)
        for batch in questions.stream(EventsQuery(DataType.TRADES, limit=1_000), batch_rows=7).batches()
        for row in batch.to_pylist()
    ]
    assert found == sorted(expected)
    only = questions.stream(EventsQuery(DataType.TRADES, ("CBA",), limit=1_000)).batches()
    assert sum(batch.num_rows for batch in only) == 72


def test_a_stream_that_its_limit_ends_anywhere_goes_on_where_it_ended(lake, questions, monkeypatch):
    monkeypatch.setattr(paging, "_WINDOW_ROWS", 10)
    monkeypatch.setattr(paging, "HEAD_ROWS", 4)
    for part in range(5):  # of ten rows each, so that a limit may fall on a window's end
        append_ticks(lake, [trade(part * 100 + number // 2, source_sequence=1) for number in range(10)])
    whole = [f"T{number}" for number in range(50)]
    for limit in range(5, 52):
        found, after = [], ()
        while not found or after:
            query = EventsQuery(DataType.TRADES, limit=limit, fields=("trade_id",), after=after)
            stream = questions.stream(query, batch_rows=7)
            found += [name for batch in stream.batches() for name in batch["trade_id"].to_pylist()]
            after = stream.last
        assert found == whole, limit


def test_a_stream_that_is_abandoned_leaves_the_engine_well(lake, questions, monkeypatch):
    monkeypatch.setattr(paging, "HEAD_ROWS", 20)
    append_ticks(lake, [trade(number) for number in range(100)])
    batches = questions.stream(EventsQuery(DataType.TRADES, limit=1_000), batch_rows=10).batches()
    assert [next(batches).num_rows, next(batches).num_rows] == [20, 10]
    batches.close()
    assert questions.summary(SummaryQuery("BHP", DAY)).trade_count == 100


@pytest.mark.parametrize("text", ["' OR 1=1 --", "/etc/passwd", "x'); SELECT read_text('/etc/passwd'); --", "%", "\\"])
def test_a_symbol_is_a_value_and_never_sql(lake, questions, text):
    append_ticks(lake, [trade(0)])
    assert questions.events(EventsQuery(DataType.TRADES, (text,))).rows.num_rows == 0
    append_ticks(lake, [trade(1, symbol=text)])
    assert questions.events(EventsQuery(DataType.TRADES, (text,))).rows["symbol"].to_pylist() == [text]
