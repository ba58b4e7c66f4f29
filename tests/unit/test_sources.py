"""Kinds of sources and file formats: what is named is read, and one class says the same to a person and to a workload."""

import json
from datetime import date

import pytest
from pydantic import ValidationError

from k2.feeds.load.opening import Opening
from k2.feeds.sources import READERS, finite_source, live_source
from k2.model.errors import UserError
from k2.model.mapping.named import FORMATS, shipped
from k2.model.sources import SOURCES, CsvSource, SourceConfig, SyntheticSource, told
from k2.model.workload import ProducerConfig
from k2_operator.spec.resources import Source


def config(source):
    streams = [{"data_type": "trades", "topic": "market.equities.trades.asx", "table": "market_data.trades"}]
    fields = {"feed": "k2/sim", "exchange": "ASX", "asset_class": "equities", "currency": "AUD", "streams": streams}
    return ProducerConfig(**fields, source=told(source))


def test_every_kind_has_a_reader_and_a_field_in_the_resource_and_every_format_is_read():
    assert set(READERS) == set(SOURCES)
    assert set(Source.model_fields) == {*SOURCES, "external"}
    assert all(shipped(name) for name in FORMATS if name != "asx")


@pytest.mark.parametrize(
    "source",
    [
        SyntheticSource(start=date(2026, 3, 2), trades_per_day=7),
        CsvSource(format="asx", uris=("file:a.csv",), data_type="trades", symbol="BHP"),
    ],
    ids=["synthetic", "csv"],
)
def test_a_workload_reads_what_the_plan_wrote(source):
    written = config(source).model_dump_json()
    assert json.loads(written)["source"]["type"] == source.kind
    found = ProducerConfig.model_validate_json(written).source
    assert isinstance(found, type(source))
    assert found.model_dump(exclude={"type"}) == source.model_dump()


def test_a_resource_writes_fields_as_kubernetes_does_and_no_other_way():
    right = {"synthetic": {"start": "2026-03-02", "tradesPerDay": 7}}
    assert Source.model_validate(right, by_alias=True, by_name=False).config.trades_per_day == 7
    with pytest.raises(ValidationError, match="trades_per_day"):
        Source.model_validate({"synthetic": {"start": "2026-03-02", "trades_per_day": 7}}, by_alias=True, by_name=False)


def test_what_is_mounted_is_not_told_to_the_workload():
    source = CsvSource(format="generic", uris=("file:a.csv",), data_type="trades", volume={"claimName": "files"})
    assert source.mounts.claim_name == "files"
    assert "volume" not in config(source).model_dump_json()


@pytest.mark.parametrize("field", ["claimName", "configMapName"])
@pytest.mark.parametrize("name", ["kube-root-ca.crt", "ticks.2026.v1", "7078", "a" * 253])
def test_a_volume_may_have_any_name_that_kubernetes_takes(field, name):
    source = CsvSource(format="generic", uris=("file:a.csv",), data_type="trades", volume={field: name})
    assert name in (source.mounts.claim_name, source.mounts.config_map_name)


@pytest.mark.parametrize("name", ["..", "a..b", ".a", "a.", "a/b", "A", "a" * 254, ""])
def test_a_volume_may_not_have_a_name_that_kubernetes_refuses(name):
    with pytest.raises(ValidationError):
        CsvSource(format="generic", uris=("file:a.csv",), data_type="trades", volume={"claimName": name})


@pytest.mark.parametrize(
    ("source", "open_it", "remedy"),
    [
        (SyntheticSource(start=date(2026, 3, 2), days=0), finite_source, "k2 run producer"),
        (SyntheticSource(start=date(2026, 3, 2), days=1), live_source, "k2 run load"),
        (CsvSource(format="generic", uris=("file:a.csv",), data_type="trades"), live_source, "k2 run load"),
    ],
    ids=["endless as a load", "finite as a producer", "files as a producer"],
)
def test_a_source_opened_the_wrong_way_says_the_right_one(source, open_it, remedy):
    with pytest.raises(UserError, match=remedy):
        open_it(Opening(config(source), None, None, None))


def test_a_kind_without_rules_of_its_own_has_no_problems_and_no_end():
    class Bare(SourceConfig):
        kind = "bare"
        says = "Nothing."

    bare = Bare()
    assert (list(bare.problems(["trades"])), bare.mounts, bare.is_live) == ([], None, True)
    assert bare.resolved(["trades"]) is bare
