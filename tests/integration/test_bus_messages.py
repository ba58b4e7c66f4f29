"""Producer, dead letters and consumer against a real broker."""

import json
import time
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from k2_testing.events import plain_rows

from k2.bus import admin
from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.consumer import TopicReader
from k2.bus.dead_letters import DeadLetter, DeadLetterWriter, read_dead_letters
from k2.bus.producer import EventProducer, FatalProducerError
from k2.model.codec import decode
from k2.model.errors import RefusedError, UserError, WorldError
from k2.model.events import arrow_schema, avro_schema
from k2.model.topics import DataType

pytestmark = pytest.mark.real
TRADES = DataType.TRADES


@pytest.fixture
def config(kafka):
    return {"bootstrap.servers": kafka.bootstrap_servers}


@pytest.fixture
def topic(config, free_topic):
    """A topic of two partitions."""
    name = free_topic()
    ensure_topics(config, [TopicSpec(name, partitions=2)])
    return name


def trades(count: int) -> pa.RecordBatch:
    rows = plain_rows(count, symbols=("BHP", "CBA", "RIO", "WES", "TLS"))
    return pa.RecordBatch.from_pylist(rows, schema=arrow_schema(TRADES))


def until(condition, seconds=90.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"


class Reader:
    """A reader and what it was told and gave, with where it begins."""

    def __init__(self, config, topic, group, starts=None):
        self.assigned, self.revoked, self.lost = [], [], []
        self.starts = starts if starts is not None else {}
        self.payloads, self.seen = [], []
        self.reader = TopicReader(config, topic, group, self.on_assigned, self.revoked.append, self.lost.append)

    def on_assigned(self, partitions):
        self.assigned.append(partitions)
        return {partition: self.starts.get(partition, 0) for partition in partitions}

    def poll(self):
        block = self.reader.poll_block(1_000, 0.05)
        if block is not None:
            assert block.partitions.dtype == np.int32
            assert block.offsets.dtype == np.int64
            assert len(block) == len(block.partitions) == len(block.offsets)
            self.payloads += block.payloads
            self.seen += zip(block.partitions.tolist(), block.offsets.tolist(), strict=True)
        return block

    def until(self, condition, seconds=90.0):
        until(lambda: (self.poll(), condition())[1], seconds)


@pytest.fixture
def open_reader(config, topic):
    """Opens readers of the topic, all in one group unless told otherwise; closes them at the end."""
    opened = []

    def open_one(starts=None, group=None, of=None):
        opened.append(Reader(config, of or topic, group or f"group-{topic}", starts))
        return opened[-1]

    yield open_one
    for each in opened:
        each.reader.close()


# --- producer -------------------------------------------------------------------------------------------------------


def test_events_arrive_whole_in_order_and_by_symbol(config, topic, open_reader):
    events = trades(20_000)
    with EventProducer(config, topic=topic, data_type=TRADES, schema_id=7) as producer:
        delivery = producer.send(events)
        producer.flush(60)
        assert delivery.done
        assert (delivery.rows, delivery.acknowledged, delivery.error) == (20_000, 20_000, None)
        assert delivery.next_offsets == {p: end for p, end in admin.end_offsets(config, topic).items() if end}
    reader = open_reader()
    reader.until(lambda: len(reader.payloads) == 20_000)
    back = decode(reader.payloads, TRADES, lambda _: json.dumps(avro_schema(TRADES)))
    assert back.bad == []
    assert back.events.sort_by("source_sequence").equals(events)
    of = {}
    for (partition, offset), symbol, sequence in zip(
        reader.seen, back.events["symbol"].to_pylist(), back.events["source_sequence"].to_pylist(), strict=True
    ):
        of.setdefault(symbol, []).append((partition, offset, sequence))
    for found in of.values():
        assert len({partition for partition, _, _ in found}) == 1
        assert found == sorted(found)
        assert [sequence for _, _, sequence in found] == sorted(sequence for _, _, sequence in found)


def test_keys_go_where_java_puts_them(config, topic):
    """Murmur2 of the key, as Kafka's own clients: "BHP" by the Java algorithm, written out here."""
    events = trades(5)
    with EventProducer(config, topic=topic, data_type=TRADES, schema_id=7) as producer:
        for row in range(5):
            sent = producer.send(events.slice(row, 1))
            producer.flush()
            symbol = events.column("symbol")[row].as_py()
            assert list(sent.next_offsets) == [(murmur2(symbol.encode()) & 0x7FFFFFFF) % 2]


def murmur2(data: bytes) -> int:
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_memory_is_bounded_by_messages_and_by_bytes(config, topic):
    most = 0
    with EventProducer(
        config, topic=topic, data_type=TRADES, schema_id=7, queue_messages=3_000, queue_bytes=200_000, linger_ms=50
    ) as producer:
        for _ in range(3):
            delivery = producer.send(trades(10_000))
            most = max(most, producer.queued)
        producer.flush(60)
        assert delivery.acknowledged == 10_000
    assert 0 < most <= 3_000
    assert sum(admin.end_offsets(config, topic).values()) == 30_000


def test_a_broker_that_is_gone_is_an_error_that_counts_the_messages(free_topic):
    producer = EventProducer(
        {"bootstrap.servers": "127.0.0.1:1"}, topic=free_topic(), data_type=TRADES, schema_id=7, delivery_seconds=1.0
    )
    delivery = producer.send(trades(10))
    with pytest.raises(WorldError, match=r"10 messages to .* were not acknowledged by Kafka at 127\.0\.0\.1:1"):
        producer.flush(60)
    assert delivery.done
    assert (delivery.acknowledged, delivery.failed) == (0, 10)
    assert "timed out" in (delivery.error or "")
    producer.close(0)


def test_what_is_too_large_is_given_up_alone(config, topic):
    with EventProducer(config, topic=topic, data_type=TRADES, schema_id=7) as producer:
        good = producer.produce(b"small", "A")
        large = producer.produce(b"x" * 2_000_000, "A")
        with pytest.raises(WorldError, match=r"1 messages .* were given up: .*too large"):
            producer.flush()
        assert (good.acknowledged, large.failed) == (1, 1)


def test_a_broker_that_dies_in_the_middle_costs_no_message_and_doubles_none(kafka, config, topic, open_reader):
    with EventProducer(config, topic=topic, data_type=TRADES, schema_id=7) as producer:
        deliveries = [producer.send(trades(5_000))]
        until(lambda: (producer.poll(0.01), deliveries[0].acknowledged > 0)[1])
        deliveries += [producer.send(trades(5_000)) for _ in range(4)]
        kafka.kill()
        deliveries += [producer.send(trades(5_000)) for _ in range(4)]
        assert producer.queued
        kafka.start()
        producer.flush(90)
    assert [delivery.acknowledged for delivery in deliveries] == [5_000] * 9
    assert sum(admin.end_offsets(config, topic).values()) == 45_000
    reader = open_reader()
    reader.until(lambda: len(reader.seen) == 45_000)
    assert len(set(reader.seen)) == 45_000


def test_a_fatal_error_ends_the_producer(config, topic):
    producer = EventProducer(config, topic=topic, data_type=TRADES, schema_id=7)
    producer._complaints(KafkaError(KafkaError._TRANSPORT, "gone for a moment"))
    producer.poll()
    producer._complaints(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence lost", fatal=True))
    with pytest.raises(FatalProducerError, match="cannot go on: sequence lost"):
        producer.send(trades(1))
    with pytest.raises(FatalProducerError):
        producer.close(1)


# --- dead letters ---------------------------------------------------------------------------------------------------


def test_dead_letters_come_back_as_they_went(config, free_topic):
    dlq = f"{free_topic()}.dlq"
    ensure_topics(config, [TopicSpec(dlq, partitions=1)])
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    letters = [
        DeadLetter(
            b"\x00rubbish", "truncated", b"BHP", topic="t", partition=3, offset=42, data_type=TRADES, schema_id=9
        ),
        DeadLetter(None, "tombstone (no value)", topic="t", partition=0, offset=0, time=when),
        DeadLetter(
            "naïve".encode(), "side is 'X' , expected BUY", file="trades ü.csv", line=4, file_header="a,b", time=when
        ),
    ]
    with DeadLetterWriter(config, dlq) as writer:
        writer.send(letters)
        writer.flush()
        found = read_dead_letters(config, dlq)
    assert found[1:] == letters[1:]
    assert found[0].time is not None
    assert found[0] == letters[0].__class__(
        **{f: getattr(letters[0], f) for f in letters[0].__slots__} | {"time": found[0].time}
    )
    assert len(read_dead_letters(config, dlq, limit=2)) == 2


def test_flush_of_dead_letters_fails_when_they_are_not_safe(free_topic):
    writer = DeadLetterWriter({"bootstrap.servers": "127.0.0.1:1"}, f"{free_topic()}.dlq")
    writer.send([DeadLetter(b"x", "truncated")])
    with pytest.raises(WorldError, match=r"1 messages to .*dlq were not acknowledged"):
        writer.flush(0.5)
    with pytest.raises(WorldError):
        writer.close(0.1)


def test_dead_letters_of_a_topic_that_does_not_exist_are_an_error(config):
    with pytest.raises(UserError, match=r"There is no topic no\.such\.dlq"):
        read_dead_letters(config, "no.such.dlq")


# --- consumer -------------------------------------------------------------------------------------------------------


def fill(config, topic, partition, count, first=0):
    producer = Producer(config)
    for n in range(first, first + count):
        producer.produce(topic, f"{partition}-{n}".encode(), f"k{n}", partition)
    assert producer.flush(30) == 0


def test_it_begins_where_it_is_told_in_each_partition(config, topic, open_reader):
    fill(config, topic, 0, 50)
    fill(config, topic, 1, 50)
    reader = open_reader({0: 40, 1: 48})
    reader.until(lambda: len(reader.seen) == 12)
    assert sorted(reader.seen) == [(0, n) for n in range(40, 50)] + [(1, 48), (1, 49)]
    assert reader.reader.position() == {0: 50, 1: 50}


def test_two_readers_share_the_partitions_and_each_begins_where_it_is_told(config, topic, open_reader):
    fill(config, topic, 0, 10)
    fill(config, topic, 1, 10)
    first = open_reader({0: 0, 1: 0})
    first.until(lambda: len(first.seen) == 20)
    assert first.reader.assignment() == {0, 1}
    second = open_reader({0: 5, 1: 5})

    def both():
        first.poll()
        second.poll()
        return len(second.seen) >= 5 and len(first.reader.assignment()) == 1

    until(both)
    (theirs,) = second.reader.assignment()
    assert first.reader.assignment() == {1 - theirs}
    assert first.revoked == [{theirs}]
    assert second.seen == [(theirs, n) for n in range(5, 10)]
    second.reader.close()
    assert second.revoked == [{theirs}]
    first.starts = {theirs: 8}
    first.seen.clear()
    first.until(lambda: len(first.seen) == 2)
    assert first.seen == [(theirs, 8), (theirs, 9)]
    assert first.lost == second.lost == []


def test_a_member_without_partitions_knows_that_the_group_has_taken_it(config, free_topic, open_reader):
    name = free_topic()
    ensure_topics(config, [TopicSpec(name, partitions=1)])
    owner = open_reader(of=name)
    owner.until(lambda: owner.reader.joined() and owner.reader.assignment() == {0})
    stand_by = open_reader(of=name)

    def both():
        owner.poll()
        stand_by.poll()
        return stand_by.reader.joined()

    until(both)
    assert stand_by.reader.assignment() == set()
    assert stand_by.assigned == []
    assert owner.reader.assignment() == {0}
    owner.reader.close()
    stand_by.until(lambda: stand_by.reader.assignment() == {0})
    assert stand_by.reader.joined()


def test_position_passes_the_markers_of_transactions(config, topic, open_reader):
    producer = Producer(config | {"transactional.id": topic})
    producer.init_transactions(30)
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for n in range(3):
            producer.produce(topic, str(n).encode(), partition=0)
        producer.flush(30)
        end(30)
    until(lambda: admin.end_offsets(config, topic)[0] == 12)
    reader = open_reader()
    reader.until(lambda: reader.reader.position().get(0) == 12)
    # 3 and 11 are the commits' markers; 4 to 6 were aborted, 7 is that marker.
    assert [offset for _, offset in reader.seen] == [0, 1, 2, 8, 9, 10]
    assert reader.reader.position() == {0: 12, 1: 0}
    assert reader.reader.ends() == {0: 12, 1: 0}


def test_seek_goes_back_and_forth_and_nothing_older_comes_out(config, topic, open_reader):
    fill(config, topic, 0, 1_000)
    reader = open_reader()
    reader.until(lambda: len(reader.seen) >= 100)
    reader.reader.seek(0, 500)
    assert reader.reader.position()[0] == 500
    reader.seen.clear()
    reader.until(lambda: len(reader.seen) >= 500)
    assert reader.seen == [(0, n) for n in range(500, 1_000)]
    reader.reader.seek(0, 990)
    reader.seen.clear()
    reader.until(lambda: len(reader.seen) >= 10)
    assert reader.seen == [(0, n) for n in range(990, 1_000)]
    reader.reader.seek(7, 3)  # not ours: nothing to do
    assert reader.reader.position()[0] == 1_000


def test_seek_right_after_the_assignment_works_too(config, topic, open_reader):
    fill(config, topic, 0, 100)
    reader = open_reader()
    reader.until(reader.reader.assignment)
    reader.seen.clear()
    reader.reader.seek(0, 90)
    reader.until(lambda: len(reader.seen) >= 10)
    assert reader.seen == [(0, n) for n in range(90, 100)]


def test_what_retention_has_taken_is_refused_by_name(config, topic, open_reader):
    fill(config, topic, 0, 100)
    client = AdminClient(config)
    next(iter(client.delete_records([TopicPartition(topic, 0, 60)]).values())).result(15)
    reader = open_reader({0: 10})
    with pytest.raises(RefusedError) as refused:
        reader.until(lambda: False, 60)
    text = str(refused.value)
    assert f"Retention has passed the offset to read of {topic}/0" in text
    assert "found 'earliest offset 60', expected offset 10" in text
    assert "--skip-to-earliest" in text


def test_an_offset_beyond_the_end_is_refused_not_waited_for(config, topic, open_reader):
    fill(config, topic, 0, 10)
    reader = open_reader({0: 5_000})
    with pytest.raises(RefusedError, match="ends before the offset to read"):
        reader.until(lambda: False, 60)


def test_what_a_callback_raises_comes_out_of_the_poll(config, topic):
    def refuse(partitions):
        raise RefusedError("the table says no")

    reader = TopicReader(config, topic, f"group-{topic}", refuse, lambda _: None, lambda _: None)
    try:
        with pytest.raises(RefusedError, match="the table says no"):
            until(lambda: reader.poll_block(10, 0.1) is not None)
    finally:
        reader.close()


def test_tombstones_and_keys_come_as_they_are(config, topic, open_reader):
    producer = Producer(config)
    producer.produce(topic, None, b"BHP", 0)
    producer.produce(topic, b"", None, 0)
    assert producer.flush(30) == 0
    reader = open_reader()
    found = []
    until(lambda: (found.append(reader.poll()), len(reader.payloads) == 2)[1])
    assert reader.payloads == [None, b""]
    first = next(block for block in found if block is not None)
    assert first.key(0) == b"BHP"


def test_group_offsets_tell_of_lag_with_metadata(config, topic, open_reader):
    fill(config, topic, 0, 10)
    reader = open_reader()
    reader.until(lambda: len(reader.seen) == 10)
    told = {0: (7, "snapshot=12")}
    reader.reader.commit_group_offsets(told)
    reader.until(lambda: admin.committed_with_metadata(config, f"group-{topic}", topic) == told)
    assert admin.committed_offsets(config, f"group-{topic}", topic) == {0: 7}


def test_a_paused_partition_gives_nothing_until_it_is_resumed(config, topic, open_reader):
    reader = open_reader()
    reader.until(lambda: reader.reader.assignment() == {0, 1})
    reader.reader.pause([0])
    fill(config, topic, 0, 5)
    fill(config, topic, 1, 5)
    reader.until(lambda: len(reader.seen) >= 5)
    assert {partition for partition, _ in reader.seen} == {1}
    reader.reader.resume()
    reader.until(lambda: len(reader.seen) == 10)
