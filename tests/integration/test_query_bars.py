"""Bars of real tables beside an independent calculation in Python's fractions, and beside the summary."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k2_testing.asking import crowded_lake
from k2_testing.bars import TICK, ZONE, independent_bars
from k2_testing.ticks import OPEN, append_ticks, at, trade

from k2.model.errors import UserError
from k2.model.exchanges import Session, exchange
from k2.model.times import micros
from k2.model.topics import DataType
from k2.query.aggregates import bars as bars_module
from k2.query.aggregates import summaries, time_slices
from k2.query.asked.bar_requests import BarsQuery, Dates, Empty, Interval
from k2.query.asked.requests import At, SummaryQuery, Window
from k2.query.rows.errors import AmbiguousSymbolError, NotFoundError
from k2.query.rows.visibility import Sight

DAY = date(2014, 3, 10)


def of_day(interval="1m", day=DAY, symbol="BHP", **more):
    return BarsQuery((symbol,), Interval(interval), period=Dates(day, day), **more)


def column(found, name):
    return found.rows[name].to_pylist()


def starts(found):
    return [f"{start.astimezone(ZONE):%d %H:%M}" for start in column(found, "start")]


# --- beside an independent calculation ---------------------------------------------------------------------------------


APPENDS = st.lists(st.lists(TICK, min_size=1, max_size=25), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A table for many examples: each appends ticks of a symbol of its own."""
    with crowded_lake(tmp_path_factory.mktemp("crowded")) as lake:
        yield lake


@settings(max_examples=12, deadline=None)
@given(APPENDS)
def test_bars_are_what_an_independent_calculation_gives_to_the_last_place(crowded, appends):
    questions, append = crowded
    symbol, ticks = append(appends)
    for interval, session in product(Interval, Session):
        found = questions.bars(BarsQuery((symbol,), interval, session=session))
        assert found.rows.to_pylist() == independent_bars(ticks, interval.value, session.value)


@settings(max_examples=8, deadline=None)
@given(APPENDS, st.sampled_from([Interval.MINUTE, Interval.HOUR]))
def test_a_days_bar_is_the_fold_of_its_minutes_and_equals_the_summary(crowded, appends, interval):
    questions, append = crowded
    symbol, ticks = append(appends)
    for day, session in product({tick["timestamp"].astimezone(ZONE).date() for tick in ticks}, Session):
        shorter = questions.bars(of_day(interval, day, symbol, session=session)).rows.to_pylist()
        daily = questions.bars(of_day("1d", day, symbol, session=session)).rows.to_pylist()
        question = SummaryQuery(symbol, day, session=session)
        if not shorter:
            assert daily == []
            with pytest.raises(NotFoundError):
                questions.summary(question)
            continue
        (bar,) = daily
        summary = questions.summary(question)
        assert bar["open"] == shorter[0]["open"] == summary.open
        assert bar["close"] == shorter[-1]["close"] == summary.close
        assert bar["high"] == max(each["high"] for each in shorter) == summary.high
        assert bar["low"] == min(each["low"] for each in shorter) == summary.low
        assert bar["volume"] == sum(each["volume"] for each in shorter) == summary.volume
        assert bar["trade_count"] == sum(each["trade_count"] for each in shorter) == summary.trade_count
        assert bar["vwap"] == summary.vwap
        for each in (bar, *shorter):
            assert each["vwap"] is None or each["low"] <= each["vwap"] <= each["high"]


@settings(max_examples=6, deadline=None)
@given(APPENDS)
def test_however_time_is_cut_the_bars_are_the_same(crowded, appends):
    questions, append = crowded
    symbol, ticks = append(appends)
    days = [SummaryQuery(symbol, day) for day in {tick["timestamp"].astimezone(ZONE).date() for tick in ticks}]
    queries = [
        BarsQuery((symbol,), interval, limit=limit)
        for interval in (Interval.MINUTE, Interval.HOUR, Interval.DAY)
        for limit in (2, 10_000)
    ]
    whole = [questions.bars(query) for query in queries]
    summaries_whole = [questions.summary(day) for day in days]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bars_module, "SLICE_ROWS", 2)
        patched.setattr(time_slices, "MOST_SLICE_ROWS", 4)
        patched.setattr(summaries, "SLICE_ROWS", 2)
        cut = [questions.bars(query) for query in queries]
        summaries_cut = [questions.summary(day) for day in days]
    assert [found.rows for found in cut] == [found.rows for found in whole]
    assert [found.more for found in cut] == [found.more for found in whole]
    assert [replace(day, provenance=None) for day in summaries_cut] == [
        replace(day, provenance=None) for day in summaries_whole
    ]


# --- buckets and sessions ----------------------------------------------------------------------------------------------


def test_a_date_of_25_hours_has_25_buckets_of_an_hour(lake, questions):
    midnight = at("2014-04-05T13:00:00")  # of 6 April in Sydney, when clocks went back
    append_ticks(lake, [{"timestamp": midnight + timedelta(minutes=30 * half)} for half in range(-2, 54)])
    found = questions.bars(of_day("1h", date(2014, 4, 6)))
    assert found.rows.num_rows == 25
    assert column(found, "trade_count") == [2] * 25
    assert {end - start for start, end in zip(column(found, "start"), column(found, "end"), strict=True)} == {
        timedelta(hours=1)
    }
    assert len(questions.bars(of_day("1h", date(2014, 4, 6), empty=Empty.NULL)).rows) == 25


def test_a_regular_session_counts_from_its_start_and_its_last_bucket_is_as_short_as_need_be(lake, questions):
    start = at("2024-01-02T14:30:00")  # 9:30 in New York
    append_ticks(lake, [{"timestamp": start + timedelta(minutes=10 * n), "exchange": "NYSE"} for n in range(-3, 45)])
    query = BarsQuery(
        ("BHP",), Interval.HOUR, period=Dates(date(2024, 1, 2), date(2024, 1, 2)), session=Session.REGULAR
    )
    found = questions.bars(query)
    assert [f"{moment:%H:%M}" for moment in column(found, "start")] == [f"{hour}:30" for hour in range(14, 21)]
    assert column(found, "end")[-1] == at("2024-01-02T21:00:00")
    assert column(found, "trade_count") == [6] * 6 + [3]
    assert found.time_zones == {"NYSE": "America/New_York"}


def test_what_is_traded_outside_of_the_session_counts_in_all_alone(lake, questions):
    append_ticks(lake, [trade(-1, "5"), trade(0, "1"), trade(6 * 3600 - 1, "2"), trade(6 * 3600, "9")])
    daily = questions.bars(of_day("1d", session=Session.REGULAR))
    assert (column(daily, "high"), column(daily, "open"), column(daily, "close")) == ([2], [1], [2])
    assert column(questions.bars(of_day("1d")), "high") == [9]


def test_bars_are_those_that_start_in_the_window_and_each_is_whole(lake, questions):
    append_ticks(lake, [trade(second, str(second + 1)) for second in range(0, 300, 10)])
    window = Window(micros(OPEN) + 1, micros(OPEN) + 180_000_001)  # beyond the start of 10:03
    found = questions.bars(BarsQuery(("BHP",), Interval.MINUTE, period=window))
    assert starts(found) == ["10 10:01", "10 10:02", "10 10:03"]
    assert column(found, "trade_count") == [6, 6, 6]


def test_the_price_before_a_bucket_weighs_until_its_first_trade(lake, questions):
    append_ticks(lake, [trade(30, "10"), trade(60 + 15, "20"), trade(60 + 45, "40")])
    found = questions.bars(of_day())
    # from 10:00:30 on; then 15 s of 10, 30 s of 20, 15 s of 40
    assert column(found, "twap") == [10, Decimal("22.5")]
    # the same when the first minute is not asked for
    window = Window(micros(OPEN) + 60_000_000, micros(OPEN) + 120_000_000)
    assert column(questions.bars(BarsQuery(("BHP",), Interval.MINUTE, period=window)), "twap") == [Decimal("22.5")]


def test_a_price_of_the_day_before_weighs_nothing(lake, questions):
    append_ticks(lake, [trade(-24 * 3600, "99"), trade(30, "10")])
    assert column(questions.bars(of_day("1h")), "twap") == [10]


# --- empty buckets -----------------------------------------------------------------------------------------------------


def test_empty_buckets_are_left_out_null_or_at_the_last_price_of_the_date(lake, questions):
    append_ticks(lake, [trade(-86400, "9"), trade(60, "1", "5"), trade(3 * 60, "2", "5")])
    window = Window(micros(OPEN), micros(OPEN) + 300_000_000)

    def ask(empty):
        return questions.bars(BarsQuery(("BHP",), Interval.MINUTE, period=window, empty=empty))

    assert starts(ask(Empty.SKIP)) == ["10 10:01", "10 10:03"]
    nulls = ask(Empty.NULL)
    assert starts(nulls) == ["10 10:00", "10 10:01", "10 10:02", "10 10:03", "10 10:04"]
    assert column(nulls, "close") == [None, 1, None, 2, None]
    assert column(nulls, "volume") == [0, 5, 0, 5, 0]
    assert column(nulls, "trade_count") == [0, 1, 0, 1, 0]
    assert column(nulls, "vwap") == [None, 1, None, 2, None]
    carried = ask(Empty.CARRY)
    for name in ("open", "high", "low", "close", "twap"):
        assert column(carried, name) == [None, 1, 1, 2, 2], name
    assert column(carried, "vwap") == [None, 1, None, 2, None]
    assert column(carried, "volume") == [0, 5, 0, 5, 0]


@pytest.mark.parametrize("exchange", ["ASX", None])
def test_a_symbol_without_trades_on_a_date_has_the_buckets_of_its_session_whatever_else_was_traded(
    lake, questions, exchange
):
    append_ticks(lake, [trade(-7 * 86400, "9")])

    def ask(symbol="BHP", empty=Empty.NULL):
        query = of_day("1h", session=Session.REGULAR, empty=empty)
        return questions.bars(replace(query, symbols=(symbol,), exchange=exchange))

    alone = ask()
    assert starts(alone) == [f"10 {hour}:00" for hour in range(10, 16)]
    assert column(alone, "close") == [None] * 6
    assert column(alone, "volume") == [0] * 6
    append_ticks(lake, [trade(3600 * hour, "5", symbol=name) for hour in range(8) for name in ("AAA", "CBA")])
    assert ask().rows == alone.rows
    assert ask(empty=Empty.CARRY).rows == alone.rows
    assert ask(empty=Empty.SKIP).rows.num_rows == 0
    unknown = ask("BBB")  # between others of the same file, and never traded
    assert unknown.rows.num_rows == 0
    assert unknown.note is not None


def test_no_bucket_that_is_yet_to_begin_is_said_to_be_empty(lake, questions):
    append_ticks(lake, [trade(0, "1")])
    today = datetime.now(UTC).date()
    period = Dates(today - timedelta(days=20), today + timedelta(days=20))
    begun = questions.bars(BarsQuery(("BHP",), Interval.DAY, period=period, empty=Empty.NULL))
    assert begun.rows.num_rows >= 14
    assert max(column(begun, "start")) <= datetime.now(UTC)
    then = At(as_of_us=micros(datetime.now(UTC) - timedelta(microseconds=1)))
    known = questions.bars(BarsQuery(("BHP",), Interval.DAY, period=period, empty=Empty.NULL, at=then))
    assert known.rows == begun.rows


def test_of_a_snapshot_empty_buckets_go_on_until_it_was_committed_however_late_it_is_asked(lake, questions):
    snapshot = append_ticks(lake, [trade(0, "1")])
    today = datetime.now(UTC).date()
    period = Dates(today - timedelta(days=20), today + timedelta(days=400))
    query = BarsQuery(("BHP",), Interval.DAY, period=period, empty=Empty.NULL, at=At(snapshot=snapshot))
    parts = questions._engine, questions._planner, questions._directory
    pinned = questions._planner.pin(DataType.TRADES, query.at)
    later = micros(datetime.now(UTC) + timedelta(days=100))
    found = bars_module.bars_of(*parts, pinned, query, later)
    assert found.rows == questions.bars(query).rows
    assert found.rows != bars_module.bars_of(*parts, pinned, replace(query, at=At()), later).rows


def test_without_an_end_empty_buckets_go_on_to_the_symbols_own_last_trade(lake, questions):
    append_ticks(lake, [trade(0, "1"), trade(240, "2"), trade(0, "3", symbol="CBA"), trade(420, "4", symbol="CBA")])
    query = BarsQuery(("BHP", "CBA"), Interval.MINUTE, period=Window(micros(OPEN)), empty=Empty.NULL)
    found = questions.bars(query).rows.to_pylist()
    assert [row["symbol"] for row in found].count("BHP") == 5
    assert [row["symbol"] for row in found].count("CBA") == 8
    first = questions.bars(replace(query, limit=3)).rows.to_pylist()
    assert first == found[:3]


def test_carried_prices_come_from_before_the_window_too(lake, questions):
    append_ticks(lake, [trade(0, "7"), trade(600, "8")])
    window = Window(micros(OPEN) + 120_000_000, micros(OPEN) + 240_000_000)
    found = questions.bars(BarsQuery(("BHP",), Interval.MINUTE, period=window, empty=Empty.CARRY))
    assert (starts(found), column(found, "close")) == (["10 10:02", "10 10:03"], [7, 7])


def test_the_days_of_a_weekend_are_not_empty_buckets_but_closed(lake, questions):
    append_ticks(lake, [trade(0, "1"), trade(7 * 86400, "2")])
    query = BarsQuery(("BHP",), Interval.DAY, period=Dates(DAY, DAY + timedelta(days=10)), empty=Empty.NULL)
    found = questions.bars(query)
    assert [day.day for day in column(found, "date")] == [10, 11, 12, 13, 14, 17, 18, 19, 20]
    assert column(found, "close") == [1, None, None, None, None, 2, None, None, None]


@pytest.mark.parametrize("empty", list(Empty))
def test_a_limit_gives_the_first_bars_and_says_that_there_are_more(lake, questions, empty):
    append_ticks(lake, [trade(120 * minute, str(minute + 1)) for minute in range(50)])
    found = questions.bars(of_day(limit=4, empty=empty, session=Session.REGULAR))
    assert found.more
    expected = {"skip": [1, 2, 3, 4], "null": [1, None, 2, None], "carry": [1, 1, 2, 2]}[empty.value]
    assert column(found, "close") == expected
    # From midnight on there are 600 minutes before the first trade.
    early = questions.bars(of_day(limit=200, empty=empty))
    assert (early.rows.num_rows, early.more) == ((50, False) if empty is Empty.SKIP else (200, True))


# --- several symbols, exchanges and snapshots --------------------------------------------------------------------------


def test_bars_of_several_symbols_come_by_start_exchange_and_symbol(lake, questions):
    append_ticks(lake, [trade(second, "1", symbol=symbol) for second in (0, 60) for symbol in ("RIO", "BHP")])
    append_ticks(lake, [trade(second, "3", symbol="BTC", exchange="BINANCE") for second in (60, 120)])
    query = BarsQuery(("RIO", "BTC", "BHP", "NONE"), Interval.MINUTE)
    found = questions.bars(query)
    assert list(zip(starts(found), column(found, "exchange"), column(found, "symbol"), strict=True)) == [
        ("10 10:00", "ASX", "BHP"),
        ("10 10:00", "ASX", "RIO"),
        ("10 10:01", "ASX", "BHP"),
        ("10 10:01", "ASX", "RIO"),
        ("10 10:01", "BINANCE", "BTC"),
        ("10 10:02", "BINANCE", "BTC"),
    ]
    assert found.time_zones == {"ASX": "Australia/Sydney", "BINANCE": "UTC"}
    assert [bar["close"] for bar in found.rows.to_pylist()] == [1, 1, 1, 1, 3, 3]


def test_a_symbol_of_several_exchanges_needs_one(lake, questions):
    append_ticks(lake, [trade(0), trade(1, exchange="NYSE")])
    with pytest.raises(AmbiguousSymbolError):
        questions.bars(BarsQuery(("BHP",), Interval.MINUTE))
    assert column(questions.bars(BarsQuery(("BHP",), Interval.MINUTE, exchange="NYSE")), "trade_count") == [1]


def test_bars_are_of_the_snapshot_that_is_asked_for(lake, questions):
    first = append_ticks(lake, [trade(0, "1")])
    append_ticks(lake, [trade(30, "5")])
    assert column(questions.bars(of_day()), "close") == [5]
    then = questions.bars(of_day(at=At(snapshot=first)))
    assert column(then, "close") == [1]
    assert then.provenance.snapshot is not None
    assert then.provenance.snapshot.id == first


def test_rows_that_may_not_be_seen_are_in_no_bar(lake, questions):
    append_ticks(lake, [trade(0, "1"), trade(30, "5"), trade(90, "6")])
    seen = questions.seen_by(Sight(oldest_us=micros(OPEN) + 30_000_000))
    assert column(seen.bars(of_day()), "open") == [5, 6]
    assert questions.seen_by(Sight(symbols=frozenset({"RIO"}))).bars(of_day()).rows.num_rows == 0


def test_nothing_is_answered_with_a_note(lake, questions):
    assert questions.bars(of_day()).note == "market_data.trades has no data yet"
    append_ticks(lake, [trade(0)])
    found = questions.bars(of_day(day=date(2014, 3, 12)))
    assert found.rows.num_rows == 0
    assert "the table reaches from 2014-03-09T23:00:00" in str(found.note)
    asked = questions.bars(replace(of_day(day=date(2014, 3, 12)), exchange="NYSE"))
    assert (asked.rows.num_rows, asked.time_zones) == (0, {"NYSE": "America/New_York"})
    assert [code for code, _ in asked.provenance.calendars] == ["NYSE"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: BarsQuery((), Interval.MINUTE),
        lambda: BarsQuery(("BHP",), Interval.MINUTE, limit=0),
        lambda: BarsQuery(("\n",), Interval.MINUTE),
        lambda: Dates(date(2014, 3, 11), DAY),
        lambda: Dates(date.min, DAY),
    ],
)
def test_questions_that_cannot_be_asked(make):
    with pytest.raises(UserError):
        make()


def test_where_equal_times_have_other_prices_the_offset_decides(lake, questions):
    append_ticks(lake, [trade(0, "2"), trade(0, "3"), trade(0, "1")])
    append_ticks(lake, [trade(0, "7"), trade(0, "5")])
    found = questions.bars(of_day())
    assert (column(found, "open"), column(found, "close"), column(found, "twap")) == ([2], [5], [5])


@pytest.mark.parametrize(
    "market", [exchange(code) for code in ("ASX", "NYSE", "TSE", "CME", "BINANCE")], ids=lambda each: each.code
)
def test_an_hours_bars_of_any_exchange_begin_on_the_hour_or_with_its_session(lake, questions, market):
    moments = [OPEN + timedelta(hours=hour) for hour in range(48)]
    append_ticks(lake, [{"timestamp": moment, "exchange": market.code} for moment in moments])
    for session in Session:
        found = questions.bars(BarsQuery(("BHP",), Interval.HOUR, session=session))
        opens = 0 if session is Session.ALL or market.regular is None else market.regular[0].minute
        local = [start.astimezone(market.zone) for start in column(found, "start")]
        after_lunch = {30} if market.code == "TSE" and session is Session.REGULAR else set()
        assert {moment.minute for moment in local} == {opens} | after_lunch
