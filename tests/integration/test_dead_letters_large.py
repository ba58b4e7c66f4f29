"""Dead letters larger than Kafka takes: their heads are kept, and nobody is held up by them."""

from __future__ import annotations

import random

import pytest
from confluent_kafka import Producer
from k2_testing.sinks import Pipeline

from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.dead_letters import HEADS, MOST_BYTES, DeadLetter, DeadLetterWriter, read_dead_letters
from k2.model.errors import WorldError
from k2.model.topics import TopicName

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
WIDE = str(32 * 1024 * 1024)


def noise(size, seed=1):
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


def send_anything(config, topic, *payloads):
    producer = Producer({**config, "compression.type": "zstd", "message.max.bytes": WIDE})
    for payload in payloads:
        producer.produce(topic, payload, b"BHP")
        assert producer.flush(60) == 0


@pytest.fixture
def config(kafka):
    return {"bootstrap.servers": kafka.bootstrap_servers}


@pytest.fixture
def tight(config, free_topic):
    """A dead-letter topic whose largest batch is 10,000 bytes."""
    name = f"{free_topic()}.dlq"
    ensure_topics(config, [TopicSpec(name, partitions=1, config={"max.message.bytes": "10000"})])
    return name


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic, config):
    """A topic that takes large messages beside a dead-letter topic that does not."""
    topic = free_topic()
    ensure_topics(config, [TopicSpec(topic, partitions=1, config={"max.message.bytes": WIDE})])
    made = Pipeline(tmp_path, kafka, registry, topic, partitions=1)
    yield made
    made.close()


def test_the_sink_goes_on_behind_messages_that_its_dead_letter_topic_does_not_take(pipeline):
    squeezed = b"no event, again and again. " * 120_000  # 3 MB, of which compression leaves next to nothing
    refused_by_broker = noise(3_000_000)
    refused_at_once = b"?" * (MOST_BYTES + 1)
    pipeline.produce(0, 500)
    send_anything(pipeline.kafka, pipeline.topic, squeezed, refused_by_broker, refused_at_once)
    pipeline.produce(500, 1_000)
    pipeline.finish()
    whole, *cut = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
    assert (whole.payload, whole.truncated, whole.offset) == (squeezed, False, 500)
    for letter, payload, offset in zip(cut, (refused_by_broker, refused_at_once), (501, 502), strict=True):
        assert letter.payload == payload[: HEADS[0]]
        assert (letter.truncated, letter.size) == (True, len(payload))
        assert (letter.topic, letter.partition, letter.offset) == (pipeline.topic, 0, offset)
        assert letter.reason.startswith("not Confluent framing")
    (part,) = pipeline.audit().partitions
    assert (part.rows, part.offsets.dead_letters, part.behind, part.ok) == (1_000, 3, 0, True)


def test_letters_that_are_small_enough_are_whole_though_one_batch_of_them_was_refused(config, tight):
    """A broker refuses a batch with all that is in it; here the letters fit one by one alone."""
    letters = [DeadLetter(noise(2_000, seed), "truncated", topic="t", partition=0, offset=seed) for seed in range(20)]
    with DeadLetterWriter(config, tight) as writer:
        writer.send(letters)
        writer.flush()
    found = read_dead_letters(config, tight)
    assert {letter.offset: letter.payload for letter in found} == {each.offset: each.payload for each in letters}
    assert not any(letter.truncated for letter in found)


def test_as_much_of_the_head_is_kept_as_the_topic_takes(config, tight):
    payload, key = noise(50_000), noise(40_000, seed=2)
    letters = [
        DeadLetter(payload, "truncated", key=b"BHP", topic="t", partition=0, offset=1),
        DeadLetter(b"small", "truncated", key=key, topic="t", partition=0, offset=2),
        DeadLetter(b"small", "truncated", key=b"BHP", topic="t", partition=0, offset=3),
    ]
    with DeadLetterWriter(config, tight) as writer:
        writer.send(letters)
        writer.flush()
    found = {letter.offset: letter for letter in read_dead_letters(config, tight)}
    assert (found[1].payload, found[1].key, found[1].size) == (payload[:1_024], b"BHP", 50_000)
    assert (found[2].payload, found[2].key, found[2].size) == (b"small", None, 5)
    assert (found[3].payload, found[3].key, found[3].size) == (b"small", b"BHP", None)


def test_a_topic_that_takes_not_even_headers_is_an_error_and_no_silence(config, free_topic):
    name = f"{free_topic()}.dlq"
    ensure_topics(config, [TopicSpec(name, partitions=1, config={"max.message.bytes": "100"})])
    writer = DeadLetterWriter(config, name)
    writer.send([DeadLetter(b"x", "truncated", topic="t", partition=0, offset=1)])
    with pytest.raises(WorldError, match=r"does not take even the headers of a dead letter: .*too large"):
        writer.flush()
    writer.close()
