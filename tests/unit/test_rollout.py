"""Whose turn it is: a change of the platform replaces the pods of so many feeds at once, and nobody is passed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_operator.kube.cache import Cache
from k2_operator.reconcile import rollout
from k2_operator.spec import labels
from k2_operator.spec.objects import Ref

NEW, OLD = "new", "old"


def workload(
    feed, platform=OLD, *, image="1", generation="1", kind="Deployment", done=True, replicas=1, version=1, **status
):
    conditions = [
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"}
    ]
    found = {"observedGeneration": 1, "conditions": conditions} if kind == "Deployment" else {"ready": int(done)}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {
            "name": f"{feed}-x",
            "namespace": "n",
            "uid": feed,
            "resourceVersion": str(version),
            "generation": 1,
            "labels": {labels.FEED: feed},
            "annotations": {labels.GENERATION: generation, labels.PLATFORM_HASH: platform},
        },
        "spec": {
            **({"replicas": replicas} if kind == "Deployment" else {}),
            "template": {"spec": {"containers": [{"image": image, "imagePullPolicy": "Always"}]}},
        },
        "status": found | status,
    }


def market_feed(name, ready="True"):
    conditions = [{"type": "Ready", "status": ready}]
    metadata = {"name": name, "namespace": "n", "uid": f"feed-{name}", "resourceVersion": "1"}
    return {
        "apiVersion": "k2.dev/v1alpha1",
        "kind": "MarketFeed",
        "metadata": metadata,
        "status": {"conditions": conditions},
    }


def where(name):
    return Ref("MarketFeed", "n", name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"kind": "Job"}, True),
        ({"platform": OLD}, False),  # somebody's edit: repaired at once
        ({"image": "1"}, False),  # nothing that pods would notice
        ({"generation": "2"}, False),  # the feed's own author asked for it
        ({"replicas": 0}, False),
    ],
)
def test_what_replaces_pods_for_the_platforms_sake(change, expected):
    kind = change.get("kind", "Deployment")
    wanted = workload("a", **({"platform": NEW, "image": "2"} | change))
    assert rollout.replaces_pods(workload("a", kind=kind), wanted) is expected


def test_what_is_not_there_or_sleeps_is_not_replaced():
    wanted = workload("a", NEW, image="2")
    assert not rollout.replaces_pods(None, wanted)
    assert not rollout.replaces_pods(workload("a", replicas=0), wanted)


def test_what_an_older_operator_built_waits_for_its_turn_too():
    live = workload("a")
    del live["metadata"]["annotations"]
    assert rollout.replaces_pods(live, workload("a", NEW, image="2"))


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (workload("a", NEW), False),
        (workload("a", NEW, done=False), True),
        (workload("a", OLD, done=False), False),
        (workload("a", NEW, observedGeneration=0), True),
        (workload("a", NEW, conditions=[]), True),
        (workload("a", NEW, availableReplicas=0), False),  # fails after its rollout
        (workload("a", NEW, done=False, replicas=0), False),
        (workload("a", NEW, kind="Job"), False),
        (workload("a", NEW, kind="Job", done=False), True),
        (workload("a", NEW, kind="Job", done=False, conditions=[{"type": "Failed", "status": "True"}]), False),
    ],
)
def test_who_is_rolling(obj, expected):
    assert rollout.is_rolling(obj, NEW) is expected


def test_the_well_go_first_and_then_by_name():
    asking = {where("c"): True, where("a"): False, where("b"): True}
    assert rollout.turns(asking, set(), 1) == {where("b")}
    assert rollout.turns(asking, set(), 2) == {where("b"), where("c")}
    assert rollout.turns(asking, {where("x")}, 2) == {where("b")}
    assert rollout.turns(asking, {where("x"), where("y")}, 2) == frozenset()


def test_who_rolls_already_need_not_ask_again():
    assert rollout.turns({where("a"): True}, {where("a")}, 1) == {where("a")}


@given(
    asking=st.dictionaries(st.sampled_from("abcdefghij"), st.booleans()),
    rolling=st.sets(st.sampled_from("abcdefghij")),
    limit=st.integers(1, 5),
)
def test_never_more_than_the_limit_and_never_nobody_without_a_reason(asking, rolling, limit):
    may = rollout.turns({where(name): well for name, well in asking.items()}, {where(name) for name in rolling}, limit)
    assert len(may | {where(name) for name in rolling}) <= max(limit, len(rolling))
    if len(rolling) < limit and asking:
        assert may


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def turns_over(limit, *live):
    cache, clock = Cache(), Clock()
    for each in live:
        cache.put(each)
    return rollout.Turns(cache, NEW, limit, clock), cache, clock


def ask(turns, name, ready="True"):
    return turns.mine(market_feed(name, ready), [workload(name, NEW, image="2")])


def test_a_whole_rollout_goes_through_in_groups():
    names = [f"f{number}" for number in range(7)]
    turns, cache, _ = turns_over(3, *(workload(name) for name in names))
    left, rounds, version = list(names), 0, 1
    while left:
        rounds += 1
        going = [name for name in left if ask(turns, name)]
        assert 0 < len(going) <= 3
        version += 1
        for name in going:
            cache.put(workload(name, NEW, image="2", done=False, version=version))
            turns.done(where(name))
        assert not [name for name in left if name not in going and ask(turns, name)]
        version += 1
        for name in going:
            cache.put(workload(name, NEW, image="2", version=version))
        left = [name for name in left if name not in going]
    assert rounds == 3


def test_a_turn_that_was_given_counts_before_the_objects_tell():
    turns, _, _ = turns_over(1, workload("a"), workload("b"))
    assert ask(turns, "a")
    assert not ask(turns, "b")
    turns.done(where("a"))  # nothing was applied after all
    assert ask(turns, "b")


def test_a_restart_of_the_operator_forgets_nobody_who_is_rolling():
    turns, _, _ = turns_over(1, workload("a", NEW, image="2", done=False), workload("b"))
    assert not ask(turns, "b")


def test_who_does_not_ask_any_more_is_not_waited_for():
    turns, cache, clock = turns_over(1, workload("a"), workload("b"), workload("c", NEW, image="2", done=False))
    assert not ask(turns, "a")
    assert not ask(turns, "b")
    cache.put(workload("c", NEW, image="2", version=2))
    assert not ask(turns, "b")  # a is before it
    clock.now = rollout.FORGET_SECONDS + 1
    assert ask(turns, "b")


def test_what_waits_stays_with_its_configuration_and_what_is_missing_is_made():
    turns, _, _ = turns_over(1, workload("a"))
    missing = workload("b", NEW)
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a-x", "namespace": "n"}}
    assert turns.held([workload("a", NEW), missing, service]) == {Ref("Deployment", "n", "a-x")}


def test_a_feed_that_waits_says_so_without_a_word_that_changes():
    found = rollout.waiting(5)
    assert (found.status, found.reason) == ("False", "RolloutWaiting")
    assert "at most 5 feeds" in found.message
