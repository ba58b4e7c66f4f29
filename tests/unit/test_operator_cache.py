"""The cache between watches and reconciles, and what is read off objects."""

import json

import pytest

from k2_operator.kube.cache import Cache, Change
from k2_operator.spec import objects
from k2_operator.spec.objects import Ref


def feed(name="sim", version=1, exchange="SIM", table="trades", **status):
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": {"name": name, "namespace": "m", "uid": name, "resourceVersion": str(version)},
        "spec": {
            "source": {"external": {}},
            "exchange": exchange,
            "streams": [{"dataType": "trades", "tableRef": {"name": table}}],
        },
        "status": status,
    }


def deployment(version=1, replicas=1, feed="sim", **status):
    metadata = {"name": "d", "namespace": "m", "uid": "d", "resourceVersion": str(version), "managedFields": []}
    metadata["labels"] = {"k2.dev/feed": feed}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": replicas},
        "status": status,
    }


def test_an_event_says_what_it_changed():
    cache = Cache()
    assert cache.put(deployment()) is Change.SPEC
    assert cache.put(deployment()) is Change.NONE
    assert cache.put(deployment(2, readyReplicas=1)) is Change.STATUS
    assert cache.put(deployment(3, replicas=2)) is Change.SPEC


def test_an_event_that_is_older_than_our_own_answer_changes_nothing():
    cache = Cache()
    cache.put(deployment(12, replicas=2))
    assert cache.put(deployment(11, replicas=1)) is Change.NONE
    assert cache.get(Ref("Deployment", "m", "d"))["spec"]["replicas"] == 2


def test_another_object_of_the_same_name_is_taken_although_its_version_is_what_it_is():
    cache = Cache()
    cache.put(deployment(12))
    again = deployment(11)
    again["metadata"]["uid"] = "another"
    assert cache.put(again) is Change.SPEC
    assert not cache.remove(Ref("Deployment", "m", "d"), uid="d")
    assert cache.remove(Ref("Deployment", "m", "d"), uid="another")


def test_what_has_gone_is_not_brought_back_by_the_late_answer_of_its_making():
    cache, where = Cache(), Ref("Deployment", "m", "d")
    assert cache.remove(where, uid="d"), "whoever it belongs to is to be woken"
    assert cache.put(deployment(7)) is Change.NONE
    assert cache.get(where) is None
    again = deployment(9)
    again["metadata"]["uid"] = "another"
    assert cache.put(again) is Change.SPEC


def test_what_is_newer_than_its_end_is_there_again():
    """A watch by label says "deleted" of what has lost its label; the answer of the write that puts it back is newer."""
    cache, where = Cache(), Ref("Deployment", "m", "d")
    cache.put(deployment(5))
    assert cache.remove(where, uid="d", version=8)
    assert cache.put(deployment(7)) is Change.NONE
    assert cache.put(deployment(9)) is Change.SPEC
    assert cache.get(where) is not None


def test_what_belongs_to_a_feed_follows_its_label():
    cache = Cache()
    cache.put(deployment(1))
    assert [each["kind"] for each in cache.owned("m", "sim")] == ["Deployment"]
    cache.put(deployment(2, feed="other"))
    assert cache.owned("m", "sim") == []
    assert len(cache.owned("m", "other")) == 1
    cache.remove(Ref("Deployment", "m", "d"))
    assert cache.owned("m", "other") == []


def test_feeds_are_found_by_exchange_and_by_table():
    cache = Cache()
    cache.put(feed("one"))
    cache.put(feed("two", exchange="ASX", table="others"))
    assert [each.metadata.name for each in cache.feeds_of_exchange("asx")] == ["two"]
    assert [each.metadata.name for each in cache.feeds_of_table("m", "trades")] == ["one"]
    cache.put(feed("two", 2, exchange="SIM"))
    assert cache.feeds_of_exchange("asx") == []
    cache.remove(Ref("MarketFeed", "m", "one"))
    assert [each.metadata.name for each in cache.feeds()] == ["two"]


def test_a_feed_with_a_mistake_is_kept_with_its_errors():
    cache = Cache()
    wrong = feed()
    wrong["spec"]["source"] = {"externl": {}}
    cache.put(wrong)
    parsed = cache.parsed(Ref("MarketFeed", "m", "sim"))
    assert parsed.resource is None
    assert 'did you mean "external"?' in parsed.errors[0].text
    assert list(cache.feeds()) == []


@pytest.mark.parametrize(
    ("live", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": [{"n": 1, "default": True}]}}, {"a": {"b": [{"n": 1}]}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({}, {"a": {}, "b": []}, True),
        ({"a": "1"}, {"a": 1}, False),
        (None, {"a": 1}, False),
        ("abc", ["a"], False),
    ],
)
def test_whether_everything_wanted_is_there(live, wanted, expected):
    assert objects.covers(live, wanted) is expected


def test_what_controllers_count_is_no_change():
    one, two = deployment(1), deployment(2, readyReplicas=3)
    two["metadata"] |= {"generation": 7, "annotations": {"deployment.kubernetes.io/revision": "4"}}
    assert objects.digest(objects.trimmed(two)) == objects.digest(objects.trimmed(one))


def test_the_words_that_objects_have_in_common_are_held_once():
    cache = Cache()
    for name in ("d", "e"):
        cache.put(json.loads(json.dumps(deployment() | {"metadata": deployment()["metadata"] | {"name": name}})))
    one, other = (cache.get(Ref("Deployment", "m", name)) for name in ("d", "e"))
    assert [id(name) for name in one["metadata"]] == [id(name) for name in other["metadata"]]
    assert one["metadata"]["labels"]["k2.dev/feed"] is other["metadata"]["labels"]["k2.dev/feed"]
