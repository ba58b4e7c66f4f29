"""What the operator may do, and what it asks for: the API server's audit log says that the two are the same."""

import pytest
from k2_testing.cluster import operator_rules, until
from k2_testing.controlplane import asked
from k2_testing.kind import GIVEN
from k2_testing.resources import FINITE, LIVE, feed, make_ready, names_of, table

pytestmark = [pytest.mark.real, pytest.mark.timeout(900, func_only=True)]

OPERATOR = "system:serviceaccount:k2-system:k2-operator"
SCALED = {"autoscaling": {"minReplicas": 2, "maxReplicas": 4, "targetLag": 50_000}}


@pytest.fixture
def audited(request):
    """The kubeconfig of a control plane that notes requests; a cluster that was given may note none."""
    if GIVEN:
        pytest.skip("the cluster of KUBECONFIG has an audit log of its own, if any")
    return request.getfixturevalue("control_plane")


def granted():
    rules = [*operator_rules("rules"), {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(audited):
    """(group, resource, verb) of all requests that were let through. An apply that has made something needed `create` for it."""
    found = {(each.group, each.resource, each.verb, each.status) for each in asked(audited) if each.user == OPERATOR}
    made = {(group, resource, "create") for group, resource, _, status in found if status == 201}
    return made | {(group, resource, verb) for group, resource, verb, status in found if status != 403}


def names(cluster, namespace, kind):
    return {each["metadata"]["name"] for each in cluster.list(kind, namespace)}


def test_the_operator_uses_every_right_that_it_has_and_asks_for_no_other(cluster, operator, namespace, audited):
    upkeep = {"compaction": {"schedule": "15 3 * * *"}}
    cluster.apply(table(namespace, upkeep=upkeep, deletionPolicy="Delete"))
    cluster.apply(table(namespace, "quotes"))
    partitions = {"partitions": 4}

    def apply(**spec):
        cluster.apply(feed(namespace, topic=partitions, **{"streams": ("trades", "quotes"), **spec}))

    apply(source=LIVE, sink=SCALED)
    until(lambda: len(names_of(cluster, namespace, "Deployment")) == 3, "no Deployments")
    until(lambda: len(names(cluster, namespace, "HorizontalPodAutoscaler")) == 2, "no autoscalers")
    until(lambda: names(cluster, namespace, "CronJob") == {"trades-compact"}, "no CronJob")
    # What nothing asks for any more goes, each kind once.
    apply(source=FINITE, streams=("trades",), sink={"replicas": 1})
    until(lambda: not names(cluster, namespace, "HorizontalPodAutoscaler"), "autoscalers stay")
    until(lambda: not names(cluster, namespace, "PodDisruptionBudget"), "budgets stay")
    until(lambda: len(names(cluster, namespace, "Service")) == 1, "Services stay")
    jobs = until(lambda: names(cluster, namespace, "Job"), "no Job")
    another = {"synthetic": FINITE["synthetic"] | {"seed": 2}}
    apply(source=another, streams=("trades",), sink={"replicas": 1})
    until(lambda: names(cluster, namespace, "Job") - jobs and not names(cluster, namespace, "Job") & jobs, "it stays")
    cluster.apply(table(namespace, deletionPolicy="Delete"))
    until(lambda: not names(cluster, namespace, "CronJob"), "the CronJob stays")
    cluster.patch("MarketFeed", namespace, "sim", {"metadata": {"annotations": {"k2.dev/skip-drain": "true"}}})
    cluster.delete("MarketFeed", namespace, "sim")
    until(lambda: cluster.get("MarketFeed", "sim", namespace) is None, "the feed stays")
    cluster.delete("IcebergTable", namespace, "trades")
    until(lambda: cluster.get("IcebergTable", "trades", namespace) is None, "the table stays")

    assert granted() - used(audited) == set(), "rights that nothing here has needed"
    assert used(audited) - granted() == set(), "requests that were let through by other rules"
    refused = {each for each in asked(audited) if each.user == OPERATOR and each.status == 403}
    assert refused == set(), operator.tail()


@pytest.mark.parametrize(
    ("verb", "resource", "text"),
    [("create", "deployments", "cannot create resource"), ("get", "configmaps", "cannot get resource")],
)
def test_without_one_of_them_a_feed_says_so(cluster, operator, namespace, verb, resource, text):
    name = "k2-operator-k2-system"
    role = cluster.get("ClusterRole", name)
    whole = {"apiVersion": role["apiVersion"], "kind": "ClusterRole", "metadata": {"name": name}}
    rules = [rule for given in role["rules"] for rule in without(given, verb, resource)]
    cluster.apply(whole | {"rules": rules})
    try:
        cluster.apply(table(namespace))
        cluster.apply(feed(namespace))
        _, _, message = cluster.until_condition("MarketFeed", namespace, "sim", "ApplyFailed")
        assert text in message
        assert resource in message
    finally:
        cluster.apply(whole | {"rules": role["rules"]})
    make_ready(cluster, namespace)


def without(rule, verb, resource):
    """A rule without one right: the resource apart, with the other verbs."""
    if resource not in rule["resources"]:
        return [rule]
    others = [each for each in rule["resources"] if each != resource]
    less = rule | {"resources": [resource], "verbs": [each for each in rule["verbs"] if each != verb]}
    return [less, rule | {"resources": others}] if others else [less]
