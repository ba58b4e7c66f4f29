"""Another certificate authority: a client reads it when it is made, so another client takes its place, and no message is lost."""

import itertools

import pytest
from k2_testing.cluster import until
from k2_testing.events import message_id, trades

from k2.bus.admin import TopicSpec, end_offsets, ensure_topics
from k2.bus.consumer import TopicReader
from k2.bus.partitions import PartitionsReader
from k2.bus.producer import EventProducer
from k2.model.topics import DataType

pytestmark = pytest.mark.real


def test_reader_and_producer_go_on_with_a_client_that_knows_it(tmp_path, kafka, free_topic):
    authority = tmp_path / "ca.crt"
    authority.write_text("the first")
    plain = {"bootstrap.servers": kafka.bootstrap_servers}
    topic = free_topic()
    ensure_topics(plain, [TopicSpec(topic, partitions=2)])

    def settings():
        # Without TLS librdkafka does not read the file; whether it has changed is looked at all the same.
        return plain | {"ssl.ca.location": str(authority)}

    numbers, revoked, seen = itertools.count(), [], {}

    def assigned(partitions):
        # As a sink does: from where the table says, which has all that was seen.
        return {partition: seen.get(partition, -1) + 1 for partition in partitions}

    reader = TopicReader(settings, topic, f"group-{topic}", assigned, revoked.append, revoked.append)
    looker = PartitionsReader(settings, topic, {0: 0, 1: 0})
    producer = EventProducer(settings, topic=topic, data_type=DataType.TRADES, schema_id=1)
    clients = (reader._client.raw, producer._producer)

    def take(timeout):
        polled = reader.poll_block(1_000, timeout)
        where = [] if polled is None else zip(polled.partitions.tolist(), polled.offsets.tolist(), strict=True)
        for partition, offset in where:
            assert offset == seen.get(partition, -1) + 1, "in order, none left out, none twice"
            seen[partition] = offset

    def step():
        sent = next(numbers)
        producer.send(trades([message_id(sent)], symbols=[f"S{sent % 50}"], times=[sent], sequence=[sent]))
        looker.poll_block(1_000, 0.01)
        take(0.01)
        return len(reader.assignment()) == 2

    until(step, "nothing is assigned", pause=0)
    until(lambda: step() and sum(seen.values()) > 50, "nothing is read", pause=0)
    assert not looker.outdated
    authority.write_text("the second")
    until(lambda: step() and revoked and producer._producer is not clients[1], "the old clients serve on", pause=0.02)
    assert reader._client.raw is not clients[0]
    assert looker.outdated, "who follows the topic begins anew by this"
    until(step, "nothing is assigned anew", pause=0.02)
    producer.close()
    ends = end_offsets(plain, topic)
    assert sum(ends.values()) == next(numbers), "each was sent once"

    def rest():
        take(0.05)
        return {partition: offset + 1 for partition, offset in seen.items()} == ends

    until(rest, "what was sent is not read")
    reader.close()
    looker.close()
