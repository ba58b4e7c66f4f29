"""Prometheus and Alertmanager beside everything that runs: what writes a figure and what reads it fit, and critical alerts fire.

The operator, a producer, a sink, a load and the query service are real processes with the configuration that the operator made;
the rules and dashboards are the chart's, with shorter windows. An outage is a real one: Kafka stops, the catalog is locked.
"""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from k2_testing import charts, figures
from k2_testing.cluster import until
from k2_testing.controlplane import UnavailableError, free_port
from k2_testing.prometheus import Monitoring, Target, shortened
from k2_testing.resources import LIVE, feed, make_ready, owned, remove_all, table
from prometheus_client.parser import text_string_to_metric_families

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200, func_only=True)]

KEY = "secret-key"
UNREAD = [{"dataType": "trades", "tableRef": {"name": "trades"}, "sink": {"enabled": False}}]
SLOW_LOAD = {"synthetic": {"start": "2026-03-02", "symbols": ["ACME"], "days": 1, "eventsPerSecond": 20}}
MOST_SERIES = 300
VALUES = {
    "serviceMonitors": {"enabled": True},
    "rules": {"enabled": True, "slo": {"commitSeconds": 10}},
    "dashboards": {"enabled": True},
}


@pytest.fixture(scope="module")
def catalog_file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("lake") / "catalog.db"


@pytest.fixture(scope="module")
def platform(kafka, registry, catalog_file) -> dict:
    """A catalog that is waited for no longer than a second while it is locked."""
    return {
        "kafka": {"bootstrapServers": kafka.bootstrap_servers},
        "registry": {"url": registry.url, "secretName": "k2-registry"},
        "catalog": {
            "properties": {
                "type": "sql",
                "uri": f"sqlite:///{catalog_file}?timeout=1",
                "warehouse": f"file://{catalog_file.parent / 'warehouse'}",
            }
        },
    }


class Workload:
    """A workload as its pod runs it: the configuration that the operator has made, and a port for its figures."""

    def __init__(self, folder: Path, platform: dict, name: str, config: dict, **env: str) -> None:
        self.name, self.port, self._folder = name, free_port(), folder
        (folder / f"{name}.json").write_text(json.dumps(config))
        self._env = {key: value for key, value in os.environ.items() if not key.startswith("K2_")} | {
            "K2_KAFKA_BOOTSTRAP_SERVERS": platform["kafka"]["bootstrapServers"],
            "K2_REGISTRY_URL": platform["registry"]["url"],
            "K2_CATALOG_PROPERTIES": json.dumps(platform["catalog"]["properties"]),
            "K2_CONFIG_FILE": str(folder / f"{name}.json"),
            "K2_DATA_DIR": str(folder),
            "K2_METRICS_PORT": str(self.port),
            "K2_HTTP_PORT": str(self.port),
            "K2_LOG_FORMAT": "json",
            "PYTHONPATH": os.pathsep.join(sys.path),  # the code that is tested
            **env,
        }
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self._folder / f"{self.name}.log").open("ab") as log:
            command = [sys.executable, "-m", "k2", "run", self.name]
            self._process = subprocess.Popen(command, env=self._env, stdout=log, stderr=log, cwd=self._folder)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(60)

    def figures(self) -> list:
        """Its families with their samples; none while it does not answer."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False, timeout=60).text
        except httpx.HTTPError:
            return []
        return list(text_string_to_metric_families(text))

    def tail(self) -> str:
        return (self._folder / f"{self.name}.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def workloads(cluster, operator, lasting_namespace, platform, tmp_path_factory):
    """A live feed with its producer and sink, a load that takes its time, and the query service, all at work."""
    folder = tmp_path_factory.mktemp("workloads")
    namespace = lasting_namespace
    numbered = {"sequencePolicy": "PerSymbol", "sink": {"commitInterval": "1s"}}
    cluster.apply(table(namespace, upkeep={"compaction": {"schedule": "0 3 * * *"}}))
    cluster.apply(feed(namespace, "live", source=LIVE, **numbered))
    cluster.apply(feed(namespace, "slow", UNREAD, SLOW_LOAD, exchange="BINANCE", assetClass="fx"))
    make_ready(cluster, namespace, "live")
    entry = {"name": "desk", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    (folder / "keys.json").write_text(json.dumps([entry]))
    asked = {"trades": f"{namespace}.trades".replace("-", "_"), "api_keys_file": str(folder / "keys.json")}
    made = {
        "producer": configuration(cluster, namespace, "live", "producer"),
        "sink": configuration(cluster, namespace, "live", "sink"),
        "load": configuration(cluster, namespace, "slow", "load"),
        "query": asked,
    }
    quick = {"producer": {"K2_DELIVERY_SECONDS": "3"}}
    running = {name: Workload(folder, platform, name, config, **quick.get(name, {})) for name, config in made.items()}
    for each in running.values():
        each.start()
    yield running
    for each in running.values():
        each.kill()
    remove_all(cluster, namespace)


def configuration(cluster, namespace, name, component):
    """What the operator has written for a feed's workload."""

    def found():
        objects = owned(cluster, namespace, name).items()
        return [each for (kind, _), each in objects if kind == "ConfigMap" and component_of(each) == component]

    (config,) = until(found, f"no configuration of the {component} of {name}")
    return json.loads(config["data"]["config.json"])


def component_of(obj):
    return obj["metadata"]["labels"]["app.kubernetes.io/component"]


@pytest.fixture(scope="module")
def manifests():
    return charts.render(charts.program("helm"), "k2", "--set-json", f"monitoring={json.dumps(VALUES)}")


@pytest.fixture(scope="module")
def monitoring(workloads, operator, lasting_namespace, manifests, tmp_path_factory):
    """Both programs, with the labels that the chart's monitors give their targets."""
    monitors = {m["metadata"]["name"] for m in manifests if m["kind"] in ("ServiceMonitor", "PodMonitor")}
    assert monitors == {"k2-operator", "k2-query", "k2-workloads"}
    of_pods = {"namespace": lasting_namespace}
    targets = [
        Target("k2-operator", int(operator.url.rpartition(":")[2]), {"namespace": "markets", "pod": "operator"}),
        Target("k2-query", workloads["query"].port, {"namespace": "markets", "pod": "query"}),
        *(
            Target(
                "markets/k2-workloads",
                workloads[name].port,
                of_pods | {"pod": name, "app_kubernetes_io_component": name},
            )
            for name in ("producer", "sink", "load")
        ),
    ]
    try:
        running = Monitoring(tmp_path_factory.mktemp("monitoring"), targets, shortened(figures.rules(manifests)))
    except UnavailableError as reason:
        pytest.skip(str(reason))
    yield running
    running.stop()


def ask(workloads, **headers):
    """A question whose answer has rows of the table and of the topic."""
    url = f"http://127.0.0.1:{workloads['query'].port}/v1/trades?symbol=ACME&limit=10"
    try:
        return httpx.get(url, headers=headers, trust_env=False, timeout=60).status_code
    except httpx.HTTPError:
        return 0


def is_asked(workloads):
    """Whether the service answers who has a key, and nobody else."""
    return ask(workloads, **{"X-API-Key": KEY}) == 200 and ask(workloads) == 401


@pytest.fixture(scope="module")
def flowing(workloads, monitoring):
    """Events are in the table and questions are answered; every target is scraped."""
    until(lambda: is_asked(workloads), "no answers", why=workloads["query"].tail)
    until(lambda: not monitoring.down(), "targets are down", why=lambda: "\n".join(monitoring.down()))
    until(lambda: monitoring.query("k2_iceberg_rows_written_total > 0"), "no commit", why=workloads["sink"].tail)


def test_every_metric_of_a_process_is_set_while_it_works_and_no_other_is_shown(workloads, operator, flowing):
    for name, running in workloads.items():
        defined = figures.families(figures.BY_PROCESS[name])

        def missing(running=running, defined=defined):
            ask(workloads, **{"X-API-Key": KEY})
            shown = {family.name for family in running.figures() if family.samples}
            return sorted(defined.keys() - shown)

        until(
            lambda missing=missing: not missing(),
            f"figures of the {name}",
            120,
            why=lambda missing=missing: str(missing()),
        )
        others = {family.name for family in running.figures() if family.name.startswith("k2_")} - defined.keys()
        assert not others, f"the {name} shows figures of others"
    shown = {family.split("{")[0] for family in operator.metrics()}
    for name, kind in figures.families(figures.BY_PROCESS["operator"]).items():
        assert figures.series_names(name, kind) & shown, f"{name} of the operator has no series"


def test_a_sink_has_few_series(workloads, flowing):
    samples = [sample for family in workloads["sink"].figures() for sample in family.samples]
    assert len(samples) <= MOST_SERIES


def test_error_counters_stand_at_zero_before_their_first_event(workloads, flowing, monitoring):
    for zero in (
        'k2_dead_letters_total{reason="unknown_schema",pod="sink"}',
        'k2_kafka_produce_errors_total{error="timed_out",pod="producer"}',
        'k2_iceberg_commits_total{outcome="failed"}',
        'k2_http_requests_total{route="/v1/bars",status="503"}',
        'k2_operator_reconciles_total{kind="MarketFeed",outcome="error"}',
        'k2_feed_rejected_rows_total{pod="load"}',
    ):
        found = until(lambda zero=zero: monitoring.query(zero), f"{zero} has no series", 60)
        assert {sample["value"][1] for sample in found} == {"0"}, zero


def test_the_rules_load_and_every_selector_of_them_and_of_every_panel_finds_a_series(
    flowing, workloads, manifests, monitoring
):
    rules = figures.rules(manifests)
    loaded = until(lambda: _evaluated(monitoring), "rules that were not evaluated", 60)
    assert len(loaded) == len([*figures.each_rule(rules)])
    assert [rule["name"] for rule in loaded if rule["health"] != "ok"] == []
    expressions = [rule["expr"] for rule in figures.each_rule(rules)]
    for board in figures.dashboards(manifests).values():
        expressions += [figures.plain(t["expr"]) for panel in figures.panels(board) for t in panel["targets"]]
    wanted = {selector for expression in expressions for selector in figures.selectors(expression)}
    assert len(wanted) > 80

    def without():
        ask(workloads, **{"X-API-Key": KEY})
        return sorted(selector for selector in wanted if not monitoring.query(f"count({selector})"))

    until(lambda: not without(), "selectors without series", 180, why=lambda: "\n".join(without()))


def _evaluated(monitoring):
    found = monitoring.rules()
    return found if all(rule["health"] != "unknown" for rule in found) else None


def test_while_all_is_well_no_critical_alert_fires(flowing, manifests, monitoring):
    critical = {
        rule["alert"]
        for rule in figures.each_rule(figures.rules(manifests))
        if rule.get("labels", {}).get("severity") == "critical"
    }
    until(lambda: not critical & monitoring.firing(), "alerts fire", 120, why=lambda: str(monitoring.firing()))


def test_a_sink_that_is_started_anew_while_the_catalog_is_away_is_told_of_as_stalled(
    flowing, workloads, monitoring, catalog_file
):
    monitoring.until_over("K2SinkStalled")
    holder = sqlite3.connect(catalog_file, timeout=60, isolation_level=None)
    try:
        holder.execute("BEGIN EXCLUSIVE")
        workloads["sink"].kill()
        workloads["sink"].start()
        monitoring.until_firing("K2SinkStalled")
        said = monitoring.query(
            'k2_sink_last_commit_timestamp_seconds{pod="sink"} > 0 and on (pod) up{pod="sink"} == 1'
        )
        assert said, "the new sink does not know of the last commit"
        assert "sink.assigned" not in workloads["sink"].tail().rpartition("sink.started")[2], "it was no outage"
    finally:
        holder.rollback()
        holder.close()
    monitoring.until_over("K2SinkStalled")


def test_a_producer_that_lives_through_an_outage_of_kafka_is_told_of(flowing, workloads, monitoring, kafka):
    monitoring.until_over("K2ProducerErrors")
    kafka.stop()
    try:
        monitoring.until_firing("K2ProducerErrors")
        assert not [each for each in monitoring.down() if "producer" in each]
    finally:
        kafka.start()
    monitoring.until_over("K2ProducerErrors")
