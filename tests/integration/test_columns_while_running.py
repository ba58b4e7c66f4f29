"""Columns beside the built-in ones, edited while sinks, producers and questions run: nothing is lost, null or another value."""

from __future__ import annotations

import csv
import io
import json
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.foreign import foreign_trades, optional, writer_schema
from k2_testing.lake import TRADES, catalog_properties, list_columns
from k2_testing.sinks import eventually
from k2_testing.ticks import append_ticks, trade

import k2
from k2.bus.dead_letters import read_dead_letters
from k2.bus.producer import EventProducer
from k2.bus.registry import Schemas
from k2.lake.tables import ensure_table
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType, TopicName, subject_of
from k2.query.asked.requests import At, EventsQuery

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


class Foreign:
    """Somebody else's producer, under a schema of its own in the topic's subject."""

    def __init__(self, pipeline, first, *fields):
        self._pipeline, self._first = pipeline, first
        self._schema = writer_schema(*fields)
        self._id = Schemas(pipeline.registry).register(subject_of(pipeline.topic), json.dumps(self._schema))
        self.sent: dict[str, tuple] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, *values):
        first = self._first + len(self.sent)
        producer = EventProducer(
            self._pipeline.kafka, topic=self._pipeline.topic, data_type=DataType.TRADES, schema_id=self._id
        )
        with closing(producer):
            for payload in foreign_trades(self._schema, self._id, values, first=first):
                producer.produce(payload, b"BHP")
            producer.flush(30)
        self.sent |= {f"F{first + number}": tuple(each.values()) for number, each in enumerate(values)}

    def run(self, value_of):
        """Send ten messages at a time until it is stopped."""

        def work():
            while not self._stop.wait(0.02):
                self.send(*(value_of(len(self.sent) + number) for number in range(10)))

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def stop(self):
        self._stop.set()
        self._thread.join(60)


def rows_of(pipeline, *names):
    table = pipeline.catalog.load_table(TRADES)
    found = table.scan(selected_fields=("trade_id", *names)).to_arrow().to_pylist()
    return {row["trade_id"]: tuple(row[name] for name in names) for row in found}


def test_columns_are_added_renamed_and_widened_while_sink_and_producers_run(pipeline):
    sink = pipeline.sink()
    pipeline.produce(0, 200)  # K2's own producer, which knows of no further column
    old = Foreign(pipeline, 0, optional("venue_flag", "string"), optional("lots", "int"))
    old.run(lambda number: {"venue_flag": f"old {number}", "lots": number})
    eventually(lambda: "no column for: lots, venue_flag" in pipeline.log(), lambda: pipeline.log()[-2000:])
    list_columns(pipeline.catalog, TableColumn("venue_flag", "string"), TableColumn("lots", "int"))
    eventually(lambda: len(rows_of(pipeline)) > 300, lambda: f"goes on {pipeline.log()[-2000:]}")
    list_columns(pipeline.catalog, TableColumn("flag", "string", was="venue_flag"), TableColumn("lots", "long"))
    new = Foreign(pipeline, 100_000, optional("flag", "string"), optional("lots", "long"))
    new.run(lambda number: {"flag": f"new {number}", "lots": 2**40 + number})  # while the old one goes on
    eventually(lambda: len(set(new.sent) & set(rows_of(pipeline))) > 100, lambda: pipeline.log()[-2000:])
    list_columns(
        pipeline.catalog,
        TableColumn("flag", "string", was="venue_flag"),
        TableColumn("lots", "long"),
        TableColumn("auction", "boolean"),
    )
    both = (set(old.sent), set(new.sent))
    eventually(
        lambda: all(len(each.sent) > len(seen) + 50 for each, seen in zip((old, new), both, strict=True)), "more"
    )
    old.stop()
    new.stop()
    expected = old.sent | new.sent
    eventually(
        lambda: sum(pipeline.recorded().values()) == 200 + len(expected), lambda: f"all {pipeline.log()[-2000:]}"
    )
    assert sink.poll() is None, "it is the same sink all the while"
    sink.terminate()
    assert sink.wait(90) == 0
    found = rows_of(pipeline, "flag", "lots")
    assert {name: found[name] for name in expected} == expected
    assert [found[name] for name in set(found) - set(expected)] == [(None, None)] * 200
    assert read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters) == []
    assert pipeline.audit().ok


def test_a_tail_that_was_read_under_the_old_name_and_type_answers_under_the_new_ones(pipeline):
    list_columns(pipeline.catalog, TableColumn("flag", "string"), TableColumn("lots", "int"))
    old = Foreign(pipeline, 0, optional("flag", "string"), optional("lots", "int"))
    old.send({"flag": "in a file", "lots": 1})
    pipeline.finish()

    def asked(*fields, **options):
        rows = questions.events(EventsQuery(DataType.TRADES, fields=("trade_id", *fields), **options)).rows
        return [tuple(row.values())[1:] for row in sorted(rows.to_pylist(), key=lambda row: row["trade_id"])]

    with hybrid_questions_of(pipeline) as questions:
        old.send({"flag": "in the topic", "lots": 2})
        before = [("in a file", 1), ("in the topic", 2)]
        eventually(lambda: asked("flag", "lots") == before, lambda: str(asked("flag", "lots")))
        list_columns(pipeline.catalog, TableColumn("venue_flag", "string", was="flag"), TableColumn("lots", "long"))
        assert asked("venue_flag", "lots") == before, "at once, though nothing was committed since"
        new = Foreign(pipeline, 5, optional("venue_flag", "string"), optional("lots", "long"))
        new.send({"venue_flag": "new", "lots": 2**40})
        old.send({"flag": "old writer", "lots": 3})
        after = [*before, ("old writer", 3), ("new", 2**40)]
        eventually(lambda: asked("venue_flag", "lots") == after, lambda: str(asked("venue_flag", "lots")))
        pipeline.finish()
        assert asked("venue_flag", "lots") == after
        assert questions.events(EventsQuery(DataType.TRADES)).provenance.tails[0].problem is None


def test_a_later_page_of_an_answer_with_a_tail_has_the_columns_of_the_first(pipeline):
    list_columns(pipeline.catalog, TableColumn("flag", "string"), TableColumn("lots", "int"))
    writer = Foreign(pipeline, 0, optional("flag", "string"), optional("lots", "int"))
    writer.send({"flag": "a", "lots": 1}, {"flag": "b", "lots": 2})
    pipeline.finish()
    writer.send({"flag": "c", "lots": 3})
    with hybrid_questions_of(pipeline) as questions:
        first = questions.events(EventsQuery(DataType.TRADES, limit=1))
        assert first.provenance.tail_rows == 1
        list_columns(
            pipeline.catalog,
            TableColumn("venue_flag", "string", was="flag"),
            TableColumn("lots", "long"),
            TableColumn("auction", "boolean"),
        )
        at = At(ends=first.provenance.ends, tables=first.provenance.pinned)
        for fields in ((), ("trade_id", "flag", "lots")):
            second = questions.events(EventsQuery(DataType.TRADES, limit=9, at=at, after=first.last, fields=fields))
            assert second.rows.column_names == (list(fields) or first.rows.column_names)
            assert second.rows.select(["flag", "lots"]).to_pylist() == [
                {"flag": "b", "lots": 2},
                {"flag": "c", "lots": 3},
            ]
        pipeline.finish()
        again = questions.events(EventsQuery(DataType.TRADES, limit=9, at=at, after=first.last))
        assert again.rows["flag"].to_pylist() == ["b", "c"], "what the first page had from the topic is in files by now"


VALUES = {
    "text": ("string", 'a "quoted", text'),
    "small": ("int", -7),
    "large": ("long", 2**62),
    "ratio": ("double", 0.1),
    "share": ("float", 0.5),
    "auction": ("boolean", True),
    "settles": ("date", date(2026, 3, 4)),
    "cleared_at": ("timestamptz", datetime(2026, 3, 2, 10, 0, 0, 123456, tzinfo=UTC)),
    "edge": ("decimal(38, 18)", Decimal("12345678901234567890.123456789012345678")),
    "tags": ("list<string>", ["a", "b"]),
    "labels": ("map<string, string>", [("k", "v")]),
}
AS_JSON = {
    "cleared_at": "2026-03-02T10:00:00.123456Z",
    "settles": "2026-03-04",
    "edge": "12345678901234567890.123456789012345678",
    "labels": {"k": "v"},
}


def test_a_column_of_every_type_is_in_every_form_and_null_in_rows_from_before(lake, client, tmp_path):
    first = append_ticks(lake, [trade(0)])
    list_columns(lake, *(TableColumn(name, kind) for name, (kind, _) in VALUES.items()))
    append_ticks(lake, [trade(1) | {name: value for name, (_, value) in VALUES.items()}])
    wanted = [{name: AS_JSON.get(name, value) for name, (_, value) in VALUES.items()}]
    question = {"symbol": "BHP", "fields": ",".join(VALUES)}
    assert client.get("/v1/trades", params=question).json()["data"] == [dict.fromkeys(VALUES), *wanted]
    lines = client.get("/v1/trades", params=question | {"format": "ndjson"}).text.splitlines()
    assert json.loads(lines[1]) == wanted[0]
    table = list(csv.DictReader(io.StringIO(client.get("/v1/trades", params=question | {"format": "csv"}).text)))
    assert table[0] == dict.fromkeys(VALUES, "")
    assert {name: table[1][name] for name in ("text", "large", "edge", "settles")} == {
        "text": VALUES["text"][1],
        "large": str(2**62),
        "edge": AS_JSON["edge"],
        "settles": "2026-03-04",
    }
    exact = {name: value for name, (_, value) in VALUES.items()}
    arrow = client.get("/v1/trades", params=question | {"format": "arrow"}).content
    assert pa.ipc.open_stream(arrow).read_all().to_pylist()[1] == exact
    parquet = client.get("/v1/trades", params=question | {"format": "parquet"}).content
    assert pq.read_table(io.BytesIO(parquet)).to_pylist()[1] == exact
    whole = client.get("/v1/trades", params={"symbol": "BHP"}).json()["data"]
    assert {name: whole[1][name] for name in VALUES} == wanted[0]
    past = client.get("/v1/trades", params={"symbol": "BHP", "snapshot": str(first)}).json()["data"]
    assert not set(VALUES) & set(past[0])
    with closing(k2.connect(catalog=catalog_properties(tmp_path))) as here:
        assert here.trades("BHP", fields=list(VALUES)).arrow().to_pylist()[1] == exact


def test_an_answer_that_was_kept_is_not_given_again_once_the_columns_are_others(lake, client):
    append_ticks(lake, [trade(0)])
    before = client.get("/v1/trades", params={"symbol": "BHP"})
    list_columns(lake, TableColumn("flag", "string"))
    after = client.get("/v1/trades", params={"symbol": "BHP"}, headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    assert after.json()["data"][0]["flag"] is None


def test_a_page_goes_on_with_the_columns_that_its_first_one_had(lake, client):
    list_columns(lake, TableColumn("flag", "string"))
    append_ticks(lake, [trade(number) | {"flag": str(number)} for number in range(3)])
    first = client.get("/v1/trades", params={"symbol": "BHP", "limit": 2}).json()
    list_columns(lake, TableColumn("venue_flag", "string", was="flag"))
    token = {"symbol": "BHP", "page_token": first["next_page"]}
    assert [row["flag"] for row in client.get("/v1/trades", params=token).json()["data"]] == ["2"]
    assert [row["venue_flag"] for row in client.get("/v1/trades", params={"symbol": "BHP"}).json()["data"]] == list(
        "012"
    )


@pytest.mark.parametrize(
    ("of_trades", "of_quotes", "told"),
    [
        (("string", "X"), ("string", "Y"), ["X", "Y"]),
        (("int", 1), ("long", 2**40), [1, 2**40]),
        (("decimal(9, 4)", Decimal("1.25")), ("decimal(18, 2)", Decimal("7.5")), [Decimal("1.25"), Decimal("7.5")]),
        (("string", "X"), ("int", 7), ["X", "7"]),
        (("double", 0.5), ("boolean", True), ["0.5", "true"]),
        (("list<string>", ["a"]), ("date", date(2026, 3, 2)), ["[a]", "2026-03-02"]),
    ],
)
def test_a_column_of_one_name_and_two_types_holds_the_values_of_both_in_a_replay(
    lake, tmp_path, of_trades, of_quotes, told
):
    for data_type, (kind, value) in ((DataType.TRADES, of_trades), (DataType.QUOTES, of_quotes)):
        spec = builtin_table(data_type)
        ensure_table(lake, replace(spec, columns=(*spec.columns, TableColumn("flag", kind))))
        moment = trade(1 if data_type is DataType.QUOTES else 0)["timestamp"]
        append_ticks(lake, [{"timestamp": moment, "flag": value}], data_type)
    with closing(k2.connect(catalog=catalog_properties(tmp_path))) as here:
        rows = [row for batch in here.replay(["BHP"]) for row in batch.to_pylist()]
    assert [row["flag"] for row in rows] == told
