"""The REST API on a real catalog: answers, forms, keys, and each error with its text."""

import csv
import hashlib
import io
import json
import os
from datetime import timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.sinks import eventually
from k2_testing.ticks import append_ticks, at

from k2.api.app import create_app
from k2.model.exchanges import shipped
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.query.rows import sql
from k2.query.rows.statement import Statement

OPEN = at("2014-03-09T23:00:00")
KEY = "secret-key"


def entry(key, name="desk"):
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps([entry("other", "other"), entry(KEY)]))
    return path


@pytest.fixture
def serve(tmp_path, key_file):
    clients = []

    def start(**config):
        settings = Settings(catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path)
        app = create_app(QueryConfig(**{"api_keys_file": key_file} | config), settings)
        client = TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": KEY})
        clients.append(client)
        return client.__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(lake, serve):
    append_ticks(
        lake,
        [
            {"timestamp": OPEN + timedelta(seconds=n), "price": Decimal(10 + n), "quantity": Decimal("1.5")}
            for n in range(4)
        ],
    )
    append_ticks(lake, [{"timestamp": OPEN, "bid_price": Decimal(9), "bid_quantity": Decimal(1)}], DataType.QUOTES)
    return serve()


def problem(reply, status):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    assert body["correlation_id"] == reply.headers["X-Correlation-ID"]
    return body


# --- answers ---------------------------------------------------------------------------------------------------------


def test_trades_are_json_with_exact_strings_and_what_they_were_read_from(client):
    reply = client.get("/v1/trades", params={"symbol": "BHP", "start": "2014-03-09T23:00:01Z", "limit": 2})
    body = reply.json()
    assert [(row["price"], row["timestamp"]) for row in body["data"]] == [
        ("11.00000000", "2014-03-09T23:00:01.000000Z"),
        ("12.00000000", "2014-03-09T23:00:02.000000Z"),
    ]
    assert body["data"][0]["message_id"] == "00000000-0000-0000-0000-000000000001"
    assert (body["count"], body["more"]) == (2, True)
    assert body["complete_until"] == "2014-03-09T23:00:03.000000Z"
    assert reply.headers["K2-Snapshot-Id"] == body["snapshot_id"]
    assert reply.headers["K2-Complete-Until"] == body["complete_until"]


def test_quotes_have_null_on_the_side_that_is_not_there(client):
    row = client.get("/v1/quotes", params={"symbol": "BHP"}).json()["data"][0]
    assert (row["bid_price"], row["ask_price"]) == ("9.00000000", None)


def test_a_summary_of_a_trading_date(client):
    body = client.get("/v1/summary/BHP/2014-03-10").json()
    assert {name: body[name] for name in ("open", "high", "low", "close", "volume", "vwap", "trade_count")} == {
        "open": "10.00000000",
        "high": "13.00000000",
        "low": "10.00000000",
        "close": "13.00000000",
        "volume": "6.00000000",
        "vwap": "11.50000000",
        "trade_count": 4,
    }
    assert (body["exchange"], body["time_zone"], body["currency"]) == ("ASX", "Australia/Sydney", "AUD")


def test_symbols_stats_snapshots_and_date_range(client):
    assert client.get("/v1/symbols").json()["data"][0] == {
        "symbol": "BHP",
        "exchange": "ASX",
        "rows": 4,
        "first_time": "2014-03-09T23:00:00.000000Z",
        "last_time": "2014-03-09T23:00:03.000000Z",
    }
    assert client.get("/v1/date-range", params={"symbol": "BHP"}).json()["last_time"] == "2014-03-09T23:00:03.000000Z"
    tables = {table["table"]: table["rows"] for table in client.get("/v1/stats").json()["tables"]}
    assert tables == {"market_data.trades": 4, "market_data.quotes": 1}
    listed = client.get("/v1/snapshots", params={"table": "trades"}).json()
    assert listed["data"][0]["current"] is True
    assert listed["data"][0]["snapshot_id"] == listed["current_snapshot_id"]
    assert (listed["data"][0]["rows_added"], listed["retained"]) == (4, 1)


def test_any_form_can_be_asked_for(client):
    path, params = "/v1/trades", {"symbol": "BHP"}
    text = client.get(path, params=params, headers={"Accept": "text/csv"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(text.text)))
    assert [row["price"] for row in rows] == ["10.00000000", "11.00000000", "12.00000000", "13.00000000"]
    lines = client.get(path, params=params | {"format": "ndjson"}).text.splitlines()
    assert json.loads(lines[3])["price"] == "13.00000000"
    arrow = client.get(path, params=params | {"format": "arrow"}).content
    assert pa.ipc.open_stream(arrow).read_all()["price"].to_pylist() == [10, 11, 12, 13]
    assert client.get(path, params=params | {"format": "parquet"}).content[:4] == b"PAR1"
    assert client.get("/v1/summary/BHP/2014-03-10", params={"format": "csv"}).text.startswith("symbol,exchange,date,")
    assert client.get("/v1/symbols", params={"format": "csv"}).text.splitlines()[1].startswith("BHP,ASX,4,")


def test_a_large_answer_streams_and_is_whole(lake, serve):
    ticks = [{"timestamp": OPEN + timedelta(milliseconds=n), "price": Decimal(n % 7 + 1)} for n in range(21_000)]
    append_ticks(lake, ticks)
    body = serve().get("/v1/trades", params={"symbol": "BHP", "limit": 100_000}).json()
    assert (body["count"], len(body["data"]), body["more"]) == (21_000, 21_000, False)


def test_an_earlier_snapshot_answers(lake, client):
    before = client.get("/v1/trades", params={"symbol": "BHP"}).json()
    append_ticks(lake, [{"timestamp": OPEN, "price": Decimal(1)}])
    assert client.get("/v1/trades", params={"symbol": "BHP"}).json()["count"] == 5
    pinned = client.get("/v1/trades", params={"symbol": "BHP", "snapshot": before["snapshot_id"]}).json()
    assert pinned == before
    as_of = client.get("/v1/summary/BHP/2014-03-10", params={"as_of": before["snapshot_time"]}).json()
    assert as_of["trade_count"] == 4


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/v1/trades", 422, "symbol is missing."),
        ("/v1/trades?symbol=BHP&limit=0", 422, "limit cannot be used: input should be greater than or equal to 1."),
        ("/v1/trades?symbol=BHP&limit=x", 422, "limit cannot be used: input should be a valid integer, unable to parse string as an integer."),
        ("/v1/trades?symbol=BHP&strat=2014", 422, "strat is not a parameter of this route."),
        ("/v1/trades?symbol=BHP&format=xml", 422, "format cannot be used: input should be 'json', 'ndjson', 'csv', 'parquet' or 'arrow'."),
        (
            "/v1/trades?symbol=BHP&limit=1000001",
            400,
            "limit is too large: found 1000001, expected at most 1000000. Take it page by page (next_page), or as NDJSON, CSV, Parquet or an Arrow stream.",
        ),
        (
            "/v1/trades?symbol=BHP&start=yesterday",
            400,
            "start is not a time: found 'yesterday', expected an ISO 8601 time (2014-03-10T10:00:00Z; UTC when it has no offset), or a number since 1970 with its unit (1394445600000000000ns, also us, ms and s; 19 digits alone are nanoseconds).",
        ),
        ("/v1/trades?symbol=BHP&start=20140310", 400, "start is not a time: found '20140310', expected an ISO 8601 time (2014-03-10T10:00:00Z; UTC when it has no offset), or a number since 1970 with its unit (1394445600000000000ns, also us, ms and s; 19 digits alone are nanoseconds)."),
        (
            "/v1/trades?symbol=BHP&end=2014-03-10T10:00%2B10:75",
            400,
            "end has an offset that no clock has: found '2014-03-10T10:00+10:75', expected at most 14:00 from UTC, with minutes below 60.",
        ),
        (
            "/v1/trades?symbol=BHP&start=2014-03-11&end=2014-03-10",
            400,
            "The time range is reversed: found 'start 2014-03-11T00:00:00.000000Z, end 2014-03-10T00:00:00.000000Z', expected start before end.",
        ),
        ("/v1/trades?symbol=%00", 400, "Not a symbol: found '\\x00', expected 1 to 64 printable characters."),
        ("/v1/trades?symbol=BHP&exchange=A%20B", 400, "Not an exchange's code: found 'A B', expected 1 to 32 letters, digits and '-', such as ASX."),
        ("/v1/trades?symbol=BHP&snapshot=abc", 400, "snapshot is not a snapshot's id: found 'abc', expected an integer from /v1/snapshots."),
        ("/v1/trades?symbol=BHP&snapshot=1&as_of=2014-01-01", 400, "Both snapshot and as_of are given, expected one of them."),
        ("/v1/summary/BHP/10-03-2014", 400, "date is not a date: found '10-03-2014', expected a calendar date, YYYY-MM-DD."),
        ("/v1/summary/BHP/0001-01-01", 400, "The date is out of range: found '0001-01-01', expected a year from 1 to 9999."),
        (
            "/v1/summary/BHP/2014-03-11",
            404,
            "market_data.trades has no trades of BHP on ASX on 2014-03-11. The list of symbols says from when to when each was traded; a date is one of the exchange's time zone.",
        ),
        (
            "/v1/summary/BHP/2014-03-11?exchange=MOON",
            400,
            (
                f"Unknown exchange: found 'MOON', expected OSLO or another of the {len(shipped())} that K2 knows. "
                "Add it under `exchanges` in the platform's settings (docs/exchanges.md)."
            ),
        ),
        ("/v1/date-range?symbol=XYZ", 404, "market_data.trades has nothing of XYZ. The list of symbols says what there is."),
        ("/v1/nothing", 404, "Not Found: /v1/nothing"),
    ],
)  # fmt: skip
def test_each_error_says_what_is_wrong(client, path, status, detail):
    assert problem(client.get(path), status)["detail"] == detail


def test_a_time_or_snapshot_that_is_not_retained_is_gone_and_names_the_nearest(client):
    body = problem(client.get("/v1/trades?symbol=BHP&as_of=2014-03-10"), 410)
    assert body["type"] == "urn:k2:problem:snapshot-gone"
    assert body["detail"].startswith(
        "What market_data.trades held then is not retained: found '2014-03-10T00:00:00.000000Z'"
    )
    assert "expected one of the nearest: after it " in body["detail"]
    assert problem(client.get("/v1/trades?symbol=BHP&snapshot=12345"), 410)["found"] == "12345"


def test_a_symbol_on_several_exchanges_is_a_conflict_with_the_remedy(lake, client):
    append_ticks(lake, [{"timestamp": OPEN, "exchange": "NYSE"}])
    body = problem(client.get("/v1/trades?symbol=BHP"), 409)
    assert body["remedy"] == "Ask with exchange=ASX"
    assert client.get("/v1/trades?symbol=BHP&exchange=nyse").json()["count"] == 1


def test_other_methods_are_refused(client):
    assert problem(client.post("/v1/trades"), 405)["detail"] == "Method Not Allowed: /v1/trades"


def test_a_query_over_its_deadline_is_stopped_and_the_service_lives_on(lake, serve, monkeypatch):
    append_ticks(lake, [{"timestamp": OPEN}])
    client = serve(timeout_seconds=0.3, connections=1)
    endless = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE (a.range * b.range) % 7 = 3"
    with monkeypatch.context() as slow:
        slow.setattr(sql, "events", lambda *_, **__: Statement(endless, {}))
        body = problem(client.get("/v1/trades?symbol=BHP"), 504)
    assert body["detail"] == ("The trades query was stopped after 0.3 s. Ask for a shorter time range or fewer rows")
    # With the one connection that there is; a real question may miss so short a deadline where the machine is slow.
    eventually(lambda: client.get("/v1/trades?symbol=BHP").json().get("count") == 1, "it does not live on")


def test_what_nobody_foresaw_is_an_internal_error_that_tells_nothing_but_where_to_look(client, monkeypatch):
    def broken(*_):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(client.app.state.service.questions, "all_stats", broken)
    reply = client.get("/v1/stats", headers={"X-Correlation-ID": "my-trace-1"})
    body = problem(reply, 500)
    assert body["correlation_id"] == "my-trace-1"
    assert "hunter2" not in reply.text


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b'{"\\ud800": 1}', b'{"symbols": ["\\ud800"]}', b'{"exchange": "\\udfff"}', b'{"tz": "\\ud800"}']
)
@pytest.mark.parametrize("path", ["trades/query", "aggregations", "replay", "pins", "snapshots/1/query"])
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(client, path, body):
    reply = client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    assert problem(reply, reply.status_code)["detail"]


def test_without_a_key_or_with_a_wrong_one_nothing_opens(client):
    del client.headers["X-API-Key"]
    body = problem(client.get("/v1/trades?symbol=BHP"), 401)
    assert body["detail"] == "There is no API key in the request, expected the header X-API-Key."
    reply = client.get("/v1/trades?symbol=BHP", headers={"X-API-Key": "wrong"})
    assert problem(reply, 401)["detail"] == "The API key is not known, expected a key that the service was given."
    assert reply.headers["WWW-Authenticate"] == 'ApiKey header="X-API-Key"'
    digest = entry(KEY)["sha256"]
    problem(client.get("/v1/stats", headers={"X-API-Key": digest}), 401)  # what is at rest opens nothing


def test_no_route_of_the_interface_opens_without_a_key(client):
    routes = client.get("/openapi.json").json()["paths"]
    del client.headers["X-API-Key"]
    asked = [(method, path) for path, methods in routes.items() if path.startswith("/v1/") for method in methods]
    assert len(asked) > 15
    for method, path in asked:
        assert routes[path][method]["security"] == [{"APIKeyHeader": []}]
        body = {"json": {}} if method in ("post", "put", "patch") else {}
        problem(client.request(method, path, **body), 401)


def test_a_changed_key_file_is_in_force_at_once_and_a_broken_one_changes_nothing(client, key_file):
    key_file.write_text(json.dumps([entry("new")]))
    assert client.get("/v1/stats").status_code == 401
    assert client.get("/v1/stats", headers={"X-API-Key": "new"}).status_code == 200
    key_file.write_text("[{")
    assert client.get("/v1/stats", headers={"X-API-Key": "new"}).status_code == 200
    key_file.unlink()
    assert client.get("/v1/stats", headers={"X-API-Key": "new"}).status_code == 200


@pytest.mark.parametrize("content", [None, "not json", "[]", '[{"name": "x", "sha256": "short"}]', '{"name": 1}'])
def test_without_usable_keys_every_request_is_refused(lake, serve, key_file, content):
    if content is None:
        key_file.unlink()
    else:
        key_file.write_text(content)
    client = serve()
    problem(client.get("/v1/stats"), 401)
    del client.headers["X-API-Key"]
    body = problem(client.get("/v1/stats"), 401)
    assert body["detail"] == (
        "There is no API key in the request, expected the header X-API-Key. The service has no key that opens it: its log says why."
    )


def test_without_a_key_file_the_service_opens_to_nobody(lake, serve):
    body = problem(serve(api_keys_file=None).get("/v1/stats", headers={"X-API-Key": ""}), 401)
    assert body["detail"].endswith("The service has no key that opens it: its log says why.")


def test_operations_need_no_key(client):
    del client.headers["X-API-Key"]
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json() == {
        "ready": True,
        "reason": "market_data.trades and market_data.quotes can be read",
    }
    assert client.get("/docs").status_code == 200
    assert "/v1/summary/{symbol}/{date}" in client.get("/openapi.json").json()["paths"]
    client.get("/v1/summary/BHP/2014-03-10")
    client.get("/v1/summary/CBA/2014-03-11")
    text = client.get("/metrics").text
    assert 'k2_http_requests_total{method="GET",route="/v1/summary/{symbol}/{date}",status="401"}' in text
    assert 'k2_http_request_duration_seconds_count{method="GET",route="/v1/summary/{symbol}/{date}"}' in text
    assert "BHP" not in text


# --- around the requests -----------------------------------------------------------------------------------------------


def test_the_correlation_id_goes_in_and_out_and_odd_ones_are_replaced(client):
    assert client.get("/health", headers={"X-Correlation-ID": "trace-7"}).headers["X-Correlation-ID"] == "trace-7"
    for odd in ("x" * 200, "a b", 'a"b', "<script>"):
        given = client.get("/health", headers={"X-Correlation-ID": odd}).headers["X-Correlation-ID"]
        assert len(given) == 32


def test_other_origins_are_allowed_by_configuration_alone(lake, serve):
    asked = {"Origin": "https://desk.example"}
    assert "access-control-allow-origin" not in serve().get("/health", headers=asked).headers
    allowed = serve(cors_origins=("https://desk.example",)).get("/health", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://desk.example"


def test_the_service_starts_before_its_tables_and_catalog_and_says_what_it_waits_for(tmp_path, serve):
    client = serve()
    os.makedirs(tmp_path / "warehouse", exist_ok=True)  # noqa: PTH103
    reply = client.get("/ready")
    assert reply.status_code == 503
    assert "There is no table market_data.trades yet" in reply.json()["reason"]
    body = problem(client.get("/v1/trades?symbol=BHP"), 503)
    assert body["type"] == "urn:k2:problem:not-ready"
    make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    assert client.get("/ready").status_code == 200
    assert client.get("/v1/trades?symbol=BHP").json()["note"] == "market_data.trades has no data yet"
