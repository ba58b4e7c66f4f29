"""Events over REST: several symbols, chosen fields, pages, validators, compression, large answers."""

import csv
import gzip
import io
import json
import threading
from datetime import timedelta
from decimal import Decimal

import httpx
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zstandard
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.service import problem, serving
from k2_testing.sinks import eventually
from k2_testing.ticks import OPEN, append_ticks

from k2.client.local import Local
from k2.client.remote import Remote
from k2.model.errors import UserError
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.query.engine.engine import Engine


def ticks(count, *, every=timedelta(seconds=1), **more):
    return [{"timestamp": OPEN + every * n, "price": Decimal(n % 90 + 1)} | more for n in range(count)]


def pages(client, method, path, **request):
    """The answers page by page, the token alone from the second on."""
    reply = client.request(method, path, **request)
    while True:
        assert reply.status_code == 200, reply.text
        body = reply.json()
        yield body
        assert (body["next_page"] is not None) == body["more"]
        assert reply.headers.get("K2-Next-Page") == body["next_page"]
        if body["next_page"] is None:
            return
        given = {"page_token": body["next_page"], "limit": (request.get("params") or request.get("json"))["limit"]}
        reply = client.request(method, path, **{"params" if method == "GET" else "json": given})


# --- several symbols, chosen fields ----------------------------------------------------------------------------------


def test_several_symbols_come_merged_with_the_chosen_fields_in_that_order(lake, client):
    append_ticks(lake, ticks(2) + ticks(2, symbol="CBA") + ticks(2, symbol="CSL"))
    asked = {"symbols": ["BHP", "CSL"], "fields": ["price", "symbol", "kafka_offset"]}
    body = client.post("/v1/trades/query", json=asked).json()
    assert [list(row.items()) for row in body["data"]] == [
        [("price", "1.00000000"), ("symbol", "BHP"), ("kafka_offset", 0)],
        [("price", "1.00000000"), ("symbol", "CSL"), ("kafka_offset", 4)],
        [("price", "2.00000000"), ("symbol", "BHP"), ("kafka_offset", 1)],
        [("price", "2.00000000"), ("symbol", "CSL"), ("kafka_offset", 5)],
    ]
    by_get = client.get("/v1/trades?symbols=BHP,CSL&fields=price,symbol&fields=kafka_offset").json()
    assert by_get["data"] == body["data"]
    everything = client.post("/v1/trades/query", json={}).json()
    assert everything["count"] == 6
    assert "kafka_offset" not in everything["data"][0]


def test_each_of_several_symbols_must_be_of_one_exchange(lake, client):
    append_ticks(lake, ticks(2) + ticks(1, symbol="CBA"))
    append_ticks(lake, ticks(1, symbol="IBM", exchange="NYSE") + ticks(1, symbol="CBA", exchange="NYSE"))
    assert client.get("/v1/trades?symbols=BHP,IBM").json()["count"] == 3
    reply = problem(client.get("/v1/trades?symbols=BHP,CBA"), 409)
    assert (reply["detail"].split(":")[0], reply["found"]) == ("CBA is traded on several exchanges", "ASX, NYSE")
    assert client.get("/v1/trades?symbols=BHP,CBA&exchange=ASX").json()["count"] == 3


def test_columns_that_are_not_asked_for_are_not_read(lake, client, monkeypatch):
    append_ticks(lake, ticks(3, source_sequence=7))
    said = []
    honest = Engine.fetch
    monkeypatch.setattr(
        Engine, "fetch", lambda self, label, statement: said.append(statement.sql) or honest(self, label, statement)
    )
    assert client.get("/v1/trades?symbol=BHP&fields=price").json()["data"][0] == {"price": "1.00000000"}
    assert said[-1].startswith('SELECT "price", "timestamp", "source_sequence" FROM read_parquet(')


def test_a_snapshot_is_queried_by_its_path(lake, client):
    first = append_ticks(lake, ticks(2))
    append_ticks(lake, ticks(1))
    asked = {"symbols": ["BHP"], "table": "trades", "fields": ["trade_id"]}
    assert client.post(f"/v1/snapshots/{first}/query", json=asked).json()["count"] == 2
    assert client.post("/v1/trades/query", json={"symbols": ["BHP"], "snapshot": str(first)}).json()["count"] == 2
    assert problem(client.post("/v1/snapshots/17/query", json=asked), 410)["found"] == "17"
    assert problem(client.post("/v1/snapshots/x/query", json=asked), 400)["detail"].startswith("snapshot is not a snap")


def test_old_files_without_a_new_column_give_null_there(lake, client):
    from pyiceberg.types import StringType

    append_ticks(lake, ticks(1))
    with lake.load_table("market_data.trades").update_schema() as update:
        update.add_column("venue", StringType())
    append_ticks(lake, [])  # a snapshot under the new schema
    body = client.post("/v1/trades/query", json={"symbols": ["BHP"], "fields": ["venue", "price"]}).json()
    assert body["data"] == [{"venue": None, "price": "1.00000000"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/v1/trades/query", {"symbols": ["BHP"], "fields": ["volume"]}, 400, "Unknown field: found 'volume', expected one of message_id, "),
        ("/v1/trades/query", {"fields": ["price;drop table x"]}, 400, "Unknown field: found 'price;drop table x'"),
        ("/v1/trades/query", {"symbol": "BHP"}, 422, "symbol is not a parameter of this route."),
        ("/v1/trades/query", {"symbols": "BHP"}, 422, "symbols cannot be used: input should be a valid list"),
        ("/v1/trades/query", {"symbols": ["x" * 65]}, 400, "Not a symbol"),
        ("/v1/trades/query", {"symbols": [f"S{n}" for n in range(501)]}, 422, "symbols cannot be used: list should have at most 500 items"),
        ("/v1/trades/query", {"limit": 10**10}, 422, "limit cannot be used: input should be less than or equal to 1000000000."),
        ("/v1/trades/query", {"limit": 1_000_001}, 400, "limit is too large: found 1000001, expected at most 1000000. Take it page by page"),
        ("/v1/trades/query", {"start": "NaN"}, 400, "start is not a time: found 'NaN'"),
        ("/v1/trades/query", {"start": float("1e300")}, 422, "start."),
        ("/v1/trades/query", {"start": "99999-01-01"}, 400, "start is not a time"),
        ("/v1/trades/query", {"start": 10**30}, 400, "start is not a time"),
        ("/v1/trades/query", {"start": "2014-03-11", "end": "2014-03-10"}, 400, "The time range is reversed"),
        ("/v1/trades/query", {"pin": "x"}, 400, "Not a pin"),
        ("/v1/trades/query", {"pin": "0123456789abcdef"}, 410, "The pin does not hold a snapshot of market_data.trades"),
        ("/v1/trades/query", {"pin": "0123456789abcdef", "snapshot": "1"}, 400, "A pin is given beside snapshot or as_of"),
        ("/v1/trades/query", [], 422, "the request cannot be used"),
    ],
)  # fmt: skip
def test_each_error_says_what_is_wrong(lake, client, path, body, status, detail):
    append_ticks(lake, ticks(1))
    assert problem(client.post(path, json=body), status)["detail"].startswith(detail)


# --- pages -----------------------------------------------------------------------------------------------------------


def test_pages_give_each_row_once_in_order_while_others_are_committed(lake, client, tmp_path):
    # five files that overlap in time, with ties in time and in sequence
    for _ in range(5):
        append_ticks(
            lake,
            [
                {
                    "timestamp": OPEN + timedelta(milliseconds=n // 3 * 7 % 9_973),
                    "source_sequence": n % 2 or None,
                    "symbol": ("BHP", "CBA")[n % 2],
                }
                for n in range(4_000)
            ],
        )
    stop = threading.Event()
    committed = []

    def commit():
        writer = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
        while not stop.is_set():
            committed.append(append_ticks(writer, ticks(50, symbol="BHP")))

    whole = client.get("/v1/trades?symbols=BHP,CBA&limit=20000&fields=trade_id").json()["data"]
    beside = threading.Thread(target=commit)
    beside.start()
    try:
        found = []
        for body in pages(
            client, "GET", "/v1/trades", params={"symbols": "BHP,CBA", "limit": 977, "fields": "trade_id"}
        ):
            found.append(body)
            if len(found) in (1, 10):
                there = len(committed)
                eventually(lambda there=there: len(committed) > there, "a commit between two pages")
        one = list(
            pages(client, "GET", "/v1/trades", params={"symbol": "CBA", "limit": 501, "fields": "trade_id,timestamp"})
        )
    finally:
        stop.set()
        beside.join()
    assert len(committed) > 1
    rows = [row["trade_id"] for body in found for row in body["data"]]
    assert len({body["snapshot_id"] for body in found}) == 1
    assert [row for row in rows if int(row[1:]) < 20_000] == [row["trade_id"] for row in whole]
    assert len(rows) == len(set(rows))
    of_cba = [row["trade_id"] for body in one for row in body["data"]]
    assert len(of_cba) == len(set(of_cba)) == 10_000
    times = [row["timestamp"] for body in one for row in body["data"]]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_hundred_thousand_rows_page_by_page(lake, client):
    append_ticks(lake, ticks(100_000, every=timedelta(milliseconds=100)))
    found = list(
        pages(client, "POST", "/v1/trades/query", json={"symbols": ["BHP"], "limit": 1_000, "fields": ["trade_id"]})
    )
    assert [row["trade_id"] for body in found for row in body["data"]] == [f"T{n}" for n in range(100_000)]
    assert len(found) == 100


def test_a_token_survives_a_restart_and_is_refused_elsewhere(lake, client, tmp_path):
    append_ticks(lake, ticks(5))
    append_ticks(lake, [{"timestamp": OPEN}], DataType.QUOTES)
    token = client.get("/v1/trades?symbol=BHP&limit=2").json()["next_page"]
    with serving(tmp_path) as again:
        body = again.get("/v1/trades", params={"page_token": token, "limit": 2}).json()
        assert [row["trade_id"] for row in body["data"]] == ["T2", "T3"]
        last = again.get("/v1/trades", params={"page_token": body["next_page"], "symbol": "BHP", "format": "csv"})
        assert last.text.splitlines()[1].split(",")[1] == "T4"
        assert "K2-Next-Page" not in last.headers
    for path, params, detail in (
        ("/v1/quotes", {}, "page_token is of another table: found 'trades', expected quotes."),
        (
            "/v1/trades",
            {"symbol": "CBA"},
            "page_token is of another question: symbols differs: found 'CBA', expected BHP.",
        ),
        ("/v1/trades", {"end": "2020-01-01"}, "page_token is of another question: window differs"),
        ("/v1/trades", {"fields": "price"}, "page_token is of another question: fields differs"),
        ("/v1/trades", {"as_of": "2020-01-01"}, "page_token is of another question: at differs"),
        ("/v1/snapshots/diff", {}, "page_token is of another question, expected one of /v1/snapshots/diff."),
    ):
        assert problem(client.get(path, params={"page_token": token} | params), 400)["detail"].startswith(detail)
    for changed in (
        token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
        "A" + token[1:],
        token[:40],
        "x",
        "é",
        "",
        "!" * 40,
    ):
        detail = problem(client.get("/v1/trades", params={"page_token": changed}), 400)["detail"]
        assert detail.startswith(
            "page_token cannot be used, expected the next_page of an answer of this service, unchanged."
        )
    (tmp_path / "page-token-key").write_text("another")
    with serving(tmp_path) as other:
        assert problem(other.get("/v1/trades", params={"page_token": token}), 400)


def test_a_page_of_a_snapshot_that_was_expired_is_gone(lake, client):
    append_ticks(lake, ticks(5))
    token = client.get("/v1/trades?symbol=BHP&limit=2").json()["next_page"]
    old = lake.load_table("market_data.trades").current_snapshot().snapshot_id
    append_ticks(lake, ticks(1))
    lake.load_table("market_data.trades").maintenance.expire_snapshots().by_ids([old]).commit()
    assert problem(client.get("/v1/trades", params={"page_token": token}), 410)["found"] == str(old)


# --- validators and compression ---------------------------------------------------------------------------------------


def test_an_answer_that_the_client_has_is_not_sent_again(lake, client):
    snapshot = append_ticks(lake, ticks(3))
    for path in ("/v1/trades?symbol=BHP", "/v1/summary/BHP/2014-03-10?exchange=ASX", "/v1/symbols?table=trades"):
        first = client.get(path)
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        other = client.get(f"{path}&format=csv", headers={"If-None-Match": first.headers["ETag"]})
        assert other.status_code == 200
    tag = client.get("/v1/trades?symbol=BHP").headers["ETag"]
    pinned = client.get(f"/v1/trades?symbol=BHP&snapshot={snapshot}")
    assert pinned.headers["Cache-Control"] == "private, max-age=86400"
    append_ticks(lake, ticks(1))
    assert client.get("/v1/trades?symbol=BHP", headers={"If-None-Match": tag}).json()["count"] == 4
    known = {"If-None-Match": f'"other", {pinned.headers["ETag"]}'}
    assert client.get(f"/v1/trades?symbol=BHP&snapshot={snapshot}", headers=known).status_code == 304
    assert "X-API-Key" in pinned.headers["Vary"]
    assert "ETag" not in client.post("/v1/trades/query", json={"symbols": ["BHP"]}).headers


def test_text_is_compressed_as_accepted_and_what_is_small_or_packed_is_not(lake, client):
    append_ticks(lake, ticks(200))
    plain = client.get("/v1/trades?symbol=BHP", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers

    def raw(path, accepted):
        with client.stream("GET", path, headers={"Accept-Encoding": accepted}) as reply:
            return reply.headers.get("Content-Encoding"), reply.headers["Vary"], b"".join(reply.iter_raw())

    coding, vary, packed = raw("/v1/trades?symbol=BHP", "gzip")
    assert coding == "gzip"
    assert "Accept-Encoding" in vary
    assert json.loads(gzip.decompress(packed))["data"] == plain.json()["data"]
    coding, _, packed = raw("/v1/trades?symbol=BHP", "gzip, zstd")
    assert coding == "zstd"
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert json.loads(unpacked)["data"] == plain.json()["data"]
    assert len(packed) < len(plain.content) / 5
    for form, expected in (("csv", "zstd"), ("ndjson", "zstd"), ("arrow", None), ("parquet", None)):
        assert raw(f"/v1/trades?symbol=BHP&format={form}", "zstd")[0] == expected
    assert raw("/v1/trades?symbol=BHP&limit=2&fields=price", "zstd")[0] is None


# --- large answers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def large(lake):
    return append_ticks(lake, ticks(50_000, every=timedelta(milliseconds=100)))


@pytest.mark.parametrize(
    ("limit", "rows", "more"), [(1_000_000_000, 50_000, False), (30_000, 30_000, True), (50_000, 50_000, False)]
)
def test_large_answers_are_whole_in_every_form_and_say_how_they_ended(large, client, limit, rows, more):
    params = {"symbol": "BHP", "fields": "trade_id,price", "limit": limit}
    names = [f"T{n}" for n in range(rows)]
    reply = client.get("/v1/trades", params=params | {"format": "arrow"})
    with pa.ipc.open_stream(reply.content) as reader:
        seen, last = [], {}
        while True:
            try:
                batch, metadata = reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                break
            seen += batch.column("trade_id").to_pylist()
            last = dict(metadata or {})
    assert seen == names
    assert (last[b"k2.count"], last[b"k2.more"]) == (str(rows).encode(), json.dumps(more).encode())
    whole = pq.read_table(io.BytesIO(client.get("/v1/trades", params=params | {"format": "parquet"}).content))
    assert whole["trade_id"].to_pylist() == names
    text = client.get("/v1/trades", params=params | {"format": "csv"}).text
    assert [row["trade_id"] for row in csv.DictReader(io.StringIO(text))] == names
    lines = client.get("/v1/trades", params=params | {"format": "ndjson"}).text.splitlines()
    assert [json.loads(line)["trade_id"] for line in lines] == names
    if limit <= 1_000_000:
        body = client.get("/v1/trades", params=params).json()
        assert [row["trade_id"] for row in body["data"]] == names
        assert (body["count"], body["more"], body["snapshot_id"]) == (rows, more, str(large))
    if more:
        token = last[b"k2.next_page"].decode()
        rest = client.get("/v1/trades", params={"page_token": token, "limit": 20_000}).json()
        assert [row["trade_id"] for row in rest["data"]] == [f"T{n}" for n in range(30_000, 50_000)]


def test_both_clients_mean_the_same_by_their_parameters(large, lake, client, tmp_path):
    append_ticks(lake, ticks(3, symbol="RIO"))

    def send(request):
        headers = {"Content-Type": "application/json"}
        path = request.url.raw_path.decode()
        reply = client.request(request.method, path, headers=headers, content=request.content)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    settings = Settings(catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path, api_url="http://k2")
    with Remote(settings, transport=httpx.MockTransport(send)) as remote, Local(settings) as local:
        for params in (
            {"symbol": "BHP", "limit": 30_000, "fields": "trade_id"},  # long: what stands after the rows says "more"
            {"symbol": "BHP", "limit": 100_000, "fields": "trade_id"},
            {"symbols": "BHP,RIO", "limit": 5, "fields": "symbol,price"},
            {"symbol": "BHP", "snapshot": str(large), "limit": 2},
            {"symbol": "RIO"},
        ):
            there, here = (each.events(DataType.TRADES, params) for each in (remote, local))
            assert there.arrow() == here.arrow()
            names = ("count", "more", "snapshot_id", "complete_until")
            assert [there.envelope[name] for name in names] == [here.envelope[name] for name in names]
            assert here.envelope["more"] == (params.get("limit", 1000) < 50_000 and "RIO" not in params.values())
        for wrong in ({"symbol": "BHP", "limt": 1}, {"symbol": "BHP", "limit": 0}, {"symbol": "BHP", "pin": "none"}):
            for each in (remote, local):
                with pytest.raises(UserError):
                    each.events(DataType.TRADES, wrong)


def test_parquet_says_in_its_footer_how_it_ended(large, client):
    reply = client.get("/v1/trades?symbol=BHP&limit=30000&format=parquet")
    metadata = pq.read_metadata(io.BytesIO(reply.content)).metadata
    assert (metadata[b"k2.more"], metadata[b"k2.count"]) == (b"true", b"30000")


def test_an_answer_above_the_threshold_that_is_small_has_all_headers(lake, client):
    append_ticks(lake, ticks(7))
    reply = client.get("/v1/trades?symbol=BHP&limit=100000&format=arrow")
    assert reply.headers["K2-More"] == "false"
    assert pa.ipc.open_stream(reply.content).read_all().num_rows == 7
    empty = client.get("/v1/trades?symbol=XYZ&limit=100000").json()
    assert empty["note"].startswith("market_data.trades has nothing of XYZ")
