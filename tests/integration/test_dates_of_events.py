"""A date is the exchange's and a time without an offset is UTC or of `tz`, for events, joins and replays as for bars."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from k2_testing.lake import catalog_properties
from k2_testing.service import problem
from k2_testing.ticks import append_ticks, at

import k2
from k2.model.errors import UserError
from k2.model.topics import DataType

# Sydney is 11 hours ahead of UTC on that Monday, New York 4 behind.
MIDNIGHT = at("2014-03-09T13:00:00")
SYDNEY = {
    "first": MIDNIGHT,
    "open": MIDNIGHT + timedelta(hours=10),
    "noon": MIDNIGHT + timedelta(hours=12),
    "close": MIDNIGHT + timedelta(hours=16),
    "last": MIDNIGHT + timedelta(days=1, microseconds=-1),
}
DAY = "2014-03-10"


@pytest.fixture(autouse=True)
def rows(lake):
    trades = [{"timestamp": moment, "trade_id": name} for name, moment in SYDNEY.items()]
    trades += [
        {"timestamp": MIDNIGHT - timedelta(microseconds=1), "trade_id": "before"},
        {"timestamp": MIDNIGHT + timedelta(days=1), "trade_id": "after"},
        # Between sessions and in those of other dates: in summer clocks are back to 11 hours ahead, in winter they are 10.
        {"timestamp": MIDNIGHT - timedelta(days=2, hours=9), "trade_id": "friday"},
        {"timestamp": MIDNIGHT - timedelta(hours=12), "trade_id": "sunday"},
        {"timestamp": at("2014-07-13T23:30:00"), "trade_id": "winter, before the open"},
        {"timestamp": at("2014-12-15T04:30:00"), "trade_id": "summer"},
    ]
    append_ticks(lake, trades)
    new_york = {"symbol": "IBM", "exchange": "NYSE"}
    append_ticks(lake, [{"timestamp": at("2014-03-10T13:30:00"), "trade_id": "bell"} | new_york])
    sides = {name: Decimal(1) for side in ("bid", "ask") for name in (f"{side}_price", f"{side}_quantity")}
    append_ticks(lake, [{"timestamp": MIDNIGHT + timedelta(hours=9), "quote_id": "early"} | sides], DataType.QUOTES)


def ids(reply):
    assert reply.status_code == 200, reply.text
    return [row["trade_id"] for row in reply.json()["data"] if row.get("type") != "quote"]


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ({"date": DAY}, ["first", "open", "noon", "close", "last"]),
        ({"date": DAY, "session": "regular"}, ["open", "noon"]),
        ({"date": "2014-03-09", "last_date": DAY}, ["sunday", "before", "first", "open", "noon", "close", "last"]),
        ({"date": "2014-03-08", "session": "regular"}, []),
        ({"date": "2014-03-08", "last_date": "2014-03-09", "session": "regular"}, []),
        ({"date": "2014-03-07", "last_date": "2014-03-11", "session": "regular"}, ["friday", "open", "noon"]),
        ({"date": DAY, "last_date": "2014-03-11", "session": "regular"}, ["open", "noon"]),
        ({"date": DAY, "last_date": "2015-01-02", "session": "regular"}, ["open", "noon", "summer"]),
        ({"start": "2014-03-10T10:00", "end": "2014-03-10T12:00", "tz": "Australia/Sydney"}, ["open"]),
        ({"start": "2014-03-10T10:00", "end": "2014-03-10T12:00"}, []),
        ({"start": "2014-03-10T10:00+11:00", "end": "2014-03-11", "tz": "Australia/Sydney"}, ["open", "noon", "close", "last"]),
    ],
)  # fmt: skip
def test_every_way_to_ask_for_events_takes_dates_sessions_and_zones(client, tmp_path, when, found):
    by_symbol = {"symbol": "BHP", **when}
    assert ids(client.get("/v1/trades", params=by_symbol)) == found
    assert ids(client.get("/v1/asof", params=by_symbol)) == found
    assert ids(client.post("/v1/trades/query", json={"symbols": ["BHP"], **when})) == found
    assert ids(client.post("/v1/replay", json={"symbols": ["BHP"], **when})) == found
    snapshot = client.get("/v1/snapshots").json()["current_snapshot_id"]
    assert ids(client.post(f"/v1/snapshots/{snapshot}/query", json={"symbols": ["BHP"], **when})) == found
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        assert db.trades("BHP", **when).arrow()["trade_id"].to_pylist() == found
        assert db.asof("BHP", **when).arrow()["trade_id"].to_pylist() == found
        with db.replay("BHP", tables=["trades"], **when) as playback:
            assert [name for batch in playback for name in batch["trade_id"].to_pylist()] == found


def test_a_date_is_that_of_the_exchange_that_is_asked_for_or_found(client):
    assert ids(client.get("/v1/trades", params={"symbol": "IBM", "date": DAY, "session": "regular"})) == ["bell"]
    body = {"date": DAY, "exchange": "NYSE", "session": "regular"}
    assert ids(client.post("/v1/trades/query", json=body)) == ["bell"]
    said = problem(client.post("/v1/trades/query", json={"date": DAY}), 400)
    assert said["detail"].startswith(
        "A date is not the same instants on all exchanges of what is asked for: found 'ASX, NYSE'"
    )
    said = problem(client.post("/v1/replay", json={"symbols": ["BHP", "IBM"], "date": DAY}), 400)
    assert said["remedy"] == "Ask with exchange=ASX"
    assert ids(client.get("/v1/trades", params={"symbol": "NONE", "date": DAY})) == []


def test_pages_of_a_date_go_on_with_it_or_without(client):
    asked = {"symbol": "BHP", "date": DAY, "limit": 3}
    page = client.get("/v1/trades", params=asked).json()
    token = {"page_token": page["next_page"], "limit": 3}
    assert ids(client.get("/v1/trades", params=asked | token)) == ["close", "last"]
    assert ids(client.get("/v1/trades", params=token)) == ["close", "last"]
    problem(client.get("/v1/trades", params=asked | token | {"date": "2014-03-11"}), 400)


def test_pages_and_cursors_of_sessions_stay_within_them(client):
    sessions = {"date": "2014-03-07", "last_date": "2015-01-02", "session": "regular"}
    asked, found = {"symbol": "BHP", "limit": 1, **sessions}, []
    while asked:
        page = client.get("/v1/trades", params=asked).json()
        found += [row["trade_id"] for row in page["data"]]
        asked = {"page_token": page["next_page"], "limit": 1} if page["next_page"] else None
    assert found == ["friday", "open", "noon", "summer"]
    asked, found = {"symbols": ["BHP"], "tables": ["trades"], "limit": 1, **sessions}, []
    while asked:
        page = client.post("/v1/replay", json=asked).json()
        found += [row["trade_id"] for row in page["data"]]
        asked = None if page["done"] else {"cursor": page["cursor"], "limit": 1}
    assert found == ["friday", "open", "noon", "summer"]


@pytest.mark.parametrize(
    ("when", "detail"),
    [
        ({"session": "regular"}, "session is of a trading date"),
        ({"date": DAY, "last_date": "2015-04-14", "session": "regular"}, "Too many dates for their regular sessions"),
        ({"date": DAY, "start": DAY}, "Both date and start or end are given"),
        ({"date": "10 March"}, "date is not a date"),
        ({"start": DAY, "tz": "Moon/Far"}, "tz is not a time zone: found 'Moon/Far'"),
        ({"start": DAY, "tz": "../etc"}, "tz is not a time zone"),
        ({"start": "2014-04-06T02:30", "tz": "Australia/Sydney"}, "Australia/Sydney's clocks show that start twice"),
        ({"start": "2014-10-05T02:30", "tz": "Australia/Sydney"}, "Australia/Sydney's clocks never show that start"),
    ],
)
def test_what_is_no_period_is_refused(client, when, detail):
    assert problem(client.get("/v1/trades", params={"symbol": "BHP", **when}), 400)["detail"].startswith(detail)
    assert problem(client.post("/v1/replay", json=when), 400)["detail"].startswith(detail)


def test_a_time_that_was_known_is_of_the_zone_too(client):
    now = client.get("/v1/trades", params={"symbol": "BHP"}).json()["snapshot_time"]
    early = {"symbol": "BHP", "as_of": now[:-1], "tz": "Pacific/Kiritimati"}  # 14 hours before now
    problem(client.get("/v1/trades", params=early), 410)
    assert client.get("/v1/trades", params=early | {"tz": "UTC"}).status_code == 200


def test_dates_of_python_are_the_exchanges_and_its_midnights_are_of_the_zone(tmp_path):
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        day = date(2014, 3, 10)
        assert db.trades("BHP", date=day).arrow().num_rows == 5
        assert db.trades("BHP", start=day, end=day + timedelta(days=1), tz="Australia/Sydney").arrow().num_rows == 5
        from_utc = db.trades("BHP", start=day, end=day + timedelta(days=1)).arrow()["trade_id"].to_pylist()
        assert from_utc == ["noon", "close", "last", "after"]
        first = db.snapshots().arrow()["snapshot_id"].to_pylist()[-1]
        for each, came in ((day, ["bell"]), ("2014-03-11", [])):
            rows = db.diff("trades", first, symbols="IBM", date=each, session="regular").arrow()
            assert rows["trade_id"].to_pylist() == came
        (bar,) = db.bars("BHP", interval="1d", date=day).rows()
        assert bar["date"] == day
        with pytest.raises(UserError, match="session is of a trading date"):
            db.quotes("BHP", session="regular")
