"""Times, windows and names as a person writes them; which snapshot answers."""

import json
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.lake.reader import ColumnInfo, SnapshotInfo, TableState
from k2.model.errors import UserError
from k2.model.times import DAY_US, MAX_US, MIN_US, SECOND_US, UNITS_US, duration_us, iso, parse_date, parse_time
from k2.model.topics import DataType
from k2.query.asked.requests import At, EventsQuery, Window, exchange_code
from k2.query.plan.snapshot_choice import resolve
from k2.query.rows import sql
from k2.query.rows.errors import SnapshotGoneError
from k2.query.rows.relation import Relation, TableRows

TEN = 1_394_445_600_000_000  # 2014-03-10T10:00:00Z


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2014-03-10T10:00:00Z", TEN),
        ("2014-03-10T10:00:00", TEN),
        ("2014-03-10 10:00", TEN),
        ("2014-03-10T21:00:00+11:00", TEN),
        ("2014-03-10T21:00:00 11:00", TEN),
        ("2014-03-10", TEN - 36_000_000_000),
        ("2014-03-10T10:00:00.000001Z", TEN + 1),
        ("2014-03-10T10:00:00.0000001Z", TEN + 1),
        ("2014-03-10T10:00:00.000001000Z", TEN + 1),
        ("1394445600000000000", TEN),
        ("1394445600000000001", TEN + 1),
        ("1394445600000000001ns", TEN + 1),
        ("1394445600000000us", TEN),
        ("1394445600000ms", TEN),
        ("1394445600s", TEN),
        ("-1ns", 0),
        ("-1000ns", -1),
        ("-1000000000000000001", -1_000_000_000_000_000),
        ("20140310T100000Z", TEN),
        ("2014-03-10T21:00:00,0000001+1100", TEN + 1),
        ("2014-03-10 21:00:00 11:00", TEN),
        ("2014-03-11T00:00+14:00", TEN),
        ("2014-03-10T10:00-00:00", TEN),
        ("2014-W11-1T10:00", TEN),
    ],
)
def test_a_time_is_iso_or_a_number_with_its_unit_and_rounds_up_between_microseconds(text, micros):
    assert parse_time(text, "start") == micros


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "noon", "2014-02-30", "2014-03-10T25:00", "1e9", "NaN", "٣", "2014-03-10' OR 1=1"),
        # Which unit, or whether it is a date, nobody can tell.
        *("0", "-1", "2014", "20140310", "1394445600", "1394445600000", "1394445600000000", "139444560000000000"),
        *("1394445600us1", "1394445600 s", "12345678901234567890", "2014-03-10x10:00", "1394445600000000000h"),
    ],
)
def test_what_is_no_time_is_refused_with_the_forms_there_are(text):
    with pytest.raises(UserError) as raised:
        parse_time(text, "start")
    assert str(raised.value) == (
        f"start is not a time: found {text!r}, expected an ISO 8601 time (2014-03-10T10:00:00Z; UTC when it has no "
        "offset), or a number since 1970 with its unit (1394445600000000000ns, also us, ms and s; 19 digits alone are "
        "nanoseconds)."
    )


@pytest.mark.parametrize("offset", ["+10:75", "-00:60", "+14:01", "-15:00", "+99", "+1075", "+10:0", "+10:00:30"])
def test_an_offset_that_no_clock_has_is_refused(offset):
    with pytest.raises(UserError, match="start has an offset that no clock has"):
        parse_time(f"2014-03-10T10:00{offset}", "start")


def test_a_reversed_range_is_refused_with_both_ends():
    with pytest.raises(UserError) as raised:
        Window.parse("2014-03-11", "2014-03-10")
    assert str(raised.value) == (
        "The time range is reversed: found 'start 2014-03-11T00:00:00.000000Z, end 2014-03-10T00:00:00.000000Z', "
        "expected start before end."
    )


@pytest.mark.parametrize(
    ("text", "bound"), [("0001-01-01", MIN_US), ("1600-01-01T00:00:00+14:00", MIN_US), ("9999-12-31T23:59:59Z", MAX_US)]
)
def test_a_bound_beyond_all_events_is_the_nearest_time_that_there_is(text, bound):
    assert parse_time(text, "start") == bound


@given(st.datetimes(min_value=datetime(1677, 9, 22), max_value=datetime(2262, 4, 11)))  # noqa: DTZ001
def test_a_time_printed_is_read_back(moment):
    micros = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_time(iso(micros), "start") == micros


def test_dates_symbols_exchanges_and_limits_that_cannot_be():
    with pytest.raises(UserError, match="date is not a date: found '2014-02-30', expected a calendar date, YYYY-MM-DD"):
        parse_date("2014-02-30", "date")
    for symbol in ("A\x00B", "A\udc00B"):
        with pytest.raises(UserError, match=r"Not a symbol: found .A.(x00|udc00)B."):
            EventsQuery(DataType.TRADES, (symbol,))
    with pytest.raises(UserError, match="limit is too small: found 0, expected 1 or more"):
        EventsQuery(DataType.TRADES, limit=0)
    with pytest.raises(UserError, match="Not an exchange's code: found 'A;B'"):
        exchange_code("A;B")
    assert exchange_code("asx") == "ASX"
    with pytest.raises(UserError, match="snapshot is not a snapshot's id: found 'abc'"):
        At.parse("abc", None)
    with pytest.raises(UserError, match="Both snapshot and as_of are given"):
        At.parse("1", "2014-03-10")


def snapshot(number, parent, time_us, sequence=None):
    return SnapshotInfo(number, parent, sequence or number, time_us, "append", {}, 0)


def state(*snapshots):
    return TableState(
        "market_data.trades",
        "u",
        snapshots[-1].id if snapshots else None,
        snapshots,
        {0: ()},
        0,
        ("/w/",),
        {s.id: s for s in snapshots},
    )


def test_a_time_means_the_snapshot_that_was_current_then():
    table = state(snapshot(1, None, 100), snapshot(2, 1, 200), snapshot(3, 2, 300))
    assert resolve(table, At(as_of_us=200), 0).id == 2
    assert resolve(table, At(as_of_us=299), 0).id == 2
    assert resolve(table, At(as_of_us=10_000), 0).id == 3
    assert resolve(table, At(), 0).id == 3
    assert resolve(table, At(snapshot=1), 0).id == 1


def test_a_time_whose_snapshot_was_expired_is_gone_and_the_nearest_are_named():
    table = state(snapshot(1, None, 100), snapshot(5, 4, 500))  # 2 to 4 were expired, 1 has a tag
    with pytest.raises(SnapshotGoneError) as raised:
        resolve(table, At(as_of_us=300), 0)
    assert str(raised.value) == (
        "What market_data.trades held then is not retained: found '1970-01-01T00:00:00.000300Z', expected one of the "
        "nearest: before it 1 (1970-01-01T00:00:00.000100Z); after it 5 (1970-01-01T00:00:00.000500Z)."
    )
    with pytest.raises(SnapshotGoneError, match="after it 1 "):
        resolve(table, At(as_of_us=99), 0)
    with pytest.raises(SnapshotGoneError, match=r"found 3, expected one of those retained from 1 .* to 5 "):
        resolve(table, At(snapshot=3), 0)


def test_after_a_rollback_times_still_mean_what_was_current():
    table = state(snapshot(1, None, 100, 1), snapshot(2, 1, 200, 2), snapshot(3, 1, 300, 3))
    assert resolve(table, At(as_of_us=250), 0).id == 2


def test_a_table_without_snapshots_has_no_current_one_and_nothing_at_a_time():
    assert resolve(state(), At(), 0) is None
    with pytest.raises(SnapshotGoneError, match="expected a table that has snapshots"):
        resolve(state(), At(as_of_us=1), 0)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("500ms", 500_000), ("30s", 30 * SECOND_US), ("0m", 0), ("2w", 14 * DAY_US), ("1h", 3_600 * SECOND_US)],
)
def test_a_duration_is_a_number_with_a_unit(text, micros):
    assert duration_us(text, UNITS_US) == micros


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1.5h", "1 h", "1y", "٣s", "1234567890s", "30s30s"])
def test_any_other_text_is_no_duration(text):
    assert duration_us(text, UNITS_US) is None


def test_a_unit_that_is_not_taken_there_makes_no_duration():
    assert duration_us("7d", ("s", "m")) is None


MINUTES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20)


@given(MINUTES, st.integers(-100, 100), st.none() | st.integers(-20, 120), st.none() | st.integers(-20, 120))
def test_a_window_of_stretches_holds_what_they_hold_and_outlives_a_token(drawn, first, start, end):
    stretches, at_us = [], first
    for gap, length in drawn:
        stretches.append((at_us + gap, at_us + gap + length))
        at_us += gap + length
    window = Window.of(stretches)
    assert Window.from_list(json.loads(json.dumps(window.to_list()))) == window
    which = sql.Filter(start_us=start, end_us=end, within=window.within)
    columns = (ColumnInfo(1, "timestamp", "timestamptz"),)
    text, _ = sql.where(Relation((TableRows("t", columns, (), 0),), columns, ()), which)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        rows = database.execute(
            f"SELECT us FROM (SELECT us, make_timestamptz(us) AS timestamp FROM range({first - 1}, {at_us + 2}) t(us)){text}"
        ).fetchall()
    inside = (
        us
        for us in range(first - 1, at_us + 2)
        if any(a <= us < b for a, b in window.within or [(first - 1, at_us + 2)])
    )
    assert [us for (us,) in rows] == [
        us for us in inside if (start is None or us >= start) and (end is None or us < end)
    ]
    held = [us for us in range(first - 1, at_us + 2) if any(a <= us < b for a, b in stretches)]
    bounds = window.within or [window.bounds]
    assert held == [us for us in range(first - 1, at_us + 2) if any(a <= us < b for a, b in bounds)]
