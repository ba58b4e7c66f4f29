"""`k2 dlq`: letters are counted once, looked at, sent again with their attempts counted, parked, and cleared away."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
import typer
from confluent_kafka import Producer
from k2_testing.events import START_US, message_id, trades
from k2_testing.sinks import Pipeline
from typer.testing import CliRunner

from k2 import cli_dlq, cli_load
from k2.bus.admin import TopicSpec, delete_before, end_offsets, ensure_topics
from k2.bus.dead_letters import DeadLetter, DeadLetterWriter, buried_letters, read_dead_letters
from k2.bus.registry import Schemas, ensure_subjects
from k2.cli_dlq.commands import SOME_LEFT
from k2.forms.audit_text import lines
from k2.forms.audits import audit as audit_body
from k2.model.codec.encode import encode
from k2.model.errors import UserError
from k2.model.events import avro_schema
from k2.model.letters import MOST_ATTEMPTS
from k2.model.topics import DataType

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
WIDE = str(32 * 1024 * 1024)


@pytest.fixture
def config(kafka, registry, tmp_path, monkeypatch):
    """Kafka's settings; commands find their platform in the environment."""
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("K2_REGISTRY_URL", registry.url)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    return {"bootstrap.servers": kafka.bootstrap_servers}


@pytest.fixture
def topic(config, free_topic):
    """A topic that takes large messages, with a dead-letter topic that does not."""
    name = free_topic()
    wide = {"max.message.bytes": WIDE}
    ensure_topics(config, [TopicSpec(name, partitions=1, config=wide), TopicSpec(f"{name}.dlq", partitions=1)])
    return name


@pytest.fixture
def pipeline(config, tmp_path, kafka, registry, free_topic):
    made = Pipeline(tmp_path, kafka, registry, free_topic(), partitions=1)
    yield made
    made.close()


def k2_dlq(*words):
    app = typer.Typer()
    cli_dlq.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["dlq", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def k2_dlq_json(*words):
    code, stdout = k2_dlq(*words, "--output", "json")
    return code, json.loads(stdout)


def send(config, topic, *payloads, key=b"BHP"):
    producer = Producer({**config, "compression.type": "zstd", "message.max.bytes": WIDE})
    for payload in payloads:
        producer.produce(topic, payload, key)
    assert producer.flush(60) == 0


def bury(config, topic, *letters):
    with DeadLetterWriter(config, f"{topic}.dlq") as writer:
        for each in letters:  # one by one: their offsets are in this order
            writer.send([each])
            writer.flush()


def letter(topic, offset=0, payload=b"garbage", reason="not Confluent framing: first byte 0x67", **more):
    return DeadLetter(payload, reason, b"BHP", topic=topic, partition=0, offset=offset, **more)


def in_topic(config, topic):
    """Key, payload and what the headers say of attempts, of every message."""
    found = [each.letter for each in buried_letters(config, topic)]
    return [(each.key, each.payload, each.attempts, each.first) for each in found]


def rows(pipeline):
    (part,) = pipeline.audit().partitions
    assert pipeline.audit().ok
    return part.rows, part.offsets.duplicates, part.offsets.dead_letters


# --- with a real sink -----------------------------------------------------------------------------------------------


def test_a_letter_that_can_be_read_now_becomes_a_row_and_sent_twice_adds_nothing(pipeline):
    """A producer was there before its schema: the registry did not know the id that its messages named."""
    schemas = Schemas(pipeline.registry)
    unique = pipeline.topic.rsplit(".", 1)[1]
    other = schemas.register(f"{unique}-other", json.dumps({"type": "record", "name": unique, "fields": []}))
    event = trades([message_id(77)], symbols=["BHP"], times=[START_US + 77])
    pipeline.produce(0, 50)
    send(pipeline.kafka, pipeline.topic, next(iter(encode(event, DataType.TRADES, other + 1).payloads())))
    pipeline.finish()
    assert rows(pipeline) == (50, 0, 1)
    (found,) = read_dead_letters(pipeline.kafka, f"{pipeline.topic}.dlq")
    assert (found.key, found.offset, found.attempts) == (b"BHP", 50, 0)
    _, (listed,) = k2_dlq_json("list", pipeline.topic)
    assert [(each["reason"], each["letters"]) for each in listed["reasons"]] == [("unknown_schema", 1)]

    late = avro_schema(DataType.TRADES) | {
        "namespace": unique
    }  # the same fields in another schema, with an id of its own
    assert schemas.register(f"{unique}-late", json.dumps(late)) == other + 1, "the registry counts in another way"
    code, said = k2_dlq_json("redrive", pipeline.topic, "--dry-run")
    assert (code, said["sent"], sum(pipeline.ends().values())) == (0, 1, 51)
    for sent in (1, 2):
        code, said = k2_dlq_json("redrive", pipeline.topic, "--reason", "unknown_schema")
        assert (code, said["letters"], said["sent"], sum(pipeline.ends().values())) == (0, 1, 1, 51 + sent)
    pipeline.finish()
    assert rows(pipeline) == (51, 1, 1)


def test_a_letter_that_fails_again_is_the_same_letter_with_its_attempts_counted(pipeline):
    send(pipeline.kafka, pipeline.topic, b"garbage", b"rubbish")
    pipeline.finish()
    assert k2_dlq("redrive", pipeline.topic, "--offset", "1")[0] == 0
    pipeline.finish()
    (_, first, again) = read_dead_letters(pipeline.kafka, f"{pipeline.topic}.dlq")
    assert (first.payload, first.offset, first.attempts, first.first) == (b"rubbish", 1, 0, None)
    assert (again.payload, again.offset, again.attempts, again.first) == (b"rubbish", 2, 1, (0, 1))
    assert (again.key, again.origin) == (b"BHP", first.origin)
    _, (listed,) = k2_dlq_json("list", pipeline.topic)
    assert (listed["letters"], listed["reasons"][0]["tried_again"]) == (2, 1)
    assert rows(pipeline) == (0, 0, 3)  # of messages: each attempt has an offset of its own
    (part,) = pipeline.audit().partitions
    assert (part.ok, part.offsets.letters, part.offsets.repeated, part.offsets.non_records) == (True, 2, 1, 0)
    assert "1 more offsets are of letters that were sent again" in "\n".join(lines(audit_body(pipeline.audit())))


def test_an_event_that_was_refused_for_its_id_keeps_its_attempts_too(pipeline):
    schemas = Schemas(pipeline.registry)
    schema = schemas.register(f"{pipeline.topic}-value", json.dumps(avro_schema(DataType.TRADES)))
    events = trades([message_id(1)] * 2, symbols=["BHP"] * 2, times=[START_US] * 2, prices=[Decimal(1), Decimal(2)])
    send(pipeline.kafka, pipeline.topic, *encode(events, DataType.TRADES, schema).payloads())
    pipeline.finish()
    assert k2_dlq("redrive", pipeline.topic)[0] == 0
    pipeline.finish()
    first, again = read_dead_letters(pipeline.kafka, f"{pipeline.topic}.dlq")
    assert (first.attempts, again.attempts, again.first, again.origin) == (0, 1, (0, 1), first.origin)
    assert rows(pipeline) == (1, 0, 2)
    (part,) = pipeline.audit().partitions
    assert (part.offsets.letters, part.offsets.repeated) == (1, 1)


# --- redrive --------------------------------------------------------------------------------------------------------


def test_after_five_attempts_a_letter_is_parked_until_somebody_asks_for_it(config, topic):
    bury(config, topic, letter(topic), letter(topic, 8, b"other"))
    for attempt in range(1, MOST_ATTEMPTS + 1):
        code, said = k2_dlq_json("redrive", topic, "--offset", "0")
        assert (code, said["letters"], said["sent"]) == (0, 1, 1)
        assert in_topic(config, topic)[-1] == (b"BHP", b"garbage", attempt, (0, 0))
        bury(config, topic, letter(topic, 10 + attempt, attempts=attempt, first=(0, 0)))  # as the sink does
    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["letters"], said["sent"], said["parked"]) == (SOME_LEFT, 2, 1, 1)
    _, (listed,) = k2_dlq_json("list", topic)
    assert (listed["letters"], listed["reasons"][0]["parked"]) == (2, 1)
    code, said = k2_dlq_json("redrive", topic, "--parked", "--offset", "0")
    assert (code, said["sent"], said["parked"]) == (0, 1, 0)
    assert in_topic(config, topic)[-1] == (b"BHP", b"garbage", MOST_ATTEMPTS + 1, (0, 0))


def test_copies_of_one_letter_are_sent_once(config, topic):
    """A crash between a letter and what it came from writes it twice."""
    bury(config, topic, letter(topic), letter(topic), letter(topic, 1))
    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["letters"], said["sent"]) == (0, 2, 2)
    assert sorted(in_topic(config, topic)) == [
        (b"BHP", b"garbage", 1, (0, 0)),
        (b"BHP", b"garbage", 1, (0, 1)),
    ]


def test_a_letter_that_was_cut_is_fetched_where_it_was_while_it_is_there(config, topic, tmp_path):
    large, other = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)
    send(config, topic, b"before", large, other)
    bury(config, topic, letter(topic, 1, large), letter(topic, 2, large))  # what is at 2 now is something else
    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["sent"], said["gone"]) == (SOME_LEFT, 1, 1)
    assert in_topic(config, topic)[3:] == [(b"BHP", large, 1, (0, 1))]
    code, said = k2_dlq_json("show", topic, 0, "--out", tmp_path / "whole")
    assert (code, said["truncated"], said["size"]) == (0, True, 3_000_000)
    assert (tmp_path / "whole").read_bytes() == large
    delete_before(config, topic, {0: 3})
    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["sent"], said["gone"]) == (SOME_LEFT, 0, 2)
    assert k2_dlq("show", topic, 0, "--out", tmp_path / "head")[0] == SOME_LEFT
    assert (tmp_path / "head").read_bytes() == large[:65_536]


def test_letters_go_to_their_own_topic_alone(config, topic):
    """Headers can be anybody's: one that names another topic is not followed."""
    elsewhere = topic + "x"
    ensure_topics(config, [TopicSpec(elsewhere, partitions=1)])
    bury(config, topic, letter(elsewhere), DeadLetter(b"a,b", "2 columns", file="a.csv", line=3), DeadLetter(b"?", "?"))
    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["sent"], said["foreign"], said["from_files"]) == (SOME_LEFT, 0, 2, 1)
    assert end_offsets(config, elsewhere) == end_offsets(config, topic) == {0: 0}


def test_a_topic_that_is_gone_is_an_error_at_once(config, free_topic):
    name = free_topic()
    ensure_topics(config, [TopicSpec(f"{name}.dlq", partitions=1)])
    bury(config, name, letter(name))
    with pytest.raises(UserError, match=f"There is no topic {name}"):
        k2_dlq("redrive", name)


# --- rows of files --------------------------------------------------------------------------------------------------


def k2_load(*words):
    app = typer.Typer()
    cli_load.register(app)
    app.callback()(lambda: None)
    result = CliRunner().invoke(app, ["load", "trades", *map(str, words), "--exchange", "CME", "--output", "json"])
    return result.exit_code, json.loads(result.stdout)


def test_rows_of_files_come_back_as_files_to_be_mended_and_loaded(config, tmp_path):
    """The one whose load wrote no file that anybody can reach, as in a pod."""
    topic = "market.futures.trades.cme"  # the command takes known exchanges only
    ensure_topics(config, [TopicSpec(topic, partitions=1), TopicSpec(f"{topic}.dlq", partitions=1)])
    header, good, bad = (
        "symbol,timestamp,price,quantity",
        "ES,2014-03-10T00:00:00Z,1,2",
        "ES,2014-03-10T00:00:0{}Z,{},2",
    )
    for folder, wrong in (("monday", "NaN"), ("tuesday", "-")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "ticks.csv"
        path.write_text("\n".join([header, good, bad.format(1, wrong), bad.format(2, f'"{wrong}"'), good]) + "\n")
        assert k2_load(path)[0] == cli_load.SOME_REJECTED

    code, said = k2_dlq_json("redrive", topic)
    assert (code, said["sent"], said["from_files"]) == (SOME_LEFT, 0, 4)
    code, said = k2_dlq_json("redrive", topic, "--rejects", tmp_path / "rejects", "--dry-run")
    assert (code, said["rejects_files"], (tmp_path / "rejects").exists()) == (0, [], False)
    code, said = k2_dlq_json("redrive", topic, "--rejects", tmp_path / "rejects")
    assert (code, said["rows_written"], said["from_files"]) == (0, 4, 0)
    with pytest.raises(UserError, match="expected a new or an empty folder"):
        k2_dlq("redrive", topic, "--rejects", tmp_path / "rejects")  # what a person mends is not written over

    before = end_offsets(config, topic)[0]
    for file, wrong, right in zip(said["rejects_files"], ("NaN", "-"), (3, 4), strict=True):
        path = Path(file)
        text = path.read_text()
        assert text.splitlines()[1].split(",")[1:3] == ['"1"', '"header"']
        path.write_text(text.replace(f",{wrong},", f",{right},").replace(f',""{wrong}"",', f",{right},"))
        code, loaded = k2_load(path)
        assert (code, loaded["read"], loaded["accepted"]) == (0, 2, 2)
        assert k2_load(path)[1]["sent"] == 0
    assert end_offsets(config, topic)[0] == before + 4


# --- list and show --------------------------------------------------------------------------------------------------


def test_letters_are_counted_by_class_and_chosen_by_reason_time_and_offset(config, topic):
    now = datetime.now(UTC)
    bury(
        config,
        topic,
        letter(topic, 0, reason="truncated", time=now - timedelta(days=3)),
        letter(topic, 1, reason="price of 1E+20 has too many digits", time=now - timedelta(days=2)),
        letter(topic, 2, reason="quantity of 1E+20 has too many digits", time=now - timedelta(hours=2)),
        letter(topic, 3, reason="[red]odd[/red]", time=now),
    )

    def chosen(*options):
        _, (listed,) = k2_dlq_json("list", f"{topic}.dlq", *options)
        return {each["reason"]: each["letters"] for each in listed["reasons"]}

    assert chosen() == {"decimal": 2, "truncated": 1, "other": 1}
    assert chosen("--reason", "decimal") == {"decimal": 2}
    assert chosen("--reason", "PRICE of") == {"decimal": 1}
    assert chosen("--from", "1d") == {"decimal": 1, "other": 1}
    assert chosen("--from", (now - timedelta(days=2)).isoformat(), "--to", "1d") == {"decimal": 1}
    assert chosen("--offset", "1-2") == {"decimal": 2}
    assert chosen("--offset", "-0") == {"truncated": 1}
    assert chosen("--offset", "3-") == {"other": 1}
    assert chosen("--partition", "7") == {}
    (everywhere,) = (each for each in k2_dlq_json("list")[1] if each["topic"] == f"{topic}.dlq")
    assert everywhere["letters"] == 4
    newest = next(each for each in everywhere["reasons"] if each["reason"] == "decimal")
    assert (newest["offset"], newest["newest"]) == (2, (now - timedelta(hours=2)).isoformat())
    table = k2_dlq("list", topic)[1]
    assert "4 letters" in table
    assert "[red]odd[/red]" in table
    with pytest.raises(UserError, match="--offset cannot be used"):
        k2_dlq("list", topic, "--offset", "x")


def test_a_letter_is_shown_with_its_bytes_and_as_its_schema_reads_it(config, topic, registry, tmp_path):
    (schema_id,) = ensure_subjects({"url": registry.url}, {topic: DataType.TRADES}).values()
    event = trades([message_id(1)], symbols=["BHP"], times=[START_US])
    payload = next(iter(encode(event, DataType.TRADES, schema_id).payloads()))
    bury(config, topic, letter(topic, 5, payload), replace(letter(topic, 6), payload=b"\x1b[2J\x00"))
    code, said = k2_dlq_json("show", topic, 0)
    assert (code, said["origin"]) == (0, {"topic": topic, "partition": 0, "offset": 5})
    assert (said["payload_hex"], said["key"], said["size"], said["truncated"]) == (
        payload.hex(),
        "BHP",
        len(payload),
        False,
    )
    assert (said["decoded"]["symbol"], said["decoded"]["message_id"]) == (
        "BHP",
        str(UUID(bytes=event["message_id"][0].as_py())),
    )
    text = k2_dlq("show", topic, 0)[1]
    assert f"topic {topic} partition 0 offset 5" in text
    assert "41 55 44" in text  # AUD
    code, odd = k2_dlq("show", topic, 1, "--out", tmp_path / "payload")
    assert (code, (tmp_path / "payload").read_bytes()) == (0, b"\x1b[2J\x00")
    assert "not decoded: no schema of the registry reads it" in odd
    assert "\x1b" not in odd
    with pytest.raises(UserError, match=r"There is no letter at offset 2 of .*dlq/0"):
        k2_dlq("show", topic, 2)


# --- purge ----------------------------------------------------------------------------------------------------------


def test_only_the_beginning_is_purged_and_only_when_it_is_meant(config, topic):
    bury(config, topic, *(letter(topic, offset) for offset in range(5)))
    with pytest.raises(UserError, match=r"deletes 3 letters of .* for good"):
        k2_dlq("purge", topic, "--before", 3)
    assert k2_dlq_json("purge", topic, "--before", 3, "--dry-run")[1]["deleted"] == 3
    assert len(read_dead_letters(config, f"{topic}.dlq")) == 5
    assert k2_dlq_json("purge", topic, "--before", 3, "--yes")[1]["deleted"] == 3
    assert [each.offset for each in read_dead_letters(config, f"{topic}.dlq")] == [3, 4]
    assert k2_dlq_json("purge", topic, "--before", 3, "--yes")[1]["deleted"] == 0
    with pytest.raises(UserError, match="ends before that offset: found 9, expected at most 5"):
        k2_dlq("purge", topic, "--before", 9, "--yes")
    with pytest.raises(UserError, match="needs to know how far"):
        k2_dlq("purge", topic, "--yes")
    assert k2_dlq_json("purge", topic, "--all", "--yes")[1]["deleted"] == 2
    assert read_dead_letters(config, f"{topic}.dlq") == []
    assert k2_dlq_json("redrive", topic)[1]["letters"] == 0
