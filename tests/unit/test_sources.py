"""Kinds of sources and file formats: what is named is read, and one class says the same to a person and to a workload."""

import json
import threading
from datetime import date
from decimal import Decimal

import pytest
from pydantic import ValidationError

from k2.feeds.load.opening import Opening
from k2.feeds.sources import READERS, finite_source, live_source
from k2.model.errors import UserError
from k2.model.mapping.named import FORMATS, shipped
from k2.model.settings import Settings
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


def csv(**fields):
    return CsvSource(**{"uris": ("https://example.org/a.csv",), "data_type": "trades"} | fields)


def test_what_a_format_says_of_its_ids_is_told_to_the_workload_unless_the_feed_says_it():
    massive = csv(format="massive-trades").resolved(["trades"])
    aggregates = csv(format="binance-aggtrades").resolved(["trades"])
    assert (massive.id_scope, massive.id_space) == ("civil_day", None)
    assert (aggregates.id_scope, aggregates.id_space) == ("symbol", "aggregate")
    own = csv(format="binance-aggtrades", id_scope="venue", id_space="big").resolved(["trades"])
    assert (own.id_scope, own.id_space) == ("venue", "big")
    assert csv(format="asx", symbol="BHP").resolved(["trades"]).id_scope == "symbol"


def test_a_load_of_before_there_were_mappings_is_told_what_it_was_told():
    written = json.loads(told(csv(format="generic").resolved(["trades"])).model_dump_json())
    assert written == {
        "format": "generic", "uris": ["https://example.org/a.csv"], "data_type": "trades", "symbol": None,
        "id_scope": "symbol", "day_starts": "00:00", "type": "csv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({}, "format", "exactly one of format, mapping"),
        ({"format": "generic", "mapping": "https://example.org/m.yaml"}, "format", "exactly one of format, mapping"),
        ({"format": "tardis-quotes"}, "dataType", "quotes"),
        ({"mapping": "file:m.yaml"}, "volume", "file: URIs"),
        ({"mapping": "m.yaml"}, "mapping", "s3://, https:// or file:"),
    ],
)
def test_a_source_of_files_that_is_not_described_once_and_rightly_has_a_problem(fields, path, words):
    problems = list(csv(**fields).problems(["trades"]))
    assert [(problem.path, words in problem.expected) for problem in problems] == [(path, True)]


def test_a_format_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ValidationError, match=r"'asx', 'binance-aggtrades'.*'tardis-trades'"):
        csv(format="tardis")


def test_a_feed_reads_a_directory_of_its_volume_by_a_mapping_beside_it(tmp_path):
    (tmp_path / "ticks").mkdir()
    for number in (1, 2):
        (tmp_path / "ticks" / f"{number}.csv").write_text(f"s,t,p,q\nIBM,1577836800.{number},1{number},5\n")
    (tmp_path / "own.yaml").write_text(
        "mapping: 1\nname: own\ndataType: trades\nsymbol: s\ntime: {column: t, form: s}\nprice: {column: p, unit: 1e-1}\n"
        "quantity: q\n"
    )
    source = csv(mapping="file:own.yaml", uris=("file:ticks",), volume={"claimName": "files"}).resolved(["trades"])
    settings = Settings(source_dir=tmp_path)
    files = finite_source(Opening(config(source), settings, threading.Event(), tmp_path / "brought"))
    assert files.names == ["file:ticks/1.csv", "file:ticks/2.csv"]
    prices = [price for chunk in files.chunks() for _, batch in chunk.events for price in batch["price"].to_pylist()]
    assert prices == [Decimal("1.1"), Decimal("1.2")]
