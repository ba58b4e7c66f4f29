"""Several tables of a data type, each with the tail of its own topics: one answer, on a real broker and real sinks."""

from collections import Counter
from contextlib import contextmanager

import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US, message_id
from k2_testing.lake import TRADES
from k2_testing.sinks import Pipeline

from k2.lake.tables import ensure_tables
from k2.model.events import Decimals
from k2.model.tables import builtin_table
from k2.model.topics import DataType
from k2.query.asked.cursor import Cursor, ReplayQuery
from k2.query.asked.requests import At, EventsQuery, Window

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

MORE = "market_data.more"
MOST = 1_000_000


@contextmanager
def beside(pipeline, topic=None, decimals=Decimals.STANDARD):
    """Another pipeline of the same folder, whose table is `MORE`."""
    made = Pipeline(pipeline.folder, pipeline.broker, pipeline.registry_server, topic or pipeline.topic)
    ensure_tables(made.catalog, [builtin_table(DataType.TRADES, MORE, decimals)])
    made.table = MORE
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pipeline(tmp_path, kafka, registry, free_topic):
    made = Pipeline(tmp_path, kafka, registry, free_topic())
    made.broker, made.registry_server = kafka, registry
    yield made
    made.close()


def as_uuid(number):
    text = message_id(number).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def committed(pipeline, start, stop):
    pipeline.produce(start, stop)
    pipeline.finish()


def ids(rows):
    return rows["message_id"].to_pylist()


def test_an_answer_holds_the_tails_of_all_its_tables_and_its_pages_do(pipeline, free_topic):
    with beside(pipeline, free_topic()) as other:
        committed(pipeline, 0, 400)
        committed(other, 400, 800)
        pipeline.produce(800, 1_000)
        other.produce(1_000, 1_200)
        with hybrid_questions_of(pipeline, (TRADES, MORE)) as questions:
            found = questions.events(EventsQuery(DataType.TRADES, limit=MOST))
            assert ids(found.rows) == [as_uuid(number) for number in range(1_200)], "in one order, each once"
            said = found.provenance
            assert [each.table for each in said.sources] == [TRADES, MORE]
            assert (said.tail_rows, said.complete_until_us) == (400, START_US + 1_199_000)
            assert [topic.topic for tail in said.tails for topic in tail.topics] == [pipeline.topic, other.topic]
            first = questions.events(EventsQuery(DataType.TRADES, limit=900))
            cursor = questions.replay_merged(ReplayQuery((DataType.TRADES,))).page(900)[0].cursor.encode()
            pipeline.finish()  # what the first page had from the topics the second one finds in files
            other.produce(1_200, 1_300)
            other.finish()
            pipeline.produce(1_300, 1_400)
            at = At(ends=first.provenance.ends, tables=first.provenance.pinned)
            second = questions.events(EventsQuery(DataType.TRADES, limit=MOST, at=at, after=first.last))
            assert ids(second.rows) == [as_uuid(number) for number in range(900, 1_200)]
            page, done = questions.replay_from(Cursor.decode(cursor)).page(MOST)
            assert done
            assert ids(page.rows) == ids(second.rows)


def test_the_tail_of_a_topic_that_moved_to_another_table_is_in_the_answer_once(pipeline):
    with beside(pipeline) as other:
        committed(pipeline, 0, 300)
        pipeline.produce(300, 600)
        other.finish()
        pipeline.produce(600, 700)
        with hybrid_questions_of(pipeline, (TRADES, MORE)) as questions:
            found = questions.events(EventsQuery(DataType.TRADES, limit=MOST))
        # The new table's sink has read again what the old one has, and the old one's has stopped.
        assert Counter(ids(found.rows)) == Counter(map(as_uuid, range(700)))
        assert found.provenance.tail_rows == 100


def test_the_types_of_an_answer_do_not_depend_on_whether_its_window_reaches_into_a_tail(pipeline, free_topic):
    with beside(pipeline, free_topic(), Decimals.WIDE) as other:
        committed(pipeline, 0, 400)
        committed(other, 401, 402)  # CBA alone: of BHP the files of the wide table have nothing
        other.produce(800, 808)
        with hybrid_questions_of(pipeline, (TRADES, MORE)) as questions:
            whole = questions.events(EventsQuery(DataType.TRADES, ("BHP",), limit=MOST))
            assert whole.provenance.tail_rows == 1
            early = Window(START_US, START_US + 400_000)
            part = questions.events(EventsQuery(DataType.TRADES, ("BHP",), window=early, limit=MOST))
            assert part.rows.num_rows == whole.rows.num_rows - 1
            assert part.rows.schema == whole.rows.schema
            assert str(part.rows.schema.field("price").type) == "decimal128(38, 18)"
