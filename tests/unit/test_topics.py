"""Names of topics, subjects and groups: one builder, and what a person may write."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.errors import UserError
from k2.model.topics import AssetClass, DataType, TopicName, sink_group_id, sink_key, subject_of

exchanges = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
names = st.builds(TopicName, st.sampled_from(AssetClass), st.sampled_from(DataType), exchanges)


@given(names)
def test_any_name_is_read_back_as_it_was_written(name):
    assert TopicName.parse(str(name)) == name


def test_a_topic_is_named_after_class_type_and_exchange():
    name = TopicName.of("Equities", "TRADES", "ASX")
    assert str(name) == "market.equities.trades.asx"
    assert name.subject == "market.equities.trades.asx-value"
    assert name.dead_letters == "market.equities.trades.asx.dlq"
    assert subject_of(str(name)) == name.subject


@pytest.mark.parametrize("text", ["reference-data", "reference_data", " Reference-Data "])
def test_a_hyphen_and_an_underscore_are_the_same_in_a_data_type(text):
    assert DataType.parse(text) is DataType.REFERENCE_DATA


@pytest.mark.parametrize(
    "topic",
    ["", "trades", "market.equities.trades", "market.equities.trades.asx.dlq", "k2.equities.trades.asx"],
)
def test_what_is_no_topic_name_is_refused_with_its_shape(topic):
    with pytest.raises(UserError, match=r"expected market\.\{asset_class\}\.\{data_type\}\.\{exchange\}"):
        TopicName.parse(topic)


@pytest.mark.parametrize(
    ("topic", "text"),
    [
        ("market.stocks.trades.asx", "Unknown asset class: found 'stocks', expected one of equities"),
        ("market.equities.ticks.asx", "Unknown data type: found 'ticks', expected one of trades"),
        ("market.equities.trades.ASX", "An exchange's code cannot be part of a topic name: found 'ASX'"),
        ("market.equities.trades.a_x", "found 'a_x', expected 1 to 32 of a-z, 0-9 and '-'"),
        ("market.equities.trades.", "found ''"),
    ],
)
def test_the_wrong_part_of_a_topic_name_is_named(topic, text):
    with pytest.raises(UserError, match=re.escape(text)):
        TopicName.parse(topic)


@given(names, st.text(min_size=1, max_size=60))
def test_a_sink_s_key_fits_a_kubernetes_name_and_is_stable(name, table):
    key = sink_key(str(name), table)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", key)
    assert len(f"k2-sink-{key}") <= 63
    assert sink_group_id(str(name), table) == f"k2-sink-{key}"


def test_a_sink_belongs_to_topic_and_table_and_to_nothing_else():
    one = sink_key("market.equities.trades.asx", "market_data.trades")
    assert one == "equities-trades-asx-" + one[-8:]
    assert one != sink_key("market.equities.trades.asx", "market_data.trades_v1")
    assert one != sink_key("market.crypto.trades.asx", "market_data.trades")
