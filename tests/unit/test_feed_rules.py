"""A feed's rules, and the form in which a table keeps them: it is read by versions of K2 that were and that will be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.errors import UserError
from k2.model.feed_rules import FeedRules, Prices, read_rules, write_rules
from k2.model.topics import DataType
from k2.model.workload import SinkConfig

rules = st.builds(FeedRules, st.sampled_from(Prices), st.booleans(), st.integers(0, 3_600_000_000))


@given(rules)
def test_what_is_recorded_is_read_back(some):
    assert FeedRules.of_recorded(json.loads(json.dumps(some.recorded()))) == some


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
