"""Reference data that is in its topic alone adjusts rows of files and of the topic alike, on a real broker and catalog."""

from contextlib import closing

import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.companies import TABLE, company, reference_batch, split
from k2_testing.lake import make_lake
from k2_testing.sinks import eventually

from k2.bus.admin import TopicSpec, ensure_topics
from k2.bus.producer import EventProducer
from k2.bus.registry import ensure_subjects
from k2.model.adjusted import Adjusted
from k2.model.events import arrow_schema
from k2.model.topics import DataType, TopicName, sink_group_id
from k2.query.asked.adjusted import Adjusting
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.reference_requests import ReferenceQuery
from k2.query.asked.requests import At, EventsQuery

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

REFERENCE = DataType.REFERENCE_DATA


def taken(batches, rows):
    """The prices of so many rows of a replay, and its cursor after them."""
    prices, cursor = [], None
    while len(prices) < rows:
        batch = next(batches)
        if batch.rows.num_rows:
            prices += batch.rows["price"].to_pylist()
            cursor = batch.cursor
    return prices, cursor


def test_a_split_that_no_file_has_yet_adjusts_files_and_tail(pipeline, free_topic):
    topic = free_topic("reference_data")
    make_lake(pipeline.folder, REFERENCE)
    letters = TopicName.parse(topic).dead_letters
    ensure_topics(pipeline.kafka, [TopicSpec(topic, partitions=1), TopicSpec(letters, partitions=1)])
    (schema_id,) = ensure_subjects(pipeline.registry, {topic: REFERENCE}).values()

    def send(*records, start=0):
        rows = reference_batch(records, start).rows.select(arrow_schema(REFERENCE).names)
        with EventProducer(pipeline.kafka, topic=topic, data_type=REFERENCE, schema_id=schema_id) as producer:
            producer.send(rows.combine_chunks().to_batches()[0])
            producer.flush(60)

    send(company("1", "BHP", "2000-01-03"))
    of_reference = {
        "topic": topic,
        "table": TABLE,
        "data_type": REFERENCE.value,
        "group_id": sink_group_id(topic, TABLE),
    }
    sink = pipeline.sink("--until-end", **of_reference)
    assert sink.wait(180) == 0, pipeline.log()
    pipeline.produce(0, 400)
    pipeline.finish()
    pipeline.produce(400, 800)
    plain = EventsQuery(DataType.TRADES, ("BHP",), limit=1_000)
    split_only = EventsQuery(DataType.TRADES, ("BHP",), limit=1_000, adjusted=Adjusting(Adjusted.SPLITS))
    with hybrid_questions_of(pipeline) as questions:
        before = questions.events(split_only)
        assert before.provenance.factors.events == 0
        first = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=60, adjusted=split_only.adjusted))
        replayed = ReplayQuery((DataType.TRADES,), ("BHP",), follow=True, adjusted=split_only.adjusted)
        replay = questions.replay_merged(replayed)
        send(split("1", "2014-03-11", "2"), start=1)
        eventually(lambda: questions.reference(ReferenceQuery(kinds=("split",))).rows.num_rows == 1, "the split")
        found, raw = questions.events(split_only), questions.events(plain)
        assert found.provenance.tail_rows == 50
        assert found.rows["price"].to_pylist() == [price / 2 for price in raw.rows["price"].to_pylist()]
        assert found.rows["quantity"].to_pylist() == [each * 2 for each in raw.rows["quantity"].to_pylist()]
        assert found.rows.num_rows == 100
        (source,) = found.provenance.factors.reference.sources
        assert (source.table, source.tail.topics[0].ranges) == (TABLE, {0: (1, 2)})
        # What files alone hold, and what a page began with, knows nothing of it.
        in_files = EventsQuery(DataType.TRADES, ("BHP",), at=At(hybrid=False), adjusted=split_only.adjusted)
        assert questions.events(in_files).provenance.factors.events == 0
        at = At(ends=first.provenance.ends, tables=first.provenance.pinned)
        how = first.provenance.factors.how
        rest = questions.events(EventsQuery(DataType.TRADES, ("BHP",), at=at, after=first.last, adjusted=how))
        assert first.rows["price"].to_pylist() + rest.rows["price"].to_pylist() == raw.rows["price"].to_pylist()
        # A replay that began before has its history as it was known then; what comes in later has what is known by then.
        goes_on(pipeline, questions, replay, plain)


def goes_on(pipeline, questions, replay, plain):
    """The history as it was traded, what comes in halved; the same from the cursor at the seam."""
    with closing(replay.batches()) as batches:
        history, cursor = taken(batches, 100)
        assert history == questions.events(plain).rows["price"].to_pylist()
        pipeline.produce(800, 1_600)
        eventually(lambda: questions.events(plain).rows.num_rows == 200, "what came in")
        live, _ = taken(batches, 100)
    assert live == [price / 2 for price in questions.events(plain).rows["price"].to_pylist()[100:]]
    with closing(questions.replay_from(Cursor.decode(cursor.encode())).batches()) as batches:
        again, _ = taken(batches, 100)
    assert again == live
