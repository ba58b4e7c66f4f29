"""Alerts and dashboards speak of metrics that exist, fire when they should and not before, and each leads to a runbook."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from k2_testing import charts
from prometheus_client import Counter, Gauge, Histogram

from k2.obs import metrics
from k2_operator.kube import metrics as kube_metrics
from k2_operator.reconcile import metrics as operator_metrics

RUNBOOKS = charts.ROOT / "docs" / "runbooks"
CASES = Path(__file__).parent / "alerts"
ON = ("--set", "monitoring.rules.enabled=true,monitoring.dashboards.enabled=true")


@pytest.fixture(scope="session")
def rules(helm) -> dict[str, dict]:
    return {m["metadata"]["name"]: m["spec"] for m in charts.kind(charts.render(helm, "k2", *ON), "PrometheusRule")}


def test_every_token_was_replaced_by_a_number(rules):
    assert set(rules) == {"k2-slo", "k2-pipeline"}
    assert "%" not in re.sub(r"\d+%", "", json.dumps(rules))
    assert "14.4 * 0.001" in json.dumps(rules)


def test_the_thresholds_are_the_values(helm):
    # --set would make a text of a number with a point
    wanted = 'monitoring.rules={"enabled":true,"runbooks":"https://x/y/","slo":{"availability":0.95,"lagMessages":7}}'
    text = charts.template(helm, "k2", "--set-json", wanted)
    assert "14.4 * 0.05" in text
    assert "(k2_sink_lag_messages) > 7" in text
    assert "https://x/y/K2SinkLagHigh.md" in text


def test_rules_and_dashboards_use_only_metrics_that_there_are(rules, helm):
    known = _metric_names()
    recorded = {
        rule["record"]
        for spec in rules.values()
        for group in spec["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    used = set()
    for expression in [*_expressions(rules), *_panels(charts.render(helm, "k2", *ON))]:
        used |= set(re.findall(r"\bk2_[a-z_]+", expression))
        assert set(re.findall(r"\bk2:[a-z0-9_:]+", expression)) <= recorded
    assert used - known == set()
    assert len(used) > 20


def test_labels_in_alerts_are_labels_of_the_metrics(rules):
    for expression in _expressions(rules):
        for name, matchers in re.findall(r"\b(k2_[a-z_]+)\{([^}]*)\}", expression):
            labels = {match.split("=")[0].rstrip("!") for match in matchers.split('",') if match}
            assert labels <= {*_labels(name), "namespace", "pod", "le"}, expression


def test_every_alert_says_what_to_do_and_leads_to_a_page_that_is_there(rules):
    pages = set()
    for spec in rules.values():
        for rule in (rule for group in spec["groups"] for rule in group["rules"] if "alert" in rule):
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]
            page = rule["annotations"]["runbook_url"].rsplit("/", 1)[1]
            assert (RUNBOOKS / page).exists(), f"{rule['alert']}: no {page}"
            pages.add(page)
    assert {path.name for path in RUNBOOKS.glob("K2*.md")} == pages, "a runbook without an alert"
    index = (RUNBOOKS / "README.md").read_text()
    assert all(f"]({page})" in index for page in pages)


def test_promtool_takes_the_rules_and_the_dashboards_expressions(rules, promtool, tmp_path, helm):
    panels = [expr.replace('=~"$namespace"', '=~".*"') for expr in _panels(charts.render(helm, "k2", *ON))]
    rules = rules | {
        "panels": {
            "groups": [{"name": "p", "rules": [{"record": f"panel:{n}", "expr": e} for n, e in enumerate(panels)]}]
        }
    }
    for name, spec in rules.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    done = _promtool(promtool, "check", "rules", *map(str, sorted(tmp_path.glob("*.yaml"))))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_alerts_fire_when_they_should(case, rules, promtool, tmp_path):
    for name, spec in rules.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    (tmp_path / "test.yaml").write_text((CASES / f"{case}.yaml").read_text())
    done = _promtool(promtool, "test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_whole(helm):
    found = [
        m for m in charts.kind(charts.render(helm, "k2", *ON), "ConfigMap") if "dashboard" in m["metadata"]["name"]
    ]
    assert {m["metadata"]["name"] for m in found} == {
        f"k2-dashboard-{name}" for name in ("operator", "pipeline", "queries")
    }
    for config in found:
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        (text,) = config["data"].values()
        board = json.loads(text)
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        assert all(panel["targets"] for panel in board["panels"])
        assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])


def _promtool(promtool, *arguments):
    return subprocess.run([str(promtool), *arguments], capture_output=True, text=True, timeout=120, check=False)


def _expressions(rules):
    return [rule["expr"] for spec in rules.values() for group in spec["groups"] for rule in group["rules"]]


def _panels(manifests):
    boards = [m for m in charts.kind(manifests, "ConfigMap") if "dashboard" in m["metadata"]["name"]]
    return [
        target["expr"]
        for board in boards
        for panel in json.loads(next(iter(board["data"].values())))["panels"]
        for target in panel["targets"]
    ]


def _collectors():
    return [
        value
        for module in (metrics, kube_metrics, operator_metrics)
        for value in vars(module).values()
        if isinstance(value, Counter | Gauge | Histogram)
    ]


def _metric_names():
    names = set()
    for collector in _collectors():
        name = collector._name
        if isinstance(collector, Counter):
            names.add(f"{name}_total")
        elif isinstance(collector, Histogram):
            names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            names.add(name)
    return names


def _labels(name):
    for collector in _collectors():
        if name in (collector._name, *(f"{collector._name}_{part}" for part in ("total", "bucket", "count", "sum"))):
            return collector._labelnames
    raise AssertionError(name)
