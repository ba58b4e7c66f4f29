"""What a key with rules learns from every route there is: nothing of what its rules do not allow.

The routes are taken from the app's OpenAPI, so a new one is asked too.
"""

import io
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
import structlog
from fastapi.testclient import TestClient
from k2_testing.companies import append_reference, company, dividend
from k2_testing.every_route import requests
from k2_testing.lake import catalog_properties, make_lake
from k2_testing.ticks import append_ticks, at

from k2.api.access.keys import KeyRules, new_key, write_keys
from k2.api.app import create_app
from k2.lake.offsets import OffsetMap, PartitionOffsets, TopicOffsets
from k2.lake.scan import snapshot_files
from k2.model.exchanges import shipped
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig
from k2.obs.logging import configure_logging

OPEN = at("2014-03-10T23:00:00")
RULES = KeyRules(exchanges=("ASX",), symbols=("BHP", "CBA"), oldest="2014-03-10")
HIDDEN_TOPIC = "market.equities.trades.nyse"
# What only rows that the rules do not allow hold. Each stands in some answer to a key without rules: see the control below.
HIDDEN = (
    r"NYSE",
    r"(?i)market\.equities\.trades",
    r"ZZTOP",
    r"\b7777\.",
    r"\b6666\.",
    r"\b5555\.",
    r"HIDDEN-",
    r"2014-03-0[1-5]",
    r"2014-03-2\d",
)
# By name, the values to ask with; what comes first is usual. `None` keeps a parameter out of the test.
NOW = "2014-04-01T00:00:00Z"
VALUES = {
    "symbol": ["BHP", "ZZTOP", "CBA"],
    "symbols": [["BHP"], ["BHP", "ZZTOP"], ["ZZTOP"], ["CBA", "BHP"]],
    "exchange": ["ASX", "NYSE"],
    "start": ["2014-02-01T00:00:00Z", "2014-03-21T00:00:00Z"],
    "end": [NOW, "2014-03-05T00:00:00Z"],
    ("/v1/calendar/{exchange}", "start"): ["2014-03-10"],
    ("/v1/calendar/{exchange}", "end"): ["2014-03-14"],
    "date": ["2014-03-11", "2014-03-03", "2014-03-24"],
    "day": ["2014-03-11", "2014-03-03", "2014-03-24"],
    "limit": [5000, 1],
    "topic": [HIDDEN_TOPIC, "market.equities.trades.asx"],
    "reason": [],
    "max_rows": [5000],
    "batch_rows": [5000],
    "company_id": [],
    "fields": [["timestamp", "symbol", "exchange", "price"]],
    "page_token": [],
    "cursor": [],
    "as_of": ["2999-01-01T00:00:00Z"],
    "ttl_seconds": [600],
}


def ticks(symbol, exchange, start, price, count, **more):
    hidden = price >= 5555
    return [
        {
            "symbol": symbol,
            "exchange": exchange,
            "timestamp": start + timedelta(seconds=number),
            "price": Decimal(price),
            "quantity": Decimal(3),
            "trade_id": f"{'HIDDEN' if hidden else 'SEEN'}-{symbol}-{number}",
            **more,
        }
        for number in range(count)
    ]


def quotes(rows):
    kept = ("symbol", "exchange", "timestamp", "kafka_topic_id")
    return [
        {name: row[name] for name in kept if name in row}
        | {
            "bid_price": row["price"],
            "bid_quantity": Decimal(1),
            "ask_price": row["price"] + Decimal("0.5"),
            "ask_quantity": Decimal(2),
            "quote_id": row["trade_id"],
        }
        for row in rows
    ]


@pytest.fixture(scope="module", autouse=True)
def _plain_logs():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logging(Settings(log_format="json", log_level="WARNING"))
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A table whose files hold allowed rows beside others, and files and snapshots of others alone."""
    folder = tmp_path_factory.mktemp("rules")
    lake = make_lake(folder, DataType.TRADES, DataType.QUOTES, DataType.REFERENCE_DATA)
    mixed = [
        *ticks("BHP", "ASX", OPEN, 10, 40),
        *ticks("CBA", "ASX", OPEN, 20, 30),
        *ticks("ZZTOP", "ASX", OPEN, 7777, 25),
        *ticks("BHP", "NYSE", OPEN, 6666, 35, currency="USD"),
    ]
    early = [*ticks("BHP", "ASX", at("2014-03-03T01:00:00"), 5555, 11), *ticks("CBA", "ASX", OPEN, 20, 4)]
    alone = ticks("ZZTOP", "NYSE", at("2014-03-24T14:00:00"), 7777, 123)
    for rows in (mixed, early, alone):
        append_ticks(lake, rows)
        append_ticks(lake, quotes(rows), DataType.QUOTES)
    append_reference(
        lake,
        [
            *(dividend("1", day, "0.5", symbol="BHP") for day in ("2014-03-11", "2014-03-03")),
            company("HIDDEN-2", "ZZTOP", "2014-03-11"),
            dividend("3", "2014-03-11", "6666.5", currency="USD", symbol="BHP", exchange="NYSE"),
        ],
    )
    note_offsets(lake)
    return folder, lake


def note_offsets(lake):
    """A snapshot as the sink makes one: with its offsets, and so the topic's name, in its summary."""
    table = lake.load_table("market_data.trades")
    offsets = OffsetMap({HIDDEN_TOPIC: TopicOffsets("t", "c", {0: PartitionOffsets(0, 4321, rows=268)})}).to_json()
    with (
        table.transaction() as transaction,
        transaction.update_snapshot(snapshot_properties={"k2.offsets": offsets}).fast_append(),
    ):
        pass


@pytest.fixture(scope="module")
def clients(place):
    """The app as a key with rules asks it, and as one without."""
    folder, _ = place
    now = datetime.now(UTC)
    seeing, entry = new_key("seeing", now=now)
    ruled, ruled_entry = new_key("ruled", now=now, rules=RULES)
    write_keys(folder / "keys.json", [entry, ruled_entry])
    settings = Settings(catalog_properties=catalog_properties(folder), data_dir=folder)
    app = create_app(QueryConfig(api_keys_file=folder / "keys.json"), settings)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield app, lambda ask, *, all_seen=False: answer(client, ask, seeing if all_seen else ruled)


@pytest.fixture(scope="module")
def asks(place, clients):
    _, lake = place
    app, _ = clients
    ids = [str(snapshot.snapshot_id) for snapshot in lake.load_table("market_data.trades").metadata.snapshots]
    snapshots = {
        "snapshot": ids[::-1],
        "from": ids[:1],
        "to": ids[-1:],
        "snapshots": [{"trades": ids[-1]}],
        "pin": ["none"],
    }
    return list(
        requests(
            app.openapi(),
            VALUES | snapshots,
            always=("symbol", "start", "end", "limit", "from"),
            together=("symbol", "exchange"),
        )
    )


def answer(client, ask, key):
    headers = {"X-API-Key": key, "X-Correlation-ID": "the-same"}
    reply = client.request(ask.method, ask.path, params=ask.params, json=ask.body, headers=headers)
    return reply.status_code, readable(reply), {k: v for k, v in reply.headers.items() if k.startswith(("k2-", "etag"))}


def readable(reply):
    """The answer's body as text, whatever its form; decimals as JSON has them."""
    kind = reply.headers.get("content-type", "")
    if kind.startswith("application/vnd.apache.arrow"):
        with pa.ipc.open_stream(reply.content) as reader:
            return str(reader.read_all().to_pylist())
    if "parquet" in kind:
        return str(pa.parquet.read_table(io.BytesIO(reply.content)).to_pylist())
    assert (
        kind.startswith(("application/json", "application/problem+json", "application/x-ndjson", "text/csv"))
        or not reply.content
    ), f"teach this test to read {kind}"
    return reply.text


def hidden_in(found):
    text = f"{found[1]} {found[2]}"
    text = re.sub(r"datetime\.datetime\(2014, 3, (\d+)", lambda day: f"2014-03-{int(day[1]):02}", text)
    return [word for word in HIDDEN if re.search(word, text)]


def test_no_route_tells_a_key_with_rules_what_they_hide(asks, clients):
    _, ask_service = clients
    leaks, broken, answered = [], [], {}
    for ask in asks:
        found = ask_service(ask)
        broken += [(str(ask), found[1][:300])] if found[0] >= 500 and found[0] != 503 else []
        answered.setdefault((ask.method, ask.template), set()).add(found[0])
        # What the request itself said may be said back; the next test is about that.
        leaks += [(str(ask), word, found[1][:300]) for word in hidden_in(found) if not re.search(word, str(ask))]
    assert not leaks, leaks[:5]
    assert not broken, broken[:5]
    unanswered = [where for where, statuses in answered.items() if not statuses & {200, 201, 202, 204, 403, 410, 404}]
    assert not unanswered, f"no request of these was understood: {unanswered}; {answered}"


def test_the_same_requests_with_a_key_without_rules_show_all_of_it(asks, clients):
    """The control: each hidden word is there to be found, so the test above can fail."""
    _, ask_service = clients
    shown = set()
    for ask in asks:
        found = ask_service(ask, all_seen=True)
        shown.update(word for word in hidden_in(found) if not re.search(word, str(ask)))
    assert shown == set(HIDDEN)


# What is known of an exchange anyway (clocks, currency, calendar) is no secret: the absent one has the same.
@pytest.mark.parametrize(("hidden", "absent"), [("ZZTOP", "ABSNT"), ("NYSE", "NASDAQ")])
def test_what_the_rules_hide_is_answered_as_what_does_not_exist(asks, clients, hidden, absent):
    _, ask_service = clients
    compared = 0
    for ask in asks:
        if not ask.mentions(hidden):
            continue
        found, other = ask_service(ask), ask_service(ask.instead(hidden, absent))
        assert found[0] == other[0], f"{ask}: {found} but {other}"
        assert unnamed(found, hidden) == unnamed(other, absent), str(ask)
        compared += 1
    assert compared > 10


def unnamed(found, name):
    """The answer without the name that was asked for, and without what differs from call to call (tokens, ids of pins)."""
    text = re.sub(
        r'"(next_page|page_token|pin|cursor|expires|expires_time)": ?"[^"]*"|"stale_seconds": ?[0-9.]+', "", found[1]
    )
    for exchange in ("NYSE", "NASDAQ"):
        text = text.replace(f'"name":"{shipped()[exchange].name}"', "")
    return text.replace(name, "…").replace(name.lower(), "…")


def test_totals_are_of_visible_rows_and_metadata_of_all_rows_is_left_out(place, clients):
    _, lake = place
    app, _ = clients
    _, ask_service = clients
    body = json.loads(ask_service(next(requests_of(app, "/v1/stats")))[1])
    assert {table["data_type"] for table in body["tables"]} <= {"trades", "quotes"}
    trades = next(table for table in body["tables"] if table["table"] == "market_data.trades")
    assert (trades["rows"], trades["files"], trades["bytes"], trades["offsets"]) == (74, None, None, None)
    assert (trades["first_time"], trades["last_time"]) == ("2014-03-10T23:00:00.000000Z", "2014-03-10T23:00:39.000000Z")
    assert trades["complete_until"] == "2014-03-10T23:00:39.000000Z"
    listed = json.loads(ask_service(next(requests_of(app, "/v1/snapshots")))[1])
    assert {(row["rows_added"], row["total_rows"], row["total_bytes"]) for row in listed["data"]} == {
        (None, None, None)
    }
    symbols = json.loads(ask_service(next(requests_of(app, "/v1/symbols")))[1])["data"]
    assert [(row["symbol"], row["exchange"], row["rows"]) for row in symbols] == [
        ("BHP", "ASX", 40),
        ("CBA", "ASX", 34),
    ]
    # As many as there are, whoever asks: the figures above are not those of the table.
    table = lake.load_table("market_data.trades")
    assert snapshot_files(table, table.current_snapshot().snapshot_id).rows == 268


def requests_of(app, template):
    return (ask for ask in requests(app.openapi(), VALUES, (), ()) if ask.template == template)


def test_a_key_for_some_tables_may_not_ask_others_and_sees_all_of_its_own(place, tmp_path):
    folder, _ = place
    key, entry = new_key("quotes", now=datetime.now(UTC), rules=KeyRules(tables=(DataType.QUOTES,)))
    write_keys(tmp_path / "keys.json", [entry])
    settings = Settings(catalog_properties=catalog_properties(folder), data_dir=tmp_path)
    with TestClient(create_app(QueryConfig(api_keys_file=tmp_path / "keys.json"), settings)) as client:
        client.headers["X-API-Key"] = key
        refused = client.get("/v1/trades?symbol=BHP&exchange=ASX")
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:k2:problem:forbidden")
        assert refused.json()["detail"] == "This key may not see trades, expected quotes."
        assert client.get("/v1/summary/BHP/2014-03-11").status_code == 403
        assert client.get("/v1/quotes?symbol=BHP&exchange=NYSE").json()["count"] == 35
        assert [table["table"] for table in client.get("/v1/stats").json()["tables"]] == ["market_data.quotes"]
        assert client.get("/v1/stats").json()["tables"][0]["files"] == 4


def test_a_table_is_read_as_often_for_the_bounds_of_a_sight_as_it_changes(place, clients, monkeypatch):
    """Bounds of visible rows are worked out once for a snapshot, not at each request."""
    _, ask_service = clients
    ask = next(requests_of(clients[0], "/v1/date-range"))
    ask_service(ask)
    from k2.query.plan import visible_files

    def again(*_):
        raise AssertionError("worked out again")

    monkeypatch.setattr(visible_files, "_newest", again)
    assert ask_service(ask)[0] == 200


@pytest.mark.parametrize("start", [{}, {"symbols": ["ZZTOP", "BHP"]}, {"exchange": "NYSE"}, {"start": "2014-02-01"}])
def test_a_stream_plays_visible_rows_alone(streams, start):
    seen, ruled = streams
    found = played(*ruled, start)
    assert not hidden_in((0, found, {})), found[:500]
    if "exchange" not in start:
        assert "SEEN-BHP-0" in found
    assert hidden_in((0, played(*seen, start), {}))  # the control


@pytest.fixture
def streams(place, tmp_path):
    folder, _ = place
    now = datetime.now(UTC)
    keys = [new_key("seeing", now=now), new_key("ruled", now=now, rules=RULES)]
    write_keys(tmp_path / "keys.json", [entry for _, entry in keys])
    settings = Settings(catalog_properties=catalog_properties(folder), data_dir=tmp_path)
    with TestClient(create_app(QueryConfig(api_keys_file=tmp_path / "keys.json"), settings)) as client:
        yield [(client, key) for key, _ in keys]


def played(client, key, start):
    """All that /v1/stream says, as text."""
    said = []
    with client.websocket_connect("/v1/stream", headers={"X-API-Key": key}) as talk:
        talk.send_json({"type": "start"} | start)
        while not said or json.loads(said[-1])["type"] not in ("end", "error"):
            said.append(talk.receive_text())
    return "\n".join(said)


def test_websockets_are_asked_too(clients):
    """OpenAPI does not list them: each has to be named here, and its rules looked at as above."""
    app, _ = clients
    assert set(websockets(app)) == {"/v1/stream"}


def websockets(app):
    from fastapi.routing import APIWebSocketRoute

    for route in app.routes:
        inner = getattr(route, "original_router", None)
        for found in [route] if inner is None else inner.routes:
            if isinstance(found, APIWebSocketRoute):
                yield found.path
