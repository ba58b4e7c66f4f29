"""Ticks folded into bars beside an independent calculation, without a table; and the exact arithmetic underneath."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from k2_testing.bars import TICK, independent_bars

from k2.model.events import DECIMAL
from k2.model.exchanges import Session, exchange
from k2.model.times import micros
from k2.query.aggregates import folding, sessions
from k2.query.aggregates.digits import Digits
from k2.query.aggregates.folding import Folded, fold_bars, fold_ticks, joined
from k2.query.aggregates.rows_of_bars import Traded, bar_rows
from k2.query.asked.bar_requests import Interval
from k2.query.asked.requests import Window

ASX = exchange("ASX")
BHP = Traded(("BHP",), "ASX", DECIMAL, DECIMAL)
DIGITS = st.integers(-(10**18) + 1, 10**18 - 1)


def calendar_of(session, interval):
    def make(first_us, last_us):
        return sessions.calendar(ASX, session, interval.width_us, first_us, last_us)

    return make


def folded(ticks, session, interval):
    last = 2**70
    order = sorted(
        ticks, key=lambda t: (t["timestamp"], last if t["source_sequence"] is None else t["source_sequence"])
    )
    us = np.array([micros(tick["timestamp"]) for tick in order])
    price, quantity = (np.array([int(tick[name].scaleb(8)) for tick in order]) for name in ("price", "quantity"))
    start, inside = calendar_of(session, interval)(int(us.min()), int(us.max())).starts(us)
    if not inside.any():
        return folding.nothing_folded()
    series = np.zeros(len(us), np.int64)
    series, start, us, price, quantity = (column[inside] for column in (series, start, us, price, quantity))
    return fold_ticks(series, start, us, Digits(price), Digits(quantity))


def rows(bars, session, interval):
    return bar_rows(bars, BHP, calendar_of(session, interval), Window(), None, carry=False).to_pylist()


@given(st.lists(TICK, min_size=1, max_size=40), st.sampled_from(Interval), st.sampled_from(Session))
def test_bars_are_what_an_independent_calculation_gives_to_the_last_place(ticks, interval, session):
    assert rows(folded(ticks, session, interval), session, interval) == independent_bars(ticks, interval, session)


@given(st.lists(TICK, min_size=1, max_size=40), st.sampled_from(Session))
def test_every_interval_is_the_fold_of_its_minutes(ticks, session):
    minutes = folded(ticks, session, Interval.MINUTE)
    if not len(minutes):
        return
    for interval in Interval:
        calendar = calendar_of(session, interval)(int(minutes.start[0]), int(minutes.start[-1]))
        longer = fold_bars(minutes, calendar.starts(minutes.start)[0])
        direct = folded(ticks, session, interval)
        for name in Folded.__dataclass_fields__:
            assert getattr(longer, name).tolist() == getattr(direct, name).tolist(), name


@given(st.lists(TICK, min_size=2, max_size=40), st.data())
def test_bars_of_two_stretches_join_wherever_time_was_cut(ticks, data):
    cut = data.draw(st.sampled_from([tick["timestamp"] for tick in ticks]))
    parts = [[t for t in ticks if t["timestamp"] < cut], [t for t in ticks if t["timestamp"] >= cut]]
    together = joined([folded(part, Session.ALL, Interval.DAY) for part in parts if part])
    whole = folded(ticks, Session.ALL, Interval.DAY)
    for name in Folded.__dataclass_fields__:
        assert getattr(together, name).tolist() == getattr(whole, name).tolist(), name


# --- sessions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "hours"), [(date(2014, 4, 6), 25), (date(2014, 10, 5), 23), (date(2014, 3, 10), 24)])
def test_the_grid_of_a_date_has_as_many_hours_as_the_date(day, hours):
    window = sessions.of_days(ASX, Session.ALL, day, day)
    assert len(sessions.grid(ASX, Session.ALL, Interval.HOUR.width_us, window, 100)) == (
        0 if day.weekday() == 6 else hours
    )
    calendar = calendar_of(Session.ALL, Interval.HOUR)(window.start_us, window.end_us - 1)
    moments = np.arange(window.start_us, window.end_us, 60_000_000)
    starts, inside = calendar.starts(moments)
    assert inside.all()
    assert len(set(starts.tolist())) == hours
    assert set((calendar.ends(starts) - starts).tolist()) == {3_600_000_000}


@pytest.mark.parametrize(
    "market", [exchange(code) for code in ("ASX", "NYSE", "TSE", "CME", "BINANCE")], ids=lambda each: each.code
)
@pytest.mark.parametrize("interval", Interval)
@pytest.mark.parametrize("session", Session)
def test_the_buckets_of_a_year_tile_its_sessions(market, interval, session):
    window = sessions.of_days(market, session, date(2024, 1, 1), date(2024, 12, 31))
    starts = sessions.grid(market, session, interval.width_us, window, 10**6)
    calendar = sessions.calendar(market, session, interval.width_us, window.start_us, window.end_us - 1)
    ends = calendar.ends(starts)
    same_date = calendar.index(starts[1:]) == calendar.index(starts[:-1])
    apart = starts[1:][same_date] - ends[:-1][same_date]
    lunch = 3_600_000_000 if market.code == "TSE" and session is Session.REGULAR else 0
    assert set(apart.tolist()) <= {0, lunch}
    assert (calendar.trading_us(ends[:-1][same_date]) == calendar.trading_us(starts[1:][same_date])).all()
    assert (ends[:-1] <= starts[1:]).all()
    assert set(ends[:-1][~same_date].tolist()) | {int(ends[-1])} == {
        close
        for day, close in zip(calendar.days.tolist(), calendar.closes.tolist(), strict=True)
        if market.is_open_on(date(1970, 1, 1) + timedelta(days=day))
    }


# The times of the years 1990 to 2029.
@given(st.integers(632_000_000_000_000, 1_890_000_000_000_000), st.sampled_from(Interval), st.sampled_from(Session))
def test_what_is_read_for_an_instant_begins_with_its_session_and_ends_with_its_bucket(us, interval, session):
    read = sessions.to_read(ASX, session, interval.width_us, Window(us, us + 1))
    calendar = calendar_of(session, interval)(us, us)
    (start,), (inside,) = calendar.starts(np.array([us]))
    assert read.start_us <= us < read.end_us
    if inside:
        assert read.end_us == calendar.ends(np.array([start]))[0]
        assert read.start_us == calendar.opens[calendar.index(np.array([start]))[0]]


@pytest.mark.parametrize("moment", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)])
def test_times_at_either_end_of_the_calendar_are_in_no_session_and_no_error(moment):
    us = np.array([micros(moment)])
    _, inside = calendar_of(Session.ALL, Interval.DAY)(int(us[0]), int(us[0])).starts(us)
    assert not inside.any()
