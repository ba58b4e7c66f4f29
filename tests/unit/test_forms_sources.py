"""What an answer says of its sources to one who sees a part of the table: nothing of topics, whose names are exchanges'."""

from dataclasses import replace

from k2.forms import sources
from k2.query.plan.provenance import Provenance, SourceTable
from k2.query.rows.tail_view import Tail, TailView, TopicTail

TOPIC = "market.equities.trades.nyse"
TAIL = Tail(
    TailView((), {}), (TopicTail(TOPIC, "id", {0: (5, 9)}, 3),), f"The tail of {TOPIC} is still being read", 1.0
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
