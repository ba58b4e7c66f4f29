"""The corpus of bad resources (tests/corpus/bad-resources) and the samples, as `k2 up` reads them."""

import json
from pathlib import Path

import pytest
from k2_testing.resources import table

from k2.model.errors import UserError
from k2.model.feed_rules import FeedRules, Prices
from k2.model.settings import Settings
from k2.model.topics import DataType
from k2.model.workload import QueryConfig, read_config
from k2_local import manifests
from k2_local.services.parts import Wishes
from k2_local.up import NOWHERE, InvalidResourcesError, Up, query_plan, rules_of, tables_of
from k2_operator.plan.planning import plan
from k2_operator.reconcile.topics import topic_specs

ROOT = Path(__file__).parents[2]
CORPUS = sorted((ROOT / "tests" / "corpus" / "bad-resources").glob("*.yaml"))


def up(tmp_path, *paths) -> Up:
    return Up(
        data_dir=tmp_path / "data",
        documents=manifests.read(list(paths)),
        wishes=Wishes(),
        api_port=8000,
        tell=print,
        on_ready=lambda _: None,
    )


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_bad_resource_is_refused_with_its_text_and_nothing_is_started(tmp_path, path):
    expected = [
        line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")
    ]
    with pytest.raises(InvalidResourcesError) as failure:
        up(tmp_path, path).run()
    assert expected
    for text in expected:
        assert text in str(failure.value)
    assert len(failure.value.problems) == len(expected)
    assert not (tmp_path / "data").exists()


def test_the_samples_are_well_and_make_every_topic_that_loading_by_hand_needs(tmp_path):
    planned = up(tmp_path, ROOT / "manifests" / "samples").check()
    specs = {spec.name: spec for feed in planned.feeds for topic in feed.topics for spec in topic_specs(topic)}
    assert {"market.equities.trades.asx", "market.equities.quotes.asx", "market.equities.reference_data.asx"} <= set(
        specs
    )
    assert specs["market.equities.trades.asx"].partitions == 6
    assert specs["market.equities.trades.asx.dlq"].partitions == 1
    config = query_plan(planned, tmp_path / "keys.json").config
    assert (config.trades, config.quotes, config.reference_data) == (
        "market_data.trades",
        "market_data.quotes",
        "market_data.reference_data",
    )


def test_loads_are_told_the_rules_of_each_topic_that_has_a_sink(tmp_path):
    path = tmp_path / "oil.yaml"
    path.write_text("""
apiVersion: k2.dev/v1alpha1
kind: MarketFeed
metadata: {name: cme}
spec:
  exchange: CME
  streams: [{dataType: trades, tableRef: {name: trades}}]
  source: {external: {}}
  prices: any
  duplicatePolicy: Keep
""")
    planned = up(tmp_path, ROOT / "manifests" / "samples", path).check()
    rules = rules_of(planned)
    assert rules["market.futures.trades.cme"] == FeedRules(Prices.ANY, keeps_duplicates=True)
    assert rules["market.equities.trades.asx"] == FeedRules()


def test_questions_are_answered_from_all_tables_of_a_schema_the_first_declared_is_the_main_one(tmp_path):
    declared = [table("a", "zulu", "trades"), table("a", "alpha", "trades"), table("a", "quotes")]
    planned = plan(declared, NOWHERE)
    assert not planned.problems
    config = query_plan(planned, tmp_path / "keys.json").config
    assert (config.trades, config.quotes) == (("a.zulu", "a.alpha"), "a.quotes")
    path = tmp_path / "platform.yaml"
    NOWHERE.model_copy(update={"tables": tables_of(planned)}).write(path)
    found = Settings(platform_file=path).resolved().tables
    assert found == {DataType.TRADES: ("a.zulu", "a.alpha"), DataType.QUOTES: "a.quotes"}


@pytest.mark.parametrize("names", [["a.b", "a.b"], [], 7])
def test_a_list_of_tables_names_each_once_and_at_least_one(tmp_path, names):
    path = tmp_path / "query.json"
    path.write_text(json.dumps({"trades": names}))
    with pytest.raises(UserError, match="is wrong at trades"):
        read_config(path, QueryConfig)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", "bad.yaml is not YAML in line 1"),
        ("- 1\n- 2\n", "bad.yaml holds something that is no resource: found '[1, 2]'"),
        ("", "No resources to start"),
        ("# nothing\n---\n", "No resources to start"),
    ],
)
def test_a_file_without_resources_is_named(tmp_path, text, expected):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError) as failure:
        manifests.read([tmp_path / "bad.yaml"])
    assert expected in str(failure.value)


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"There is no .*nope\.yaml"):
        manifests.read([tmp_path / "nope.yaml"])


def test_the_samples_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert manifests.sample_paths() == [ROOT / manifests.SAMPLES]


def test_the_samples_of_live_feeds_are_well_and_a_new_pod_comes_before_the_old_one_goes(tmp_path):
    (feed,) = up(tmp_path, ROOT / "manifests" / "samples" / "live").check().feeds
    assert feed.producer is not None
    assert (feed.producer.hot, feed.producer.finite, feed.producer.replicas) == (True, False, 1)
    # What a sink would count as missing is in the account of gaps, where it is filled.
    assert {sink.config.data_type: sink.config.sequences for sink in feed.sinks}["quotes"] == "ignore"
    assert {topic.name.data_type for topic in feed.topics} == {"trades", "quotes", "gaps"}
