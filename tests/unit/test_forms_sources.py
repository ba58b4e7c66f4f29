"""What an answer says of its sources to one who sees a part of the table: nothing of topics, whose names are exchanges'."""

from dataclasses import replace

from k2.forms import sources
from k2.lake.offsets import OFFSETS, OffsetMap, PartitionOffsets, TopicOffsets
from k2.lake.reader import SnapshotInfo
from k2.query.plan.provenance import Provenance, SourceTable
from k2.query.rows.tail_view import Tail, TailView, TopicTail

TOPIC = "market.equities.trades.nyse"
TAIL = Tail(
    TailView((), {}), (TopicTail(TOPIC, "id", {0: (5, 9)}, 3, {}, 1.0, f"The tail of {TOPIC} is still being read"),)
)
FOUND = Provenance((SourceTable("market_data.trades", None, tail=TAIL),), None, tail_rows=0)


def test_topics_and_offsets_are_said_to_those_alone_who_see_the_whole_table():
    whole = str(sources.members(FOUND)) + str(sources.headers(FOUND))
    assert TOPIC in whole
    assert "[5, 9]" in whole
    partial = replace(FOUND, is_partial=True)
    said = str(sources.members(partial)) + str(sources.headers(partial))
    assert TOPIC not in said
    assert "[5, 9]" not in said
    assert sources.members(partial)["incomplete"] == "A part of the tail is not at hand"


def test_an_answer_tells_of_the_topics_that_may_hold_what_it_is_of():
    asx = TopicTail("market.equities.trades.asx", "id2", {0: (1, 2)}, 0, {}, 0.25)
    own = TopicTail("trades.of.the.desk", "id3", {0: (3, 4)}, 0, {}, 0.5)
    held = {
        each.topic: TopicOffsets(each.topic_id, None, {0: PartitionOffsets(0, 5)}) for each in (asx, own, *TAIL.topics)
    }
    snapshot = SnapshotInfo(1, None, 1, 0, "append", {OFFSETS: OffsetMap(held).to_json()}, 0)
    tail = replace(TAIL, topics=(*TAIL.topics, asx, own))

    def said(*exchanges):
        asked = tail.of(exchanges) if exchanges else tail
        source = SourceTable("market_data.trades", snapshot, tail=asked, exchanges=frozenset(exchanges) or None)
        found = replace(FOUND, sources=(source,))
        body = sources.members(found)
        topics = [each["topic"] for each in body["sources"] if each["kind"] == "kafka"]
        return topics, body["stale_seconds"], "incomplete" in body, sources.completeness(found).count(";") + 1

    every = [TOPIC, asx.topic, own.topic]
    assert said() == (every, 1.0, True, 3)
    assert said("ASX") == ([asx.topic, own.topic], 0.5, False, 2)
    assert said("NYSE") == ([TOPIC, own.topic], 1.0, True, 2)
    assert said("ASX", "NYSE") == (every, 1.0, True, 3)


def test_a_table_whose_topic_is_read_for_another_one_is_as_old_as_that():
    own = TopicTail("market.equities.trades.asx", "id2", {0: (1, 2)}, 0, {}, 0.25)
    nothing = Tail(TailView((), {}), ())
    moved = SourceTable("market_data.trades", None, tail=nothing)
    found = replace(
        FOUND, sources=(moved, SourceTable("market_data.trades_wide", None, tail=replace(TAIL, topics=(own,))))
    )
    assert sources.members(found)["stale_seconds"] == 0.25
    assert sources.members(replace(found, sources=(moved,)))["stale_seconds"] is None
    away = replace(moved, tail=replace(nothing, failure="Kafka is away"))
    assert sources.members(replace(found, sources=(away, *found.sources)))["stale_seconds"] is None
