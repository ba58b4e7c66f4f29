"""Alerts speak of metrics that exist, fire when they should and not before, end when it is over, and each leads to a runbook."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from k2_testing import charts, figures

RUNBOOKS = charts.ROOT / "docs" / "runbooks"
CASES = {path.stem: yaml.safe_load(path.read_text()) for path in (Path(__file__).parent / "alerts").glob("*.yaml")}
ON = ("--set", "monitoring.rules.enabled=true,monitoring.dashboards.enabled=true")


@pytest.fixture(scope="session")
def manifests(helm) -> list[dict]:
    return charts.render(helm, "k2", *ON)


@pytest.fixture(scope="session")
def rules(manifests) -> dict[str, dict]:
    return figures.rules(manifests)


@pytest.fixture(scope="session")
def alerts(rules) -> dict[str, dict]:
    return {rule["alert"]: rule for rule in figures.each_rule(rules) if "alert" in rule}


def test_every_token_was_replaced_by_a_number(rules):
    assert set(rules) == {"k2-slo", "k2-pipeline", "k2-query", "k2-operator"}
    assert not re.search(r"%[A-Z]", json.dumps(rules))
    assert "14.4 * 0.001" in json.dumps(rules)


def test_the_thresholds_are_the_values(helm):
    # --set would make a text of a number with a point
    slo = {"availability": 0.95, "lagMessages": 7, "commits": 0.9, "leastRequests": 11}
    wanted = f"monitoring.rules={json.dumps({'enabled': True, 'runbooks': 'https://x/y/', 'slo': slo})}"
    text = charts.template(helm, "k2", "--set-json", wanted)
    assert "k2:http_errors:ratio_rate1h > 14.4 * 0.05" in text
    assert "k2:failed_commits:ratio_rate1h > 14.4 * 0.1" in text
    assert "k2:http_errors:events_increase1h > 11" in text
    assert "(k2_sink_lag_messages) > 7" in text
    assert "https://x/y/K2SinkLagHigh.md" in text


@pytest.mark.parametrize("part", ["operator", "query"])
def test_what_is_not_installed_is_not_missed(part, helm):
    found = figures.rules(charts.render(helm, "k2", *ON, "--set", f"{part}.enabled=false"))
    assert f"k2-{part}" not in found
    assert "k2-pipeline" in found


def test_rules_and_dashboards_use_only_metrics_that_there_are(rules, manifests):
    recorded = {rule["record"] for rule in figures.each_rule(rules) if "record" in rule}
    known = figures.every_series_name() | recorded | {"up"}
    used = {
        each.partition("{")[0]
        for expression in _expressions(rules, manifests)
        for each in figures.selectors(expression)
    }
    assert used - known == set()
    assert recorded - used == set(), "recorded for nobody"


def test_every_metric_is_shown_or_alerted_on(rules, manifests):
    used = {
        each.partition("{")[0]
        for expression in _expressions(rules, manifests)
        for each in figures.selectors(expression)
    }
    for process, collectors in figures.BY_PROCESS.items():
        for name, kind in figures.families(collectors).items():
            assert figures.series_names(name, kind) & used, (
                f"{name} of the {process} is on no dashboard and in no alert"
            )


def test_every_alert_says_what_to_do_and_leads_to_a_page_that_is_there(alerts):
    pages = set()
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        page = rule["annotations"]["runbook_url"].rsplit("/", 1)[1]
        assert (RUNBOOKS / page).exists(), f"{name}: no {page}"
        pages.add(page)
    assert {path.name for path in RUNBOOKS.glob("K2*.md")} == pages, "a runbook without an alert"
    index = (RUNBOOKS / "README.md").read_text()
    assert all(f"]({page})" in index for page in pages)


def test_promtool_takes_the_rules_and_the_dashboards_expressions(rules, promtool, tmp_path, manifests):
    expressions = [figures.plain(expression) for expression in _panels(manifests)]
    group = {"name": "p", "rules": [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions)]}
    for name, spec in (rules | {"panels": {"groups": [group]}}).items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    done = _promtool(promtool, "check", "rules", *map(str, sorted(tmp_path.glob("*.yaml"))))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_after_or_before_it_in_which_it_does_not(alerts):
    fires, rests = set(), set()
    for case in (case for cases in CASES.values() for case in cases):
        of_case = {each["alert"] for each in case["expect"] if "labels" in each}
        fires |= of_case
        rests |= {each["alert"] for each in case["expect"] if "labels" not in each} & of_case
    assert fires == set(alerts)
    assert rests == set(alerts)


@pytest.mark.parametrize("case", sorted(CASES))
def test_alerts_fire_when_they_should_and_end_when_it_is_over(case, rules, alerts, promtool, tmp_path):
    # Its own rules alone, and over hours not every minute: promtool evaluates all that it is given.
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules[f"k2-{case}"]))
    tests = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5m" if case == "slo" else "1m",
        # Records before what reads them; by itself promtool takes any order.
        "group_eval_order": [group["name"] for group in rules[f"k2-{case}"]["groups"]],
        "tests": [_test(each, alerts) for each in CASES[case]],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests, sort_keys=False))
    done = _promtool(promtool, "test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def _test(case, alerts):
    """promtool's form of a case: what the rule says for itself is not written down again."""
    moments = {}
    for each in case["expect"]:
        expected = moments.setdefault((each["at"], each["alert"]), [])
        if "labels" in each:
            rule = alerts[each["alert"]]
            said = rule["annotations"]
            description = re.sub(
                r"\{\{ \$labels\.(\w+) \}\}", lambda found, of=each: of["labels"][found[1]], said["description"]
            )
            annotations = {"summary": each["summary"], "description": description, "runbook_url": said["runbook_url"]}
            expected.append({"exp_labels": rule["labels"] | each["labels"], "exp_annotations": annotations})
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
        "alert_rule_test": [
            {"eval_time": at, "alertname": alert, "exp_alerts": expected} for (at, alert), expected in moments.items()
        ],
    }


def _promtool(promtool, *arguments):
    return subprocess.run([str(promtool), *arguments], capture_output=True, text=True, timeout=120, check=False)


def _panels(manifests):
    boards = figures.dashboards(manifests).values()
    return [target["expr"] for board in boards for panel in figures.panels(board) for target in panel["targets"]]


def _expressions(rules, manifests):
    return [*(rule["expr"] for rule in figures.each_rule(rules)), *_panels(manifests)]
