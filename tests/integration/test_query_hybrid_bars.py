"""Bars and as-of joins of a snapshot and its topic's tail, on a real broker, registry and catalog: as if all were in files."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from k2_testing.asking import hybrid_questions_of
from k2_testing.events import START_US
from k2_testing.lake import make_lake
from k2_testing.sinks import SYMBOLS, Pipeline
from k2_testing.ticks import append_ticks

from k2.model.prints import PrintFilter
from k2.model.times import to_datetime
from k2.model.topics import DataType
from k2.query.asked.asof_requests import AsofQuery
from k2.query.asked.bar_requests import BarsQuery, Empty, Interval
from k2.query.asked.requests import At, EventsQuery, Window

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]


def test_bars_and_joins_are_the_same_before_and_after_the_sink_commits(tmp_path, kafka, registry, free_topic):
    pipeline = Pipeline(tmp_path, kafka, registry, free_topic())
    catalog = make_lake(tmp_path, DataType.TRADES, DataType.QUOTES)
    quotes = [
        {
            "timestamp": to_datetime(START_US) + timedelta(milliseconds=step),
            "symbol": "BHP",
            "bid_price": Decimal("37.02") + Decimal(step % 7) / 100,
            "ask_price": Decimal("37.04") + Decimal(step % 7) / 100,
        }
        for step in range(0, 1_500, 11)
    ]
    append_ticks(catalog, quotes, DataType.QUOTES)
    queries = [
        BarsQuery(("BHP",), Interval.MINUTE),
        BarsQuery(SYMBOLS, Interval.HOUR, exchange="ASX"),
        BarsQuery(("BHP",), Interval.DAY),
        BarsQuery(("BHP",), Interval.MINUTE, period=Window(START_US - 300_000_000), empty=Empty.NULL),
    ]
    joins = [AsofQuery(("BHP",), limit=limit) for limit in (50, 10_000)]
    marked = (PrintFilter(conditions=("X",), min_price=Decimal("37.03")),)
    queries.append(replace(queries[0], prints=marked))
    joins.append(replace(joins[1], prints=marked))
    events = EventsQuery(DataType.TRADES, limit=10_000, prints=marked)
    try:
        pipeline.produce(0, 900)
        pipeline.finish()
        pipeline.produce(900, 1_500)
        with hybrid_questions_of(pipeline) as questions:
            bars, joined = [questions.bars(query) for query in queries], [questions.asof(join) for join in joins]
            filtered = questions.events(events).rows
            everything = questions.events(replace(events, prints=())).rows.to_pylist()
            kept = [row for row in everything if row["trade_conditions"] == ["X"] and row["price"] >= Decimal("37.03")]
            assert filtered.to_pylist() == kept
            assert 600 < len(kept) < 900
            assert {row["source_sequence"] < 900 for row in kept} == {True, False}  # of the table, and of the topic
            assert bars[1].provenance.tail_rows == 600
            assert sum(bars[1].rows["trade_count"].to_pylist()) == 1_500
            assert bars[1].provenance.complete_until_us == START_US + 1_499_000
            alone = questions.bars(BarsQuery(SYMBOLS, Interval.HOUR, exchange="ASX", at=At(hybrid=False)))
            assert sum(alone.rows["trade_count"].to_pylist()) == 900
        pipeline.finish()
        with hybrid_questions_of(pipeline) as questions:
            assert [questions.bars(query).rows for query in queries] == [found.rows for found in bars]
            assert questions.events(events).rows == filtered
            columns = ["message_id", "quote_timestamp", "bid_price", "mid", "effective_spread", "inferred_side"]
            for join, found in zip(joins, joined, strict=True):
                assert questions.asof(join).rows.select(columns) == found.rows.select(columns)
                whole = [row for row in (kept if join.prints else everything) if row["symbol"] == "BHP"]
                assert found.rows.num_rows == min(join.limit, len(whole))
            assert {"BUY", "SELL"} <= set(joined[1].rows["inferred_side"].to_pylist())
    finally:
        pipeline.close()
