"""An exchange's calendar over REST and from Python, and what other answers say of the calendars that they went by."""

from datetime import date, datetime

import pytest
from k2_testing.lake import catalog_properties
from k2_testing.ticks import OPEN, append_ticks, at, trade

import k2
from k2.model import exchanges
from k2.model.exchange_entries import ExchangesDocument
from k2.model.topics import DataType

WEEK = {"start": "2024-11-27", "end": "2024-11-30"}


def test_the_calendar_says_of_each_date_when_it_opens_and_what_kind_it_is(client):
    body = client.get("/v1/calendar/nyse", params=WEEK).json()
    assert [(row["date"], row["status"], row["closes"]) for row in body["data"]] == [
        ("2024-11-27", "regular", "2024-11-27T21:00:00.000000Z"),
        ("2024-11-28", "closed", None),
        ("2024-11-29", "special", "2024-11-29T18:00:00.000000Z"),
        ("2024-11-30", "closed", None),
    ]
    assert (body["exchange"], body["calendar"], body["time_zone"]) == ("NYSE", "XNYS", "America/New_York")
    assert (body["known_from"], body["known_until"], body["count"]) == ("1990-01-01", "2029-12-31", 4)
    assert body["source"].startswith(f"exchange-calendars {body['version'].partition('-')[0]}, tzdata ")


def test_which_profiles_an_exchange_has_stands_beside_its_dates(client):
    asx = client.get("/v1/calendar/ASX", params=WEEK).json()
    assert asx["profiles"] == {"on_market": {"exclude_conditions": ["1", "3", "9"]}}
    assert asx["default_profile"] == "on_market"
    nyse = client.get("/v1/calendar/NYSE", params=WEEK).json()
    assert (nyse["profiles"], nyse["default_profile"]) == ({}, None)


def test_pauses_and_evenings_are_told(client):
    (row,) = client.get("/v1/calendar/TSE", params={"start": "2024-11-05", "end": "2024-11-05"}).json()["data"]
    assert row["pauses"] == ["2024-11-05T02:30:00.000000Z/2024-11-05T03:30:00.000000Z"]
    (row,) = client.get("/v1/calendar/CME", params={"start": "2024-03-11", "end": "2024-03-11"}).json()["data"]
    assert (row["begins"], row["opens"]) == ("2024-03-10T22:00:00.000000Z",) * 2


def test_what_a_calendar_does_not_know_is_unknown_in_it(client):
    (first, second) = client.get("/v1/calendar/TSE", params={"start": "1996-12-31", "end": "1997-01-01"}).json()["data"]
    assert (first["status"], first["opens"]) == ("unknown", None)
    assert second["status"] == "closed"
    always = client.get("/v1/calendar/BINANCE").json()
    assert (always["known_from"], always["known_until"], always["version"], always["count"]) == (None, None, None, 31)


def test_a_calendar_comes_in_other_forms_too(client):
    lines = client.get("/v1/calendar/NYSE", params=WEEK | {"format": "csv"}).text.splitlines()
    assert lines[0].startswith("date,status,opens,closes,pauses,begins,ends")
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/calendar/NYS", "Unknown exchange: found 'NYS', expected NYSE"),
        ("/v1/calendar/NYSE?start=2024-11-05&end=2024-11-04", "The dates are reversed"),
        ("/v1/calendar/NYSE?start=1990-01-01&end=2024-11-04", "Too many dates: found '12,727'"),
        ("/v1/calendar/NYSE?start=tomorrow", "start is not a date"),
        ("/v1/calendar/NYSE?date=2024-11-05", "date"),
        (
            "/v1/trades?symbol=6758&exchange=TSE&date=1996-12-27&session=regular",
            "found '1996-12-27', expected a date from 1997-01-01 to 2029-12-31. Ask with session=all",
        ),
    ],
)
def test_what_cannot_be_asked_of_a_calendar_is_refused_with_the_reason(client, path, words):
    reply = client.get(path)
    assert reply.status_code in {400, 422}
    assert words in reply.json()["detail"]


def test_python_has_dates_and_times(lake, tmp_path):
    with k2.connect(catalog=catalog_properties(tmp_path)) as db:
        found = db.calendar("NYSE", date(2024, 11, 28), "2024-11-29")
        rows = found.arrow().to_pylist()
    assert [row["date"] for row in rows] == [date(2024, 11, 28), date(2024, 11, 29)]
    assert rows[1]["closes"] == datetime.fromisoformat("2024-11-29T18:00:00+00:00")
    assert found.envelope["calendar"] == "XNYS"


def test_each_answer_by_trading_dates_says_by_which_calendar(client, lake):
    sides = dict.fromkeys(("bid_price", "bid_quantity", "ask_price", "ask_quantity"), 1)
    append_ticks(lake, [trade(1, "2")])
    append_ticks(lake, [{"timestamp": OPEN} | sides], DataType.QUOTES)
    day = {"symbol": "BHP", "date": "2014-03-10"}
    version = client.get("/v1/calendar/ASX").json()["version"]
    for path in ("/v1/trades", "/v1/quotes", "/v1/bars", "/v1/summary", "/v1/asof"):
        reply = client.get(path, params=day)
        assert reply.json()["calendars"] == {"ASX": f"XASX {version}"}, path
        assert reply.headers.get("k2-calendars") == f"ASX XASX {version}"
    window = {"symbol": "BHP", "start": "2014-03-09", "end": "2014-03-11"}
    assert "calendars" not in client.get("/v1/trades", params=window).json()
    pages = client.get("/v1/trades", params=day | {"session": "regular", "limit": 1}).json()
    assert pages["calendars"] == {"ASX": f"XASX {version}"}


def test_later_pages_say_it_too(client, lake):
    append_ticks(lake, [trade(second) for second in range(3)])
    first = client.get("/v1/trades", params={"symbol": "BHP", "date": "2014-03-10", "limit": 2}).json()
    second = client.get("/v1/trades", params={"page_token": first["next_page"]}).json()
    assert second["count"] == 1
    assert second["calendars"] == first["calendars"]


def test_an_answer_is_another_one_when_the_calendar_is(client, lake):
    append_ticks(lake, [{"timestamp": at("2014-03-10T06:05:00")}])  # 17:05 in Sydney
    asked = {"symbol": "BHP", "date": "2014-03-10", "session": "regular", "hybrid": "false"}
    shipped = client.get("/v1/bars", params=asked)
    assert shipped.json()["count"] == 0
    tag = {"If-None-Match": shipped.headers["etag"]}
    assert client.get("/v1/bars", params=asked, headers=tag).status_code == 304
    longer = {"basedOn": "XASX", "hours": [{"open": "10:00", "close": "18:00"}]}
    exchanges.use(
        ExchangesDocument.model_validate({"exchanges": {"ASX": {"calendar": "own"}}, "calendars": {"own": longer}})
    )
    try:
        own = client.get("/v1/bars", params=asked, headers=tag)
        assert own.status_code == 200
        assert own.json()["count"] == 1
        assert own.json()["calendars"]["ASX"].startswith("own ")
    finally:
        exchanges.use(None)
