"""A new image on a real API server: so many feeds at once, the others say that they wait, and the author of a spec does not."""

import pytest
from k2_testing.cluster import Operator, grant, until
from k2_testing.extent import sized
from k2_testing.kubelet import pods, say_of_pods, waiting
from k2_testing.resources import feed, make_ready, names_of, table

from k2.model.topics import AssetClass

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

FEEDS = {f"f{number}": asset_class.value for number, asset_class in enumerate(AssetClass)}


@pytest.fixture
def upgraded(cluster, operator, namespace, platform, tmp_path):
    """Starts an operator of this namespace alone, with an image and a limit; the one before is stopped."""
    operator.kill()
    grant(cluster, namespace, ["k2-registry"], watched=[namespace])
    running = []

    def start(image, limit):
        for each in running:
            each.stop()
        settings = platform | {"operator": {"maxConcurrentRollouts": limit}, "images": {"workload": image}}
        folder = tmp_path / image.replace(":", "-")
        running.append(Operator(cluster, folder, namespace, settings, K2_OPERATOR_NAMESPACES=f'["{namespace}"]'))
        running[-1].start()
        return running[-1]

    yield start
    running[-1].stop()
    operator.start()


def image_of(cluster, namespace, name):
    (deployment,) = names_of(cluster, namespace, "Deployment", name)
    return cluster.get("Deployment", deployment, namespace)["spec"]["template"]["spec"]["containers"][0]["image"]


def at(cluster, namespace, image):
    return {name for name in FEEDS if image_of(cluster, namespace, name) == image}


def until_some_are_at(cluster, namespace, image, names):
    return until(lambda: at(cluster, namespace, image) & names, "the next ones do not get a turn")


def up_to_date(cluster, namespace):
    """Feeds by what they say of the rollout."""
    found = {name: cluster.condition("MarketFeed", namespace, name, "UpToDate") for name in FEEDS}
    return {name: each[1] if each else None for name, each in found.items()}


def test_a_new_image_goes_through_the_feeds_in_groups(cluster, upgraded, namespace):
    upgraded("k2-workloads:1", 2)
    cluster.apply(table(namespace))
    for name, asset_class in FEEDS.items():
        cluster.apply(feed(namespace, name, assetClass=asset_class))
    for name in FEEDS:
        make_ready(cluster, namespace, name)
    assert set(up_to_date(cluster, namespace).values()) == {"AsConfigured"}

    again = upgraded("k2-workloads:2", 2)
    until(lambda: len(at(cluster, namespace, "k2-workloads:2")) == 2, "two feeds are not rolled")
    rolling = at(cluster, namespace, "k2-workloads:2")
    until(
        lambda: (
            {name for name, reason in up_to_date(cluster, namespace).items() if reason == "RolloutWaiting"}
            == set(FEEDS) - rolling
        ),
        "those that wait do not say so",
    )
    waiting = sorted(set(FEEDS) - rolling)
    # What waits goes on as it was.
    assert cluster.condition("MarketFeed", namespace, waiting[0])[0] == "True"
    status, _, message = cluster.condition("MarketFeed", namespace, waiting[0], "UpToDate")
    assert status == "False"
    assert "at most 2 feeds are rolled at once" in message

    # Its author does not wait.
    cluster.patch("MarketFeed", namespace, waiting[0], {"spec": {"sink": {"commitInterval": "7s"}}})
    until(lambda: image_of(cluster, namespace, waiting[0]) == "k2-workloads:2", "a changed spec waits")
    # Nor is what somebody deletes kept away.
    again.watches("Deployment")
    (gone,) = names_of(cluster, namespace, "Deployment", waiting[1])
    cluster.delete("Deployment", namespace, gone)
    until(lambda: names_of(cluster, namespace, "Deployment", waiting[1]) == [gone], "it is not back")

    left = set(FEEDS)
    while left:
        turn = until_some_are_at(cluster, namespace, "k2-workloads:2", frozenset(left))
        for name in turn:
            make_new_pods_ready(cluster, namespace, name)
        left -= turn
    until(lambda: set(up_to_date(cluster, namespace).values()) == {"AsConfigured"}, "it does not come to an end")


def make_new_pods_ready(cluster, namespace, name):
    """Play the kubelet until the newest pods run and the old ones are gone."""
    (deployment,) = names_of(cluster, namespace, "Deployment", name)

    def finished():
        cluster.run_pods(namespace, deployment)
        found = cluster.get("Deployment", deployment, namespace)
        conditions = {each["type"]: each["reason"] for each in found["status"].get("conditions", ())}
        current = found["status"].get("observedGeneration", 0) >= found["metadata"]["generation"]
        return current and conditions.get("Progressing") == "NewReplicaSetAvailable"

    until(finished, f"{deployment} is not rolled", 180, pause=0.2)


def test_a_restart_with_the_same_settings_rolls_nothing(cluster, upgraded, namespace):
    upgraded("k2-workloads:1", 1)
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, "f0"))
    make_ready(cluster, namespace, "f0")
    (deployment,) = names_of(cluster, namespace, "Deployment", "f0")
    before = cluster.get("Deployment", deployment, namespace)["metadata"]["generation"]
    again = upgraded("k2-workloads:1", 3)
    until(lambda: again.metrics().get('k2_operator_reconciles_total{kind="MarketFeed",outcome="ok"}'), "no reconcile")
    assert cluster.get("Deployment", deployment, namespace)["metadata"]["generation"] == before


def test_an_image_that_does_not_come_leaves_the_old_pod_at_work_and_is_told_until_the_right_one_comes(
    cluster, upgraded, namespace
):
    upgraded("k2-workloads:1", 1)
    cluster.apply(table(namespace))
    cluster.apply(feed(namespace, "f0"))
    make_ready(cluster, namespace, "f0")
    (deployment,) = names_of(cluster, namespace, "Deployment", "f0")
    (old,) = pods(cluster, namespace, deployment)

    def until_said(which, reason):
        return cluster.until_condition("MarketFeed", namespace, "f0", reason, which, sized(240, 15))

    upgraded("k2-workloads:nowhere", 1)
    until(lambda: pods(cluster, namespace, deployment, "k2-workloads:nowhere"), "no new pod")
    assert until_said("UpToDate", "RollingOut")[0] == "False"
    away = waiting("ErrImagePull", "k2-workloads:nowhere: not found")
    say_of_pods(cluster, namespace, deployment, image="k2-workloads:nowhere", phase="Pending", state=away)
    status, _, message = until_said("UpToDate", "ImagePullFailed")
    assert status == "False"
    assert "k2-workloads:nowhere: not found" in message
    assert until_said("Degraded", "ImagePullFailed")[0] == "True"
    assert cluster.condition("MarketFeed", namespace, "f0")[:2] == ("True", "AsAsked")
    assert cluster.condition("MarketFeed", namespace, "f0", "SinkAvailable")[0] == "True"
    assert old["metadata"]["name"] in {each["metadata"]["name"] for each in pods(cluster, namespace, deployment)}

    upgraded("k2-workloads:2", 1)
    make_new_pods_ready(cluster, namespace, "f0")
    until_said("UpToDate", "AsConfigured")
    until_said("Degraded", "AsExpected")
    assert [each["spec"]["containers"][0]["image"] for each in pods(cluster, namespace, deployment)] == [
        "k2-workloads:2"
    ]
