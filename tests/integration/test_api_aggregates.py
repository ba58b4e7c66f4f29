"""Bars and as-of joins over REST and by the client, on a real catalog: forms, parameters, and each error with its text."""

import csv
import io
import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.ipc
import pytest
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.service import KEY, serving
from k2_testing.ticks import append_ticks, at

from k2.client.local import Local
from k2.client.remote import Remote
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.topics import DataType

OPEN = at("2014-03-09T23:00:00")  # 10:00 in Sydney
DAY = {"date": "2014-03-10"}


@pytest.fixture
def lake(tmp_path):
    catalog = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    quote = {"bid_price": Decimal(9), "ask_price": Decimal(11), "bid_quantity": Decimal(1), "ask_quantity": Decimal(2)}
    append_ticks(
        catalog,
        [{"timestamp": OPEN - timedelta(seconds=1), "symbol": s} | quote for s in ("BHP", "DVN")],
        DataType.QUOTES,
    )
    append_ticks(
        catalog,
        [
            {"timestamp": OPEN + timedelta(seconds=30 * n), "price": Decimal(10 + n), "symbol": symbol}
            for n in range(4)
            for symbol in ("BHP", "DVN")
        ],
    )
    append_ticks(catalog, [{"timestamp": OPEN + timedelta(hours=7), "price": Decimal(99)}])
    return catalog


@pytest.fixture
def serve(lake, tmp_path):
    with ExitStack() as started:
        yield lambda **config: started.enter_context(serving(tmp_path, **config))


@pytest.fixture
def client(serve):
    return serve()


def test_bars_of_a_symbol(client):
    body = client.get("/v1/bars/BHP", params=DAY | {"session": "regular"}).json()
    assert body["data"] == [
        {
            "symbol": "BHP",
            "exchange": "ASX",
            "date": "2014-03-10",
            "start": f"2014-03-09T23:0{minute}:00.000000Z",
            "end": f"2014-03-09T23:0{minute + 1}:00.000000Z",
            "open": f"{10 + 2 * minute}.00000000",
            "high": f"{11 + 2 * minute}.00000000",
            "low": f"{10 + 2 * minute}.00000000",
            "close": f"{11 + 2 * minute}.00000000",
            "volume": "2.00000000",
            "vwap": f"{10 + 2 * minute}.50000000",
            "twap": f"{10 + 2 * minute}.50000000",
            "trade_count": 2,
        }
        for minute in range(2)
    ]
    assert (body["interval"], body["session"], body["time_zones"]) == ("1m", "regular", {"ASX": "Australia/Sydney"})
    assert (body["count"], body["more"]) == (2, False)
    assert body["complete_until"] == "2014-03-10T06:00:00.000000Z"


def test_the_same_bars_by_post_of_several_symbols(client):
    reply = client.post("/v1/aggregations", json=DAY | {"symbols": ["DVN", "BHP"], "interval": "1h"})
    rows = reply.json()["data"]
    assert [(row["symbol"], row["start"][11:13], row["close"][:2]) for row in rows] == [
        ("BHP", "23", "13"),
        ("DVN", "23", "13"),
        ("BHP", "06", "99"),
    ]
    one = client.post("/v1/aggregations", json=DAY | {"symbols": ["BHP"]}).json()
    assert one["data"] == client.get("/v1/bars/BHP", params=DAY).json()["data"]


def test_a_summary_of_the_regular_session_equals_the_days_bar(client):
    for session, high in (("all", "99.00000000"), ("regular", "13.00000000")):
        summary = client.get("/v1/summary/BHP/2014-03-10", params={"session": session}).json()
        (bar,) = client.get("/v1/bars/BHP", params=DAY | {"session": session, "interval": "1d"}).json()["data"]
        assert summary["session"] == session
        assert bar["high"] == high
        for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count"):
            assert summary[name] == bar[name], name


def test_empty_buckets_in_every_form(client):
    params = {"start": "2014-03-09T23:01Z", "end": "2014-03-09T23:03Z", "empty": "null"}
    text = client.get("/v1/bars/BHP", params=params | {"format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["date"], row["close"], row["volume"]) for row in rows] == [
        ("2014-03-10", "13.00000000", "2.00000000"),
        ("2014-03-10", "", "0.00000000"),
    ]
    reply = client.get("/v1/bars/BHP", params=params | {"format": "arrow", "empty": "carry"})
    found = pa.ipc.open_stream(reply.content).read_all()
    assert found["close"].to_pylist() == [13, 13]
    assert reply.headers["K2-More"] == "false"
    assert client.get("/v1/bars/BHP", params=params | {"format": "parquet"}).content[:4] == b"PAR1"
    lines = client.get("/v1/bars/BHP", params=params | {"format": "ndjson"}).text.splitlines()
    assert json.loads(lines[1])["close"] is None


def test_a_limit_cuts_off_and_says_so_and_too_large_a_one_is_refused(serve):
    client = serve(max_rows=3)
    body = client.get("/v1/bars/BHP", params=DAY | {"limit": 2}).json()
    assert (body["count"], body["more"]) == (2, True)
    assert client.get("/v1/bars/BHP", params=DAY).json()["count"] == 3
    assert client.get("/v1/asof", params={"symbol": "BHP"}).json()["count"] == 3
    for path, params in (("/v1/bars/BHP", DAY), ("/v1/asof", {"symbol": "BHP"})):
        reply = client.get(path, params=params | {"limit": 4})
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith("limit is too large: found 4, expected at most 3.")


def test_a_bar_that_is_asked_for_again_is_not_sent_again(client):
    first = client.get("/v1/bars/BHP", params=DAY)
    again = client.get("/v1/bars/BHP", params=DAY, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_an_answer_that_goes_on_until_now_is_not_kept_and_one_of_the_past_stays(client):
    this_year = {
        "date": f"{datetime.now(UTC).year}-01-01",
        "last_date": f"{datetime.now(UTC).year}-12-31",
        "interval": "1d",
    }
    for params, kept in ((DAY, True), (this_year, False)):
        for empty in ("skip", "null", "carry"):
            reply = client.get("/v1/bars/BHP", params=params | {"empty": empty})
            assert ("ETag" in reply.headers) is (kept or empty == "skip"), (params, empty)
            known = {"If-None-Match": "*"}
            again = client.get("/v1/bars/BHP", params=params | {"empty": empty}, headers=known)
            assert again.status_code == (304 if "ETag" in reply.headers else 200)
    snapshot = {"snapshot": client.get("/v1/snapshots").json()["current_snapshot_id"]}
    assert "ETag" in client.get("/v1/bars/BHP", params=this_year | snapshot | {"empty": "null"}).headers


def test_trades_with_the_quotes_that_prevailed(client):
    body = client.get("/v1/asof", params={"symbol": "BHP", "end": "2014-03-09T23:01Z"}).json()
    assert body["data"][0] | {"message_id": "", "ingestion_timestamp": ""} == {
        "message_id": "",
        "trade_id": "T0",
        "symbol": "BHP",
        "exchange": "ASX",
        "asset_class": "equities",
        "timestamp": "2014-03-09T23:00:00.000000Z",
        "price": "10.00000000",
        "quantity": "1.00000000",
        "currency": "AUD",
        "side": "UNKNOWN",
        "trade_conditions": [],
        "source_sequence": None,
        "ingestion_timestamp": "",
        "platform_sequence": None,
        "vendor_data": None,
        "quote_timestamp": "2014-03-09T22:59:59.000000Z",
        "bid_price": "9.00000000",
        "bid_quantity": "1.00000000",
        "ask_price": "11.00000000",
        "ask_quantity": "2.00000000",
        "mid": "10.00000000",
        "spread": "2.00000000",
        "effective_spread": "0.00000000",
        "inferred_side": "UNKNOWN",
    }
    assert body["data"][1]["inferred_side"] == "BUY"
    assert (body["count"], body["more"]) == (2, False)
    assert body["quotes"]["complete_until"] == "2014-03-09T22:59:59.000000Z"
    assert body["quotes"]["snapshot_id"] != body["snapshot_id"]


def test_fields_lookback_and_forms_of_the_join(client):
    params = {"symbols": "BHP,DVN", "fields": "symbol,price,mid", "lookback": "31s", "format": "csv", "limit": 4}
    text = client.get("/v1/asof", params=params).text
    assert text.splitlines() == [
        "symbol,price,mid",
        "BHP,10.00000000,10.00000000",
        "DVN,10.00000000,10.00000000",
        "BHP,11.00000000,10.00000000",
        "DVN,11.00000000,10.00000000",
    ]


@pytest.mark.parametrize(
    ("path", "params", "status", "detail"),
    [
        ("/v1/bars/BHP", {"interval": "2m"}, 422, "interval cannot be used"),
        ("/v1/bars/BHP", {"session": "night"}, 422, "session cannot be used"),
        ("/v1/bars/BHP", {"empty": "zero"}, 422, "empty cannot be used"),
        ("/v1/bars/BHP", {"date": "2014-02-30"}, 400, "date is not a date"),
        ("/v1/bars/BHP", {"date": "0001-01-01"}, 400, "The date is out of range"),
        ("/v1/bars/BHP", {"last_date": "2014-03-10"}, 400, "last_date is given without date"),
        ("/v1/bars/BHP", DAY | {"start": "2014-03-10"}, 400, "Both date and start or end are given"),
        ("/v1/bars/BHP", DAY | {"last_date": "2014-03-09"}, 400, "The dates are reversed"),
        ("/v1/bars/BHP", {"start": "2015-01-01", "end": "2014-01-01"}, 400, "The time range is reversed"),
        ("/v1/bars/BHP", {"exchange": "MARS"}, 400, "Unknown exchange"),
        ("/v1/bars/BHP", {"symbol": "BHP"}, 422, "symbol is not a parameter of this route"),
        ("/v1/asof", {}, 400, "No symbol is given"),
        ("/v1/asof", {"symbol": "BHP", "lookback": "soon"}, 400, "lookback is no duration"),
        ("/v1/asof", {"symbol": "BHP", "fields": "price,pnl"}, 400, "Unknown field: found 'pnl'"),
        ("/v1/asof", {"symbol": "BHP", "limit": 0}, 422, "limit cannot be used"),
    ],
)
def test_what_cannot_be_used_is_said(client, path, params, status, detail):
    reply = client.get(path, params=params)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["detail"].startswith(detail)


def test_bodies_that_cannot_be_used(client):
    for body in ({}, {"symbols": []}, {"symbols": ["BHP"], "interval": 5}, {"symbols": ["BHP"], "wrong": 1}):
        assert client.post("/v1/aggregations", json=body).status_code == 422, body
    assert client.post("/v1/aggregations", json={"symbols": ["\n"]}).status_code == 400


def test_nothing_is_an_empty_list_with_a_note(client):
    for path in ("/v1/bars/NONE", "/v1/asof?symbol=NONE"):
        body = client.get(path).json()
        assert (body["data"], body["count"]) == ([], 0)
        assert "has nothing of NONE" in body["note"]


def test_without_a_key_there_are_no_bars(client):
    for path in ("/v1/bars/BHP", "/v1/asof?symbol=BHP"):
        assert client.get(path, headers={"X-API-Key": "wrong"}).status_code == 401


def test_the_examples_of_the_reference_are_answered(client):
    reference = client.get("/openapi.json").json()
    properties = reference["components"]["schemas"]["AggregationsBody"]["properties"]
    body = {name: told["examples"][0] for name, told in properties.items() if "examples" in told}
    assert client.post("/v1/aggregations", json=body).json()["data"]
    for path, method in (("/v1/bars/BHP", "/v1/bars/{symbol}"), ("/v1/asof", "/v1/asof")):
        told = reference["paths"][method]["get"]["parameters"]
        params = {each["name"]: each["schema"]["examples"][0] for each in told if "examples" in each["schema"]}
        params.pop("symbol", None)
        reply = client.get(path, params=params | ({"symbol": "BHP"} if path == "/v1/asof" else {}))
        assert reply.json()["data"], reply.text


def test_the_examples_of_the_manual_are_answered(client):
    text = (Path(__file__).parents[2] / "docs/queries.md").read_text()
    text = text[text.index("## Bars") : text.index("## Companies and what changed their shares")]
    paths = re.findall(r"'http://127\.0\.0\.1:8000(/v1/[^']+)'", text)
    assert len(paths) == 2
    for path in paths:
        reply = client.get(path)
        assert reply.json()["data"], (path, reply.text)
    ((path, body),) = re.findall(r"http://127\.0\.0\.1:8000(/v1/\S+) \\\n\s+-d '([^']+)'", text)
    assert {row["symbol"] for row in client.post(path, json=json.loads(body)).json()["data"]} == {"BHP", "DVN"}


def test_remote_and_local_clients_give_the_same(client, tmp_path):
    def send(request):
        headers = {"Content-Type": "application/json", "X-API-Key": KEY}
        path = request.url.raw_path.decode()
        reply = client.request(request.method, path, headers=headers, content=request.content)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    settings = Settings(
        catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path, api_url="http://k2", api_key=KEY
    )
    asked = {"date": "2014-03-10", "interval": "1h", "session": "regular", "empty": "carry", "exchange": None}
    joined = {"symbol": "BHP", "fields": "price,inferred_side", "lookback": "1h", "limit": 3}
    with Remote(settings, transport=httpx.MockTransport(send)) as remote, Local(settings) as local:
        for ask in (lambda each: each.bars(("BHP",), asked), lambda each: each.asof(joined)):
            there, here = ask(remote), ask(local)
            assert there.arrow() == here.arrow()
            assert there.arrow().num_rows
            for name, value in there.envelope.items():
                assert here.envelope[name] == value
        assert remote.summary("BHP", "2014-03-10", {"session": "regular"})["high"] == "13.00000000"
        assert local.summary("BHP", "2014-03-10", {"session": "regular"})["high"] == "13.00000000"
        week = {"start": "2024-11-27", "end": "2024-11-30"}
        assert remote.calendar("nyse", week) == local.calendar("nyse", week)
        with pytest.raises(UserError, match="interval cannot be used"):
            local.bars(("BHP",), {"interval": "2m"})
