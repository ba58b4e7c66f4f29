"""The chart's monitors, rules and dashboards in the hands of the Prometheus operator."""

import pytest
from k2_testing import figures
from k2_testing.cluster import until
from k2_testing.kind import NAMESPACE

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(7200, func_only=True)]

POOLS = {
    f"serviceMonitor/{NAMESPACE}/k2-operator/0",
    f"serviceMonitor/{NAMESPACE}/k2-query/0",
    f"podMonitor/{NAMESPACE}/k2-workloads/0",
    f"podMonitor/{NAMESPACE}/registry/0",
}
WORKLOADS = {"producer", "load", "sink"}


def test_every_target_of_every_monitor_is_up(flowing, monitoring):
    def wanting():
        targets = monitoring.targets()
        down = [f"{each['labels']}: {each['lastError']}" for each in targets if each["health"] != "up"]
        without = POOLS - {each["scrapePool"] for each in targets}
        return down + sorted(without) + sorted(WORKLOADS - components(targets))

    until(lambda: not wanting(), "not every target is up", 300, 1, why=lambda: "\n".join(wanting()))


def components(targets):
    return {each["labels"].get("app_kubernetes_io_component") for each in targets}


def test_the_rules_load_and_every_selector_of_them_and_of_every_panel_finds_a_series(flowing, monitoring, manifests):
    rules = figures.rules(manifests)

    def loaded():
        found = monitoring.rules()
        done = len(found) >= len([*figures.each_rule(rules)]) and all(each["health"] != "unknown" for each in found)
        return found if done else None

    found = until(loaded, "rules that were not evaluated", 300, 1)
    assert {each["name"] for each in found} >= {
        rule.get("alert") or rule["record"] for rule in figures.each_rule(rules)
    }
    assert [each["name"] for each in found if each["health"] != "ok"] == []
    wanted = {selector for expression in expressions(manifests) for selector in figures.selectors(expression)}
    assert len(wanted) > 80

    def without():
        flowing()
        return sorted(selector for selector in wanted if not monitoring.query(f"count({selector})"))

    until(lambda: not without(), "selectors without series", 300, 1, why=lambda: "\n".join(without()))


def expressions(manifests):
    """Of all rules and all panels."""
    found = [rule["expr"] for rule in figures.each_rule(figures.rules(manifests))]
    for board in figures.dashboards(manifests).values():
        found += [figures.plain(each["expr"]) for panel in figures.panels(board) for each in panel["targets"]]
    return found


def test_while_all_is_well_no_critical_alert_fires(flowing, monitoring):
    fire = 'ALERTS{alertstate="firing",severity="critical"}'
    until(lambda: not monitoring.query(fire), "alerts fire", 120, 1, why=lambda: str(monitoring.query(fire)))
