"""What a reconcile looks at a second time, after it has applied what it wanted."""

import pytest

from k2.model.platform import CatalogPlatform, KafkaPlatform, Platform, RegistryPlatform
from k2_operator.kube.cache import Cache
from k2_operator.reconcile import observe
from k2_operator.spec.objects import Ref

PLATFORM = Platform(
    kafka=KafkaPlatform(bootstrap_servers="k:9092"),
    registry=RegistryPlatform(url="http://r"),
    catalog=CatalogPlatform(properties={"uri": "x"}),
)
FEED = Ref("MarketFeed", "m", "sim")


def resource(kind, name, spec, version, generation=1, **status):
    metadata = {"name": name, "namespace": "m", "uid": name, "creationTimestamp": "2026-01-02T03:04:05Z"}
    counted = {"resourceVersion": str(version), "generation": generation}
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata | counted,
        "spec": spec,
        "status": status,
    }


def feed(version, generation=1, partitions=1, **status):
    streams = [{"dataType": "trades", "tableRef": {"name": "trades"}}]
    spec = {"source": {"external": {}}, "exchange": "SIM", "streams": streams, "topic": {"partitions": partitions}}
    return resource("MarketFeed", "sim", spec, version, generation, **status)


def table(version, generation=1, identifier="m.trades", **status):
    return resource(
        "IcebergTable", "trades", {"identifier": identifier, "schema": "trades"}, version, generation, **status
    )


def deployment(version):
    metadata = {"name": "d", "namespace": "m", "uid": "d", "resourceVersion": str(version)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata | {"labels": {"k2.dev/feed": "sim"}},
        "spec": {"replicas": 1},
    }


@pytest.fixture
def cache():
    found = Cache()
    found.put(table(1))
    found.put(feed(2))
    return found


@pytest.fixture
def before(cache):
    facts = observe.feed(cache, PLATFORM, FEED)
    assert facts is not None
    assert facts.plan is not None
    return facts


def test_what_has_become_of_it_meanwhile_is_seen_by_the_plan_that_is_known(cache, before):
    cache.put(feed(3, topics=["t"]))
    cache.put(table(4, rows=7))
    cache.put(deployment(5))
    now = observe.again(cache, PLATFORM, before)
    assert now == observe.feed(cache, PLATFORM, FEED)
    assert now.plan is before.plan
    assert (now.obj["status"], now.tables["trades"]["status"]) == ({"topics": ["t"]}, {"rows": 7})
    assert now.object("Deployment", "d") is not None


@pytest.mark.parametrize(
    "edited", [feed(3, 2, partitions=4), table(3, 2, identifier="m.others")], ids=["the feed", "its table"]
)
def test_what_was_edited_meanwhile_is_planned_anew(cache, before, edited):
    cache.put(edited)
    now = observe.again(cache, PLATFORM, before)
    assert now == observe.feed(cache, PLATFORM, FEED)
    assert now.plan != before.plan


def test_a_table_that_has_gone_meanwhile_leaves_no_plan(cache, before):
    cache.remove(Ref("IcebergTable", "m", "trades"))
    assert observe.again(cache, PLATFORM, before).plan is None


def test_a_feed_that_has_gone_meanwhile_is_as_it_was(cache, before):
    cache.remove(FEED)
    assert observe.again(cache, PLATFORM, before) is before
