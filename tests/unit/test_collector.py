"""What is told of figures when nothing can be measured any more."""

import asyncio

import pytest

from k2.model.errors import WorldError
from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2.model.settings import Settings
from k2_operator.kube.cache import FEED, TABLE, Cache
from k2_operator.reconcile.backends import Backends
from k2_operator.reconcile.collector import Collector
from k2_operator.reconcile.world import AwayError, WorldPart
from k2_operator.report import figures, table_figures
from k2_operator.spec.objects import Ref

PLATFORM = Platform(
    kafka=KafkaPlatform(bootstrap_servers="k:9092"),
    registry=RegistryPlatform(url="http://r"),
    catalog=CatalogPlatform(properties={}),
)
SIM, TRADES = Ref(FEED, "ns", "sim"), Ref(TABLE, "ns", "trades")
READY = {"type": "Ready", "status": "True", "reason": "TableExists", "message": "", "observedGeneration": 1}


def resource(where, spec, **status):
    metadata = {
        "name": where.name,
        "namespace": where.namespace,
        "uid": where.name,
        "resourceVersion": "1",
        "generation": 1,
    }
    return {"apiVersion": "k2.dev/v1alpha1", "kind": where.kind, "metadata": metadata, "spec": spec, "status": status}


@pytest.fixture
def woken():
    return []


@pytest.fixture
def collector(woken):
    """Of a feed and its table, none of which was measured."""
    cache = Cache()
    stream = {"dataType": "trades", "tableRef": {"name": "trades"}}
    cache.put(resource(SIM, {"source": {"external": {}}, "exchange": "SIM", "streams": [stream]}))
    cache.put(resource(TRADES, {"identifier": "market_data.trades", "schema": "trades"}, conditions=[READY]))
    made = Collector(cache, PLATFORM, Backends(Settings()), woken.append)
    yield made
    made.backends.close()


def test_without_kafka_nothing_is_left_of_what_was_measured_and_it_is_told_once(collector, woken):
    collector.lose(AwayError(WorldPart.KAFKA, "Kafka is gone"))
    told = collector.told(SIM)
    assert told.fields == dict.fromkeys(figures.FIELDS)
    assert {(each.status, each.reason) for each in told.findings.values()} == {("Unknown", "KafkaUnreachable")}
    assert set(told.findings) == set(figures.MEASURED)
    assert all("Kafka is gone" in each.message for each in told.findings.values())
    assert woken == [SIM]
    collector.lose(AwayError(WorldPart.KAFKA, "Kafka is still gone"))
    assert collector.told(SIM) == told
    assert woken == [SIM]


def test_each_round_in_an_outage_tells_it_to_who_has_not_heard_of_it(collector, woken):
    for part in (WorldPart.KAFKA, WorldPart.CATALOG) * 2:
        collector.backends.world.failed(part, WorldError(f"The {part} is gone"))
    for _ in range(2):
        with pytest.raises(AwayError):
            asyncio.run(collector.collect())
    assert collector.told(SIM).findings["Fresh"].reason == "KafkaUnreachable"
    assert woken.count(SIM) == 1


@pytest.mark.parametrize(
    ("part", "reason"), [(WorldPart.CATALOG, "CatalogUnreachable"), (WorldPart.STORE, "StoreUnreachable")]
)
def test_without_a_part_of_the_lake_nothing_is_left_of_what_was_seen_of_a_table(collector, woken, part, reason):
    collector.lose(AwayError(part, "It is gone"))
    told = collector.told(TRADES)
    assert told.fields == dict.fromkeys(table_figures.FIELDS)
    assert {(each.status, each.reason) for each in told.findings.values()} == {("Unknown", reason)}
    assert set(told.findings) == set(table_figures.MEASURED)
    assert woken == [TRADES]
    assert collector.told(SIM).findings == {}


def test_the_registry_measures_nothing(collector, woken):
    collector.lose(AwayError(WorldPart.REGISTRY, "It is gone"))
    assert woken == []
