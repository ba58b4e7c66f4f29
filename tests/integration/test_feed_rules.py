"""A feed's rules on a real broker, registry and real sinks: which prices there are, and tails that judge as the sink will."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US, message_id, trades
from k2_testing.sinks import Pipeline, eventually

from k2.bus.dead_letters import read_dead_letters, reason_class
from k2.bus.producer import EventProducer
from k2.model.topics import DataType, TopicName
from k2.query.asked.requests import At, EventsQuery

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SECOND = 1_000_000
SPREADS = [Decimal(each) for each in ("-37.63", "0", "12.5", "-0.00000001")]


def send(pipeline, *told):
    """Trades of BHP by (id, µs from the start) or (id, µs, price); the same id has the same price and quantity."""
    events = trades(
        [message_id("rules", each[0]) for each in told],
        symbols=["BHP"] * len(told),
        times=[START_US + each[1] for each in told],
        prices=[Decimal(each[2]) if len(each) > 2 else Decimal(10) for each in told],
    )
    with EventProducer(
        pipeline.kafka, topic=pipeline.topic, data_type=DataType.TRADES, schema_id=pipeline.schema_id
    ) as producer:
        producer.send(events)
        producer.flush(60)


def commit(pipeline, **config):
    """Let a sink with that configuration read to the end."""
    process = pipeline.sink("--until-end", **config)
    assert process.wait(180) == 0, pipeline.log()[-3000:]


def held(questions, **at):
    """(Id, price) of each row of an answer, and what it says of its tail."""
    found = questions.events(EventsQuery(DataType.TRADES, limit=10_000, at=At(**at)))
    rows = zip(found.rows["message_id"].to_pylist(), found.rows["price"].to_pylist(), strict=True)
    return Counter(rows), found.provenance


def test_a_feed_with_any_prices_takes_them_and_one_without_puts_them_aside_and_names_the_setting(
    pipeline, tmp_path, kafka, registry, free_topic
):
    told = [(n, n, price) for n, price in enumerate(SPREADS)]
    send(pipeline, *told)
    commit(pipeline)
    letters = read_dead_letters(pipeline.kafka, TopicName.parse(pipeline.topic).dead_letters)
    assert {letter.reason for letter in letters} == {
        f"price is {price}, expected more than 0; a feed with prices: any takes it"
        for price in ("-37.63", "0", "-0.00000001")
    }
    assert {reason_class(letter.reason) for letter in letters} == {"price"}
    (tmp_path / "any").mkdir()
    of_any = Pipeline(tmp_path / "any", kafka, registry, free_topic())
    try:
        send(of_any, *told)
        commit(of_any, prices="any")
        rows = of_any.catalog.load_table(of_any.table).scan().to_arrow()
        assert sorted(rows["price"].to_pylist()) == sorted(SPREADS)
        assert of_any.audit().ok
        assert read_dead_letters(of_any.kafka, TopicName.parse(of_any.topic).dead_letters) == []
    finally:
        of_any.close()


@pytest.mark.parametrize(
    ("config", "beyond", "rows"),
    [
        # By the usual rules each would be another number of rows. The table's last trade is at 0 s: by ten seconds the first
        # is the same event, by one it is not.
        ({"duplicate_tolerance_seconds": 10}, [("there", 5 * SECOND), ("new", 6 * SECOND)], 2),
        # By a second the first would be the same event.
        ({"duplicate_tolerance_seconds": 0}, [("there", SECOND // 2), ("new", 6 * SECOND)], 3),
        ({"duplicates": "keep"}, [("there", 0), ("there", 0), ("new", 6 * SECOND), ("new", 6 * SECOND)], 5),
        ({"prices": "any"}, [("new", SECOND, "-37.63"), ("newer", SECOND, "0")], 3),
    ],
    ids=["a wide tolerance", "none", "duplicates are kept", "any prices"],
)
def test_an_answer_with_the_tail_is_what_the_table_holds_once_the_sink_has_committed(pipeline, config, beyond, rows):
    send(pipeline, ("there", 0))
    commit(pipeline, **config)
    send(pipeline, *beyond)
    with hybrid_questions_of(pipeline) as questions:
        before, said = held(questions)
        assert said.tails[0].problem is None
        assert said.tail_rows == rows - 1
        commit(pipeline, **config)
        after, _ = held(questions, hybrid=False)
    assert before == after
    assert before.total() == rows


def test_a_feeds_new_rules_hold_for_a_tail_once_its_sink_has_committed_by_them(pipeline):
    send(pipeline, ("first", 0))
    commit(pipeline)
    send(pipeline, ("cheap", SECOND, "-1"), ("dear", SECOND))
    with hybrid_questions_of(pipeline) as questions:
        rows, said = held(questions)
        assert (rows.total(), said.tails[0].problem) == (2, None)
        commit(pipeline, prices="any", duplicates="keep")
        send(pipeline, ("cheaper", 2 * SECOND, "-2"), ("dear", SECOND))
        eventually(lambda: held(questions)[0].total() == 5, lambda: f"all of them: {held(questions)}", 60)
        rows, said = held(questions)
        assert (said.tail_rows, said.tails[0].problem) == (2, None)
        commit(pipeline)
        send(pipeline, ("cheapest", 3 * SECOND, "-3"), ("dearest", 3 * SECOND))
        eventually(lambda: held(questions)[1].tail_rows == 1, lambda: f"the usual rules again: {held(questions)}", 60)
