"""Plans: what resources become, and every mistake with its text."""

import copy
import hashlib
import json
from datetime import date

import pytest

from k2.model.feed_rules import Prices
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.tables import DEFAULT_PROPERTIES, TableColumn
from k2.model.topics import sink_group_id
from k2_operator.plan.planning import plan
from k2_operator.spec.quantities import seconds, size_in_bytes
from k2_operator.spec.resources import Source

PLATFORM = Platform(
    kafka=KafkaPlatform(bootstrap_servers="kafka:9092", replication_factor=3),
    registry=RegistryPlatform(url="http://registry:8080/apis/ccompat/v7"),
    catalog=CatalogPlatform(properties={"type": "rest", "uri": "http://catalog:8181"}),
)


def table(name="trades", schema="trades", identifier=None, **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "IcebergTable",
        "metadata": {"name": name},
        "spec": {"identifier": identifier or f"market_data.{schema}", "schema": schema, **spec},
    }


def feed(name="asx", created="", streams=None, **spec):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name} | ({"creationTimestamp": created} if created else {}),
        "spec": {
            "source": {"external": {}},
            "exchange": "ASX",
            "streams": streams or [{"dataType": "trades", "tableRef": {"name": "trades"}}],
            **spec,
        },
    }


def texts(*documents):
    return [str(problem) for problem in plan(documents, PLATFORM).problems]


def test_a_feed_becomes_topics_sinks_and_defaults_of_its_exchange():
    planned = plan([table(), feed()], PLATFORM)
    assert planned.problems == ()
    (made,) = planned.feeds
    (topic,) = made.topics
    assert str(topic.name) == "market.equities.trades.asx"
    assert (topic.partitions, topic.replication_factor, topic.retention_ms) == (6, 3, None)
    (sink,) = made.sinks
    assert sink.config.table == "market_data.trades"
    assert sink.config.group_id == sink_group_id("market.equities.trades.asx", "market_data.trades")
    assert sink.config.commit_interval_seconds == 30
    assert sink.config.commit_bytes == 128 * 2**20
    assert (sink.config.duplicates, sink.config.duplicate_tolerance_seconds) == ("drop", 1.0)
    assert sink.config.dead_letters_stop_above is None
    assert made.producer is None


@pytest.mark.parametrize(("asked", "count"), [("5%", 500), ("0%", 0), ("0.5%", 50), ("0.07%", 7), ("99.99%", 9_999)])
def test_the_share_of_dead_letters_above_which_a_sink_stops_is_a_count_of_its_last_messages(asked, count):
    (made,) = plan([table(), feed(deadLetters={"stopAbove": asked})], PLATFORM).feeds
    assert made.sinks[0].config.dead_letters_stop_above == count


def test_sinks_count_what_a_sources_numbers_miss_where_the_feed_says_that_it_numbers_each_symbols_events():
    names = {"trades": "trades", "quotes": "quotes", "reference_data": "reference-data"}
    streams = [{"dataType": kind, "tableRef": {"name": name}} for kind, name in names.items()]
    tables = [table(name, kind) for kind, name in names.items()]
    (numbered,) = plan([*tables, feed(streams=streams, sequencePolicy="PerSymbol")], PLATFORM).feeds
    assert {sink.config.data_type.value: sink.config.sequences for sink in numbered.sinks} == {
        "trades": "per_symbol",
        "quotes": "per_symbol",
        "reference_data": "ignore",
    }
    (unsaid,) = plan([*tables, feed(streams=streams)], PLATFORM).feeds
    assert {sink.config.sequences for sink in unsaid.sinks} == {"ignore"}


def test_a_synthetic_feed_with_days_is_finite_and_its_job_is_named_by_what_it_sends():
    source = {"synthetic": {"start": date(2026, 3, 2), "seed": 7}}  # YAML gives a date where no quotes stand
    first = plan([table(), feed(source=source)], PLATFORM).feeds[0].producer
    assert first.finite
    assert (first.config.exchange, first.config.currency, first.config.asset_class) == ("ASX", "AUD", "equities")
    again = plan([table(), feed(source=source, sink={"replicas": 3})], PLATFORM).feeds[0].producer
    assert again.source_hash == first.source_hash
    other = plan([table(), feed(source={"synthetic": {"start": date(2026, 3, 2), "seed": 8}})], PLATFORM).feeds[0]
    assert other.producer.source_hash != first.source_hash
    endless = plan([table(), feed(source={"synthetic": {"start": date(2026, 3, 2), "days": 0}})], PLATFORM).feeds[0]
    assert not endless.producer.finite


def test_a_stream_has_the_decimals_of_the_table_that_it_names_and_no_others():
    source = {"synthetic": {"start": "2026-03-02", "days": 0}}
    streams = [
        {"dataType": "trades", "tableRef": {"name": "fine"}},
        {"dataType": "quotes", "tableRef": {"name": "quotes"}},
    ]
    tables = [table("fine", decimals="wide", identifier="market_data.fine"), table(), table("quotes", "quotes")]
    planned = plan([*tables, feed(streams=streams, source=source)], PLATFORM)
    assert planned.problems == ()
    assert {each.table.identifier: each.table.decimals.value for each in planned.tables} == {
        "market_data.fine": "wide",
        "market_data.trades": "standard",
        "market_data.quotes": "standard",
    }
    columns = {column.name: column.type for column in planned.tables[0].table.columns}
    assert (columns["price"], columns["quantity"]) == ("decimal(38, 18)", "decimal(38, 18)")
    (made,) = planned.feeds
    assert {topic.name.data_type.value: topic.decimals.value for topic in made.topics} == {
        "trades": "wide",
        "quotes": "standard",
    }
    assert [stream.decimals.value for stream in made.producer.config.streams] == ["wide", "standard"]


def test_a_finite_source_that_is_done_is_not_loaded_again_because_there_are_decimals_and_prices_to_choose():
    source = {"synthetic": {"start": "2026-03-02", "seed": 7}}
    (known,) = plan([table(), feed(source=source)], PLATFORM).feeds
    said = known.producer.config.model_dump(mode="json")
    del said["prices"]  # as they were before
    for stream in said["streams"]:
        del stream["decimals"]
    before = hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:10]
    assert known.producer.source_hash == before
    (other,) = plan([table(decimals="wide"), feed(source=source)], PLATFORM).feeds
    assert other.producer.source_hash != before


def test_producer_and_sink_are_told_which_prices_the_feed_has_and_only_other_ones_load_files_again():
    source = {"synthetic": {"start": date(2026, 3, 2)}}
    (usual,) = plan([table(), feed(source=source)], PLATFORM).feeds
    assert (usual.producer.config.prices, usual.sinks[0].config.prices) == (Prices.POSITIVE, Prices.POSITIVE)
    (of_any,) = plan([table(), feed(source=source, prices="any")], PLATFORM).feeds
    assert (of_any.producer.config.prices, of_any.sinks[0].config.prices) == (Prices.ANY, Prices.ANY)
    assert of_any.producer.source_hash != usual.producer.source_hash


def test_reference_data_has_one_partition_and_one_sink():
    documents = [
        table("reference-data", "reference_data"),
        feed(streams=[{"dataType": "reference_data", "tableRef": {"name": "reference-data"}}], sink={"replicas": 4}),
    ]
    (made,) = plan(documents, PLATFORM).feeds
    assert made.topics[0].partitions == 1
    assert made.sinks[0].replicas == 1


def test_a_table_keeps_the_defaults_that_it_does_not_name():
    documents = [
        table(
            properties={"write.parquet.compression-level": "3"},
            partitionSpec=[{"source": "symbol", "transform": "bucket[16]"}],
        )
    ]
    (made,) = plan(documents, PLATFORM).tables
    assert made.table.properties == {**DEFAULT_PROPERTIES, "write.parquet.compression-level": "3"}
    assert [(each.source, each.transform, each.name) for each in made.table.partition_by] == [
        ("symbol", "bucket[16]", "symbol_bucket")
    ]
    assert [each.source for each in made.table.sort_by] == ["symbol", "timestamp", "source_sequence"]


def test_further_columns_stand_behind_the_built_in_ones_and_are_always_optional():
    columns = [
        {"name": "edge", "type": "decimal(9,4)", "doc": "Beyond the mid."},
        {"name": "tags", "type": "map<string,string>", "was": "labels"},
    ]
    (bare,) = plan([table()], PLATFORM).tables
    (made,) = plan([table(columns=columns)], PLATFORM).tables
    assert made.table.columns == (
        *bare.table.columns,
        TableColumn("edge", "decimal(9, 4)", required=False, doc="Beyond the mid."),
        TableColumn("tags", "map<string, string>", required=False, was="labels"),
    )


@pytest.mark.parametrize("name", ["bid_price", "isin", "kafka_offset", "kafka_key", "k2_rank", "type", "spread"])
def test_no_column_takes_a_name_that_answers_use(name):
    (found,) = texts(table(columns=[{"name": name, "type": "string"}]))
    assert f"spec.columns[0].name: is taken by K2: found '{name}'" in found


def test_one_column_is_not_two_later():
    columns = [{"name": "a", "type": "int", "was": "old"}, {"name": "b", "type": "int", "was": "old"}]
    (found,) = texts(table(columns=columns))
    assert "spec.columns[1].was: spec.columns[0] was that column: found 'old'; leave it out" in found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"exchnge": "ASX", "exchange": None}, 'spec.exchnge: unknown field; did you mean "exchange"?'),
        ({"data_type": 1}, "spec.data_type: unknown field; expected one of source, exchange, assetClass"),
        ({"exchange": "XXX"}, "spec.exchange: unknown exchange: found 'XXX', expected "),
        ({"assetClass": "stocks"}, "spec.assetClass: not usable: found 'stocks', expected 'equities', 'crypto'"),
        (
            {"currency": "aud"},
            "spec.currency: not usable: found 'aud', expected a currency's code in capitals, such as AUD or USDT",
        ),
        ({"streams": []}, "spec.streams: not usable: found [], expected at least 1"),
        (
            {"streams": [{"dataType": "trade", "tableRef": {"name": "trades"}}]},
            "spec.streams[0].dataType: not usable: found 'trade', expected 'trades', 'quotes', 'reference_data' or 'gaps'",
        ),
        (
            {"streams": [{"datatype": "trades", "tableRef": {"name": "trades"}}]},
            'spec.streams[0].datatype: unknown field; did you mean "dataType"?',
        ),
        ({"streams": [{"dataType": "trades"}]}, "spec.streams[0].tableRef: missing; expected"),
        (
            {"streams": [{"dataType": "trades", "tableRef": {"name": "nope"}}]},
            "spec.streams[0].tableRef.name: no usable IcebergTable of that name in namespace default: found 'nope', expected one of trades",
        ),
        (
            {"streams": [{"dataType": "quotes", "tableRef": {"name": "trades"}}]},
            "spec.streams[0].tableRef.name: IcebergTable trades holds trades, the stream holds quotes; refer to a table of the stream's type",
        ),
        (
            {"streams": [{"dataType": "trades", "tableRef": {"name": "trades"}}] * 2},
            "spec.streams[1].dataType: trades is already spec.streams[0]; name each data type once",
        ),
        ({"topic": {"partitions": "6"}}, "spec.topic.partitions: not usable: found '6', expected a valid integer"),
        (
            {"topic": {"partitions": 0}},
            "spec.topic.partitions: not usable: found 0, expected greater than or equal to 1",
        ),
        (
            {"sink": {"replicas": 7}},
            "spec.sink.replicas: too many: found 7, expected at most 6, the number of partitions",
        ),
        (
            {"sink": {"autoscaling": {"maxReplicas": 7}}},
            "spec.sink.autoscaling.maxReplicas: too many: found 7, expected at most 6, the number of partitions",
        ),
        (
            {"sink": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}},
            "spec.sink.autoscaling.minReplicas: too many: found 3, expected at most maxReplicas, 2",
        ),
        ({"sink": {"autoscaling": {}}}, "spec.sink.autoscaling.maxReplicas: missing; expected Pods that there may be"),
        ({"sink": {"commitInterval": 30}}, "spec.sink.commitInterval: not usable: found 30, expected a valid string"),
        (
            {"sink": {"commitInterval": "30 s"}},
            "spec.sink.commitInterval: not usable: found '30 s', expected a duration such as 500ms, 30s, 5m, 12h or 7d",
        ),
        (
            {"sink": {"commitInterval": "1ms"}},
            "spec.sink.commitInterval: out of range: found '1ms', expected 100ms to 1h",
        ),
        ({"prices": "negative"}, "spec.prices: not usable: found 'negative', expected 'positive' or 'any'"),
        ({"duplicateTolerance": "2h"}, "spec.duplicateTolerance: out of range: found '2h', expected 0s to 1h"),
        (
            {"deadLetters": {"stopAbove": "100%"}},
            "spec.deadLetters.stopAbove: not usable: found '100%', expected a share below 100%, such as 5% or 0.5%",
        ),
        (
            {"deadLetters": {"stopAbove": 5}},
            "spec.deadLetters.stopAbove: not usable: found 5, expected a valid string",
        ),
        ({"sink": {"commitBytes": "1Ki"}}, "spec.sink.commitBytes: out of range: found '1Ki', expected 64Ki to 4Gi"),
        ({"schemaVersion": 1}, "spec.schemaVersion: not usable: found 1, expected 2"),
        (
            {"source": {}},
            f"spec.source: not one source: found 'none', expected exactly one of {', '.join(Source.model_fields)}",
        ),
        (
            {"source": {"external": {}, "synthetic": {"start": "2026-03-02"}}},
            "spec.source: not one source: found 'synthetic and external'",
        ),
        ({"source": {"synthetik": {}}}, 'spec.source.synthetik: unknown field; did you mean "synthetic"?'),
        ({"source": {"synthetic": {}}}, "spec.source.synthetic.start: missing; expected First trading date"),
        (
            {"source": {"synthetic": {"start": "2026-02-30"}}},
            "spec.source.synthetic.start: not usable: found '2026-02-30', expected a valid date",
        ),
        (
            {"source": {"csv": {"format": "asx", "uris": ["file:a.csv"], "volume": {"claimName": "ticks"}}}},
            "spec.source.csv.symbol: missing; expected the symbol of all rows: asx files do not name it",
        ),
        (
            {"source": {"csv": {"format": "asx", "uris": ["file:a.csv"], "symbol": "BHP"}}},
            "spec.source.csv.volume: missing; expected the volume that file: URIs are relative to",
        ),
        (
            {"source": {"csv": {"format": "asx", "uris": ["/a.csv"], "symbol": "BHP"}}},
            "spec.source.csv.uris[0]: unknown kind of URI: found '/a.csv', expected s3://, https:// or file:",
        ),
        (
            {"source": {"csv": {"format": "generic", "uris": ["file:../a"], "volume": {"claimName": "t"}}}},
            "spec.source.csv.uris[0]: not a relative path: found 'file:../a'",
        ),
        (
            {"source": {"csv": {"format": "generic", "uris": ["file:a"], "volume": {}}}},
            "spec.source.csv.volume: not one volume; expected exactly one of claimName, configMapName",
        ),
        (
            {"source": {"csv": {"format": "generic", "uris": ["s3://b/a"], "dataType": "quotes"}}},
            "spec.source.csv.dataType: not a stream: found 'quotes', expected one of the feed's streams: trades",
        ),
    ],
)
def test_every_mistake_of_a_feed_has_its_path_and_its_remedy(change, expected):
    document = feed()
    document["spec"].update(change)
    document["spec"] = {key: value for key, value in document["spec"].items() if value is not None}
    (found,) = texts(table(), document)
    assert found.startswith(f"MarketFeed default/asx: {expected}"), found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"identifier": "trades"},
            "spec.identifier: not usable: found 'trades', expected an identifier namespace.name",
        ),
        (
            {"schema": "candles"},
            "spec.schema: not usable: found 'candles', expected 'trades', 'quotes', 'reference_data' or 'gaps'",
        ),
        (
            {"sortOrder": [{"column": "simbol"}]},
            "spec.sortOrder[0].column: no such column: found 'simbol', expected a column of trades: message_id",
        ),
        (
            {"partitionSpec": [{"source": "bid_price", "transform": "identity"}]},
            "spec.partitionSpec[0].source: no such column: found 'bid_price'",
        ),
        (
            {"partitionSpec": [{"source": "symbol", "transform": "buckets[3]"}]},
            "spec.partitionSpec[0].transform: not usable: found 'buckets[3]'",
        ),
        (
            {"properties": {"k2.offsets": "{}"}},
            "spec.properties.k2.offsets: reserved for K2's own bookkeeping; leave it out",
        ),
        (
            {"upkeep": {"compaction": {"schedule": "@daily"}}},
            "spec.upkeep.compaction.schedule: not a cron line: found '@daily', expected a cron line of five fields",
        ),
        (
            {"upkeep": {"orphanRemoval": {"schedule": "0 4 31 2 *"}}},
            "spec.upkeep.orphanRemoval.schedule: a range that ends before it begins, or a day that no month has",
        ),
        (
            {"upkeep": {"timeZone": "Mars/Base"}},
            "spec.upkeep.timeZone: unknown: found 'Mars/Base', expected a time zone such as Etc/UTC",
        ),
        ({"upkeep": {"deadline": "10s"}}, "spec.upkeep.deadline: out of range: found '10s', expected 1m to 7d"),
        (
            {"upkeep": {"orphanRemoval": {"schedule": "0 4 * * *", "olderThan": "5m"}}},
            "spec.upkeep.orphanRemoval.olderThan: out of range: found '5m', expected 1h to 3650d",
        ),
        (
            {"upkeep": {"compaction": {"schedule": "0 4 * * *", "targetFileSize": "1Ki"}}},
            "spec.upkeep.compaction.targetFileSize: out of range: found '1Ki', expected 1Mi to 16Gi",
        ),
        ({"upkeep": {"compaction": {}}}, "spec.upkeep.compaction.schedule: missing; expected When"),
    ],
)
def test_every_mistake_of_a_table_has_its_path_and_its_remedy(change, expected):
    document = table()
    document["spec"].update(change)
    (found,) = texts(document)
    assert found.startswith(f"IcebergTable default/trades: {expected}"), found


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"kind": "MarketFed"},
            "MarketFed default/asx: kind: unknown kind: found 'MarketFed', expected MarketFeed or IcebergTable; did you mean \"MarketFeed\"?",
        ),
        ({"apiVersion": "v1"}, "MarketFeed default/asx: apiVersion: not K2's: found 'v1', expected k2.dev/v1alpha1"),
        ({"spec": None}, "MarketFeed default/asx: spec: missing; expected the fields of a MarketFeed"),
        ({"metadata": {"name": "ASX"}}, "MarketFeed default/ASX: metadata.name: not a usable name: found 'ASX'"),
        ({"metadata": {"name": "a" * 41}}, f"MarketFeed default/{'a' * 41}: metadata.name: not a usable name"),
        ({"speck": {}}, 'MarketFeed default/asx: speck: unknown field; did you mean "spec"?'),
    ],
)
def test_what_is_no_resource_of_ours_is_named(change, expected):
    found = texts(table(), feed() | change)
    assert found[0].startswith(expected), found


def test_all_mistakes_are_found_at_once():
    broken = feed(currency="aud", topic={"partitions": 0}, sink={"replica": 1})
    assert [problem.path for problem in plan([table(), broken], PLATFORM).problems] == [
        "spec.currency",
        "spec.topic.partitions",
        "spec.sink.replica",
    ]


def test_a_name_declared_twice_is_an_error():
    assert texts(table(), feed(), feed())[0] == (
        "MarketFeed default/asx: metadata.name: declared twice; give one of them another name"
    )


def test_the_oldest_feed_owns_a_topic_and_the_later_one_is_told_who():
    older, newer = feed("zzz", created="2026-01-01T00:00:00Z"), feed("aaa", created="2026-01-02T00:00:00Z")
    planned = plan([table(), newer, older], PLATFORM)
    assert [made.name for made in planned.feeds] == ["zzz"]
    (problem,) = planned.problems
    assert problem.reason == "TopicClaimed"
    assert str(problem) == (
        "MarketFeed default/aaa: spec.streams[0]: topic market.equities.trades.asx and its sink belong to MarketFeed "
        "default/zzz, which is older; set sink.enabled: false to send to the same topic only"
    )


def test_the_next_feed_takes_over_when_the_owner_is_gone():
    newer = feed("aaa", created="2026-01-02T00:00:00Z")
    (made,) = plan([table(), newer], PLATFORM).feeds
    assert [str(topic.name) for topic in made.topics] == ["market.equities.trades.asx"]


def test_a_producer_only_stream_shares_a_topic_without_a_sink_of_its_own():
    second = feed("aaa", streams=[{"dataType": "trades", "tableRef": {"name": "trades"}, "sink": {"enabled": False}}])
    planned = plan([table(), feed("zzz"), second], PLATFORM)
    assert planned.problems == ()
    by_name = {made.name: made for made in planned.feeds}
    assert (by_name["aaa"].topics, by_name["aaa"].sinks) == ((), ())
    assert len(by_name["zzz"].sinks) == 1


def test_a_topic_whose_feeds_all_only_produce_still_has_an_owner():
    alone = feed(streams=[{"dataType": "trades", "tableRef": {"name": "trades"}, "sink": {"enabled": False}}])
    (made,) = plan([table(), alone], PLATFORM).feeds
    assert len(made.topics) == 1
    assert made.sinks == ()


def test_two_tables_with_one_identifier_have_one_owner():
    older = copy.deepcopy(table("b"))
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    newer = table("a")
    newer["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    planned = plan([newer, older], PLATFORM)
    assert [made.name for made in planned.tables] == ["b"]
    (problem,) = planned.problems
    assert problem.reason == "DuplicateIdentifier"
    assert "market_data.trades belongs to IcebergTable default/b, which is older" in str(problem)


def test_the_plan_is_the_same_whatever_the_order_of_the_documents():
    documents = [table(), table("quotes", "quotes"), feed("b"), feed("a")]
    forward, backward = plan(documents, PLATFORM), plan(documents[::-1], PLATFORM)
    assert set(map(str, forward.problems)) == set(map(str, backward.problems))
    assert forward.feeds == backward.feeds


def test_durations_and_sizes_are_read():
    assert [seconds(text) for text in ("500ms", "30s", "1.5m", "2h", "7d")] == [0.5, 30, 90, 7200, 604_800]
    assert [size_in_bytes(text) for text in ("100", "64Ki", "128Mi", "1Gi")] == [100, 65_536, 134_217_728, 2**30]


def test_a_table_has_upkeep_only_where_it_has_a_schedule():
    upkeep = {"snapshotExpiry": {"schedule": "0 3 * * *", "retainLast": 5, "olderThan": "36h"}, "suspend": True}
    (made,) = plan([table(upkeep=upkeep)], PLATFORM).tables
    (task,) = made.upkeep
    assert (task.task, task.schedule, task.time_zone, task.suspended) == ("expire", "0 3 * * *", "Etc/UTC", True)
    assert task.limits == (("retain-last", 5), ("older-than-seconds", 129_600))
    assert task.deadline_seconds == 7200
    assert plan([table()], PLATFORM).tables[0].upkeep == ()


def test_a_scrub_ends_before_its_job_is_stopped_and_metadata_has_its_age():
    upkeep = {"scrub": {"schedule": "0 3 * * *"}, "metadata": {"schedule": "0 4 * * *"}, "deadline": "1h"}
    (made,) = plan([table(upkeep=upkeep)], PLATFORM).tables
    metadata, scrub = made.upkeep
    assert metadata.limits == (("older-than-seconds", 86_400),)
    assert scrub.limits == (("rate", 50 * 2**20), ("older-than-seconds", 604_800), ("most-seconds", 3_540))


def test_with_autoscaling_a_sink_has_bounds():
    asked = {"minReplicas": 2, "maxReplicas": 6, "targetLag": 5000}
    (made,) = plan([table(), feed(sink={"autoscaling": asked})], PLATFORM).feeds
    assert (made.sinks[0].least, made.sinks[0].most) == (2, 6)
    assert made.sinks[0].autoscaling.target_lag == 5000
    (fixed,) = plan([table(), feed(sink={"replicas": 3})], PLATFORM).feeds
    assert (fixed.sinks[0].least, fixed.sinks[0].most) == (3, 3)
