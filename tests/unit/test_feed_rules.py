"""A feed's rules, and the form in which a table keeps them: it is read by versions of K2 that were and that will be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.lake.offsets import OffsetMap, PartitionOffsets, TopicOffsets
from k2.model.errors import UserError
from k2.model.feed_rules import FeedRules, Prices, read_rules, write_rules
from k2.model.topics import DataType
from k2.model.workload import SinkConfig

rules = st.builds(FeedRules, st.sampled_from(Prices), st.booleans(), st.integers(0, 3_600_000_000))


def map_of(held):
    return OffsetMap({"market.futures.trades.cme": held})


def topic(some=FeedRules()):  # noqa: B008 - it never changes
    return TopicOffsets("T1", "C1", {0: PartitionOffsets(0, 7, rows=6, dead_letters=1)}, some)


OLD = '{"market.futures.trades.cme":{"id":"T1","cluster":"C1","partitions":{"0":[0,7,6,0,1]}}}'
"""What was written before rules were recorded."""


def test_the_usual_rules_add_nothing_to_what_a_table_records():
    assert map_of(topic()).to_json() == OLD
    assert OffsetMap.from_json(OLD) == map_of(topic())


@pytest.mark.parametrize(
    ("some", "recorded"),
    [
        (FeedRules(Prices.ANY), '{"prices":"any"}'),
        (FeedRules(keeps_duplicates=True), '{"duplicates":"keep"}'),
        (FeedRules(tolerance_us=0), '{"tolerance_us":0}'),
        (
            FeedRules(Prices.ANY, keeps_duplicates=True, tolerance_us=250_000),
            '{"prices":"any","duplicates":"keep","tolerance_us":250000}',
        ),
    ],
)
def test_other_rules_stand_beside_the_topics_offsets(some, recorded):
    text = OLD.removesuffix("}}") + f',"rules":{recorded}}}}}'
    assert map_of(topic(some)).to_json() == text
    assert OffsetMap.from_json(text) == map_of(topic(some))


@given(rules)
def test_what_is_recorded_is_read_back(some):
    assert FeedRules.of_recorded(json.loads(json.dumps(some.recorded()))) == some
    assert OffsetMap.from_json(map_of(topic(some)).to_json()) == map_of(topic(some))


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        "of another version",
        {"prices": "above-minus-forty"},
        {"duplicates": "merge"},
        {"tolerance_us": "1s"},
        {"tolerance_us": -1},
        {"ties": 3},
    ],
)
def test_what_another_version_may_have_meant_is_the_usual(told):
    assert FeedRules.of_recorded(told) == FeedRules()


def test_a_sinks_configuration_says_its_feeds_rules():
    told = {
        "topic": "market.futures.trades.cme",
        "table": "market_data.trades",
        "data_type": DataType.TRADES,
        "group_id": "g",
    }
    assert SinkConfig(**told).rules == FeedRules()
    other = {"prices": "any", "duplicates": "keep", "duplicate_tolerance_seconds": 0.25}
    assert SinkConfig(**told, **other).rules == FeedRules(Prices.ANY, keeps_duplicates=True, tolerance_us=250_000)


def test_loads_are_told_the_rules_by_the_data_directory(tmp_path):
    assert read_rules(tmp_path, "market.futures.trades.cme") == FeedRules()
    write_rules(
        tmp_path, {"market.futures.trades.cme": FeedRules(Prices.ANY), "market.equities.trades.asx": FeedRules()}
    )
    assert read_rules(tmp_path, "market.futures.trades.cme") == FeedRules(Prices.ANY)
    assert read_rules(tmp_path, "market.equities.trades.asx") == FeedRules()
    assert read_rules(tmp_path, "market.equities.trades.nyse") == FeedRules()
    (tmp_path / "feeds.json").write_text("{")
    with pytest.raises(UserError, match=r"feeds.json cannot be read"):
        read_rules(tmp_path, "market.futures.trades.cme")
