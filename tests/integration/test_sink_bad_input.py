"""Messages that are no events: kept in the dead-letter topic with the reason, counted, never in the way of the others."""

from __future__ import annotations

import dataclasses
import io
import json
import urllib.error
import urllib.request
from decimal import Decimal

import fastavro
import pytest
from k2_testing.events import START_US, message_id, trades
from k2_testing.sinks import Pipeline, eventually, ready

from k2.bus.dead_letters import read_dead_letters
from k2.bus.registry import Schemas
from k2.lake.tables import ensure_table
from k2.model.codec.encode import encode
from k2.model.events import avro_schema
from k2.model.held_up import HeldUpBy
from k2.model.tables import TableColumn, builtin_table
from k2.model.topics import DataType, TopicName, subject_of
from k2_local.host import ports

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1)
    yield pipeline
    pipeline.close()


def one_payload(pipeline, number=77):
    events = trades([message_id(number)], symbols=["BHP"], times=[START_US + number])
    return next(iter(encode(events, DataType.TRADES, pipeline.schema_id).payloads()))


def test_every_kind_of_poison_is_a_dead_letter_with_its_reason_and_nothing_is_lost(pipeline):
    good = one_payload(pipeline)
    unknown_id = b"\x00" + (999_999).to_bytes(4, "big") + good[5:]
    poison = {
        b'{"price": 1}': "not Confluent framing: first byte 0x7b, expected 0x00",
        unknown_id: "schema id 999999 is not known to the registry",
        good[: len(good) // 2]: "truncated",
        good + b"!!": "2 trailing bytes",
        b"\x00\x00": "2 bytes are no Confluent header",
        None: "tombstone (no value)",
    }
    pipeline.produce(0, 1_000)
    pipeline.send(*poison)
    pipeline.produce(1_000, 2_000)
    pipeline.finish()
    letters = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
    assert {letter.payload: letter.reason for letter in letters} == poison
    assert {(letter.topic, letter.partition) for letter in letters} == {(pipeline.topic, 0)}
    audit = pipeline.audit()
    (part,) = audit.partitions
    assert audit.ok
    assert (part.rows, part.offsets.dead_letters, part.offsets.non_records, part.behind) == (2_000, 6, 0, 0)


def test_another_event_under_an_id_that_is_taken_is_a_dead_letter_as_it_came(pipeline):
    def told(number, price):
        when = [START_US + 10_000_000 + number]
        events = trades(
            [message_id("taken", number)],
            symbols=["BHP"],
            times=when,
            trade_ids=[f"N{number}"],
            prices=[Decimal(price)],
        )
        return next(iter(encode(events, DataType.TRADES, pipeline.schema_id).payloads()))

    first, second, third = told(1, 10), told(1, 11), told(1, 12)
    pipeline.produce(0, 1_000)
    pipeline.send(first, second)  # in one batch
    pipeline.finish()
    pipeline.send(told(2, 5), third, first)  # and once it is in the table
    pipeline.finish()
    letters = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
    there = f"price 10 at {pipeline.topic}/0/1000"
    assert [(letter.payload, letter.key, letter.offset, letter.reason) for letter in letters] == [
        (second, b"BHP", 1001, f"trade id N1 of BHP is another event's already: price 11 here, {there}"),
        (third, b"BHP", 1003, f"trade id N1 of BHP is another event's already: price 12 here, {there}"),
    ]
    (part,) = pipeline.audit().partitions
    assert pipeline.audit().ok
    assert (part.rows, part.offsets.duplicates, part.offsets.dead_letters, part.offsets.non_records) == (1_002, 1, 2, 0)


def test_a_field_that_the_table_does_not_have_pauses_the_sink_until_it_has_it(pipeline):
    pipeline.produce(0, 100)
    wider = avro_schema(DataType.TRADES)
    wider["fields"].append({"name": "venue_flag", "type": ["null", "string"], "default": None})
    schemas = Schemas(pipeline.registry)
    newer = schemas.register(subject_of(pipeline.topic), json.dumps(wider))
    body = one_payload(pipeline, number=777)[5:] + b"\x02\x02X"
    pipeline.send(b"\x00" + newer.to_bytes(4, "big") + body)
    port = ports.choose(None, None, what="the sink's metrics", option="")
    sink = pipeline.sink(port=port)
    eventually(lambda: "sink.paused" in pipeline.log(), lambda: f"a pause {pipeline.log()[-2000:]}")
    assert "carry fields that market_data.trades has no column for: venue_flag" in pipeline.log()
    assert not ready(port)
    assert pipeline.recorded().get(0, 0) <= 100
    spec = builtin_table(DataType.TRADES)
    with_column = dataclasses.replace(spec, columns=(*spec.columns, TableColumn("venue_flag", "string")))
    ensure_table(pipeline.catalog, with_column)  # what applying the edited IcebergTable does
    eventually(lambda: sum(pipeline.recorded().values()) == 101, lambda: f"it goes on {pipeline.log()[-2000:]}")
    eventually(lambda: ready(port), "ready again")
    sink.terminate()
    assert sink.wait(90) == 0
    assert pipeline.audit().ok
    flags = pipeline.catalog.load_table(pipeline.table).scan(selected_fields=("venue_flag",)).to_arrow()
    assert sorted(flags.column("venue_flag").to_pylist(), key=str) == [None] * 100 + ["X"]


def test_a_property_that_no_writer_can_honour_pauses_the_sink_and_mended_it_goes_on(pipeline, tmp_path):
    def set_codec(name):
        with pipeline.catalog.load_table(pipeline.table).transaction() as transaction:
            transaction.set_properties({"write.parquet.compression-codec": name})

    set_codec("nonsense")
    pipeline.produce(0, 500)
    port = ports.choose(None, None, what="the sink's metrics", option="")
    sink = pipeline.sink(port=port)
    eventually(lambda: "sink.paused" in pipeline.log(), lambda: f"a pause {pipeline.log()[-2000:]}")
    eventually(
        lambda: "found 'nonsense', expected one of zstd" in said(port), lambda: f"/ready tells why: {said(port)}"
    )
    assert not list((tmp_path / "warehouse").rglob("*.parquet"))
    eventually(lambda: pipeline.told().held is not None, lambda: f"beside the offsets: {pipeline.told()}")
    held = pipeline.told().held
    assert held.by is HeldUpBy.TABLE
    assert held.said == json.loads(said(port))["reason"]
    pipeline.produce(500, 1_000)
    set_codec("snappy")
    eventually(lambda: sum(pipeline.recorded().values()) == 1_000, lambda: f"it goes on {pipeline.log()[-2000:]}")
    eventually(lambda: ready(port), "ready again")
    eventually(lambda: pipeline.told().held is None, lambda: f"no more: {pipeline.told()}")
    sink.terminate()
    assert sink.wait(90) == 0
    audit = pipeline.audit()
    assert audit.ok
    assert sum(part.rows for part in audit.partitions) == 1_000


def test_what_kafka_brings_is_held_to_the_rules_of_files(pipeline):
    wide = avro_schema(DataType.TRADES)
    events = trades([message_id(9, n) for n in range(4)], symbols=["BHP", "", "B\x07P", "BHP"], times=[START_US] * 4)
    payloads = encode(events, DataType.TRADES, pipeline.schema_id).payloads()
    parsed = fastavro.parse_schema(wide)
    row = fastavro.schemaless_reader(io.BytesIO(payloads[0][5:]), parsed, None)
    fields = {field["name"]: field for field in wide["fields"]}
    fields["timestamp"]["type"] = "long"  # the same bytes, without what a datetime allows
    out = io.BytesIO()
    nanoseconds = row | {"timestamp": START_US * 1000, "ingestion_timestamp": row["ingestion_timestamp"]}
    fastavro.schemaless_writer(out, fastavro.parse_schema(wide), nanoseconds)
    pipeline.send(*payloads, payloads[0][:5] + out.getvalue())
    pipeline.produce(0, 1_000)
    pipeline.finish()
    letters = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
    assert [letter.reason.split(", expected")[0] for letter in letters] == [
        "symbol is missing",
        "symbol is 'B\\x07P'",
        f"timestamp is {START_US * 1000} µs since 1970 (about the year 46156; as nanoseconds, 2014)",
    ]
    (part,) = pipeline.audit().partitions
    assert (part.rows, part.offsets.dead_letters) == (1_002, 3)


def said(port):
    """What a workload's /ready says."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""


def test_a_load_repeated_in_full_adds_no_row(pipeline):
    pipeline.produce(0, 5_000)
    pipeline.finish()
    pipeline.produce(0, 5_000)
    pipeline.finish()
    (part,) = pipeline.audit().partitions
    assert (part.rows, part.offsets.duplicates, part.offsets.next) == (5_000, 5_000, 10_000)


def test_a_tables_that_is_not_there_yet_is_waited_for(pipeline):
    pipeline.catalog.drop_table(pipeline.table)
    pipeline.produce(0, 100)
    sink = pipeline.sink()
    eventually(lambda: "There is no table market_data.trades" in pipeline.log(), "the reason it waits")
    from k2_testing.lake import make_lake

    make_lake(pipeline.folder)
    eventually(lambda: sum(pipeline.recorded().values()) == 100, lambda: f"the rows {pipeline.log()[-1000:]}")
    sink.terminate()
    assert sink.wait(90) == 0
