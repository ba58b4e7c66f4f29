"""/v1/audit and what each answer says of its completeness, on a real catalog with a real committer."""

import hashlib
import json
from datetime import UTC, datetime

import pytest
from fastapi.testclient import TestClient
from k2_testing.committed import ORIGIN, batch
from k2_testing.lake import TRADES, catalog_properties, make_lake

from k2.api.app import create_app
from k2.lake.appends.batch import Batch, OrderedBatch
from k2.lake.appends.commit import Committer
from k2.lake.appends.writer import write_files
from k2.lake.offsets import OFFSETS
from k2.lake.proof.decisions import sign
from k2.lake.proof.reset import skip_to_earliest
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig

KEYS = {"all": {}, "bhp": {"rules": {"symbols": ["BHP"]}}, "quotes": {"rules": {"tables": ["quotes"]}}}


@pytest.fixture
def lake(tmp_path):
    lake = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    committer = Committer(lake, TRADES, ORIGIN, DataType.TRADES)
    committer.commit(batch(0, 10))
    committer.commit(batch(10, 20))
    committer.commit(batch(5, 9, partition=1))
    return lake


@pytest.fixture
def client(lake, tmp_path):
    entries = [{"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} | more for key, more in KEYS.items()]
    (tmp_path / "keys.json").write_text(json.dumps(entries))
    settings = Settings(catalog_properties=catalog_properties(tmp_path), data_dir=tmp_path)
    app = create_app(QueryConfig(api_keys_file=tmp_path / "keys.json"), settings)
    with TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": "all"}) as made:
        yield made


def test_a_table_that_holds_what_it_records_is_well(client):
    body = client.get("/v1/audit").json()
    assert body["ok"]
    table = next(each for each in body["tables"] if each["table"] == TRADES)
    assert (table["rows"], table["commits_checked"], table["gaps"]) == (24, 2, [])
    parts = [
        (part["partition"], part["first"], part["next"], part["rows"], part["end"]) for part in table["partitions"]
    ]
    assert parts == [(0, 0, 20, 20, None), (1, 5, 9, 4, None)]


def test_rows_that_somebody_doubled_are_found_and_named(client, lake):
    assert client.get("/v1/audit", params={"table": "trades"}).json()["ok"]
    table = lake.load_table(TRADES)
    rows = batch(3, 6).rows.append_column("kafka_topic_id", [["topic-1"] * 3])
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in write_files(table, rows, OrderedBatch(rows, DataType.TRADES).order):
            append.append_data_file(file.data_file)
    body = client.get("/v1/audit", params={"table": "trades"}).json()
    assert not body["ok"]
    part = body["tables"][0]["partitions"][0]
    assert (part["doubled"], part["examples"]) == (3, [3, 4, 5])


def test_a_commit_that_does_not_follow_the_one_before_is_a_gap(client, lake):
    table = lake.load_table(TRADES)
    offsets = json.loads(table.metadata.properties[OFFSETS])
    offsets[ORIGIN.topic]["partitions"]["0"] = [0, 30, 50, 0, 0]  # fifty rows in ten offsets
    text = json.dumps(offsets)
    with table.transaction() as transaction:
        transaction.set_properties({OFFSETS: text})
        with transaction.update_snapshot(snapshot_properties={OFFSETS: text}).fast_append():
            pass
    (found,) = client.get("/v1/audit", params={"table": "trades"}).json()["tables"]
    assert not found["ok"]
    assert [(gap["partition"], gap["expected"], gap["found"]) for gap in found["gaps"]] == [(0, 20, 30)]


def test_a_file_that_is_gone_is_told_by_its_name_below_the_table_until_it_is_back(client, tmp_path):
    assert client.get("/v1/audit", params={"table": "trades"}).json()["tables"][0]["files"] == {
        "checked": 3,
        "findings": [],
    }
    file = min((tmp_path / "warehouse").rglob("data/**/*.parquet"))
    whole = file.read_bytes()
    file.unlink()
    reply = client.get("/v1/audit", params={"table": "trades"})
    (table,) = reply.json()["tables"]
    assert not table["ok"]
    assert table["files"]["findings"] == [
        {
            "file": str(file).split("/trades/", 1)[1],
            "problem": "missing",
            "expected_bytes": len(whole),
            "found_bytes": None,
            "accepted": False,
        }
    ]
    assert table["missing"] == sum(stop - start for part in table["partitions"] for start, stop in part["missing_in"])
    assert str(tmp_path) not in reply.text
    assert client.get("/ready").status_code == 200, "one lost file takes no service away"
    file.write_bytes(whole[:-1])
    (table,) = client.get("/v1/audit", params={"table": "trades"}).json()["tables"]
    assert [each["problem"] for each in table["files"]["findings"]] == ["size"]
    file.write_bytes(whole)
    assert client.get("/v1/audit", params={"table": "trades"}).json()["ok"]


@pytest.mark.parametrize("damage", ["gone", "cut", "zeros", "page"])
def test_a_question_that_needs_a_broken_file_says_which_and_is_no_503(client, tmp_path, damage):
    file = min((tmp_path / "warehouse").rglob("data/**/*.parquet"))
    whole = file.read_bytes()
    broken = {"cut": whole[:-300], "zeros": b"\0" * len(whole), "page": whole[:400] + b"\xff" * 200 + whole[600:]}
    file.unlink() if damage == "gone" else file.write_bytes(broken[damage])
    for path, params in (("trades", {"symbol": "BHP"}), ("audit", {"table": "trades", "sequences": "symbol"})):
        reply = client.get(f"/v1/{path}", params=params)
        assert (reply.status_code, reply.json()["type"]) == (500, "urn:k2:problem:damaged-file")
        detail = reply.json()["detail"]
        # Of a broken page's header DuckDB tells what it is and, by what the bytes happen to mean, not where.
        unnamed = damage == "page" and "needs a file of the table, which is broken" in detail
        assert file.name in detail or (unnamed and "`k2 audit --deep` names all such files" in detail)
        assert "Retry-After" not in reply.headers
        assert str(tmp_path) not in reply.text
        assert "SELECT" not in reply.text
        assert "LINE 1" not in reply.text


def test_what_people_decided_is_told_with_who_when_and_why(client, lake):
    signed = sign("retention was too short", "ops@desk", at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC))
    skip_to_earliest(lake.load_table(TRADES), ORIGIN.topic, {0: 33}, signed)
    (table,) = client.get("/v1/audit", params={"table": "trades"}).json()["tables"]
    assert (table["ok"], table["lost"], table["partitions"][0]["lost_in"]) == (True, 13, [[20, 33]])
    assert table["decisions"] == [
        {
            "what": "skip-to-earliest",
            "by": "ops@desk",
            "at": "2026-03-02T09:30:00.000000Z",
            "reason": "retention was too short",
            "snapshot_id": str(lake.load_table(TRADES).metadata.snapshots[-2].snapshot_id),
            "topic": ORIGIN.topic,
            "lost": [{"partition": 0, "from": 20, "to": 33, "offsets": 13}],
        }
    ]


def test_what_the_source_left_out_is_shown_when_asked_for_and_is_no_fault_of_the_table(client, lake):
    committer = Committer(lake, TRADES, ORIGIN, DataType.TRADES)
    rows = batch(20, 22).rows
    at = rows.schema.get_field_index("source_sequence")
    committer.commit(Batch(rows.set_column(at, rows.schema.field(at), [[12, 15]]), {0: (20, 22)}, {}))
    body = client.get("/v1/audit", params={"table": "trades", "sequences": "symbol"}).json()
    assert body["ok"]
    found = body["tables"][0]["sequences"]
    assert (found["scope"], found["rows"], found["unnumbered"], found["groups"]) == ("symbol", 26, 0, 1)
    assert found["days"] == [
        {
            "exchange": "ASX",
            "symbol": "BHP",
            "day": "2014-03-10",
            "first": 0,
            "last": 15,
            "distinct": 12,
            "missing": 4,
            "duplicated": 14,
        }
    ]
    assert "sequences" not in client.get("/v1/audit", params={"table": "trades"}).json()["tables"][0]
    assert client.get("/v1/audit", params={"sequences": "channel"}).status_code == 422


@pytest.mark.parametrize("asked", [{}, {"sequences": "symbol"}])
@pytest.mark.parametrize("key", ["bhp", "quotes"])
def test_a_key_that_sees_a_part_gets_no_audit_of_the_whole(client, key, asked):
    reply = client.get("/v1/audit", params={"table": "trades", **asked}, headers={"X-API-Key": key})
    assert reply.status_code == 403


def test_answers_say_which_contiguous_offsets_they_come_from(client):
    reply = client.get("/v1/trades", params={"symbol": "BHP"})
    assert reply.headers["K2-Complete"] == "market.equities.trades.asx 0:0-20 1:5-9"
    assert reply.headers["K2-Hybrid"] == "false"
    assert float(reply.headers["K2-Stale-Seconds"]) < 600
    body = reply.json()
    assert body["hybrid"] is False
    assert [each["kind"] for each in body["sources"]] == ["iceberg"]
    hidden = client.get("/v1/trades", params={"symbol": "BHP"}, headers={"X-API-Key": "bhp"})
    assert hidden.json()["count"] == 24
    assert "K2-Complete" not in hidden.headers, "it would tell how many rows there are that one may not see"
