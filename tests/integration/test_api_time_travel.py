"""Differences between snapshots and pins over REST, on a real catalog."""

import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import make_lake
from k2_testing.service import problem
from k2_testing.ticks import OPEN, append_ticks
from pyiceberg.expressions import AlwaysTrue

from k2.lake.appends.commit import Committer
from k2.lake.offsets import OFFSETS
from k2.lake.snapshots import trim_snapshots
from k2.model.topics import DataType

TRADES = "market_data.trades"


@pytest.fixture
def committer(lake):
    return Committer(lake, TRADES, ORIGIN, DataType.TRADES)


def diff(client, **params):
    return client.get("/v1/snapshots/diff", params=params | {"fields": "trade_id"})


def names(reply):
    assert reply.status_code == 200, reply.text
    return [row["trade_id"] for row in reply.json()["data"]]


def rewrite(lake):
    """Compaction as upkeep does it: the same rows in one new file, in one overwrite that carries the offsets."""
    table = lake.load_table(TRADES)
    offsets = table.metadata.properties[OFFSETS]
    summary = {OFFSETS: offsets, "k2.operation": "compact"}
    table.overwrite(table.scan().to_arrow(), overwrite_filter=AlwaysTrue(), snapshot_properties=summary)
    return lake.load_table(TRADES).current_snapshot().snapshot_id


# --- differences -------------------------------------------------------------------------------------------------------


def test_a_difference_is_what_was_added_whatever_compaction_and_expiry_did(lake, client, committer):
    one, two, three = (committer.commit(batch(first, first + 4)).snapshot_id for first in (0, 4, 8))
    assert names(diff(client, **{"from": one, "to": three})) == [f"T{n}" for n in range(4, 12)]
    assert names(diff(client, **{"from": one, "to": two})) == [f"T{n}" for n in range(4, 8)]
    packed = rewrite(lake)
    assert names(diff(client, **{"from": three, "to": packed})) == []
    four = committer.commit(batch(12, 14)).snapshot_id
    assert names(diff(client, **{"from": two})) == [f"T{n}" for n in range(8, 14)]
    lake.load_table(TRADES).maintenance.expire_snapshots().by_ids([two, three, packed]).commit()
    body = diff(client, **{"from": one, "to": four, "limit": 5}).json()
    assert (body["from_snapshot_id"], body["snapshot_id"], body["more"]) == (str(one), str(four), True)
    assert [row["trade_id"] for row in body["data"]] == [f"T{n}" for n in range(4, 9)]
    rest = client.get("/v1/snapshots/diff", params={"page_token": body["next_page"], "table": "trades"})
    assert names(rest) == [f"T{n}" for n in range(9, 14)]
    assert problem(diff(client, **{"from": two}), 410)["found"] == str(two)
    assert problem(diff(client, **{"from": four, "to": one}), 400)["detail"].startswith("The snapshots are reversed")
    assert names(diff(client, **{"from": four})) == []


def test_without_offsets_appends_are_told_by_their_files_and_rewrites_refused(lake, client):
    one = append_ticks(lake, [{"timestamp": OPEN}])
    two = append_ticks(lake, [{"timestamp": OPEN}, {"timestamp": OPEN, "symbol": "CBA"}])
    assert names(diff(client, **{"from": one, "to": two})) == ["T1", "T2"]
    assert names(diff(client, **{"from": one, "to": two, "symbol": "CBA"})) == ["T2"]
    table = lake.load_table(TRADES)
    table.overwrite(table.scan().to_arrow(), overwrite_filter=AlwaysTrue())
    assert "cannot be told" in problem(diff(client, **{"from": one}), 400)["detail"]


def test_snapshots_say_what_they_added_and_which_tags_hold_them(lake, client, committer):
    committer.commit(batch(0, 3))
    made = committer.commit(batch(3, 5)).snapshot_id
    pin = client.post("/v1/pins", json={"tables": ["trades"]}).json()["pin"]
    newest = client.get("/v1/snapshots").json()["data"][0]
    assert (newest["snapshot_id"], newest["rows_added"], newest["tags"]) == (str(made), 2, [f"k2-pin-{pin}"])


def test_a_difference_asks_for_where_to_begin(client):
    assert problem(client.get("/v1/snapshots/diff"), 422)["detail"] == "from is missing."


# --- pins --------------------------------------------------------------------------------------------------------------


def test_one_pin_fixes_several_tables_for_every_question(lake, client, committer):
    committer.commit(batch(0, 3))
    append_ticks(lake, [{"timestamp": OPEN, "bid_price": Decimal(1)}], DataType.QUOTES)
    reply = client.post("/v1/pins", json={"tables": ["trades", "quotes"], "ttl_seconds": 600})
    assert reply.status_code == 201
    pin = reply.json()
    assert reply.headers["Location"] == f"/v1/pins/{pin['pin']}"
    assert set(pin["tables"]) == {"trades", "quotes"}
    committer.commit(batch(3, 6))
    append_ticks(lake, [{"timestamp": OPEN}], DataType.QUOTES)
    given = {"pin": pin["pin"]}
    assert client.get("/v1/trades", params={"symbol": "BHP"} | given).json()["count"] == 3
    assert client.get("/v1/quotes", params={"symbol": "BHP"} | given).json()["count"] == 1
    assert client.get("/v1/summary/BHP/2014-03-10", params=given).json()["trade_count"] == 3
    assert client.get("/v1/symbols", params=given).json()["data"][0]["rows"] == 3
    assert client.post("/v1/trades/query", json={"symbols": ["BHP"]} | given).json()["count"] == 3
    assert client.get("/v1/pins").json() == {"data": [pin]}
    assert client.delete(f"/v1/pins/{pin['pin']}").status_code == 204
    assert client.get("/v1/pins").json() == {"data": []}
    assert problem(client.delete(f"/v1/pins/{pin['pin']}"), 404)["detail"].startswith("There is no such pin")
    assert problem(client.get("/v1/trades", params={"symbol": "BHP"} | given), 410)


def test_a_pin_may_be_of_a_snapshot_or_a_time_and_bad_ones_are_refused(lake, client, committer):
    first = committer.commit(batch(0, 1)).snapshot_id
    committer.commit(batch(1, 2))
    pin = client.post("/v1/pins", json={"tables": ["trades"], "snapshots": {"trades": str(first)}}).json()
    assert pin["tables"]["trades"]["snapshot_id"] == str(first)
    timed = client.post(
        "/v1/pins", json={"tables": ["trades"], "as_of": pin["tables"]["trades"]["snapshot_time"]}
    ).json()
    assert timed["tables"] == pin["tables"]
    for body, status in (
        ({"ttl_seconds": 1}, 422),
        ({"ttl_seconds": 10**9}, 422),
        ({"tables": []}, 422),
        ({"tables": ["quotes"]}, 400),  # it has no snapshot
        ({"tables": ["trades"], "snapshots": {"trades": "5"}}, 410),
        ({"tables": ["trades"], "as_of": "1999-01-01"}, 410),
        ({"tables": ["nothing"]}, 422),
    ):
        problem(client.post("/v1/pins", json=body), status)


def test_what_a_pin_fixes_is_not_expired_until_it_lapses(lake, client, committer):
    first = committer.commit(batch(0, 2)).snapshot_id
    pin = client.post(
        "/v1/pins", json={"tables": ["trades"], "snapshots": {"trades": str(first)}, "ttl_seconds": 3600}
    ).json()["pin"]
    for number in range(1, 15):
        committer.commit(batch(2 * number, 2 * number + 2))
    now = datetime.now(UTC)
    trim_snapshots(lake.load_table(TRADES), 10, now)
    assert client.get("/v1/trades", params={"symbol": "BHP", "pin": pin}).json()["count"] == 2
    assert client.get("/v1/snapshots").json()["retained"] < 15
    later = trim_snapshots(lake.load_table(TRADES), 10, now + timedelta(seconds=3601))
    assert later.untagged == (f"k2-pin-{pin}",)
    for number in range(15, 20):
        committer.commit(batch(2 * number, 2 * number + 2))
    trim_snapshots(lake.load_table(TRADES), 10, now + timedelta(seconds=3601))
    assert lake.load_table(TRADES).metadata.snapshot_by_id(first) is None
    assert problem(client.get("/v1/trades", params={"symbol": "BHP", "pin": pin}), 410)


def test_pins_are_made_and_dropped_beside_a_committing_sink(lake, client, tmp_path):
    stop, failed, done = threading.Event(), [], []

    def sink():
        own = Committer(make_lake(tmp_path, DataType.TRADES, DataType.QUOTES), TRADES, ORIGIN, DataType.TRADES)
        first = 0
        try:
            while not stop.is_set():
                own.commit(batch(first, first + 5))
                first += 5
                done.append(first)
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    beside = threading.Thread(target=sink)
    beside.start()
    try:
        deadline = time.monotonic() + 60
        while not done and time.monotonic() < deadline:
            stop.wait(0.05)
        pins = []
        for _ in range(6):
            reply = client.post("/v1/pins", json={"tables": ["trades"]})
            assert reply.status_code == 201, reply.text
            pins.append(reply.json())
        assert client.delete(f"/v1/pins/{pins[0]['pin']}").status_code == 204
    finally:
        stop.set()
        beside.join()
    assert not failed
    assert {each["pin"] for each in client.get("/v1/pins").json()["data"]} == {each["pin"] for each in pins[1:]}
    for pin in pins[1:]:
        asked = {"symbol": "BHP", "pin": pin["pin"], "limit": 10_000}
        body = client.get("/v1/trades", params=asked).json()
        assert body["snapshot_id"] == pin["tables"]["trades"]["snapshot_id"]
    whole = client.get("/v1/trades", params={"symbol": "BHP", "limit": 20_000, "fields": "trade_id"}).json()
    assert [row["trade_id"] for row in whole["data"]] == [f"T{n}" for n in range(done[-1])]


def test_stats_of_a_time_are_of_the_tables_that_had_begun(client, lake):
    append_ticks(lake, [{"timestamp": OPEN}])
    between = datetime.now(UTC).isoformat()
    time.sleep(0.01)
    append_ticks(lake, [{"timestamp": OPEN}], DataType.QUOTES)
    then = client.get("/v1/stats", params={"as_of": between})
    assert [each["table"] for each in then.json()["tables"]] == [TRADES]
    earlier = client.get("/v1/stats", params={"as_of": OPEN.isoformat()})
    assert earlier.status_code == 410
    assert len(client.get("/v1/stats").json()["tables"]) == 2
