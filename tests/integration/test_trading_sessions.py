"""Questions by the calendars of exchanges: evenings that belong to the next date, lunches, half days, and what no calendar knows."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from k2_testing.ticks import append_ticks, at

from k2.model import exchanges
from k2.model.calendars import OutsideCalendarError
from k2.model.exchange_entries import ExchangesDocument
from k2.model.exchanges import Session
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Dates, Empty, Interval
from k2.query.asked.requests import EventsQuery, SummaryQuery, Window
from k2.query.rows.errors import NotFoundError

MONDAY = date(2024, 3, 11)
FUTURE = {"symbol": "NQH4", "exchange": "CME", "asset_class": "futures", "currency": "USD"}
SHARE = {"symbol": "6758", "exchange": "TSE", "currency": "JPY"}
HALF = {"symbol": "XYZ", "exchange": "NYSE", "currency": "USD"}


def trades(of, *told):
    return [of | {"timestamp": at(moment), "price": Decimal(price)} for moment, price in told]


@pytest.fixture
def overnight(lake):
    """Trades of a weekend and of the Monday after it: in Chicago it is 17:00 at 23:00 UTC, and from Sunday on at 22:00."""
    append_ticks(
        lake,
        trades(
            FUTURE,
            ("2024-03-08T21:30:00", 17990),  # Friday's
            ("2024-03-10T22:00:00", 18000),
            ("2024-03-11T03:30:00", 18010),
            ("2024-03-11T06:00:00", 18020),
            ("2024-03-11T21:30:00", 18030),
            ("2024-03-11T22:00:00", 18040),  # Tuesday's
        ),
    )


def of_day(symbol, day, interval="1d", **more):
    return BarsQuery((symbol,), Interval(interval), period=Dates(day, day), **more)


def column(found, name):
    return found.rows[name].to_pylist()


@pytest.mark.parametrize("session", Session)
def test_sunday_evening_is_mondays(overnight, questions, session):
    (bar,) = questions.bars(of_day("NQH4", MONDAY, session=session)).rows.to_pylist()
    assert (bar["date"], bar["start"], bar["end"]) == (MONDAY, at("2024-03-10T22:00:00"), at("2024-03-11T22:00:00"))
    assert (bar["open"], bar["close"], bar["trade_count"]) == (18000, 18030, 4)
    summary = questions.summary(SummaryQuery("NQH4", MONDAY, session=session))
    assert (summary.open, summary.close, summary.trade_count) == (18000, 18030, 4)
    dates = questions.bars(BarsQuery(("NQH4",), Interval.DAY, session=session))
    assert column(dates, "date") == [date(2024, 3, 8), MONDAY, date(2024, 3, 12)]
    window = questions.window_of(
        {DataType.TRADES: EventsQuery(DataType.TRADES).at}, ("NQH4",), None, Dates(MONDAY, MONDAY), session
    )
    events = questions.events(EventsQuery(DataType.TRADES, ("NQH4",), window=window))
    assert column(events, "price") == [18000, 18010, 18020, 18030]
    ((exchange, title),) = events.provenance.calendars
    assert exchange == "CME"
    assert title.startswith("CMES ")


def test_a_date_of_two_utc_days_reads_the_files_of_both(lake, questions):
    for told in (("2024-03-10T22:00:00", 1), ("2024-03-11T10:00:00", 2)):
        append_ticks(lake, trades(FUTURE, told))
    found = questions.bars(of_day("NQH4", MONDAY))
    assert column(found, "trade_count") == [2]
    assert found.provenance.sources[0].files_scanned == 2


def test_a_quote_of_sunday_evening_still_prevails_on_monday(lake, questions):
    append_ticks(lake, trades(FUTURE, ("2024-03-08T21:30:00", 5), ("2024-03-11T06:00:00", 11)))
    sides = {"bid_price": 10, "ask_price": 12, "bid_quantity": 1, "ask_quantity": 1}
    quote = FUTURE | {name: Decimal(value) for name, value in sides.items()}
    append_ticks(lake, [quote | {"timestamp": at("2024-03-10T23:00:00")}], DataType.QUOTES)
    append_ticks(lake, [quote | {"timestamp": at("2024-03-07T22:59:00")}], DataType.QUOTES)
    found = questions.asof(AsofQuery(("NQH4",)))
    assert column(found, "mid") == [None, 11]


@pytest.fixture
def lunch(lake):
    """Two sessions of a share in Tokyo (nine hours ahead): one in lunch and after the old close, one after the new one."""
    append_ticks(
        lake,
        trades(
            SHARE,
            ("2024-03-04T00:00:00", 10),
            ("2024-03-04T02:29:59", 20),  # 11:29:59
            ("2024-03-04T03:00:00", 90),  # in lunch
            ("2024-03-04T03:30:00", 30),  # 12:30
            ("2024-03-04T06:00:00", 80),  # 15:00
            ("2024-11-05T06:29:59", 40),  # 15:29:59, since the session is longer
        ),
    )


def test_nothing_is_traded_at_lunch_or_after_the_close_of_that_time(lunch, questions):
    day = date(2024, 3, 4)
    found = questions.bars(of_day("6758", day, "1h", session=Session.REGULAR, empty=Empty.NULL))
    local = [f"{start + timedelta(hours=9):%H:%M}" for start in column(found, "start")]
    assert local == ["09:00", "10:00", "11:00", "12:30", "13:30", "14:30"]
    lengths = [end - start for start, end in zip(column(found, "start"), column(found, "end"), strict=True)]
    assert lengths == [timedelta(minutes=m) for m in (60, 60, 30, 60, 60, 30)]
    assert column(found, "trade_count") == [1, 0, 1, 1, 0, 0]
    (bar,) = questions.bars(of_day("6758", day, session=Session.REGULAR)).rows.to_pylist()
    assert (bar["start"], bar["end"]) == (at("2024-03-04T00:00:00"), at("2024-03-04T06:00:00"))
    assert (bar["high"], bar["close"], bar["trade_count"]) == (30, 30, 3)
    summary = questions.summary(SummaryQuery("6758", day, session=Session.REGULAR))
    assert (summary.high, summary.close, summary.trade_count) == (30, 30, 3)
    assert questions.summary(SummaryQuery("6758", day)).trade_count == 5
    assert column(questions.bars(of_day("6758", date(2024, 11, 5), session=Session.REGULAR)), "close") == [40]


def test_lunch_is_no_time_of_an_average(lunch, questions):
    (bar,) = questions.bars(of_day("6758", date(2024, 3, 4), session=Session.REGULAR)).rows.to_pylist()
    # 10 until 11:29:59, 20 for the last second of the morning, and 30 in the afternoon of two and a half hours.
    total = 10 * 8999 + 20 * 1 + 30 * 9000
    assert bar["twap"] == (Decimal(total) / 18000).quantize(Decimal("1e-8"))
    carried = questions.bars(of_day("6758", date(2024, 3, 4), "1h", session=Session.REGULAR))
    assert column(carried, "twap")[2] == 30


def test_a_price_of_the_morning_is_carried_over_lunch(lake, questions):
    append_ticks(lake, trades(SHARE, ("2024-03-04T00:10:00", 10), ("2024-03-04T04:00:00", 30)))  # 9:10 and 13:00
    found = questions.bars(of_day("6758", date(2024, 3, 4), "1h", session=Session.REGULAR, empty=Empty.CARRY))
    assert column(found, "close") == [10, 10, 10, 30, 30, 30]
    assert column(found, "twap")[3] == 20, "half of the hour that begins at 12:30"


def test_a_half_day_ends_when_it_does(lake, questions):
    day = date(2024, 11, 29)
    append_ticks(
        lake, trades(HALF, ("2024-11-29T17:59:00", 10), ("2024-11-29T18:00:00", 11), ("2024-11-29T20:00:00", 12))
    )
    found = questions.bars(of_day("XYZ", day, "15m", session=Session.REGULAR, empty=Empty.NULL))
    assert column(found, "end")[-1] == at("2024-11-29T18:00:00")
    summary = questions.summary(SummaryQuery("XYZ", day, session=Session.REGULAR))
    assert (summary.close, summary.trade_count) == (10, 1)
    assert questions.summary(SummaryQuery("XYZ", day)).close == 12


def test_a_holiday_has_prints_perhaps_and_no_session(lake, questions):
    day = date(2024, 11, 28)
    append_ticks(lake, trades(HALF, ("2024-11-28T17:00:00", 10)))
    assert questions.bars(of_day("XYZ", day, session=Session.REGULAR, empty=Empty.NULL)).rows.num_rows == 0
    with pytest.raises(NotFoundError):
        questions.summary(SummaryQuery("XYZ", day, session=Session.REGULAR))
    assert questions.summary(SummaryQuery("XYZ", day)).trade_count == 1
    week = BarsQuery(("XYZ",), Interval.DAY, period=Dates(date(2024, 11, 27), date(2024, 11, 29)), empty=Empty.NULL)
    assert column(questions.bars(week), "date") == [date(2024, 11, 27), day, date(2024, 11, 29)], (
        "what was traded is told"
    )
    later = BarsQuery(("XYZ",), Interval.DAY, period=Dates(date(2024, 12, 24), date(2024, 12, 26)), empty=Empty.NULL)
    assert column(questions.bars(later), "date") == [date(2024, 12, 24), date(2024, 12, 26)]


def test_a_session_that_no_calendar_knows_is_refused_and_all_prints_are_not(lake, questions):
    day = date(1996, 12, 27)
    append_ticks(lake, trades(SHARE, ("1996-12-27T01:00:00", 10)))
    for ask in (
        lambda: questions.summary(SummaryQuery("6758", day, session=Session.REGULAR)),
        lambda: questions.bars(of_day("6758", day, session=Session.REGULAR)),
        lambda: questions.bars(BarsQuery(("6758",), Interval.DAY, session=Session.REGULAR)),
    ):
        with pytest.raises(
            OutsideCalendarError, match="XTKS does not know the session of that date: found '1996-12-27'"
        ):
            ask()
    assert questions.summary(SummaryQuery("6758", day)).trade_count == 1
    assert questions.bars(of_day("6758", day)).rows.num_rows == 1
    # Bounds may lie anywhere: no trade is there.
    far = BarsQuery(("6758",), Interval.DAY, period=Window(4 * 10**15, 5 * 10**15), session=Session.REGULAR)
    assert questions.bars(far).rows.num_rows == 0


def test_symbols_of_one_exchange_may_go_by_several_calendars(overnight, lake, questions):
    text = {"exchanges": {"CME": {"symbolCalendars": {"ZC*": "grains"}}}}
    text["calendars"] = {"grains": {"hours": [{"open": "19:00", "close": "13:20"}]}}
    exchanges.use(ExchangesDocument.model_validate(text))
    try:
        append_ticks(lake, trades(FUTURE | {"symbol": "ZCH4"}, ("2024-03-10T23:30:00", 5), ("2024-03-11T00:30:00", 6)))
        found = questions.bars(
            BarsQuery(("NQH4", "ZCH4"), Interval.DAY, period=Dates(MONDAY, MONDAY), session=Session.REGULAR)
        )
        assert column(found, "symbol") == ["NQH4", "ZCH4"]
        assert column(found, "open") == [18000, 6]
        assert column(found, "trade_count") == [4, 1]
        assert [code for code, _ in found.provenance.calendars] == ["CME", "CME"]
    finally:
        exchanges.use(None)
